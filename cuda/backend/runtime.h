// The CUDA runtime, or its emulation on the CPU: the same sources are compiled by nvcc for a GPU and by g++ with
// GDCORE_EMULATED, where each CUDA thread is a fiber. Therefore kernels are started with launch() instead of <<<>>>,
// and shared memory is declared with GD_SHARED and GD_DYN_SHARED.
#pragma once

#include <cstddef>
#include <utility>

#ifdef GDCORE_EMULATED
#include "emulation/cuda_runtime.h"
#else
#include <cuda_runtime.h>
#define GD_SHARED(T, name, N) __shared__ __align__(16) T name[N]  // may be read 16 bytes at a time
#define GD_DYN_SHARED(T, name)                                  \
  extern __shared__ __align__(16) unsigned char gd_dyn_smem_[]; \
  T* name = reinterpret_cast<T*>(gd_dyn_smem_)
#endif

namespace gdcore::cuda {

/// Throws DeviceError with the name of the call unless it succeeded.
void check_cuda(cudaError_t error, const char* call);

/// Returns the stream of the calling thread.
cudaStream_t current_stream();

struct Shape {
  dim3 grid, block;
  std::size_t shared = 0;  // bytes of dynamic shared memory
};

/// Starts a kernel on the calling thread's stream. Arguments are converted to the kernel's own types.
template <class... P, class... A>
void launch(void (*kernel)(P...), const Shape& shape, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared;
  config.stream = current_stream();
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(arguments))...), "cudaLaunchKernelEx");
}

}  // namespace gdcore::cuda
