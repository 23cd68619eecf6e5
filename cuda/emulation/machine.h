// The state of the emulated multiprocessor, one per host thread; shared by the scheduler (fibers.cpp, warp.cpp) and the
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
  Site site;  // source position at which it waits
  WarpOp warp_op = WarpOp::sync;
  unsigned mask = 0;
  std::uint64_t value = 0, result = 0;
  int source = 0;
  // For the race detector: barriers passed, own count of __syncwarp, and known counts of the other lanes.
  unsigned epoch = 0, clock = 0, known[kWarp] = {};
};

/// A shared array of the running kernel.
struct SharedArray {
  std::unique_ptr<std::byte[]> data;  // with exact bounds for AddressSanitizer
  std::size_t bytes = 0;
  std::uint64_t block = 0;  // the block it was last filled for
};

struct Machine {
  Machine(const Options& options_, void (*fiber_body)()) : options(options_), fibers(fiber_body) {}

  Options options;
  FiberPool fibers;
  std::vector<Thread> threads;
  std::vector<int> order;  // order of the threads of a block
  std::size_t turn = 0;
  bool progress = false;  // whether a thread ran in this pass over `order`
  int current = -1;       // the running CUDA thread, -1: none
  int alive = 0, at_barrier = 0;
  int first_at_barrier = -1;  // the first waiting thread while at_barrier is not 0
  int warp_waiting[kWarp] = {}, warp_alive[kWarp] = {};
  const std::function<void()>* kernel = nullptr;
  std::unique_ptr<std::byte[]> dynamic;
  std::size_t dynamic_bytes = 0;
  std::vector<SharedArray> arrays;  // by id
  std::vector<int> live_arrays;     // ids of the running kernel's arrays
  std::size_t static_bytes = 0;     // bytes of all shared arrays
  std::size_t most_shared = 0;      // limit in bytes of static and dynamic shared memory
  std::uint64_t blocks = 0;         // blocks started, over all launches
  std::uint64_t launches = 0;
  std::uint64_t random = 1;
  std::string error;
  bool running = false;
};

/// The machine of this host thread. Used at every barrier and every checked access, so the usual case is inline.
extern __thread Machine* own_machine GD_EMULATION_TLS;
Machine& make_machine();
inline Machine& machine() { return own_machine != nullptr ? *own_machine : make_machine(); }

/// "block (0,0,0) thread (3,0,0)"
std::string name_of(const Machine& m, int thread);
std::string text_of(Site site);
bool same_site(Site a, Site b);

/// Ends the kernel with a message: unwinds this fiber, and the others when they are resumed, so that destructors run
/// and no stack is abandoned.
struct Unwind {};
[[noreturn]] void fail(Machine& m, std::string message);

/// Runs other threads until this one can continue.
void yield(Machine& m);
/// Releases the lanes of a warp operation once all participating lanes have reached it.
void complete_warp(Machine& m, int waiting);

#ifdef GDCORE_EMULATION_RACE
void forget_accesses(Machine& m);  // before each launch
#endif

}  // namespace gdcore::emulation
