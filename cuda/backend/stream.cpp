#include "backend/stream.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "backend/device.h"
#include "backend/thread_stream.h"
#include "gdcore/check.h"
#include "gdcore/tensor.h"

namespace gdcore::cuda {

namespace {

std::atomic<bool> forked{false};

#ifdef GDCORE_EMULATED
constexpr bool kExactScratch = true;  // a new block of exact size for each use, so that tests detect overruns
#else
constexpr bool kExactScratch = false;
#endif

/// Idle streams, and the stream that used the device last.
class Stock {
 public:
  static Stock& get() {
    static Stock* const stock = new Stock;  // never destroyed: threads may end after everything else
    return *stock;
  }

  ThreadStream* take(Purpose purpose) {
    auto& idle = idle_[static_cast<int>(purpose)];
    {
      const std::lock_guard lock(mutex_);
      if (!idle.empty()) {
        ThreadStream* stream = idle.back();
        idle.pop_back();
        return stream;
      }
    }
    return new ThreadStream;
  }

  void give_back(Purpose purpose, ThreadStream* stream) noexcept {
    if (is_forked()) return;  // another thread may have held the lock at the fork
    try {
      const std::lock_guard lock(mutex_);
      idle_[static_cast<int>(purpose)].push_back(stream);
    } catch (...) {  // out of memory: the stream is lost
    }
  }

  /// Makes `stream` wait for all earlier work on the device, from any thread.
  void pass_to(ThreadStream* stream) {
    if (last_.load(std::memory_order_relaxed) == stream) return;
    const std::lock_guard lock(mutex_);
    ThreadStream* before = last_.load(std::memory_order_relaxed);
    if (before != nullptr && before != stream) {
      check_cuda(cudaEventRecord(before->handed_over, before->stream), "cudaEventRecord");
      check_cuda(cudaStreamWaitEvent(stream->stream, before->handed_over, 0), "cudaStreamWaitEvent");
    }
    last_ = stream;
  }

 private:
  Stock() {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
  }

  std::mutex mutex_;
  std::vector<ThreadStream*> idle_[2];
  std::atomic<ThreadStream*> last_{nullptr};
};

}  // namespace

bool is_forked() { return forked; }

void check_not_forked() {
  check<DeviceError>(!forked,
                     "[cuda] CUDA does not work in a forked process; start it with multiprocessing's \"spawn\" method, "
                     "or use device=\"cpu\" there");
}

ThreadStream::ThreadStream() {
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  for (cudaEvent_t* event : {&handed_over, &launched[0], &launched[1]}) {
    check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
}

ThreadStream& thread_stream() {
  static thread_local OwnedStream own(nullptr, {Purpose::work});
  check_not_forked();
  if (own == nullptr) own = take_stream(Purpose::work);
  use_device();
  Stock::get().pass_to(own.get());
  return *own;
}

void GiveBack::operator()(ThreadStream* stream) const noexcept { Stock::get().give_back(purpose, stream); }
OwnedStream take_stream(Purpose purpose) { return {Stock::get().take(purpose), {purpose}}; }

cudaStream_t current_stream() {
  const ThreadStream& own = thread_stream();
  return own.recording != nullptr ? own.recording->stream : own.stream;
}

void* scratch(Scratch use, std::size_t bytes) {
  ThreadStream& own = thread_stream();
  if (own.recording != nullptr) return own.recording->scratch->get(use, bytes, own.stream, true);
  return own.scratch.get(use, bytes, own.stream, false);
}

void* ScratchBlocks::get(Scratch use, std::size_t bytes, cudaStream_t stream, bool keep) {
  Block& block = blocks_[static_cast<int>(use)];
  if (bytes <= block.bytes && !kExactScratch) return block.data;
  if (block.data != nullptr) {
    if (keep) {
      kept_.push_back(block.data);
    } else {
      check_cuda(cudaFreeAsync(block.data, stream), "cudaFreeAsync");
    }
  }
  const std::size_t grown =
      kExactScratch ? std::max<std::size_t>(bytes, 1) : round_up(std::max(bytes, 2 * block.bytes), kAlignment);
  block = Block{};
  block.data = allocate_in_order(grown, stream);
  block.bytes = grown;
  if (keep) check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");  // a graph may run on other streams
  return block.data;
}

void ScratchBlocks::free_all(cudaStream_t stream) noexcept {
  for (Block& block : blocks_) {
    if (block.data != nullptr) (void)cudaFreeAsync(block.data, stream);
    block = Block{};
  }
  for (void* data : kept_) (void)cudaFreeAsync(data, stream);
  kept_.clear();
}

void Staging::copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  for (std::size_t done = 0; done < bytes; done += kSlot) {
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    if (slot.data == nullptr) {
      check_cuda(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "cudaEventCreateWithFlags");
      check_cuda(cudaMallocHost(&slot.data, kSlot), "cudaMallocHost");
    } else {
      check_cuda(cudaEventSynchronize(slot.copied), "cudaEventSynchronize");
    }
    const std::size_t chunk = std::min(kSlot, bytes - done);
    std::memcpy(slot.data, static_cast<const char*>(from) + done, chunk);
    check_cuda(cudaMemcpyAsync(static_cast<char*>(to) + done, slot.data, chunk, cudaMemcpyHostToDevice, stream),
               "cudaMemcpyAsync");
    check_cuda(cudaEventRecord(slot.copied, stream), "cudaEventRecord");
  }
}

}  // namespace gdcore::cuda
