// C = A B for row-major C, after Goto & van de Geijn 2008: blocks that stay in the caches, an innermost kernel that
// keeps a tile of C in registers (gemm_tiles.h). B is packed where its columns do not lie side by side; else operands
// are read where they lie, unless packing pays.
//
// Each element of C is a sum over k in ascending order, cut into chains and blocks in a way that depends on k alone, so
// it depends neither on the tile it lies in nor on the number of threads. When a tile is finished, `finish` may change
// it while it is in the first-level cache.
#pragma once

#include "gdcore/scratch.h"
#include "gemm_dot.h"
#include "gemm_tiles.h"

namespace gdcore::GDCORE_ISA {

// k of one block: a strip of B and a tile's rows of A stay in the first-level cache.
inline constexpr std::int64_t kDepth = 256;

/// Multiply-adds in a row before the sum joins the block's, which joins C. With chains of c terms in blocks of d =
/// kDepth the squared rounding error of k positive terms goes as c² / k + d² / (c k) + k / d. These are the longest
/// chains, and so the fastest, that keep it at about 20, the bound on accuracy.
GD_INLINE std::int64_t chain_length(std::int64_t k) { return k < 96 ? 16 : k < 256 ? 32 : k < 1000 ? 64 : 128; }

/// From here on, k / kDepth blocks would round too much, above all where all terms are equal and every addition rounds
/// the same way. C then keeps what rounding takes off (add_exactly), and the chains of a block are as short as they
/// get, so that the error does not grow with k.
inline constexpr std::int64_t kLong = 8192;

/// A block of C, where it begins in C, the operands' parts that belong to it, and which stretch of k this is.
template <class T>
struct Product {
  std::int64_t m, n, k;
  Operand<T> a, b;
  T* c;
  T* rest;  // null unless k is long: what rounding takes off C's sums, laid out as C
  std::int64_t c_stride, chain;
  const Finish<T>* finish;  // or null
  bool pack_a, pack_b;
  bool first = true, last = true;  // stretch of k: the first overwrites C, after the last C is finished
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

/// All rows of a panel times one strip of columns (at most Tile::cols), whose B is at `b`. Rows of A from `packed` on
/// are packed.
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

/// One thread's product of a block: packed B and a panel of A stay in the second-level cache, a strip in the first.
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

/// How C is divided: blocks of rows x cols.
struct Grid {
  std::int64_t rows, cols;
};

/// The grid of about `tasks` blocks whose largest takes the least time; packing an element of B costs as much as 16
/// multiply-adds, reading one of A for the first time as 4.
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

/// C (m x n, rows n apart) = A (m x k) · B (k x n), k >= 1, on the pool; a long k is cut into stretches so that no task
/// keeps Ctrl-C waiting.
template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
          const Finish<T>* finish = nullptr) {
  constexpr std::int64_t kGrainWork = 1 << 18, kLongestWork = 1 << 29;  // multiply-adds of a task
  const bool dots = few_columns(n, k, a, b);
  // B must be packed where the elements that a kernel reads together do not lie side by side. Elsewhere packing keeps a
  // long k from jumping from page to page, and rows a power of two apart from falling into one set of the cache, which
  // pays where a packed element is used often.
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
