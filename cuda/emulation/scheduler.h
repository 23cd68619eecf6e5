// The scheduler's interface for the emulation's headers: one fiber per CUDA thread, one block at a time, on the host
// thread that launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>  // before CUDA keywords are defined: it uses the attribute __noinline__
#include <stdexcept>

/// As in CUDA, for the current CUDA thread of this host thread. Fibers never change their host thread.
struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: as in CUDA
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}                                         // NOLINT
};

// Thread storage at a fixed offset: kernels read these variables often, and the library may be opened with dlopen.
#define GD_EMULATION_TLS __attribute__((tls_model("initial-exec")))
extern __thread uint3 threadIdx GD_EMULATION_TLS;
extern __thread uint3 blockIdx GD_EMULATION_TLS;
extern __thread uint3 blockDim GD_EMULATION_TLS;
extern __thread uint3 gridDim GD_EMULATION_TLS;

namespace gdcore::emulation {

/// A defect of a kernel: a race, a divergent barrier, a deadlock, ...
struct KernelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Order : std::uint8_t { forward, reverse, shuffle };

/// Options of a host thread; initially from GDCORE_EMULATION_ORDER (forward, reverse, shuffle or shuffle:seed) and
/// GDCORE_EMULATION_MAX_BLOCKS.
struct Options {
  Order order = Order::forward;  // order of blocks, and of the threads of a block
  std::uint64_t seed = 1;
  std::uint64_t max_blocks = 0;  // above 0: only the first and last max_blocks / 2 run, to test indices past 2^31
};
Options& options();

struct Grid {
  dim3 grid, block;
  std::size_t shared = 0;              // bytes of dynamic shared memory
  std::size_t most_shared = 48 << 10;  // the kernel's limit, static memory included
};

/// Whether a device accepts this grid.
bool valid(const Grid& grid);

/// Runs `thread` once for each CUDA thread. Throws KernelError.
void run_grid(const Grid& grid, const std::function<void()>& thread);

enum class WarpOp : std::uint8_t { sync, shuffle, multiply };

/// Source position at which a CUDA thread waits, for messages.
struct Site {
  const char* file = "";
  int line = 0;
};

void wait_block(Site site);
std::uint64_t wait_warp(WarpOp op, unsigned mask, std::uint64_t value, int source, Site site);
int lane();

void* dynamic_shared();
/// Returns the current block's memory for the shared array `id`; filled with 0xFF (NaN) at the start of a block.
void* shared_array(int id, std::size_t bytes);
int new_shared_array();

}  // namespace gdcore::emulation
