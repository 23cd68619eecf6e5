// Buffers, copies, and the library's only exported function.
#include <algorithm>
#include <exception>
#include <string>
#if __has_include(<nvtx3/nvToolsExt.h>)  // the emulation needs no toolkit
#include <nvtx3/nvToolsExt.h>
#define GDCORE_HAS_NVTX
#endif

#include "backend/cuda_backend.h"
#include "backend/device.h"
#include "backend/probe.h"
#include "backend/thread_stream.h"
#include "gdcore/check.h"
#include "matmul/matmul.h"

namespace gdcore::cuda {

namespace {

constexpr std::size_t kStagedCopy = std::size_t{4} << 20;  // larger copies are not staged; the host waits for them

}  // namespace

CudaBackend::CudaBackend() {
  open_device();
  try {
    open_products();
  } catch (const DeviceError& error) {  // adds the device to the message
    throw DeviceError(join("the GPU (", device_description(), ") is present, but ", error.what()));
  }
  launch_probe();  // reports a GPU that does not work at once
}

std::string CudaBackend::description() const { return join(device_description(), "; ", products_description()); }

// During a recording, memory comes from the thread's own stream, which is not part of the graph.
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
  } catch (...) {  // the device is lost, and its memory too
  }
}

void CudaBackend::copy(void* to, const void* from, std::size_t bytes, CopyKind kind) {
  ThreadStream& own = thread_stream();
  if (bytes == 0) return;
  if (kind == CopyKind::within) {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current_stream()), "cudaMemcpyAsync");
    return;
  }
  check<std::logic_error>(own.recording == nullptr,
                          "[cuda] the host cannot access device memory while steps are recorded");
  if (kind == CopyKind::to_device && bytes <= kStagedCopy) {
    own.staging.copy(to, from, bytes, own.stream);
    return;
  }
  const cudaMemcpyKind direction = kind == CopyKind::to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
  check_cuda(cudaMemcpyAsync(to, from, bytes, direction, own.stream), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(own.stream), "cudaStreamSynchronize");
}

bool CudaBackend::recording() const { return thread_stream().recording != nullptr; }

#ifdef GDCORE_HAS_NVTX
void CudaBackend::enter(const char* name) { nvtxRangePushA(name); }
void CudaBackend::leave() noexcept { nvtxRangePop(); }
#else
void CudaBackend::enter(const char*) {}
void CudaBackend::leave() noexcept {}
#endif

void CudaBackend::wait() { check_cuda(cudaStreamSynchronize(thread_stream().stream), "cudaStreamSynchronize"); }

std::size_t CudaBackend::free_bytes() {
  check_not_forked();
  return free_device_memory();
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
