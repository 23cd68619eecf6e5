// The device and its memory.
#pragma once

#include <cstddef>
#include <string>

#include "backend/runtime.h"
#include "gdcore/backend.h"

namespace gdcore::cuda {

/// Throws DeviceError, saying what is missing and what to do, unless there is a device that gdcore can use.
void open_device();

/// Makes it the calling thread's, which another library may have given another one.
void use_device();

const cudaDeviceProp& device_properties();
/// Whether it has tensor cores for the precision's factors (tensor_cores.h), which compute capability 8.0 brought, and
/// runs code for them: a build for older GPUs alone has none.
bool on_tensor_cores(Precision precision);
/// The compute capability (80: 8.0) that the kernels which it runs were compiled for. Throws DeviceError, saying how to
/// build them, where the build has none for it.
int code_capability();
/// Name, compute capability, memory, and the versions of CUDA that driver and runtime are for.
std::string device_description();

/// Device memory in stream order, not initialised. Throws DeviceError where there is no more.
void* allocate_in_order(std::size_t bytes, cudaStream_t stream);

/// What the driver has left, and what the pool holds of freed memory.
std::size_t free_device_memory();

}  // namespace gdcore::cuda
