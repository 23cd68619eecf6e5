// Counts allocations from the heap and from the system. The linker's --wrap redirects each call of these functions in
// gdcore and in the benchmarks to __wrap_...; the original is __real_.... operator new is replaced, so that calls from
// the standard library are counted too.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "support.h"

namespace {

std::atomic<std::int64_t> total{0};
void count() { total.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

// NOLINTBEGIN: names given by the linker.
extern "C" {
void* __real_malloc(std::size_t bytes);
void* __real_calloc(std::size_t n, std::size_t bytes);
void* __real_realloc(void* data, std::size_t bytes);
void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
void* __real_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset);

void* __wrap_malloc(std::size_t bytes) {
  count();
  return __real_malloc(bytes);
}
void* __wrap_calloc(std::size_t n, std::size_t bytes) {
  count();
  return __real_calloc(n, bytes);
}
void* __wrap_realloc(void* data, std::size_t bytes) {
  count();
  return __real_realloc(data, bytes);
}
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
  count();
  return __real_aligned_alloc(alignment, bytes);
}
void* __wrap_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset) {
  count();
  return __real_mmap(at, bytes, protection, flags, file, offset);
}
}  // extern "C"
// NOLINTEND

void* operator new(std::size_t bytes) {
  if (void* data = std::malloc(bytes == 0 ? 1 : bytes)) return data;  // wrapped, hence counted
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* data = std::aligned_alloc(unit, gdcore::round_up(bytes == 0 ? 1 : bytes, unit))) return data;
  throw std::bad_alloc();
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }

namespace gdcore::bench {

std::int64_t allocations() { return total.load(std::memory_order_relaxed); }

}  // namespace gdcore::bench
