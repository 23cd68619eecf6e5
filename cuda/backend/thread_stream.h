// The implementation of stream.h, for backend.cpp and graph.cpp.
//
// Each thread has its own stream. When the device changes from one thread to another, the new thread's stream waits for
// the previous one. So objects may move between threads.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/stream.h"

namespace gdcore::cuda {

/// Throws DeviceError in a forked process, where CUDA does not work.
void check_not_forked();
bool is_forked();

/// Scratch memory of a stream or a graph; one block per use.
class ScratchBlocks {
 public:
  /// Allocates on `stream`; an outgrown block is freed on it, or with `keep` stays allocated.
  void* get(Scratch use, std::size_t bytes, cudaStream_t stream, bool keep);
  void free_all(cudaStream_t stream) noexcept;

 private:
  struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;
  };
  Block blocks_[static_cast<int>(Scratch::count)];
  std::vector<void*> kept_;  // outgrown blocks that kernels of a graph still use
};

/// Page-locked buffer for small copies to the device: the host need not wait for them.
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

/// Stream and scratch memory of a graph while it is recorded.
struct Recording {
  cudaStream_t stream = nullptr;
  ScratchBlocks* scratch = nullptr;
};

/// A stream with its events and memory. Never destroyed: a thread that ends returns it for other threads.
struct ThreadStream {
  ThreadStream();

  cudaStream_t stream = nullptr;
  cudaEvent_t handed_over = nullptr;
  cudaEvent_t launched[2] = {};  // ends of the last two graphs
  unsigned launches = 0;
  ScratchBlocks scratch;
  Staging staging;
  Recording* recording = nullptr;  // the thread's current recording, or null
};

/// Returns the calling thread's stream, which waits for earlier work of other threads.
ThreadStream& thread_stream();

enum class Purpose { work, recording };  // separate streams: no stream can wait for one that is recording

struct GiveBack {
  Purpose purpose;
  void operator()(ThreadStream* stream) const noexcept;
};
/// A stream that is returned for others at the end.
using OwnedStream = std::unique_ptr<ThreadStream, GiveBack>;
OwnedStream take_stream(Purpose purpose);

}  // namespace gdcore::cuda
