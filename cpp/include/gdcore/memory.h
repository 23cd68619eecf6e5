// Memory of a device: the buffers that own it, and the directions of copies.
#pragma once

#include "gdcore/tensor.h"

namespace gdcore {

enum class CopyKind : std::uint8_t { to_device, to_host, within };

class Backend;

/// Owns `bytes` of zeroed memory on a backend, aligned to kAlignment.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend& backend, std::size_t bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Makes the buffer at least this large; its contents are lost if it grows.
void grow(Buffer& buffer, Backend& backend, std::size_t bytes);

}  // namespace gdcore
