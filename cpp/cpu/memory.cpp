// Memory of the CPU backend, and which copy of it this is.
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu_backend.h"

namespace gdcore::GDCORE_ISA {

#define GD_TEXT_OF(x) #x
#define GD_TEXT(x) GD_TEXT_OF(x)

std::string CpuBackend::description() const { return GD_TEXT(GDCORE_ISA); }

void* CpuBackend::allocate(std::size_t bytes) {
  const std::size_t whole = round_up(bytes == 0 ? 1 : bytes, kAlignment);
  void* data = std::aligned_alloc(kAlignment, whole);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, whole);
  return data;
}

void CpuBackend::deallocate(void* data, std::size_t) noexcept { std::free(data); }

void CpuBackend::copy(void* to, const void* from, std::size_t bytes, CopyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

/// What cpp/src/backend.cpp calls; one for each instruction set.
Backend* make_backend() { return new CpuBackend(); }

}  // namespace gdcore::GDCORE_ISA
