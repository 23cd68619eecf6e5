// Streams, events, graphs, copies and launches of the emulated runtime. Work runs at once on the calling thread; a
// capturing stream stores it instead, and a launched graph runs it in the same order.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "emulation/cuda_runtime.h"
#include "emulation/memory.h"

using Works = std::vector<std::function<void()>>;

struct CUstream_st {
  bool capturing = false, invalid = false;
  Works kept;
};
struct CUevent_st {
  bool timed = true, recorded = false, captured = false;
  std::chrono::steady_clock::time_point time;
};
struct CUgraph_st {
  std::shared_ptr<const Works> works;
};
struct CUgraphExec_st : CUgraph_st {};

namespace gdcore::emulation {

namespace {

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// Invalidates the capture of a capturing stream, as in CUDA: the caller would wait for work that has not run.
bool invalidates(cudaStream_t stream) {
  if (stream == nullptr || !stream->capturing) return false;
  stream->invalid = true;
  return true;
}

bool pageable(const void* host, std::size_t bytes) {
  return !owns(Room::pinned, host, bytes) && !owns(Room::device, host, bytes);
}

constexpr std::size_t kPlainDynamicShared = 48 << 10;  // limit without cudaFuncSetAttribute
constexpr std::size_t kMaxDynamicShared = 227 << 10;

/// Kernels by address: the limit of dynamic shared memory and the number of launches. At exit the numbers are appended
/// to the file GDCORE_EMULATION_LOG as "offset in the library, count".
class Kernels {
 public:
  static Kernels& all() {
    static Kernels kernels;
    return kernels;
  }

  void allow(const void* kernel, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    allowed_[kernel] = bytes;
  }
  std::size_t allowed(const void* kernel) {
    const std::lock_guard lock(mutex_);
    const auto found = allowed_.find(kernel);
    return found != allowed_.end() ? found->second : kPlainDynamicShared;
  }
  void count(const void* kernel) {
    if (log_ == nullptr) return;
    const std::lock_guard lock(mutex_);
    ++launches_[kernel];
  }

  ~Kernels() {
    if (log_ == nullptr) return;
    std::string lines;
    for (const auto& [kernel, count] : launches_) {
      Dl_info library{};
      if (dladdr(kernel, &library) == 0) continue;
      char line[80];
      std::snprintf(line, sizeof line, "%#tx %ld\n",
                    static_cast<const char*>(kernel) - static_cast<const char*>(library.dli_fbase), count);
      lines += line;
    }
    std::FILE* file = std::fopen(log_, "a");
    if (file == nullptr) return;
    std::fwrite(lines.data(), 1, lines.size(), file);  // one write: several processes may append
    std::fclose(file);
  }

 private:
  std::mutex mutex_;
  const char* log_ = std::getenv("GDCORE_EMULATION_LOG");
  std::map<const void*, std::size_t> allowed_;
  std::map<const void*, long> launches_;
};

}  // namespace

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream != nullptr && stream->capturing) {
    if (stream->invalid) return result(cudaErrorStreamCaptureInvalidated);
    stream->kept.push_back(std::move(work));
    return cudaSuccess;
  }
  const DeviceAccess access;
  work();
  return cudaSuccess;
}

cudaError_t launch(const void* kernel, const Grid& grid, cudaStream_t stream, std::function<void()> thread) {
  if (!valid(grid)) return result(cudaErrorInvalidConfiguration);
  Grid granted = grid;
  granted.most_shared = std::max(grid.most_shared, Kernels::all().allowed(kernel));
  if (grid.shared > granted.most_shared) return result(cudaErrorInvalidValue);
  return enqueue(stream, [kernel, granted, thread = std::move(thread)] {
    Kernels::all().count(kernel);
    run_grid(granted, thread);
  });
}

cudaError_t allow_dynamic_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMaxDynamicShared) return result(cudaErrorInvalidValue);
  Kernels::all().allow(kernel, static_cast<std::size_t>(bytes));
  return cudaSuccess;
}

}  // namespace gdcore::emulation

using namespace gdcore::emulation;

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

// ---- Memory. ----

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  *data = allocate(Room::device, bytes);
  return result(*data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* data) {
  return result(data == nullptr || release(Room::device, data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream) {
  if (invalidates(stream)) return result(cudaErrorStreamCaptureUnsupported);  // gdcore does not use CUDA's memory nodes
  return cudaMalloc(data, bytes);
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  if (invalidates(stream)) return result(cudaErrorStreamCaptureUnsupported);
  return cudaFree(data);
}

cudaError_t cudaMallocHost(void** data, std::size_t bytes) {
  *data = allocate(Room::pinned, std::max<std::size_t>(bytes, 1));
  return result(*data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* data) {
  return result(data == nullptr || release(Room::pinned, data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const void* host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : nullptr;
  if (host != nullptr && pageable(host, bytes) && invalidates(stream)) return result(cudaErrorStreamCaptureUnsupported);
  if (host != nullptr && owns(Room::device, host, bytes)) return result(cudaErrorInvalidValue);  // the kind is wrong
  return enqueue(stream, [=] { std::memmove(to, from, bytes); });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  return enqueue(stream, [=] { std::memset(data, value, bytes); });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = total_memory();
  *free = *total - used_memory();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  std::memset(value, 0, sizeof(std::uint64_t));  // the pool keeps no freed memory
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }

// ---- Streams and events. ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return result(invalidates(stream) ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  return enqueue(stream, [] {});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->captured = stream != nullptr && stream->capturing;
  event->recorded = true;
  return enqueue(stream, [event] { event->time = std::chrono::steady_clock::now(); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return result(event->captured ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->timed || !end->timed || !start->recorded || !end->recorded) return result(cudaErrorInvalidValue);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

// ---- Graphs. ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return result(cudaErrorStreamCaptureUnsupported);
  if (stream->capturing) return result(cudaErrorInvalidValue);
  stream->capturing = true;
  stream->invalid = false;
  stream->kept.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || !stream->capturing) return result(cudaErrorInvalidValue);
  stream->capturing = false;
  if (stream->invalid) {
    stream->kept.clear();
    return result(cudaErrorStreamCaptureInvalidated);
  }
  *graph = new CUgraph_st{std::make_shared<const Works>(std::exchange(stream->kept, {}))};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{*graph};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return enqueue(stream, [works = executable->works] {
    for (const std::function<void()>& work : *works) work();
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
