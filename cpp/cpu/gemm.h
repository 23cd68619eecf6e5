// C = A B for row-major C, in the layout of Goto & van de Geijn 2008 (BLIS): blocks of A and B are packed so that the
// innermost kernel reads both in order, and it keeps a tile of C in registers. The kernel is written with the
// compiler's vector types, one source for every width.
//
// Each element of C is a sum over k in ascending order, cut into chains of a length that depends on k alone, so it
// depends neither on the tile it lies in nor on the number of threads. When a piece of a row is finished, `finish` may
// change it while it is in the first-level cache: finish(pointer, row, first column, count).
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

/// Multiply-adds in a row before the sum joins C. With k / c chains of c terms the squared rounding error of a sum of
/// positive terms goes as c² / k + k / c: least near c³ = k² / 2.
GD_INLINE std::int64_t chain_length(std::int64_t k) {
  return k <= 128 ? 16 : k <= 512 ? 32 : k <= 2048 ? 64 : k <= 8192 ? 128 : kDepth;
}

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

/// A block of C, the operands' parts that belong to it, and which stretch of k this is.
template <class T>
struct Product {
  std::int64_t m, n, k;
  Operand<T> a, b;
  T* c;
  std::int64_t c_stride, chain;
  bool first, last;  // stretch of k: the first overwrites C, after the last C is finished

  Product part(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t cols) const {
    Product p = *this;
    p.m = rows;
    p.n = cols;
    p.a.data += i * a.row_stride;
    p.b.data += j * b.col_stride;
    p.c += i * c_stride + j;
    return p;
  }
  Product stretch(std::int64_t p0, std::int64_t depth) const {
    Product p = *this;
    p.k = depth;
    p.a.data += p0 * a.col_stride;
    p.b.data += p0 * b.row_stride;
    p.first = first && p0 == 0;
    p.last = last && p0 + depth >= k;
    return p;
  }
};

/// One tile of at most Tile::rows x Tile::cols from packed strips; a ragged one goes through a buffer.
template <class T>
GD_INLINE void multiply_tile(std::int64_t rows, std::int64_t cols, std::int64_t k, const T* a, const T* b, T* c,
                             std::int64_t c_stride, std::int64_t chain, bool add) {
  constexpr int tile_rows = Tile<T>::rows, tile_cols = Tile<T>::cols;
  const bool narrow = cols <= Tile<T>::lanes;
  const auto run = [&](T* to, std::int64_t stride, bool adds) __attribute__((always_inline)) {
    for (std::int64_t p = 0; p < k; p += chain, adds = true) {
      const std::int64_t depth = min(chain, k - p);
      const T *strip_a = a + p * tile_rows, *strip_b = b + p * tile_cols;
      if (narrow) {
        run_tile<T, 1>(rows, depth, strip_a, strip_b, tile_cols, to, stride, adds);
      } else {
        run_tile<T, 2>(rows, depth, strip_a, strip_b, tile_cols, to, stride, adds);
      }
    }
  };
  const bool whole_rows = rows == tile_rows || rows <= 2 || rows == 4;
  if (whole_rows && cols == (narrow ? Tile<T>::lanes : tile_cols)) {
    run(c, c_stride, add);
    return;
  }
  alignas(64) T edge[tile_rows * tile_cols];
  for (std::int64_t r = 0; add && r < rows; ++r) {  // the sum goes on where it was: the same order as in a whole tile
    for (std::int64_t q = 0; q < cols; ++q) edge[r * tile_cols + q] = c[r * c_stride + q];
  }
  run(edge, tile_cols, add);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t q = 0; q < cols; ++q) c[r * c_stride + q] = edge[r * tile_cols + q];
  }
}

/// One thread's product of a block: packed B stays in the second-level cache, packed A and the tile in the first.
template <class T, class Finish>
inline void multiply_block(const Product<T>& block, const Finish& finish) {
  constexpr int tile_rows = Tile<T>::rows, tile_cols = Tile<T>::cols;
  constexpr std::int64_t kRows = 16 * tile_rows, kCols = 512;
  const std::int64_t depth = min(block.k, kDepth);
  T* packed_a = static_cast<T*>(scratch(Scratch::pack_a, sizeof(T) * static_cast<std::size_t>(kRows * depth)));
  T* packed_b = static_cast<T*>(
      scratch(Scratch::pack_b, sizeof(T) * static_cast<std::size_t>((min(block.n, kCols) + tile_cols) * depth)));
  for (std::int64_t j0 = 0; j0 < block.n; j0 += kCols) {
    for (std::int64_t p0 = 0; p0 < block.k; p0 += kDepth) {
      const Product<T> strip =
          block.part(0, block.m, j0, min(kCols, block.n - j0)).stretch(p0, min(kDepth, block.k - p0));
      pack<T>({strip.b.data, strip.b.col_stride, strip.b.row_stride}, strip.n, strip.k, tile_cols, packed_b);
      for (std::int64_t i0 = 0; i0 < strip.m; i0 += kRows) {
        const Product<T> panel = strip.part(i0, min(kRows, strip.m - i0), 0, strip.n);
        pack<T>(panel.a, panel.m, panel.k, tile_rows, packed_a);
        for (std::int64_t j = 0; j < panel.n; j += tile_cols) {
          const std::int64_t cols = min(tile_cols, panel.n - j);
          for (std::int64_t i = 0; i < panel.m; i += tile_rows) {
            const std::int64_t rows = min(tile_rows, panel.m - i);
            T* to = panel.c + i * panel.c_stride + j;
            multiply_tile<T>(rows, cols, panel.k, packed_a + i * panel.k, packed_b + j * panel.k, to, panel.c_stride,
                             panel.chain, !panel.first);
            if (!panel.last) continue;
            for (std::int64_t r = 0; r < rows; ++r) finish(to + r * panel.c_stride, i0 + i + r, j0 + j, cols);
          }
        }
      }
    }
  }
}

/// C (m x n, rows n apart) = A (m x k) · B (k x n), k >= 1, on the pool: a grid of blocks, each packing its own
/// operands, so the grid is chosen to pack least; a long k is cut into stretches so that no task keeps Ctrl-C waiting.
template <class T, class Finish>
GD_INLINE void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
                    const Finish& finish) {
  constexpr std::int64_t kGrainWork = 1 << 19, kLongestWork = 1 << 29;  // multiply-adds of a task
  const Product<T> all{m, n, k, a, b, c, n, chain_length(k), true, true};
  const std::int64_t wanted =
      max(min(m * n * k / kGrainWork, num_threads()), ceil_div(m * n * min(k, kDepth), kLongestWork));
  if (wanted <= 1 && m * n * k <= kLongestWork) {
    multiply_block(all, finish);
    return;
  }
  // B is packed once for each row of the grid, A once for each column: least where the blocks are square.
  std::int64_t grid_rows = 1;
  while (grid_rows < wanted && grid_rows * grid_rows * n < wanted * m) ++grid_rows;
  const std::int64_t rows = ceil_div(ceil_div(m, grid_rows), Tile<T>::rows) * Tile<T>::rows;
  const std::int64_t grid_cols = ceil_div(wanted, ceil_div(m, rows));
  const std::int64_t cols = ceil_div(ceil_div(n, grid_cols), Tile<T>::cols) * Tile<T>::cols;
  const std::int64_t across = ceil_div(n, cols), blocks = ceil_div(m, rows) * across;
  const std::int64_t depth = max(1, kLongestWork / (min(m, rows) * min(n, cols)) / kDepth) * kDepth;
  for (std::int64_t p0 = 0; p0 < k; p0 += depth) {
    const Product<T> stretch = all.stretch(p0, min(depth, k - p0));
    const auto task = [&](std::int64_t t) {
      const std::int64_t i = t / across * rows, j = t % across * cols;
      const auto finish_here = [&](T* row, std::int64_t r, std::int64_t col, std::int64_t count) {
        finish(row, i + r, j + col, count);
      };
      multiply_block(stretch.part(i, min(rows, m - i), j, min(cols, n - j)), finish_here);
    };
    run_tasks(blocks, task);
    if (p0 + depth < k) poll_interrupt();
  }
}

}  // namespace gdcore::GDCORE_ISA
