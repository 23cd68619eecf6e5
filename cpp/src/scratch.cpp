#include "gdcore/scratch.h"

#include <cstdlib>
#include <new>

#include "gdcore/parallel.h"
#include "gdcore/tensor.h"

namespace gdcore {

namespace {

struct ThreadScratch {
  void* data[static_cast<int>(Scratch::count)] = {};
  std::size_t bytes[static_cast<int>(Scratch::count)] = {};
  ~ThreadScratch() {
    for (void* memory : data) std::free(memory);
  }
};

}  // namespace

void* scratch(Scratch use, std::size_t bytes) {
  thread_local ThreadScratch outer, inner;
  ThreadScratch& mine = inside_interrupt() ? inner : outer;
  const int slot = static_cast<int>(use);
  if (mine.bytes[slot] < bytes) {
    const std::size_t whole = round_up(bytes, kAlignment);
    void* larger = std::aligned_alloc(kAlignment, whole);
    if (larger == nullptr) throw std::bad_alloc();
    std::free(mine.data[slot]);
    mine.data[slot] = larger;
    mine.bytes[slot] = whole;
  }
  return mine.data[slot];
}

}  // namespace gdcore
