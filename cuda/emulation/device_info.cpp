// The emulated runtime's answers about the device, its code, and errors. GDCORE_EMULATION_DEVICES, _CAPABILITY (70),
// _CODE and _DRIVER (a version such as 12080) emulate a machine without one of these.
#include <cstdio>
#include <map>

#include "emulation/cuda_runtime.h"
#include "emulation/memory.h"

namespace {

constexpr int kRuntimeVersion = 13000;

int number_of(const char* name, int otherwise) {
  return static_cast<int>(gdcore::emulation::number_of_environment(name, static_cast<std::size_t>(otherwise)));
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  static const std::map<cudaError_t, const char*> texts = {
      {cudaSuccess, "no error"},
      {cudaErrorInvalidValue, "invalid argument"},
      {cudaErrorMemoryAllocation, "out of memory"},
      {cudaErrorInvalidConfiguration, "invalid configuration argument"},
      {cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"},
      {cudaErrorNoDevice, "no CUDA-capable device is detected"},
      {cudaErrorInvalidDevice, "invalid device ordinal"},
      {cudaErrorIllegalAddress, "an illegal memory access was encountered"},
      {cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"},
      {cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"},
  };
  const auto found = texts.find(error);
  return found != texts.end() ? found->second : "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (number_of("GDCORE_EMULATION_DRIVER", kRuntimeVersion) < kRuntimeVersion) {
    return cudaErrorInsufficientDriver;
  }
  *count = number_of("GDCORE_EMULATION_DEVICES", 1);
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof p.name, "CUDA on the CPU (emulated)");
  p.totalGlobalMem = gdcore::emulation::total_memory();
  p.sharedMemPerBlockOptin = 227 << 10;
  const int capability = number_of("GDCORE_EMULATION_CAPABILITY", 90);
  p.major = capability / 10;
  p.minor = capability % 10;
  p.multiProcessorCount = 4;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)()) {
  attributes->ptxVersion = number_of("GDCORE_EMULATION_CODE", 80);
  return attributes->ptxVersion > 0 ? cudaSuccess : cudaErrorNoKernelImageForDevice;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = number_of("GDCORE_EMULATION_DRIVER", kRuntimeVersion);
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kRuntimeVersion;
  return cudaSuccess;
}
