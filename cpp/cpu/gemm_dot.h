// Rows of A times few rows of Bᵀ, both k-contiguous: the last layer's forward product. Packing would cost as much as
// the product, and a tile as wide as a vector would be mostly empty, so vectors run along k.
#pragma once

#include "gemm_tiles.h"

namespace gdcore::GDCORE_ISA {

/// Whether multiply_rows computes this product. Depends on the layer's widths alone, so that an output does not depend
/// on the other rows.
template <class T>
GD_INLINE bool few_columns(std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b) {
  const bool few = n <= 4 || (n <= 12 && k >= 8 * Tile<T>::lanes);
  return few && k >= 2 * Tile<T>::lanes && a.col_stride == 1 && b.row_stride == 1;
}

template <class T>
struct Dot {
  static constexpr int rows = GDCORE_VECTOR_BYTES == 64 ? 6 : 3, cols = GDCORE_VECTOR_BYTES == 64 ? 4 : 3;
  static constexpr std::int64_t depth = 64 * Tile<T>::lanes;  // terms of one sum: limits its rounding error
};

inline constexpr std::int64_t kRowsFinished = 48;  // rows finished together: few enough to be in the first-level cache

/// Returns the sum of a vector's lanes by repeated halving.
template <class T, class Vector, std::size_t... Lane>
GD_INLINE T lane_sum(Vector v, std::index_sequence<Lane...>) {
  constexpr int half = sizeof...(Lane);
  if constexpr (half == 1) {
    return v[0] + v[1];
  } else {
    const auto low = __builtin_shufflevector(v, v, static_cast<int>(Lane)...);
    const auto high = __builtin_shufflevector(v, v, (half + static_cast<int>(Lane))...);
    return lane_sum<T>(low + high, std::make_index_sequence<half / 2>{});
  }
}

/// sum[i][j] = a_i · b_j over k terms for Rows x Cols pairs; rows past the end repeat the last one.
template <class T, int Rows, int Cols>
__attribute__((noinline)) void dot_kernel(std::int64_t k, const T* const* a, const T* const* b,
                                          T (*sum)[Dot<T>::cols]) {
  using vector = typename Tile<T>::vector;
  using unaligned = typename Tile<T>::unaligned;
  constexpr int lanes = Tile<T>::lanes;
  vector total[Rows][Cols];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) total[i][j] = vector{};
  }
  const T *from_a[Rows], *from_b[Cols];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) from_a[i] = a[i];
#pragma GCC unroll 8
  for (int j = 0; j < Cols; ++j) from_b[j] = b[j];
  const auto add = [&](const auto& load) __attribute__((always_inline)) {
    vector right[Cols];
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) right[j] = load(from_b[j]);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const vector left = load(from_a[i]);
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j) total[i][j] += left * right[j];
    }
  };
  std::int64_t p = 0;
  for (; p + lanes <= k; p += lanes) {
    add([=](const T* row)
            __attribute__((always_inline)) -> vector { return *reinterpret_cast<const unaligned*>(row + p); });
  }
  if (p < k) {
    add([=](const T* row) __attribute__((always_inline)) -> vector {
      vector part{};
      std::memcpy(&part, row + p, sizeof(T) * static_cast<std::size_t>(k - p));
      return part;
    });
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) sum[i][j] = lane_sum<T>(total[i][j], std::make_index_sequence<lanes / 2>{});
  }
}

/// Computes and finishes the piece `to` of C = A B over k terms; both operands are k-contiguous. `rest`, unless null,
/// has the layout of `to` and receives the rounding errors of the sums.
template <class T>
void multiply_rows(std::int64_t k, Operand<T> a, Operand<T> b, const Piece<T>& to, T* rest, const Finish<T>* finish) {
  constexpr int rows = Dot<T>::rows, cols = Dot<T>::cols;
  const T *from_a[rows], *from_b[cols];
  T sum[rows][cols];
  const std::int64_t m = to.rows, n = to.cols;
  std::int64_t finished = 0;
  const std::int64_t most = rest == nullptr ? Dot<T>::depth : kShortestChain * Tile<T>::lanes;
  for (std::int64_t i = 0; i < m; i += rows) {
    const std::int64_t here = min(rows, m - i);
    for (std::int64_t j = 0; j < n; j += cols) {
      const std::int64_t wide = min(cols, n - j);
      for (std::int64_t p = 0; p < k; p += most) {
        const std::int64_t depth = min(most, k - p);
        for (std::int64_t r = 0; r < rows; ++r) from_a[r] = a.data + min(i + r, m - 1) * a.row_stride + p;
        for (std::int64_t q = 0; q < cols; ++q) from_b[q] = b.data + min(j + q, n - 1) * b.col_stride + p;
        if (here > 1) {
          if (wide > 2) {
            dot_kernel<T, rows, cols>(depth, from_a, from_b, sum);
          } else {
            dot_kernel<T, rows, 2>(depth, from_a, from_b, sum);
          }
        } else {
          dot_kernel<T, 1, cols>(depth, from_a, from_b, sum);
        }
        for (std::int64_t r = 0; r < here; ++r) {
          const std::int64_t at = (i + r) * to.stride + j;
          if (rest != nullptr) {
            for (std::int64_t q = 0; q < wide; ++q) add_exactly(to.data[at + q], rest[at + q], sum[r][q], p == 0);
            continue;
          }
          for (std::int64_t q = 0; q < wide; ++q) to.data[at + q] = p > 0 ? to.data[at + q] + sum[r][q] : sum[r][q];
        }
      }
    }
    if (i + here - finished < kRowsFinished && i + here < m) continue;
    const std::int64_t at = finished * to.stride;
    const Piece<T> done{to.data + at, to.stride, to.row + finished, to.col, i + here - finished, n};
    finish_piece<T>(done, rest == nullptr ? nullptr : rest + at, finish);
    finished = i + here;
  }
}

}  // namespace gdcore::GDCORE_ISA
