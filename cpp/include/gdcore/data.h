// Data as the user passes it: any numeric type, strided rows, never copied as a whole.
#pragma once

#include <cstdint>
#include <span>

#include "gdcore/memory.h"
#include "gdcore/row_order.h"

namespace gdcore {

struct StepCounters;

enum class SourceType : std::uint8_t { f32, f64, u8, i8, u16, i16, u32, i32, u64, i64 };

/// A matrix of any numeric type in the memory of `device`. Rows are contiguous and `row_stride` elements apart.
struct Source {
  const void* data = nullptr;
  SourceType type = SourceType::f32;
  std::int64_t rows = 0, cols = 0, row_stride = 0;
  Device device = Device::cpu;

  explicit operator bool() const { return data != nullptr; }
};

/// Calls `work(S{})` with the C++ type of `type`.
template <class Work>
constexpr void with_type(SourceType type, Work&& work) {
  switch (type) {
    case SourceType::f32:
      return work(float{});
    case SourceType::f64:
      return work(double{});
    case SourceType::u8:
      return work(std::uint8_t{});
    case SourceType::i8:
      return work(std::int8_t{});
    case SourceType::u16:
      return work(std::uint16_t{});
    case SourceType::i16:
      return work(std::int16_t{});
    case SourceType::u32:
      return work(std::uint32_t{});
    case SourceType::i32:
      return work(std::int32_t{});
    case SourceType::u64:
      return work(std::uint64_t{});
    case SourceType::i64:
      return work(std::int64_t{});
  }
}

inline std::size_t size_of(SourceType type) {
  std::size_t size = 0;
  with_type(type, [&]<class S>(S) { size = sizeof(S); });
  return size;
}

/// The type that `Gather` writes: the model's dtype, or 32-bit labels for CrossEntropy.
enum class GatherType : std::uint8_t { float32, float64, label };

struct Gather {
  Source source;
  RowOrder order;
  std::int64_t first = 0, count = 0;  // row i of `to` is row order(first + i)
  void* to = nullptr;
  GatherType type = GatherType::float32;
  const StepCounters* counters = nullptr;  // where given, `first` is relative to counters->first
  std::int64_t next = 0;                   // positions behind the last one, of a list of rows, that are read soon
};

inline GatherType gather_type(DType dtype) {
  return dtype == DType::float32 ? GatherType::float32 : GatherType::float64;
}
inline SourceType source_type(DType dtype) { return dtype == DType::float32 ? SourceType::f32 : SourceType::f64; }

/// A column of category codes 0 to size - 1 in the input of a layer or network.
struct CodeColumn {
  std::int64_t column, size;
};

/// Returns the flat index, row · columns + position, of the first value in the given columns that is no code, or -1.
std::int64_t first_wrong_code(const Source& source, std::span<const CodeColumn> columns);

/// Writes columns (`rows` numbers each, of any types) as the rows of a matrix `to` of a dtype. Returns the flat index
/// of the first value that is NaN or infinite in this dtype, or -1. On the calling thread alone.
std::int64_t columns_to_rows(std::span<const Source> columns, std::int64_t rows, DType dtype, void* to);

/// Gathers rows into `buffer`, which grows, from the backend's memory or from the host's; host rows are converted there
/// and then copied. The order lies in host memory; `call.to` is not used.
void gather_into(Backend& backend, Gather call, Buffer& buffer);
/// Returns the rows of `call` in a dtype: a view where they already have the right form, else gathered into `buffer`.
ConstView fetch(Backend& backend, DType dtype, Gather call, Buffer& buffer);

}  // namespace gdcore
