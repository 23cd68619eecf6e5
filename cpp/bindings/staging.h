// Host arrays in memory that a backend's operation can use: unchanged on the CPU, else copied to the device and back,
// between guard bytes.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "arrays.h"
#include "gdcore/check.h"

namespace gdcore::bindings {

class Staging {
 public:
  explicit Staging(const std::string& device) : backend_(gdcore::backend(to_device(device))) {}

  /// Returns the address that the operation uses for these bytes: at the same offset modulo kAlignment, and at one
  /// address if given twice.
  void* stage(void* host, std::size_t bytes, bool writable = true) {
    if (host == nullptr || backend_.device() == Device::cpu) return host;
    for (Staged& staged : staged_) {
      if (staged.host != host || staged.bytes != bytes) continue;
      staged.writable |= writable;
      return staged.data();
    }
    Staged& staged = staged_.emplace_back();
    staged.host = static_cast<unsigned char*>(host);
    staged.bytes = bytes;
    staged.writable = writable;
    staged.offset = kGuard + reinterpret_cast<std::uintptr_t>(host) % kAlignment;
    std::vector<unsigned char> image(staged.offset + bytes + kGuard, kUntouched);
    std::memcpy(image.data() + staged.offset, host, bytes);
    staged.memory = Buffer(backend_, image.size());
    backend_.copy(staged.memory.data(), image.data(), image.size(), CopyKind::to_device);
    return staged.data();
  }

  template <class T>
  T* stage(T& host) {
    return static_cast<T*>(stage(&host, sizeof(T)));
  }

  /// Runs the operation, copies all arrays back, and checks that nothing was written outside them.
  template <class Operation>
  auto run(const Operation& operation) {
    if constexpr (std::is_void_v<decltype(operation(backend_))>) {
      operation(backend_);
      finish();
    } else {
      const auto result = operation(backend_);
      finish();
      return result;
    }
  }

  Backend& backend() { return backend_; }

 private:
  static constexpr std::size_t kGuard = 1024;
  static constexpr unsigned char kUntouched = 0xA5;

  struct Staged {
    unsigned char* host = nullptr;
    std::size_t bytes = 0, offset = 0;
    bool writable = false;
    Buffer memory;

    void* data() const { return static_cast<unsigned char*>(memory.data()) + offset; }
  };

  void finish() {
    backend_.wait();
    for (const Staged& staged : staged_) {
      std::vector<unsigned char> image(staged.memory.bytes());
      backend_.copy(image.data(), staged.memory.data(), image.size(), CopyKind::to_host);
      const auto untouched = [](unsigned char byte) { return byte == kUntouched; };
      const auto begin = image.begin() + static_cast<std::ptrdiff_t>(staged.offset);
      const auto end = begin + static_cast<std::ptrdiff_t>(staged.bytes);
      check<std::runtime_error>(std::all_of(image.begin(), begin, untouched),
                                "[ops] the kernel wrote before the start of an array of ", staged.bytes, " bytes");
      check<std::runtime_error>(std::all_of(end, image.end(), untouched),
                                "[ops] the kernel wrote past the end of an array of ", staged.bytes, " bytes");
      if (std::equal(begin, end, staged.host)) continue;
      check<std::runtime_error>(staged.writable, "[ops] the kernel changed a read-only array of ", staged.bytes,
                                " bytes");
      std::copy(begin, end, staged.host);
    }
  }

  Backend& backend_;
  std::vector<Staged> staged_;
};

}  // namespace gdcore::bindings
