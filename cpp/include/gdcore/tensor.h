// Non-owning views of row-major matrices (a vector is a matrix of one row).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace gdcore {

enum class DType : std::uint8_t { float32, float64 };
enum class Device : std::uint8_t { cpu, cuda };

inline constexpr std::size_t kAlignment = 256;  // of every buffer, arena and workspace slice, in bytes

inline constexpr std::size_t size_of(DType dtype) { return dtype == DType::float32 ? 4 : 8; }
/// The value rounded to `dtype`.
inline constexpr double rounded(double value, DType dtype) {
  return dtype == DType::float32 ? static_cast<double>(static_cast<float>(value)) : value;
}
/// The smallest positive number of `dtype` with full precision.
inline constexpr double smallest_normal(DType dtype) {
  return dtype == DType::float32 ? std::numeric_limits<float>::min() : std::numeric_limits<double>::min();
}
inline constexpr const char* name_of(DType dtype) { return dtype == DType::float32 ? "float32" : "float64"; }
inline constexpr const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }
inline constexpr std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// Returns rows * cols; throws std::invalid_argument beyond 2^44 elements, so that byte counts stay exact.
std::int64_t checked_size(std::int64_t rows, std::int64_t cols);

/// A read-only matrix. A null `data` means "not given".
struct ConstView {
  const void* data = nullptr;
  std::int64_t rows = 0, cols = 0;
  DType dtype = DType::float32;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t size() const { return rows * cols; }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct View {
  void* data = nullptr;
  std::int64_t rows = 0, cols = 0;
  DType dtype = DType::float32;

  explicit operator bool() const { return data != nullptr; }
  operator ConstView() const { return {data, rows, cols, dtype}; }
  std::int64_t size() const { return rows * cols; }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(dtype); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

/// Calls `work(T{})` with the C++ type of `dtype`.
template <class Work>
void with_type(DType dtype, Work&& work) {
  if (dtype == DType::float32) {
    work(float{});
  } else {
    work(double{});
  }
}

}  // namespace gdcore
