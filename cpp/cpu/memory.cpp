// Memory of the CPU backend, and the name of its instruction set.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu_backend.h"
#include "gdcore/instruction_set.h"

namespace gdcore::GDCORE_ISA {

#define GD_TEXT_OF(x) #x
#define GD_TEXT(x) GD_TEXT_OF(x)

std::string CpuBackend::description() const { return units_.name != nullptr ? units_.name : GD_TEXT(GDCORE_ISA); }

/// Buffers from this size on are mapped as zero pages: they fault in on first use, in the pool's tasks, and as huge
/// pages where the system has them.
#ifdef __SANITIZE_ADDRESS__
inline constexpr std::size_t kLarge = ~std::size_t{0};  // the sanitizer checks memory of the allocator only
#else
inline constexpr std::size_t kLarge = std::size_t{1} << 21;
#endif

void* CpuBackend::allocate(std::size_t bytes) {
  if (bytes >= kLarge) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return data;
  }
  const std::size_t whole = round_up(bytes == 0 ? 1 : bytes, kAlignment);
  void* data = std::aligned_alloc(kAlignment, whole);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, whole);
  return data;
}

void CpuBackend::deallocate(void* data, std::size_t bytes) noexcept {
  if (bytes >= kLarge) {
    munmap(data, bytes);
  } else {
    std::free(data);
  }
}

void CpuBackend::copy(void* to, const void* from, std::size_t bytes, CopyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

namespace {

Backend* make_backend(const MatrixUnits& units) { return new CpuBackend(units); }

}  // namespace

void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to);
void probabilities(Probabilities kind, ConstView logits, void* to);

const CpuFunctions functions{make_backend, fill_order, probabilities};

}  // namespace gdcore::GDCORE_ISA
