// The device and its memory.
#pragma once

#include <cstddef>
#include <string>

#include "backend/runtime.h"
#include "gdcore/backend.h"

namespace gdcore::cuda {

/// Throws DeviceError unless gdcore can use a device; the message says what is missing and what to do.
void open_device();

/// Makes the device the calling thread's current one; another library may have changed it.
void use_device();

const cudaDeviceProp& device_properties();
/// Whether the device has tensor cores for the precision's factors (tensor_cores.h; compute capability 8.0 or newer)
/// and the build has code for them.
bool on_tensor_cores(Precision precision);
/// Returns the compute capability (80: 8.0) that the device's kernels were compiled for. Throws DeviceError if the
/// build has no code for the device; the message says how to build it.
int code_capability();
/// Returns name, compute capability, memory, and the CUDA versions of driver and runtime.
std::string device_description();

/// Allocates device memory in stream order, not initialised. Throws DeviceError when out of memory.
void* allocate_in_order(std::size_t bytes, cudaStream_t stream);

/// Returns the driver's free memory plus the pool's freed memory, in bytes.
std::size_t free_device_memory();

}  // namespace gdcore::cuda
