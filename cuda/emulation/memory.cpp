// Device memory. By default from the heap with exact bounds, for AddressSanitizer. With GDCORE_EMULATION_PROTECT=1 from
// an arena that is accessible only while a kernel or a copy runs, so that host code that dereferences a device pointer
// crashes as with a GPU. GDCORE_EMULATION_MEMORY: bytes of device memory.
#include "emulation/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "emulation/cuda_runtime.h"

namespace gdcore::emulation {

namespace {

constexpr std::size_t kBoundary = 256;
constexpr std::size_t kDefaultMemory = std::size_t{16} << 30;

/// An address range as large as the device's memory, inaccessible to the host unless a DeviceAccess exists.
class Arena {
 public:
  explicit Arena(std::size_t bytes) : size_(bytes) {
    void* base = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<char*>(base);
    free_[0] = size_;
  }

  void* allocate(std::size_t bytes) {
    for (auto& [start, room] : free_) {
      if (room < bytes) continue;
      char* data = base_ + start;
      const std::size_t rest = room - bytes, after = start + bytes;
      free_.erase(start);
      if (rest != 0) free_[after] = rest;
      return data;
    }
    return nullptr;
  }

  void release(void* data, std::size_t bytes) {
    // Returns whole pages to the system: the cost of changing access grows with the pages ever used.
    constexpr std::uintptr_t kPage = 4096;
    const auto begin = reinterpret_cast<std::uintptr_t>(data), end = begin + bytes;
    const std::uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    auto here = free_.emplace(static_cast<char*>(data) - base_, bytes).first;
    const auto after = std::next(here);
    if (after != free_.end() && here->first + here->second == after->first) {
      here->second += after->second;
      free_.erase(after);
    }
    if (here == free_.begin()) return;
    const auto before = std::prev(here);
    if (before->first + before->second != here->first) return;
    before->second += here->second;
    free_.erase(here);
  }

  void open(bool readable) { mprotect(base_, size_, readable ? PROT_READ | PROT_WRITE : PROT_NONE); }

 private:
  char* base_ = nullptr;
  std::size_t size_;
  std::map<std::size_t, std::size_t> free_;  // bytes by start
};

struct Memory {
  std::mutex mutex;
  const std::size_t total = number_of_environment("GDCORE_EMULATION_MEMORY", kDefaultMemory);
  std::size_t used = 0;
  std::map<std::uintptr_t, std::size_t> blocks[2];  // for each kind of memory: bytes by start
  int accesses = 0;
  Arena* arena = number_of_environment("GDCORE_EMULATION_PROTECT", 0) != 0 ? new Arena(total) : nullptr;
};

Memory& memory() {
  static Memory* const all = new Memory;  // never destroyed: buffers may outlive everything else
  return *all;
}

std::size_t rounded(std::size_t bytes) { return (bytes + kBoundary - 1) / kBoundary * kBoundary; }

}  // namespace

std::size_t number_of_environment(const char* name, std::size_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

DeviceAccess::DeviceAccess() {
  Memory& m = memory();
  if (m.arena == nullptr) return;
  const std::lock_guard lock(m.mutex);
  if (m.accesses++ == 0) m.arena->open(true);
}

DeviceAccess::~DeviceAccess() {
  Memory& m = memory();
  if (m.arena == nullptr) return;
  const std::lock_guard lock(m.mutex);
  if (--m.accesses == 0) m.arena->open(false);
}

void* allocate(Room room, std::size_t bytes) {
  Memory& m = memory();
  const DeviceAccess access;
  const std::lock_guard lock(m.mutex);
  void* data = nullptr;
  if (room == Room::device && (bytes > m.total || rounded(bytes) > m.total - m.used)) return nullptr;
  if (room == Room::device && m.arena != nullptr) {
    data = m.arena->allocate(rounded(bytes));
  } else if (posix_memalign(&data, kBoundary, bytes) != 0) {
    data = nullptr;
  }
  if (data == nullptr) return nullptr;
  std::memset(data, 0xFF, bytes);
  m.blocks[static_cast<int>(room)][reinterpret_cast<std::uintptr_t>(data)] = bytes;
  if (room == Room::device) m.used += rounded(bytes);
  return data;
}

bool release(Room room, void* data) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  auto& blocks = m.blocks[static_cast<int>(room)];
  const auto block = blocks.find(reinterpret_cast<std::uintptr_t>(data));
  if (block == blocks.end()) return false;
  const std::size_t bytes = block->second;
  blocks.erase(block);
  if (room == Room::device) m.used -= rounded(bytes);
  if (room == Room::device && m.arena != nullptr) {
    m.arena->release(data, rounded(bytes));
  } else {
    std::free(data);
  }
  return true;
}

bool owns(Room room, const void* data, std::size_t bytes) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto& blocks = m.blocks[static_cast<int>(room)];
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  auto block = blocks.upper_bound(at);
  if (block == blocks.begin()) return false;
  --block;
  return at - block->first <= block->second && bytes <= block->second - (at - block->first);
}

std::size_t total_memory() { return memory().total; }

std::size_t used_memory() {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  return m.used;
}

}  // namespace gdcore::emulation
