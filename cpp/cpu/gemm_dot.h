// Rows of A times few rows of Bᵀ, both k-contiguous: the last layer's forward product. Packing would cost as much as
// the product, and a tile as wide as a vector would be mostly empty, so vectors run along k.
#pragma once

#include "gemm_tiles.h"

namespace gdcore::GDCORE_ISA {

/// Whether multiply_rows computes this product. Depends on the layer's widths alone, so that an output does not depend
/// on the other rows.
template <class T>
GD_INLINE bool few_columns(std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b) {
  const bool few = n <= 4 || (n <= 12 && k >= 128);  // the sums of lanes take as long as many terms
  return few && k >= (n <= 2 ? 1 : 2) * Tile<T>::lanes && a.col_stride == 1 && b.row_stride == 1;
}

/// Whether multiply_rows computes a product of few rows faster than tiles, for which B would be packed: the longer its
/// rows, the more that costs. The sums have another order than those of more rows.
template <class T>
GD_INLINE bool few_rows(std::int64_t m, std::int64_t k, Operand<T> a, Operand<T> b) {
  constexpr std::int64_t kFew = 4, kMore = GDCORE_VECTOR_BYTES == 64 ? 16 : 8, kLongRow = 256;
  const bool few = m <= (k < kLongRow ? kFew : kMore) && k >= Tile<T>::lanes;
  return few && a.col_stride == 1 && b.row_stride == 1;
}

template <class T>
struct Dot {
  static constexpr int lanes = Tile<T>::lanes;
  static constexpr int sums = lanes < 8 ? 8 : lanes;  // computed together: enough to hide the latency of multiply-adds
  static constexpr std::int64_t depth = 64 * lanes;   // terms of one sum: limits its rounding error
};

inline constexpr std::int64_t kRowsFinished = 48;  // rows finished together: few enough to be in the first-level cache

/// Returns the sum of the lanes of v[i] in lane i, added by repeated halving.
template <class T, int Step = Tile<T>::lanes / 2>
GD_INLINE typename Tile<T>::vector lane_sums(typename Tile<T>::vector* v) {
  using Lanes = std::make_index_sequence<Tile<T>::lanes>;
#pragma GCC unroll 8
  for (int i = 0; i < Step; ++i) {
    v[i] = exchange<Step, false>(v[i], v[i + Step], Lanes{}) + exchange<Step, true>(v[i], v[i + Step], Lanes{});
  }
  if constexpr (Step > 1) {
    return lane_sums<T, Step / 2>(v);
  } else {
    return v[0];
  }
}

/// sum[i * Cols + j] = a_i · b_j over k terms, for Dot::sums pairs. The last one of fewer rows or columns is repeated.
template <class T, int Cols>
__attribute__((noinline)) void dot_kernel(std::int64_t k, const T* a, std::int64_t a_stride, std::int64_t rows,
                                          const T* b, std::int64_t b_stride, std::int64_t cols, T* sum) {
  using vector = typename Tile<T>::vector;
  constexpr int lanes = Tile<T>::lanes, Rows = Dot<T>::sums / Cols;
  vector total[Rows * Cols];
#pragma GCC unroll 16
  for (vector& one : total) one = vector{};
  const T *from_a[Rows], *from_b[Cols];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) from_a[i] = a + min(i, rows - 1) * a_stride;
#pragma GCC unroll 16
  for (int j = 0; j < Cols; ++j) from_b[j] = b + min(j, cols - 1) * b_stride;
  const auto add = [&](const auto& read) __attribute__((always_inline)) {
    vector right[Cols];
#pragma GCC unroll 16
    for (int j = 0; j < Cols; ++j) right[j] = read(from_b[j]);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const vector left = read(from_a[i]);
#pragma GCC unroll 16
      for (int j = 0; j < Cols; ++j) total[i * Cols + j] += left * right[j];
    }
  };
  std::int64_t p = 0;
  for (; p + lanes <= k; p += lanes) {
    add([=](const T* row) __attribute__((always_inline)) { return load(row + p); });
  }
  if (p < k) {
    const FirstLanes<T> part(k - p);
    add([=](const T* row) __attribute__((always_inline)) { return part.load(row + p); });
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows * Cols; i += lanes) store(sum + i, lane_sums<T>(total + i));
}

/// multiply_rows for Cols columns and Dot::sums / Cols rows at a time.
template <class T, int Cols>
void multiply_few(std::int64_t k, Operand<T> a, Operand<T> b, const Piece<T>& to, T* rest, const T* bias,
                  const Finish<T>* finish) {
  constexpr int rows = Dot<T>::sums / Cols;
  T sum[rows * Cols];
  const std::int64_t m = to.rows, n = to.cols;
  std::int64_t finished = 0;
  const std::int64_t most = rest == nullptr ? Dot<T>::depth : kShortestChain * Tile<T>::lanes;
  for (std::int64_t i = 0; i < m; i += rows) {
    const std::int64_t here = min(rows, m - i);
    for (std::int64_t j = 0; j < n; j += Cols) {
      const std::int64_t wide = min(Cols, n - j);
      for (std::int64_t p = 0; p < k; p += most) {
        const std::int64_t depth = min(most, k - p);
        dot_kernel<T, Cols>(depth, a.data + i * a.row_stride + p, a.row_stride, here, b.data + j * b.col_stride + p,
                            b.col_stride, wide, sum);
        for (std::int64_t r = 0; r < here; ++r) {
          const std::int64_t at = (i + r) * to.stride + j;
          for (std::int64_t q = 0; q < wide; ++q) {
            if (rest != nullptr) {
              add_exactly(to.data[at + q], rest[at + q], sum[r * Cols + q], p == 0);
              continue;
            }
            const T whole = p > 0 ? to.data[at + q] + sum[r * Cols + q] : sum[r * Cols + q];
            to.data[at + q] = bias != nullptr && p + depth == k ? whole + bias[to.col + j + q] : whole;
          }
        }
      }
    }
    if (i + here - finished < kRowsFinished && i + here < m) continue;
    const std::int64_t at = finished * to.stride;
    const Piece<T> done{to.data + at, to.stride, to.row + finished, to.col, i + here - finished, n};
    rest == nullptr ? finish_piece<T>(done, nullptr, nullptr, finish) : finish_piece<T>(done, rest + at, bias, finish);
    finished = i + here;
  }
}

/// Computes and finishes the piece `to` of C = A B over k terms; both operands are k-contiguous. `rest`, unless null,
/// has the layout of `to` and receives the rounding errors of the sums. `bias`: of all columns, or null.
template <class T>
GD_INLINE void multiply_rows(std::int64_t k, Operand<T> a, Operand<T> b, const Piece<T>& to, T* rest, const T* bias,
                             const Finish<T>* finish) {
  if (to.rows == 1) return multiply_few<T, Dot<T>::sums>(k, a, b, to, rest, bias, finish);
  if (to.cols == 1) return multiply_few<T, 1>(k, a, b, to, rest, bias, finish);
  if (to.cols == 2) return multiply_few<T, 2>(k, a, b, to, rest, bias, finish);
  return multiply_few<T, 4>(k, a, b, to, rest, bias, finish);
}

}  // namespace gdcore::GDCORE_ISA
