// The state of the emulated multiprocessor, one a host thread; shared by the scheduler (fibers.cpp, warp.cpp) and the
// race detector (race.cpp).
#pragma once

#include <string>
#include <vector>

#include "emulation/scheduler.h"
#include "emulation/switch.h"

namespace gdcore::emulation {

inline constexpr int kWarp = 32;

enum class State : std::uint8_t { fresh, ready, at_block, at_warp, done };

/// A CUDA thread of the current block.
struct Thread {
  uint3 index{};
  State state = State::fresh;
  Fiber* fiber = nullptr;
  Site site;  // where it waits
  BlockOp block_op = BlockOp::sync;
  WarpOp warp_op = WarpOp::sync;
  unsigned mask = 0;
  std::uint64_t value = 0, result = 0;
  int source = 0;
  // For the race detector: barriers passed, own count of __syncwarp, and what is known of the other lanes' counts.
  unsigned epoch = 0, clock = 0, known[kWarp] = {};
};

/// One shared array of the kernel that runs.
struct SharedArray {
  void* data = nullptr;
  std::size_t bytes = 0;
  std::uint64_t block = 0;  // the block it was last filled for
};

struct Machine {
  Machine(const Options& options_, void (*fiber_body)()) : options(options_), fibers(fiber_body) {}

  Options options;
  FiberPool fibers;
  std::vector<Thread> threads;
  std::vector<int> order;  // of turns within the block
  std::size_t turn = 0;
  bool progress = false;  // whether anyone ran since the last time round
  int current = -1;       // the CUDA thread that runs, -1: none
  int alive = 0, at_barrier = 0;
  int first_at_barrier = -1;  // a thread that waits there, while at_barrier is not 0
  int warp_waiting[kWarp] = {}, warp_alive[kWarp] = {};
  const std::function<void()>* kernel = nullptr;
  void* dynamic = nullptr;
  std::size_t dynamic_bytes = 0;
  std::vector<SharedArray> arrays;  // by id
  std::vector<int> live_arrays;     // ids of those that the kernel which runs has
  std::size_t static_bytes = 0;     // of all shared arrays
  std::size_t most_shared = 0;      // bytes that the kernel may have of both kinds
  std::uint64_t blocks = 0;         // started, over all launches
  std::uint64_t launches = 0;
  std::uint64_t random = 1;
  std::string error;
  bool running = false;
};

/// Of this host thread. Asked for at every barrier and every watched access, so the usual case is inline.
extern __thread Machine* own_machine GD_EMULATION_TLS;
Machine& make_machine();
inline Machine& machine() { return own_machine != nullptr ? *own_machine : make_machine(); }

/// "block (0,0,0) thread (3,0,0)"
std::string name_of(const Machine& m, int thread);
std::string text_of(Site site);
bool same_site(Site a, Site b);

/// Ends the kernel with a message: unwinds this fiber, and the others as they are resumed, so that destructors run and
/// no stack is abandoned.
struct Unwind {};
[[noreturn]] void fail(Machine& m, std::string message);

/// Lets others run until this thread may go on.
void yield(Machine& m);
/// Releases the lanes of a warp operation if all that take part have come.
void complete_warp(Machine& m, int waiting);

#ifdef GDCORE_EMULATION_RACE
void forget_accesses(Machine& m);  // before each launch
#endif

}  // namespace gdcore::emulation
