// The device, buffers and copies.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>

#include "cuda_backend.h"
#include "gdcore/check.h"
#include "thread_stream.h"

namespace gdcore::cuda {

namespace {

constexpr int kDevice = 0;
constexpr int kRuntime = 13000, kOldestCapability = 75;
constexpr std::size_t kStagedCopy = std::size_t{4} << 20;  // larger ones go their own way, and are waited for

/// Errors after which no call of the process succeeds any more.
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

/// Throws DeviceError, saying what is missing and what to do, unless there is a device.
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
    throw DeviceError(visible == nullptr ? "the NVIDIA driver finds no GPU; see what nvidia-smi says"
                                         : join("no GPU is visible: CUDA_VISIBLE_DEVICES is \"", visible,
                                                "\"; set it to the number of a GPU, or unset it"));
  }
  throw DeviceError(join("the GPU does not start: ", cudaGetErrorString(error), "; see what nvidia-smi says"));
}

const cudaDeviceProp& properties() {
  static const cudaDeviceProp found = [] {
    cudaDeviceProp p{};
    check_cuda(cudaGetDeviceProperties(&p, kDevice), "cudaGetDeviceProperties");
    return p;
  }();
  return found;
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

/// What the driver has left, and what the pool holds of freed memory.
std::size_t free_memory() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free + pool_bytes(cudaMemPoolAttrReservedMemCurrent) - pool_bytes(cudaMemPoolAttrUsedMemCurrent);
}

}  // namespace

void check_cuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) [[likely]] return;
  (void)cudaGetLastError();  // reported here, not again by the next call
  throw DeviceError(join("[cuda] ", call, " failed: ", cudaGetErrorString(error),
                         loses_context(error) ? "; the device's context is lost: restart the process" : ""));
}

int multiprocessors() { return properties().multiProcessorCount; }

void* allocate_in_order(std::size_t bytes, cudaStream_t stream) {
  void* data = nullptr;
  cudaError_t error = cudaMallocAsync(&data, bytes, stream);
  if (error == cudaErrorMemoryAllocation) {  // once more, with nothing pending and nothing kept in reserve
    (void)cudaGetLastError();
    check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    check_cuda(cudaMemPoolTrimTo(pool(), 0), "cudaMemPoolTrimTo");
    error = cudaMallocAsync(&data, bytes, stream);
  }
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw DeviceError(join("[cuda] out of device memory: ", megabytes(bytes), " are wanted, ", megabytes(free_memory()),
                           " of ", megabytes(properties().totalGlobalMem),
                           " are free; use a smaller batch_size or model, or device=\"cpu\""));
  }
  check_cuda(error, "cudaMallocAsync");
  return data;
}

CudaBackend::CudaBackend() {
  find_device();
  check_cuda(cudaSetDevice(kDevice), "cudaSetDevice");
  const cudaDeviceProp& p = properties();
  check<DeviceError>(p.major * 10 + p.minor >= kOldestCapability, "the GPU (", p.name, ") has compute capability ",
                     p.major, ".", p.minor, ", and gdcore needs 7.5 or newer (Turing, 2018)");
  std::uint64_t everything = std::numeric_limits<std::uint64_t>::max();  // freed memory stays for the next allocation
  check_cuda(cudaMemPoolSetAttribute(pool(), cudaMemPoolAttrReleaseThreshold, &everything), "cudaMemPoolSetAttribute");
  thread_stream();
}

std::string CudaBackend::description() const {
  const cudaDeviceProp& p = properties();
  return join(p.name, ", compute capability ", p.major, ".", p.minor);
}

// While a graph is recorded, memory comes from the thread's own stream, which the graph knows nothing of.
void* CudaBackend::allocate(std::size_t bytes) {
  const ThreadStream& own = thread_stream();
  void* data = allocate_in_order(std::max<std::size_t>(bytes, 1), own.stream);
  check_cuda(cudaMemsetAsync(data, 0, bytes, own.stream), "cudaMemsetAsync");
  if (own.recording != nullptr) check_cuda(cudaStreamSynchronize(own.stream), "cudaStreamSynchronize");
  return data;
}

void CudaBackend::deallocate(void* data, std::size_t) noexcept {
  if (data == nullptr || is_forked()) return;
  try {
    if (cudaFreeAsync(data, thread_stream().stream) != cudaSuccess) (void)cudaGetLastError();
  } catch (...) {  // the device is lost, and the memory with it
  }
}

void CudaBackend::copy(void* to, const void* from, std::size_t bytes, CopyKind kind) {
  ThreadStream& own = thread_stream();
  if (bytes == 0) return;
  if (kind == CopyKind::within) {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current_stream()), "cudaMemcpyAsync");
    return;
  }
  check<std::logic_error>(own.recording == nullptr, "[cuda] the host takes no part in recorded steps");
  if (kind == CopyKind::to_device && bytes <= kStagedCopy) {
    own.staging.copy(to, from, bytes, own.stream);
    return;
  }
  const cudaMemcpyKind direction = kind == CopyKind::to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
  check_cuda(cudaMemcpyAsync(to, from, bytes, direction, own.stream), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(own.stream), "cudaStreamSynchronize");
}

void CudaBackend::wait() { check_cuda(cudaStreamSynchronize(thread_stream().stream), "cudaStreamSynchronize"); }

std::size_t CudaBackend::free_bytes() {
  check_not_forked();
  return free_memory();
}

}  // namespace gdcore::cuda

extern "C" __attribute__((visibility("default"))) gdcore::Backend* gdcore_make_cuda_backend(const char** error) {
  static std::string text;
  try {
    return new gdcore::cuda::CudaBackend;
  } catch (const std::exception& e) {
    text = e.what();
  } catch (...) {
    text = "the GPU does not start";
  }
  *error = text.c_str();
  return nullptr;
}
