// The streams behind stream.h, and what is kept with each: for backend.cpp and graph.cpp.
//
// Each thread has a stream of its own. Work of different threads is ordered only where the device passes from one to
// the other: the thread that takes over lets its stream wait for the other's. So objects may move between threads.
#pragma once

#include <cstddef>
#include <vector>

#include "backend/stream.h"

namespace gdcore::cuda {

/// Throws DeviceError in a forked process, where CUDA does not work.
void check_not_forked();
bool is_forked();

/// Scratch memory of a stream or a graph; one block a use.
class ScratchBlocks {
 public:
  /// `stream` is where the memory is taken from and, where `keep` is not set, given back to as it grows.
  void* get(Scratch use, std::size_t bytes, cudaStream_t stream, bool keep);
  void free_all(cudaStream_t stream) noexcept;

 private:
  struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;
  };
  Block blocks_[static_cast<int>(Scratch::count)];
  std::vector<void*> kept_;  // outgrown, but kernels of a graph still use them
};

/// Page-locked memory through which small copies go to the device, so that the host may go on at once.
class Staging {
 public:
  void copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream);

 private:
  static constexpr std::size_t kSlot = std::size_t{1} << 20;
  static constexpr int kSlots = 4;
  struct Slot {
    void* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  Slot slots_[kSlots];
  int next_ = 0;
};

/// What a graph is made of while it is being recorded.
struct Recording {
  cudaStream_t stream = nullptr;
  ScratchBlocks* scratch = nullptr;
};

/// A stream and what goes with it. They are never destroyed, but handed on as threads end.
struct ThreadStream {
  ThreadStream();

  cudaStream_t stream = nullptr;
  cudaEvent_t handed_over = nullptr;
  cudaEvent_t launched[2] = {};  // the ends of the last two graphs
  unsigned launches = 0;
  ScratchBlocks scratch;
  Staging staging;
  Recording* recording = nullptr;  // of the thread, if any
};

/// The calling thread's, waiting for what other threads have asked of the device.
ThreadStream& thread_stream();

/// A stream to record a graph on.
class RecordingStream {
 public:
  RecordingStream();
  ~RecordingStream();
  RecordingStream(const RecordingStream&) = delete;
  RecordingStream& operator=(const RecordingStream&) = delete;
  cudaStream_t get() const { return stream_->stream; }

 private:
  ThreadStream* stream_;
};

}  // namespace gdcore::cuda
