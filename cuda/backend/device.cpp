// The device, its memory, and error messages.
#include "backend/device.h"

#include <cstdlib>
#include <limits>
#include <string>

#include "backend/probe.h"
#include "backend/stream.h"
#include "gdcore/check.h"

namespace gdcore::cuda {

namespace {

constexpr int kDevice = 0;
constexpr int kRuntime = 13000, kOldestCapability = 75;

/// Whether all later CUDA calls of the process fail after this error.
bool loses_context(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

std::string version_text(int version) { return join(version / 1000, ".", version % 1000 / 10); }

/// Throws DeviceError unless there is a device; the message says what is missing and what to do.
void find_device() {
  int count = 0, driver = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (error == cudaSuccess && count > 0) return;
  (void)cudaDriverGetVersion(&driver);
  check<DeviceError>(error != cudaErrorInsufficientDriver || driver != 0,
                     "there is no NVIDIA driver on this machine; install driver 580 or newer");
  check<DeviceError>(error != cudaErrorInsufficientDriver, "the NVIDIA driver is for CUDA ", version_text(driver),
                     " at most, and gdcore needs CUDA ", version_text(kRuntime), ": install driver 580 or newer");
  if (error == cudaSuccess || error == cudaErrorNoDevice) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    throw DeviceError(visible == nullptr ? "the NVIDIA driver finds no GPU; check the output of nvidia-smi"
                                         : join("no GPU is visible: CUDA_VISIBLE_DEVICES is \"", visible,
                                                "\"; set it to the number of a GPU, or unset it"));
  }
  throw DeviceError(join("the GPU does not start: ", cudaGetErrorString(error), "; check the output of nvidia-smi"));
}

int ask_code_capability() {
  cudaFuncAttributes attributes{};
  const cudaError_t error = ask_probe(attributes);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();
    const cudaDeviceProp& p = device_properties();
    throw DeviceError(join("the GPU (", p.name, ") has compute capability ", p.major, ".", p.minor,
                           ", for which this build of gdcore has no code: build it with GDCORE_CUDA_ARCHITECTURES=",
                           p.major, p.minor, ", or install a release wheel"));
  }
  check_cuda(error, "cudaFuncGetAttributes");
  return attributes.ptxVersion;
}

cudaMemPool_t pool() {
  cudaMemPool_t found = nullptr;
  check_cuda(cudaDeviceGetDefaultMemPool(&found, kDevice), "cudaDeviceGetDefaultMemPool");
  return found;
}

std::string megabytes(std::size_t bytes) {
  return bytes < (std::size_t{10} << 20) ? join(bytes, " bytes") : join(bytes >> 20, " MiB");
}

std::size_t pool_bytes(cudaMemPoolAttr attribute) {
  std::uint64_t bytes = 0;
  check_cuda(cudaMemPoolGetAttribute(pool(), attribute, &bytes), "cudaMemPoolGetAttribute");
  return bytes;
}

}  // namespace

const cudaDeviceProp& device_properties() {
  static const cudaDeviceProp found = [] {
    cudaDeviceProp p{};
    check_cuda(cudaGetDeviceProperties(&p, kDevice), "cudaGetDeviceProperties");
    return p;
  }();
  return found;
}

int code_capability() {
  static const int found = ask_code_capability();
  return found;
}

bool on_tensor_cores(Precision precision) { return precision != Precision::full && code_capability() >= 80; }

void use_device() {
  int current = kDevice;
  check_cuda(cudaGetDevice(&current), "cudaGetDevice");
  if (current != kDevice) check_cuda(cudaSetDevice(kDevice), "cudaSetDevice");
}

void open_device() {
  find_device();
  use_device();
  const cudaDeviceProp& p = device_properties();
  check<DeviceError>(p.major * 10 + p.minor >= kOldestCapability, "the GPU (", p.name, ") has compute capability ",
                     p.major, ".", p.minor, ", and gdcore needs 7.5 or newer (Turing, 2018)");
  (void)code_capability();
  std::uint64_t everything = std::numeric_limits<std::uint64_t>::max();  // the pool keeps all freed memory
  check_cuda(cudaMemPoolSetAttribute(pool(), cudaMemPoolAttrReleaseThreshold, &everything), "cudaMemPoolSetAttribute");
}

std::string device_description() {
  const cudaDeviceProp& p = device_properties();
  int driver = 0, runtime = 0;
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return join(p.name, ", compute capability ", p.major, ".", p.minor, " (kernels for ", code_capability() / 10, ".",
              code_capability() % 10, "), ", megabytes(p.totalGlobalMem), "; driver for CUDA ", version_text(driver),
              ", runtime ", version_text(runtime));
}

std::size_t free_device_memory() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free + pool_bytes(cudaMemPoolAttrReservedMemCurrent) - pool_bytes(cudaMemPoolAttrUsedMemCurrent);
}

void check_cuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) [[likely]]
    return;
  (void)cudaGetLastError();  // clears the error: the next call must not report it again
  throw DeviceError(join("[cuda] ", call, " failed: ", cudaGetErrorString(error),
                         loses_context(error) ? "; the device's context is lost: restart the process" : ""));
}

int multiprocessors() { return device_properties().multiProcessorCount; }

void* allocate_in_order(std::size_t bytes, cudaStream_t stream) {
  void* data = nullptr;
  cudaError_t error = cudaMallocAsync(&data, bytes, stream);
  if (error == cudaErrorMemoryAllocation) {  // retries after pending work, with the pool's free memory released
    (void)cudaGetLastError();
    check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    check_cuda(cudaMemPoolTrimTo(pool(), 0), "cudaMemPoolTrimTo");
    error = cudaMallocAsync(&data, bytes, stream);
  }
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw DeviceError(join("[cuda] out of device memory: ", megabytes(bytes), " requested, ",
                           megabytes(free_device_memory()), " of ", megabytes(device_properties().totalGlobalMem),
                           " free; use a smaller batch_size or model, or device=\"cpu\""));
  }
  check_cuda(error, "cudaMallocAsync");
  return data;
}

}  // namespace gdcore::cuda
