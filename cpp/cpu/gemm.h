// C = A B for row-major C, in the layout of Goto & van de Geijn 2008 (BLIS): blocks of A and B are packed so that the
// innermost kernel reads both in order, and it keeps a tile of C in registers. The kernel is written with the
// compiler's vector types, one source for every width.
//
// Each element of C is one chain of multiply-adds over k in ascending order, cut only every kDepth terms, so it depends
// neither on the tile it lies in nor on the number of threads. When a piece of a row is finished, `finish` may change
// it while it is in the first-level cache: finish(pointer, row, first column, count).
#pragma once

#include <cstdint>

#include "gdcore/scratch.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

/// Element (i, j) of an operand lies at data[i * row_stride + j * col_stride]; one of the strides is 1.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_stride, col_stride;
};

template <class T>
struct Tile {
  typedef T vector __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(GDCORE_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int lanes = GDCORE_VECTOR_BYTES / sizeof(T);
  static constexpr int rows = GDCORE_VECTOR_BYTES == 64 ? 12 : 6;
  static constexpr int vectors = 2;
  static constexpr int cols = lanes * vectors;
};

inline constexpr std::int64_t kDepth = 384;  // k of one packed block

/// c[0..Rows)[0..Vectors·lanes) (+)= packed a (k x Tile::rows) · packed b (k x width).
template <class T, int Rows, int Vectors>
__attribute__((noinline)) void tile_kernel(std::int64_t k, const T* __restrict__ a, const T* __restrict__ b,
                                           std::int64_t b_stride, T* __restrict__ c, std::int64_t c_stride, bool add) {
  using vector = typename Tile<T>::vector;
  using unaligned = typename Tile<T>::unaligned;
  constexpr int lanes = Tile<T>::lanes;
  vector sum[Rows][Vectors];
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[i][v] = vector{};
  }
  for (std::int64_t p = 0; p < k; ++p) {
    vector row[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) row[v] = *reinterpret_cast<const unaligned*>(b + v * lanes);
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
      const vector broadcast = a[i] - vector{};
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] += broadcast * row[v];
    }
    a += Tile<T>::rows;
    b += b_stride;
  }
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      auto* to = reinterpret_cast<unaligned*>(c + i * c_stride + v * lanes);
      *to = add ? *to + sum[i][v] : sum[i][v];
    }
  }
}

/// tile_kernel for 1..Tile::rows rows: the next larger kernel (packed rows past the end are zero).
template <class T, int Vectors>
GD_INLINE void run_tile(std::int64_t rows, std::int64_t k, const T* a, const T* b, std::int64_t b_stride, T* c,
                        std::int64_t c_stride, bool add) {
  constexpr int most = Tile<T>::rows;
  if (rows == 1) {
    tile_kernel<T, 1, Vectors>(k, a, b, b_stride, c, c_stride, add);
  } else if (rows == 2) {
    tile_kernel<T, 2, Vectors>(k, a, b, b_stride, c, c_stride, add);
  } else if (rows <= 4) {
    tile_kernel<T, 4, Vectors>(k, a, b, b_stride, c, c_stride, add);
  } else if (most > 8 && rows <= 8) {
    tile_kernel < T, most<8 ? most : 8, Vectors>(k, a, b, b_stride, c, c_stride, add);
  } else {
    tile_kernel<T, most, Vectors>(k, a, b, b_stride, c, c_stride, add);
  }
}

/// Packs m x k of A into strips of `strip` rows, k-major within a strip; missing rows are zero. B is packed as Bᵀ.
template <class T>
inline void pack(Operand<T> from, std::int64_t m, std::int64_t k, std::int64_t strip, T* to) {
  for (std::int64_t i = 0; i < m; i += strip, to += strip * k) {
    const std::int64_t rows = min(strip, m - i);
    const T* source = from.data + i * from.row_stride;
    if (rows < strip) {
      for (std::int64_t p = 0; p < k; ++p) {
        for (std::int64_t r = rows; r < strip; ++r) to[p * strip + r] = T(0);
      }
    }
    if (from.row_stride == 1) {
      for (std::int64_t p = 0; p < k; ++p) {
        const T* column = source + p * from.col_stride;
        T* out = to + p * strip;
#pragma omp simd
        for (std::int64_t r = 0; r < rows; ++r) out[r] = column[r];
      }
    } else {
      constexpr std::int64_t kStretch = 16;  // of k at a time, so that `to` stays in the first-level cache
      for (std::int64_t p = 0; p < k; p += kStretch) {
        const std::int64_t end = min(k, p + kStretch);
        for (std::int64_t r = 0; r < rows; ++r) {
          const T* row = source + r * from.row_stride;
          for (std::int64_t q = p; q < end; ++q) to[q * strip + r] = row[q * from.col_stride];
        }
      }
    }
  }
}

/// One thread's product, for a block of C.
template <class T, class Finish>
inline void gemm_block(std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
                       std::int64_t c_stride, const Finish& finish) {
  constexpr int tile_rows = Tile<T>::rows, tile_cols = Tile<T>::cols, lanes = Tile<T>::lanes;
  constexpr std::int64_t kRows = 16 * tile_rows, kCols = 16 * 1024 / GDCORE_VECTOR_BYTES / 16 * 32;
  const std::int64_t depth = min(k, kDepth);
  T* packed_a = static_cast<T*>(scratch(Scratch::pack_a, sizeof(T) * kRows * depth));
  T* packed_b = static_cast<T*>(scratch(Scratch::pack_b, sizeof(T) * (min(n, kCols) + tile_cols) * depth));
  alignas(64) T edge[tile_rows * tile_cols];
  for (std::int64_t j0 = 0; j0 < n; j0 += kCols) {
    const std::int64_t cols = min(kCols, n - j0);
    for (std::int64_t p0 = 0; p0 < k || p0 == 0; p0 += kDepth) {
      const std::int64_t kc = min(kDepth, k - p0);
      const bool last = p0 + kDepth >= k;
      pack<T>({b.data + p0 * b.row_stride + j0 * b.col_stride, b.col_stride, b.row_stride}, cols, kc, tile_cols,
              packed_b);
      for (std::int64_t i0 = 0; i0 < m; i0 += kRows) {
        const std::int64_t rows = min(kRows, m - i0);
        pack<T>({a.data + i0 * a.row_stride + p0 * a.col_stride, a.row_stride, a.col_stride}, rows, kc, tile_rows,
                packed_a);
        for (std::int64_t j = 0; j < cols; j += tile_cols) {
          const std::int64_t width = min(tile_cols, cols - j);
          for (std::int64_t i = 0; i < rows; i += tile_rows) {
            const std::int64_t height = min(tile_rows, rows - i);
            const T *strip_a = packed_a + i * kc, *strip_b = packed_b + j * kc;
            T* to = c + (i0 + i) * c_stride + j0 + j;
            const bool whole = width == tile_cols && (height == tile_rows || height <= 2 || height == 4);
            T* target = whole ? to : edge;
            const std::int64_t stride = whole ? c_stride : tile_cols;
            const bool add = whole && p0 > 0;
            if (width > lanes) {
              run_tile<T, 2>(height, kc, strip_a, strip_b, tile_cols, target, stride, add);
            } else {
              run_tile<T, 1>(height, kc, strip_a, strip_b, tile_cols, target, stride, add);
            }
            for (std::int64_t r = 0; r < height; ++r) {
              T* row = to + r * c_stride;
              if (!whole) {
                for (std::int64_t q = 0; q < width; ++q)
                  row[q] = p0 > 0 ? row[q] + edge[r * tile_cols + q] : edge[r * tile_cols + q];
              }
              if (last) finish(row, i0 + i + r, j0 + j, width);
            }
          }
        }
      }
    }
  }
}

/// C (m x n, rows n apart) = A (m x k) · B (k x n) on the pool: blocks of rows or of columns, whichever there are more
/// of.
template <class T, class Finish>
GD_INLINE void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
                    const Finish& finish) {
  constexpr std::int64_t kGrainWork = 1 << 19, kLongestWork = std::int64_t{1} << 30;  // multiply-adds of a task
  const std::int64_t work = m * n * max(k, 1);
  const std::int64_t wanted = max(min(work / kGrainWork, num_threads()), ceil_div(work, kLongestWork));
  if (wanted <= 1) {
    gemm_block(m, n, k, a, b, c, n, finish);
    return;
  }
  const bool by_rows = m >= n;
  const std::int64_t unit = by_rows ? Tile<T>::rows : Tile<T>::cols, extent = by_rows ? m : n;
  const std::int64_t piece = ceil_div(ceil_div(extent, wanted), unit) * unit;
  const auto task = [&](std::int64_t t) {
    const std::int64_t begin = t * piece, size = min(extent, begin + piece) - begin;
    const std::int64_t i = by_rows ? begin : 0, j = by_rows ? 0 : begin;
    const auto finish_here = [&](T* row, std::int64_t r, std::int64_t col, std::int64_t count) {
      finish(row, i + r, j + col, count);
    };
    gemm_block<T>(by_rows ? size : m, by_rows ? n : size, k, {a.data + i * a.row_stride, a.row_stride, a.col_stride},
                  {b.data + j * b.col_stride, b.row_stride, b.col_stride}, c + i * n + j, n, finish_here);
  };
  run_tasks(ceil_div(extent, piece), task);
}

}  // namespace gdcore::GDCORE_ISA
