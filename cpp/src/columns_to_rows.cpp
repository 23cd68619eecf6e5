// Columns next to each other, as files and frames of columns have them, written as the rows of a matrix.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/check.h"
#include "gdcore/data.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

// A block of columns is read a piece of each at a time, then written row by row: 16 floats are a line of the cache.
// kChunk rows of a block stay in the second cache until the next blocks complete their lines.
constexpr std::int64_t kRows = 64, kCols = 16, kChunk = 8 * kRows;

/// Converts rows [first, first + count) of a column; returns whether all are finite then.
template <class S, class T>
bool convert(const Source& column, std::int64_t first, std::int64_t count, T* to) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const std::int64_t stride = column.row_stride;
  const S* from = static_cast<const S*>(column.data) + first * stride;
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(from[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(from[i * stride]);
  }
  if constexpr (std::is_integral_v<S>) return true;
  const Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  Bits bad = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    bad |= (std::bit_cast<Bits>(to[i]) & exponent) == exponent ? Bits{1} : Bits{0};
  }
  return bad == 0;
}

template <class T>
bool fill(std::span<const Source> columns, std::int64_t rows, T* to) {
  std::vector<bool (*)(const Source&, std::int64_t, std::int64_t, T*)> converts;
  for (const Source& column : columns) {
    with_type(column.type, [&]<class S>(S) { converts.push_back(&convert<S, T>); });
  }
  const std::int64_t cols = std::ssize(columns);
  T block[kCols][kRows];
  bool finite = true;
  for (std::int64_t chunk = 0; chunk < rows; chunk += kChunk) {
    poll_interrupt();
    const std::int64_t end = std::min(rows, chunk + kChunk);
    for (std::int64_t left = 0; left < cols; left += kCols) {
      const std::int64_t width = std::min(kCols, cols - left);
      for (std::int64_t first = chunk; first < end; first += kRows) {
        const std::int64_t count = std::min(kRows, end - first);
        for (std::int64_t c = 0; c < width; ++c) {
          const auto column = static_cast<std::size_t>(left + c);
          finite = converts[column](columns[column], first, count, block[c]) && finite;
        }
        T* out = to + first * cols + left;
        for (std::int64_t r = 0; r < count; ++r, out += cols) {
          if (width == kCols) {
            for (std::int64_t c = 0; c < kCols; ++c) out[c] = block[c][r];
          } else {
            for (std::int64_t c = 0; c < width; ++c) out[c] = block[c][r];
          }
        }
      }
    }
  }
  return finite;
}

}  // namespace

std::int64_t columns_to_rows(std::span<const Source> columns, std::int64_t rows, DType dtype, void* to) {
  for (const Source& column : columns) {
    check(column.cols == 1 && column.rows == rows, "[columns_to_rows] columns: got ", column.rows, " rows and ",
          column.cols, " columns; expected ", rows, " rows of one column each");
  }
  bool finite = true;
  with_type(dtype, [&]<class T>(T) { finite = fill(columns, rows, static_cast<T*>(to)); });
  const std::int64_t cols = std::ssize(columns);
  return finite ? -1 : backend(Device::cpu).first_nonfinite({to, source_type(dtype), rows, cols, cols});
}

}  // namespace gdcore
