// Data as it comes from the user: any numeric type, rows possibly far apart, never copied whole.
#pragma once

#include <cstdint>

#include "gdcore/memory.h"
#include "gdcore/row_order.h"

namespace gdcore {

struct StepCounters;

enum class SourceType : std::uint8_t { f32, f64, u8, i8, u16, i16, u32, i32, u64, i64 };

/// A matrix of any numeric type whose rows are `row_stride` elements apart and contiguous in themselves, in the memory
/// of `device`.
struct Source {
  const void* data = nullptr;
  SourceType type = SourceType::f32;
  std::int64_t rows = 0, cols = 0, row_stride = 0;
  Device device = Device::cpu;

  explicit operator bool() const { return data != nullptr; }
};

/// Calls `work(S{})` with the C++ type of `type`.
template <class Work>
void with_type(SourceType type, Work&& work) {
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

/// What `Gather` writes: the model's dtype, or the 32-bit labels of CrossEntropy.
enum class GatherType : std::uint8_t { float32, float64, label };

struct Gather {
  Source source;
  RowOrder order;
  std::int64_t first = 0, count = 0;  // row i of `to` is row order(first + i)
  void* to = nullptr;
  GatherType type = GatherType::float32;
  const StepCounters* counters = nullptr;  // where given, `first` counts from counters->first
};

inline GatherType gather_type(DType dtype) {
  return dtype == DType::float32 ? GatherType::float32 : GatherType::float64;
}
inline SourceType source_type(DType dtype) { return dtype == DType::float32 ? SourceType::f32 : SourceType::f64; }

/// Gathers into `buffer`, which grows, from the backend's own memory or from the host's (then converted there and
/// copied). The order lies in the host's memory; `call.to` is not used.
void gather_into(Backend& backend, Gather call, Buffer& buffer);
/// The rows of `call` in a dtype: in place where they already are what is needed, else in `buffer`, which grows.
ConstView fetch(Backend& backend, DType dtype, Gather call, Buffer& buffer);

}  // namespace gdcore
