// The race detector. Kernels are compiled with -fsanitize=thread and linked with these hooks in place of the
// sanitizer's library, so that each access of a kernel calls one.
//
// Two accesses of one launch race if they touch the same bytes from two CUDA threads, at least one writes, not both are
// atomic, and neither __syncthreads (same block) nor __syncwarp (same warp) lies between. The result does not depend on
// the order in which the threads ran. Blocks are never ordered with each other. Each host thread has its own state.
#ifdef GDCORE_EMULATION_RACE

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <unordered_map>

#include "emulation/machine.h"

namespace gdcore::emulation {

namespace {

constexpr std::uintptr_t kGranule = 4, kGranules = 4096;  // bytes of a cell, cells of a page
constexpr std::size_t kMostPages = 2048;                  // 32 MiB of data, some 900 MB of cells
constexpr std::int64_t kNone = -1, kSeveral = -2;

/// The last read or write of a granule.
struct Access {
  std::int64_t block = kNone;
  std::int16_t thread = 0;
  std::uint8_t bytes = 0;  // bytes of the granule, one bit each
  bool atomic = false;
  unsigned epoch = 0, clock = 0;
  void* where = nullptr;
};

/// Accesses to a granule in this launch. Accesses of the current block are compared one by one, those of other blocks
/// by block number.
struct Cell {
  std::uint64_t launch = 0;
  std::int64_t writer = kNone, reader = kNone;  // blocks
  std::uint8_t written = 0, read = 0;           // bytes
  bool writes_atomic = true, reads_atomic = true;
  Access write, reads[2];
};

struct Page {
  Cell cells[kGranules];
};

struct Shadow {
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
  std::uintptr_t last_key = ~std::uintptr_t{0};
  Page* last_page = nullptr;

  Cell& cell(std::uintptr_t granule) {
    if (granule / kGranules != last_key) {
      last_key = granule / kGranules;
      std::unique_ptr<Page>& page = pages[last_key];
      if (page == nullptr) page = std::make_unique<Page>();
      last_page = page.get();
    }
    return last_page->cells[granule % kGranules];
  }
};

__thread Shadow* own_shadow GD_EMULATION_TLS = nullptr;

Shadow& shadow() {
  if (own_shadow == nullptr) [[unlikely]] {
    struct Own {  // one per host thread, freed at its end
      Shadow shadow;
      ~Own() { own_shadow = nullptr; }
    };
    static thread_local Own own;
    own_shadow = &own.shadow;
  }
  return *own_shadow;
}

bool within(const char* a, const void* start, std::size_t bytes) {
  return a >= static_cast<const char*>(start) && a < static_cast<const char*>(start) + bytes;
}

bool is_shared(const Machine& m, const char* a) {
  if (within(a, m.dynamic.get(), m.dynamic_bytes)) return true;
  for (const int id : m.live_arrays) {
    if (within(a, m.arrays[id].data.get(), m.arrays[id].bytes)) return true;
  }
  return false;
}

/// Whether memory is private to the thread: its stack, threadIdx and similar variables.
bool is_private(const Machine& m, const char* a) {
  const Fiber* fiber = m.fibers.current();
  return within(a, fiber->low, fiber->size) || within(a, &threadIdx, sizeof threadIdx) ||
         within(a, &blockIdx, sizeof blockIdx) || within(a, &blockDim, sizeof blockDim) ||
         within(a, &gridDim, sizeof gridDim);
}

/// Checks one access of the current thread against earlier ones.
class Check {
 public:
  Check(Machine& m, const Access& mine, bool write, bool shared) : m_(m), mine_(mine), write_(write), shared_(shared) {}

  void run(Cell& cell) {
    if (cell.launch != m_.launches || (shared_ && cell.write.block != mine_.block && cell.reader != mine_.block)) {
      cell = Cell{};
      cell.launch = m_.launches;
    }
    if (shared_ && !write_ && cell.write.block != mine_.block) report("read of uninitialised", nullptr);
    if (!shared_) against_other_blocks(cell);
    against_own_block(cell);
    remember(cell);
  }

 private:
  void against_other_blocks(const Cell& cell) {
    if (cell.writer != kNone && cell.writer != mine_.block && (cell.written & mine_.bytes) != 0 &&
        !(mine_.atomic && cell.writes_atomic)) {
      report("write and access from different blocks,", &cell.write);
    }
    if (write_ && cell.reader != kNone && cell.reader != mine_.block && (cell.read & mine_.bytes) != 0 &&
        !(mine_.atomic && cell.reads_atomic)) {
      report("read and write from different blocks,", &cell.reads[0]);
    }
  }

  void against_own_block(const Cell& cell) {
    if (conflicts(cell.write)) report(write_ ? "write-write" : "write-read", &cell.write);
    if (!write_) return;
    for (const Access& read : cell.reads) {
      if (conflicts(read)) report("read-write", &read);
    }
  }

  bool conflicts(const Access& other) const {
    if (other.block != mine_.block || (other.bytes & mine_.bytes) == 0 || (mine_.atomic && other.atomic)) return false;
    const Thread& me = m_.threads[mine_.thread];
    const bool ordered = other.thread == mine_.thread || other.epoch < me.epoch ||
                         (other.thread / kWarp == mine_.thread / kWarp && me.known[other.thread % kWarp] > other.clock);
    return !ordered;
  }

  void remember(Cell& cell) const {
    if (write_) {
      cell.writer = cell.writer == kNone || cell.writer == mine_.block ? mine_.block : kSeveral;
      cell.writes_atomic = cell.writes_atomic && mine_.atomic;
      cell.written |= mine_.bytes;
      cell.write = mine_;
      return;
    }
    cell.reader = cell.reader == kNone || cell.reader == mine_.block ? mine_.block : kSeveral;
    cell.reads_atomic = cell.reads_atomic && mine_.atomic;
    cell.read |= mine_.bytes;
    Access& first = cell.reads[0];
    const bool replace = first.thread == mine_.thread || first.block != mine_.block || first.epoch < mine_.epoch;
    cell.reads[replace ? 0 : 1] = mine_;
  }

  // The compiler assumes that hooks do not throw: the error is stored, and the next barrier or the end of the thread
  // unwinds.
  void report(const char* what, const Access* other) const {
    if (!m_.error.empty()) return;
    char where[120];
    std::snprintf(where, sizeof where, " at code address %p", mine_.where);
    m_.error = std::string("race: ") + what + (shared_ ? " shared" : " global") +
               " memory: " + name_of(m_, mine_.thread) + where;
    if (other == nullptr) return;
    std::snprintf(where, sizeof where, ", and block number %ld thread number %d at code address %p",
                  static_cast<long>(other->block), other->thread, other->where);
    m_.error += where;
  }

  Machine& m_;
  const Access& mine_;
  bool write_, shared_;
};

void access(const volatile void* data, std::size_t bytes, bool write, bool atomic, void* where) {
  Machine& m = machine();
  if (m.current < 0 || !m.error.empty()) return;
  const char* a = static_cast<const char*>(const_cast<const void*>(data));
  if (is_private(m, a)) return;
  const Thread& me = m.threads[m.current];
  Access mine;
  mine.block = (std::int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  mine.thread = static_cast<std::int16_t>(m.current);
  mine.atomic = atomic;
  mine.epoch = me.epoch;
  mine.clock = me.clock;
  mine.where = where;
  const bool shared = is_shared(m, a);
  const auto first = reinterpret_cast<std::uintptr_t>(a), end = first + bytes;
  for (std::uintptr_t granule = first / kGranule; granule <= (end - 1) / kGranule; ++granule) {
    const std::uintptr_t start = granule * kGranule;
    const std::uintptr_t from = std::max(start, first) - start, to = std::min(start + kGranule, end) - start;
    mine.bytes = static_cast<std::uint8_t>((1u << to) - (1u << from));
    Check(m, mine, write, shared).run(shadow().cell(granule));
  }
}

}  // namespace

void forget_accesses(Machine&) {
  Shadow& s = shadow();
  if (s.pages.size() > kMostPages) s = Shadow{};  // otherwise the launch number distinguishes old accesses
}

}  // namespace gdcore::emulation

using gdcore::emulation::access;

#define GD_CALLER __builtin_return_address(0)
#define GD_PLAIN(n)                                                                 \
  void __tsan_read##n(void* p) { access(p, n, false, false, GD_CALLER); }           \
  void __tsan_write##n(void* p) { access(p, n, true, false, GD_CALLER); }           \
  void __tsan_unaligned_read##n(void* p) { access(p, n, false, false, GD_CALLER); } \
  void __tsan_unaligned_write##n(void* p) { access(p, n, true, false, GD_CALLER); } \
  void __tsan_volatile_read##n(void* p) { access(p, n, false, false, GD_CALLER); }  \
  void __tsan_volatile_write##n(void* p) { access(p, n, true, false, GD_CALLER); }
#define GD_CHANGE(bits, T, name, change)                        \
  T __tsan_atomic##bits##_##name(volatile T* p, T value, int) { \
    access(p, sizeof(T), true, true, GD_CALLER);                \
    return change(p, value, __ATOMIC_RELAXED);                  \
  }
#define GD_COMPARE(bits, T, name)                                                                      \
  int __tsan_atomic##bits##_compare_exchange_##name(volatile T* p, T* expected, T value, int, int) {   \
    access(p, sizeof(T), true, true, GD_CALLER);                                                       \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
  }
#define GD_ATOMIC(bits, T)                                        \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {        \
    access(p, sizeof(T), false, true, GD_CALLER);                 \
    return *p;                                                    \
  }                                                               \
  void __tsan_atomic##bits##_store(volatile T* p, T value, int) { \
    access(p, sizeof(T), true, true, GD_CALLER);                  \
    *p = value;                                                   \
  }                                                               \
  GD_CHANGE(bits, T, exchange, __atomic_exchange_n)               \
  GD_CHANGE(bits, T, fetch_add, __atomic_fetch_add)               \
  GD_CHANGE(bits, T, fetch_sub, __atomic_fetch_sub)               \
  GD_CHANGE(bits, T, fetch_and, __atomic_fetch_and)               \
  GD_CHANGE(bits, T, fetch_or, __atomic_fetch_or)                 \
  GD_CHANGE(bits, T, fetch_xor, __atomic_fetch_xor)               \
  GD_COMPARE(bits, T, strong)                                     \
  GD_COMPARE(bits, T, weak)

// NOLINTBEGIN(bugprone-reserved-identifier): names given by the compiler
extern "C" {
GD_PLAIN(1)
GD_PLAIN(2)
GD_PLAIN(4)
GD_PLAIN(8)
GD_PLAIN(16)
void __tsan_read_range(void* p, unsigned long bytes) {
  if (bytes != 0) access(p, bytes, false, false, GD_CALLER);
}
void __tsan_write_range(void* p, unsigned long bytes) {
  if (bytes != 0) access(p, bytes, true, false, GD_CALLER);
}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}
GD_ATOMIC(8, std::uint8_t)
GD_ATOMIC(16, std::uint16_t)
GD_ATOMIC(32, std::uint32_t)
GD_ATOMIC(64, std::uint64_t)
}
// NOLINTEND(bugprone-reserved-identifier)

#endif
