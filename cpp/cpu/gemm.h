// C = A B for row-major C, after Goto & van de Geijn 2008: blocks that stay in the caches, and an innermost kernel that
// keeps a tile of C in registers (gemm_tiles.h). B is packed if its columns are not adjacent in memory. Otherwise the
// operands are read in place, unless packing is faster.
//
// Each element of C is a sum over k in ascending order. Its split into chains and blocks depends on k alone, so the
// result depends neither on the element's tile nor on the number of threads. `finish` may change a finished tile while
// it is in the first-level cache.
#pragma once

#include "gdcore/scratch.h"
#include "gemm_dot.h"
#include "gemm_tiles.h"

namespace gdcore::GDCORE_ISA {

// Terms of one block of k: a strip of B and a tile's rows of A stay in the first-level cache.
inline constexpr std::int64_t kDepth = 256;

/// Multiply-adds of a chain; a chain's sum is added to its block's sum, and that to C. With chains of c terms in blocks
/// of d = kDepth the squared rounding error of k positive terms grows as c² / k + d² / (c k) + k / d. The lengths are
/// the longest, and so the fastest, that keep it at about 20, the bound on accuracy.
GD_INLINE std::int64_t chain_length(std::int64_t k) { return k < 96 ? 16 : k < 256 ? 32 : k < 1000 ? 64 : 128; }

/// For k above this, the sum of k / kDepth blocks would have too large a rounding error, above all where all terms are
/// equal and every addition rounds in the same direction. Then C has compensation terms (add_exactly) and the chains
/// have the shortest length, so that the error does not grow with k.
inline constexpr std::int64_t kLong = 8192;

/// A block of C, its position in C, the matching parts of the operands, and a range of k.
template <class T>
struct Product {
  std::int64_t m, n, k;
  Operand<T> a, b;
  T* c;
  T* rest;  // null unless k is long: compensation of C's rounding errors, in the layout of C
  std::int64_t c_stride, chain;
  const Finish<T>* finish;  // or null
  bool pack_a, pack_b;
  bool first = true, last = true;  // range of k: the first one overwrites C, the last one completes it
  std::int64_t row = 0, col = 0;

  Product part(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t cols) const {
    Product p = *this;
    p.m = rows;
    p.n = cols;
    p.a.data += i * a.row_stride;
    p.b.data += j * b.col_stride;
    p.c += i * c_stride + j;
    p.row += i;
    p.col += j;
    if (rest != nullptr) p.rest += i * c_stride + j;
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

/// Multiplies all rows of a panel by one strip of columns (at most Tile::cols) of B at `b`. Rows of A before `packed`
/// are read in place, the others from `packed_a`.
template <class T>
GD_INLINE void multiply_strip(const Product<T>& panel, std::int64_t packed, const T* packed_a, const T* b,
                              std::int64_t b_stride) {
  constexpr int tile_rows = Tile<T>::rows;
  const bool along = panel.a.row_stride != 1;
  TileCall<T> call{
      panel.k,        panel.chain,  panel.a.data, along ? panel.a.row_stride : panel.a.col_stride, b, b_stride, panel.c,
      panel.c_stride, !panel.first, panel.rest};
  for (std::int64_t i = 0; i < panel.m; i += tile_rows) {
    const std::int64_t rows = min(tile_rows, panel.m - i);
    const bool direct = i < packed;
    call.a = direct ? panel.a.data + i * panel.a.row_stride : packed_a + (i - packed) * panel.k;
    if (!direct) call.a_stride = tile_rows;
    call.c = panel.c + i * panel.c_stride;
    if (panel.rest != nullptr) call.rest = panel.rest + i * panel.c_stride;
    multiply_tile<T>(rows, panel.n, along && direct, call);
    if (!panel.last) continue;
    finish_piece<T>({call.c, panel.c_stride, panel.row + i, panel.col, rows, panel.n}, call.rest, panel.finish);
  }
}

/// Computes a block's product on one thread: packed B and a panel of A stay in the second-level cache, a strip in the
/// first.
template <class T>
void multiply_block(const Product<T>& block) {
  constexpr int tile_rows = Tile<T>::rows, tile_cols = Tile<T>::cols;
  constexpr std::int64_t kRows = 16 * tile_rows, kCols = 512;
  const std::int64_t most = min(block.k, kDepth);
  T* packed_a = static_cast<T*>(scratch(Scratch::pack_a, sizeof(T) * static_cast<std::size_t>(kRows * most)));
  T* packed_b = static_cast<T*>(
      scratch(Scratch::pack_b, sizeof(T) * static_cast<std::size_t>((min(block.n, kCols) + tile_cols) * most)));
  for (std::int64_t j0 = 0; j0 < block.n; j0 += kCols) {
    for (std::int64_t p0 = 0; p0 < block.k; p0 += kDepth) {
      const Product<T> strips =
          block.part(0, block.m, j0, min(kCols, block.n - j0)).stretch(p0, min(kDepth, block.k - p0));
      for (std::int64_t i0 = 0; i0 < strips.m; i0 += kRows) {
        const Product<T> panel = strips.part(i0, min(kRows, strips.m - i0), 0, strips.n);
        const std::int64_t direct = panel.pack_a ? 0 : panel.m / tile_rows * tile_rows;
        const Operand<T> rest{panel.a.data + direct * panel.a.row_stride, panel.a.row_stride, panel.a.col_stride};
        pack<T, tile_rows>(rest, panel.m - direct, panel.k, packed_a);
        for (std::int64_t j = 0; j < panel.n; j += tile_cols) {
          const Product<T> strip = panel.part(0, panel.m, j, min(tile_cols, panel.n - j));
          const bool packed = strip.pack_b || strip.n < tile_cols;
          T* to = packed_b + j * panel.k;
          if (packed && i0 == 0) {
            pack<T, tile_cols>({strip.b.data, strip.b.col_stride, strip.b.row_stride}, strip.n, strip.k, to);
          }
          multiply_strip<T>(strip, direct, packed_a, packed ? to : strip.b.data,
                            packed ? tile_cols : strip.b.row_stride);
        }
      }
    }
  }
}

/// Division of C into blocks of rows x cols.
struct Grid {
  std::int64_t rows, cols;
};

/// Returns the grid of about `tasks` blocks whose largest block takes the least time. Packing an element of B costs as
/// much as 16 multiply-adds, the first read of an element of A as much as 4.
template <class T>
inline Grid choose_grid(std::int64_t m, std::int64_t n, std::int64_t tasks) {
  Grid best{m, n};
  std::int64_t least = -1;
  for (std::int64_t down = 1; down <= tasks; ++down) {
    const std::int64_t across = ceil_div(tasks, down);
    const std::int64_t rows = ceil_div(ceil_div(m, down), Tile<T>::rows) * Tile<T>::rows;
    const std::int64_t cols = ceil_div(ceil_div(n, across), Tile<T>::cols) * Tile<T>::cols;
    const std::int64_t cost = rows * cols + 16 * cols + 4 * rows;
    if (least >= 0 && cost >= least) continue;
    least = cost;
    best = {rows, cols};
  }
  return best;
}

/// C (m x n, row stride n) = A (m x k) · B (k x n), k >= 1, on the pool. A long k is split into ranges, so that no task
/// delays Ctrl-C.
template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
          const Finish<T>* finish = nullptr) {
  constexpr std::int64_t kGrainWork = 1 << 18, kLongestWork = 1 << 29;  // multiply-adds of a task
  const bool dots = few_columns(n, k, a, b);
  // B must be packed if the elements of a kernel's vector load are not adjacent. Otherwise packing avoids page jumps
  // along a long k, and cache-set conflicts of rows whose stride is a power of two; this is faster where a packed
  // element is used often.
  const auto crowds = [](std::int64_t stride) { return stride * static_cast<std::int64_t>(sizeof(T)) % 1024 == 0; };
  const bool pack_a = n >= 4 * Tile<T>::cols && (a.row_stride == 1 ? k > 64 : n >= 512 && crowds(a.row_stride));
  const bool pack_b = b.col_stride != 1 || (m >= 8 * Tile<T>::rows && (k > 64 || crowds(b.row_stride)));
  const bool is_long = k > kLong;
  T* rest = is_long ? static_cast<T*>(scratch(Scratch::partial, sizeof(T) * static_cast<std::size_t>(m * n))) : nullptr;
  const std::int64_t chain = is_long ? kShortestChain : chain_length(k);
  const Product<T> all{m, n, k, a, b, c, rest, n, chain, finish, pack_a, pack_b};
  const auto multiply = [=](const Product<T>& block) {
    if (dots) {
      const Piece<T> to{block.c, n, block.row, 0, block.m, n};
      multiply_rows<T>(block.k, block.a, block.b, to, block.rest, finish);
    } else {
      multiply_block<T>(block);
    }
  };
  const std::int64_t wanted =
      max(min(m * n * k / kGrainWork, num_threads()), ceil_div(m * n * min(k, kDepth), kLongestWork));
  if (wanted <= 1 && m * n * k <= kLongestWork) {
    multiply(all);
    return;
  }
  const Grid grid = dots ? Grid{ceil_div(m, wanted), n} : choose_grid<T>(m, n, wanted);
  const std::int64_t across = ceil_div(n, grid.cols), blocks = ceil_div(m, grid.rows) * across;
  const std::int64_t depth =
      dots ? k : max(1, kLongestWork / (min(m, grid.rows) * min(n, grid.cols)) / kDepth) * kDepth;
  for (std::int64_t p0 = 0; p0 < k; p0 += depth) {
    const Product<T> stretch = all.stretch(p0, min(depth, k - p0));
    const auto task = [&](std::int64_t t) {
      const std::int64_t i = t / across * grid.rows, j = t % across * grid.cols;
      multiply(stretch.part(i, min(grid.rows, m - i), j, min(grid.cols, n - j)));
    };
    run_tasks(blocks, task);
    if (p0 + depth < k) poll_interrupt();
  }
}

}  // namespace gdcore::GDCORE_ISA
