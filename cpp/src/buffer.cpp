#include <utility>

#include "gdcore/backend.h"
#include "gdcore/check.h"
#include "gdcore/memory.h"

namespace gdcore {

std::int64_t checked_size(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kMost = std::int64_t{1} << 44;
  check(rows >= 0 && cols >= 0 && (cols == 0 || rows <= kMost / cols), "[gdcore] ", rows, " x ", cols,
        " numbers do not fit into memory");
  return rows * cols;
}

Buffer::Buffer(Backend& backend, std::size_t bytes)
    : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}

Buffer::Buffer(Buffer&& other) noexcept
    : backend_(other.backend_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) backend_->deallocate(data_, bytes_);
}

void grow(Buffer& buffer, Backend& backend, std::size_t bytes) {
  if (buffer.bytes() >= bytes && buffer.data() != nullptr) return;
  buffer = Buffer();  // frees its memory first: the larger buffer may need it
  buffer = Buffer(backend, bytes);
}

}  // namespace gdcore
