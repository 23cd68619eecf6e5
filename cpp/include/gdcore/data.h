// Data as it comes from the user: any numeric type, rows possibly far apart, never copied whole.
#pragma once

#include <cstdint>

#include "gdcore/tensor.h"

namespace gdcore {

enum class SourceType : std::uint8_t { f32, f64, u8, i8, u16, i16, u32, i32, u64, i64 };

/// A matrix of any numeric type whose rows are `row_stride` elements apart and contiguous in themselves.
struct Source {
  const void* data = nullptr;
  SourceType type = SourceType::f32;
  std::int64_t rows = 0, cols = 0, row_stride = 0;

  explicit operator bool() const { return data != nullptr; }
};

/// What `Gather` writes: the model's dtype, or the 32-bit labels of CrossEntropy.
enum class GatherType : std::uint8_t { float32, float64, label };

struct Gather {
  Source source;
  const std::int64_t* index = nullptr;
  std::int64_t first = 0, count = 0;
  void* to = nullptr;
  GatherType type = GatherType::float32;
};

inline GatherType gather_type(DType dtype) {
  return dtype == DType::float32 ? GatherType::float32 : GatherType::float64;
}

}  // namespace gdcore
