// C = A B for row-major C, after Goto & van de Geijn 2008: blocks that stay in the caches, and an innermost kernel that
// keeps a tile of C in registers (gemm_tiles.h). B is packed if its columns are not adjacent in memory. Otherwise the
// operands are read in place, unless packing is faster.
//
// Each element of C is a sum over k in ascending order. Its split into chains and blocks depends on k alone, so the
// result depends neither on the element's tile nor on the number of threads. `finish` may change a finished tile while
// it is in the first-level cache.
#pragma once

#include "gdcore/matrix_units.h"
#include "gdcore/scratch.h"
#include "gemm_dot.h"
#include "gemm_tiles.h"

namespace gdcore::GDCORE_ISA {

// Terms of one block of k: a strip of B and a tile's rows of A stay in the first-level cache.
inline constexpr std::int64_t kDepth = 256;
// Bytes of an A with adjacent rows that is read in place: of a larger one, each tile would read many lines of the
// second-level cache for few elements. A tile of 12 rows reads most of a line, one of 4 rows a quarter.
inline constexpr std::int64_t kCachedA = GDCORE_VECTOR_BYTES == 64 ? 256 << 10 : 16 << 10;
// Rows of A from which on B is packed even where its rows can be read in place.
inline constexpr std::int64_t kRowsToPack = GDCORE_VECTOR_BYTES == 64 ? 96 : 48;

/// Multiply-adds of a chain; a chain's sum is added to its block's sum, and that to C. With chains of c terms in blocks
/// of d = kDepth the squared rounding error of k positive terms grows as c² / k + d² / (c k) + k / d. The lengths are
/// the longest, and so the fastest, that keep it at about 20, the bound on accuracy.
GD_INLINE std::int64_t chain_length(std::int64_t k) { return k < 64 ? 16 : k < 256 ? 32 : k < 1000 ? 64 : 128; }

/// For k above this, the sum of k / kDepth blocks would have too large a rounding error, above all where all terms are
/// equal and every addition rounds in the same direction. Then C has compensation terms (add_exactly) and the chains
/// have the shortest length, so that the error does not grow with k.
inline constexpr std::int64_t kLong = 8192;

/// Columns of B that pack_all() stores: whole strips.
template <class T>
GD_INLINE std::int64_t padded(std::int64_t n) {
  return ceil_div(n, Tile<T>::cols) * Tile<T>::cols;
}

/// Packs B (k x n) for products that use it repeatedly, into padded(n) · k elements: one block of k after another.
template <class T>
void pack_all(std::int64_t n, std::int64_t k, Operand<T> b, T* to) {
  const auto task = [&](std::int64_t t) {
    const std::int64_t p = t * kDepth;
    const Operand<T> from{b.data + p * b.row_stride, b.col_stride, b.row_stride};
    pack<T, Tile<T>::cols>(from, n, min(kDepth, k - p), to + p * padded<T>(n));
  };
  run_tasks(ceil_div(k, kDepth), task);
}

/// C (m x n) = A (m x k) · B (k x n) + bias, or a block of it and a range of k. Filled in by the caller of gemm() down
/// to `finish`. Passed by reference: a copy made right after the members were written would wait for them.
template <class T>
struct Product {
  std::int64_t m, n, k;  // k >= 1
  Operand<T> a, b;
  T* c;
  std::int64_t c_stride;
  const T* bias = nullptr;            // of all columns, added to the complete sums, or null
  const Finish<T>* finish = nullptr;  // or null
  const T* kept = nullptr;            // B from pack_all(), at the block's first k, or null
  T* rest = nullptr;                  // null unless k is long: compensation of C's rounding errors, in the layout of C
  std::int64_t chain = 0;
  bool few_rows = false;  // whether sums of few rows may have an order of their own
  bool pack_a = false, pack_b = false;
  bool first = true, last = true;  // range of k: the first one overwrites C, the last one completes it
  std::int64_t row = 0, col = 0;   // position in C

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
    if (kept != nullptr) p.kept += p0 * padded<T>(c_stride);
    p.first = first && p0 == 0;
    p.last = last && p0 + depth >= k;
    return p;
  }
};

/// Returns the rows of a tile. Packed rows come in strips of Tile::rows. Along: rows of A are read in place, along k.
template <class T>
GD_INLINE std::int64_t tile_rows(const Product<T>& panel, std::int64_t cols, bool packed, bool along) {
  constexpr std::int64_t kCached = 128;  // for more terms, a strip of B would be read from the second-level cache
  // Rows a multiple of a page apart share the 8 to 12 lines of one set of the first-level cache, with half a page those
  // of two sets. More rows, with B and C, would evict each other at every step.
  constexpr std::int64_t kHalfPage = 2048, kOfOneSet = 6;
  if (packed) return Tile<T>::rows;
  const std::int64_t most = cols <= Tile<T>::lanes                        ? Tile<T>::narrow_rows
                            : panel.k > panel.chain && panel.k <= kCached ? Tile<T>::chained_rows
                                                                          : Tile<T>::rows;
  const std::int64_t distance = panel.a.row_stride * static_cast<std::int64_t>(sizeof(T));
  return along && distance % kHalfPage == 0 ? min(most, kOfOneSet) : most;
}

/// Returns how many of m rows to compute in tiles of `most` rows. The rest has at least four rows, if possible: fewer
/// sums would not hide the latency of multiply-adds.
GD_INLINE std::int64_t rows_of_whole_tiles(std::int64_t m, std::int64_t most) {
  const std::int64_t rest = m % most, whole = m - rest;
  return most > 4 && rest > 0 && rest < 4 && whole > 0 ? whole - most : whole;
}

/// Multiplies all rows of a panel by the strip of columns [j, j + cols) of B at `b`, packed or in place. `packed_a`:
/// the packed rows, or null. `finishes`: tiles are finished here.
template <class T>
GD_INLINE void multiply_strip(const Product<T>& panel, std::int64_t j, std::int64_t cols, const T* packed_a, const T* b,
                              bool b_packed, bool finishes) {
  const bool packed = packed_a != nullptr, along = !packed && panel.a.row_stride != 1;
  const std::int64_t a_stride = along ? panel.a.row_stride : panel.a.col_stride;
  const std::int64_t most = tile_rows<T>(panel, cols, packed, along);
  const std::int64_t row_step = packed ? panel.k : panel.a.row_stride, strip = Tile<T>::rows;
  TileCall<T> call{.k = panel.k,
                   .chain = panel.chain,
                   .a = nullptr,
                   .a_stride = packed ? strip : a_stride,
                   .a_step = most * row_step,
                   .b = b,
                   .b_stride = b_packed ? Tile<T>::cols : panel.b.row_stride,
                   .b_step = b_packed ? panel.k * Tile<T>::cols : Tile<T>::cols,
                   .c = nullptr,
                   .c_stride = panel.c_stride,
                   .rows = 0,
                   .cols = cols,
                   .add = !panel.first};
  if (panel.bias != nullptr && panel.last && panel.rest == nullptr) call.bias = panel.bias + panel.col + j;
  const std::int64_t whole = packed ? panel.m / most * most : rows_of_whole_tiles(panel.m, most);
  const bool together = !finishes && panel.rest == nullptr;
  for (std::int64_t i = 0; i < panel.m; i += call.rows) {
    const std::int64_t left = panel.m - i;
    // A rest of 7 or 8 rows stays together even where rows are half a page apart: B is read once.
    const std::int64_t height = i < whole ? most : left > 8 ? 6 : left;
    call.rows = together && i < whole ? whole : height;
    call.a = packed ? packed_a + i / strip * strip * panel.k + i % strip : panel.a.data + i * row_step;
    if (along && call.rows == 1) call.a_stride = 1;
    call.c = panel.c + i * panel.c_stride + j;
    const TileKernel<T> kernel = kernel_of<T>(height, cols, along);
    T* rest = panel.rest == nullptr ? nullptr : panel.rest + i * panel.c_stride + j;
    rest == nullptr ? kernel(call) : multiply_long_tile<T>(kernel, call, rest);
    if (!finishes || !panel.last) continue;
    finish_piece<T>({call.c, panel.c_stride, panel.row + i, panel.col + j, call.rows, cols}, rest,
                    rest == nullptr ? nullptr : panel.bias, panel.finish);
  }
}

inline constexpr std::int64_t kWorthACall = 128;  // multiply-adds of half a vector that take as long as a call

/// Multiplies a panel of rows. Where B is packed, `packed_b` holds it or, with `packs_b`, receives it.
template <class T>
GD_INLINE void multiply_panel(const Product<T>& panel, T* packed_a, T* packed_b, bool packs_b, bool finishes) {
  const std::int64_t wide = panel.rest == nullptr ? tile_cols<T>(panel.m) : Tile<T>::cols;
  if (panel.pack_a) pack<T, Tile<T>::rows>(panel.a, panel.m, panel.k, packed_a);
  for (std::int64_t j = 0, cols; j < panel.n; j += cols) {
    cols = panel.n - j >= wide ? wide : min(Tile<T>::cols, panel.n - j);
    const T* b = panel.b.data + j * panel.b.col_stride;
    T* to = packed_b + j * panel.k;
    if (packs_b) pack<T, Tile<T>::cols>({b, panel.b.col_stride, panel.b.row_stride}, cols, panel.k, to);
    if (panel.kept != nullptr) {
      b = panel.kept + (panel.col + j) * panel.k;
    } else if (panel.pack_b) {
      b = to;
    }
    // A second vector of which at most half is used is computed apart, unless the call takes longer than it saves.
    const std::int64_t second = cols - Tile<T>::lanes;
    const bool halved = kHalves && second > 0 && 2 * second <= Tile<T>::lanes && panel.m * panel.k >= kWorthACall;
    const std::int64_t whole = halved ? Tile<T>::lanes : cols;
    for (std::int64_t at = 0; at < cols; at += whole) {
      multiply_strip<T>(panel, j + at, min(whole, cols - at), packed_a, b + at, panel.pack_b, finishes);
    }
  }
}

/// Computes a block's product on one thread: packed B and a panel of A stay in the second-level cache, a strip in the
/// first. A block of C that stays in the first-level cache is finished as a whole.
template <class T>
void multiply_block(const Product<T>& block) {
  constexpr std::int64_t kRows = 16 * Tile<T>::rows, kCols = 512, kFinished = (16 << 10) / sizeof(T);
  const std::int64_t most = min(block.k, kDepth);
  T *packed_a = nullptr, *packed_b = nullptr;
  if (block.pack_a) {
    packed_a = static_cast<T*>(scratch(Scratch::pack_a, sizeof(T) * static_cast<std::size_t>(kRows * most)));
  }
  const bool packs_b = block.pack_b && block.kept == nullptr;
  if (packs_b) {
    packed_b = static_cast<T*>(
        scratch(Scratch::pack_b, sizeof(T) * static_cast<std::size_t>((min(block.n, kCols) + Tile<T>::cols) * most)));
  }
  const bool whole = block.m * block.n <= kFinished;
  const bool by_tile = !whole && (block.finish != nullptr || block.rest != nullptr);
  if (block.m <= kRows && block.n <= kCols && block.k <= kDepth) {
    multiply_panel<T>(block, packed_a, packed_b, packs_b, by_tile);
  } else {
    for (std::int64_t j0 = 0; j0 < block.n; j0 += kCols) {
      for (std::int64_t p0 = 0; p0 < block.k; p0 += kDepth) {
        const Product<T> strips =
            block.part(0, block.m, j0, min(kCols, block.n - j0)).stretch(p0, min(kDepth, block.k - p0));
        for (std::int64_t i0 = 0; i0 < strips.m; i0 += kRows) {
          multiply_panel<T>(strips.part(i0, min(kRows, strips.m - i0), 0, strips.n), packed_a, packed_b,
                            packs_b && i0 == 0, by_tile);
        }
      }
    }
  }
  if (!whole || !block.last) return;
  finish_piece<T>({block.c, block.c_stride, block.row, block.col, block.m, block.n}, block.rest,
                  block.rest == nullptr ? nullptr : block.bias, block.finish);
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
    const std::int64_t rows = ceil_div(ceil_div(m, down), Tile<T>::chained_rows) * Tile<T>::chained_rows;
    const std::int64_t cols = ceil_div(ceil_div(n, across), Tile<T>::cols) * Tile<T>::cols;
    const std::int64_t cost = rows * cols + 16 * cols + 4 * rows;
    if (least >= 0 && cost >= least) continue;
    least = cost;
    best = {rows, cols};
  }
  return best;
}

/// Matrix units that may compute a product, or none; bfloat16 parts of the factors.
struct UnitsCall {
  void (*multiply)(const MatrixProduct&) = nullptr;
  int parts = 0;
};

/// Whether matrix units compute a product faster than vectors. Splitting and packing an element of A takes as long as
/// the units save in about 40 columns of C, and an element of B in 40 rows.
GD_INLINE bool units_pay(const UnitsCall& units, std::int64_t m, std::int64_t n, std::int64_t k) {
  return units.multiply != nullptr && k >= 64 && k <= kLong && m * n >= 40 * (m + n);
}

/// Computes a product on matrix units; they return what they cannot compute.
inline void multiply_on_units(const Product<float>& all, const UnitsCall& units) {
  const auto vectors = [&](std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t cols) {
    multiply_block<float>(all.part(i, rows, j, cols));
  };
  const auto finish = [&](std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t cols) {
    finish_piece<float>({all.c + i * all.c_stride + j, all.c_stride, i, j, rows, cols}, nullptr, all.bias, all.finish);
  };
  units.multiply({all.m, all.n, all.k, all.a.data, all.a.row_stride, all.a.col_stride, all.b.data, all.b.row_stride,
                  all.b.col_stride, all.c, units.parts, vectors, finish});
}

/// Computes a product on the pool. A long k is split into ranges, so that no task delays Ctrl-C.
template <class T>
void gemm(Product<T>&& all, const UnitsCall& units = {}) {
  // Multiply-adds of a task, and of the access to an element of A or C: it counts, as rows that other operations divide
  // among threads are in the caches of these.
  constexpr std::int64_t kGrainWork = 1 << 17, kLongestWork = 1 << 29, kAccess = 8;
  const std::int64_t m = all.m, n = all.n, k = all.k, work = m * n * k + kAccess * m * (n + k);
  const bool columns = few_columns(n, k, all.a, all.b), rows = all.few_rows && few_rows(m, k, all.a, all.b);
  const bool dots = columns || rows;
  // B must be packed if the elements of a kernel's vector load are not adjacent. Otherwise packing avoids page jumps
  // along a long k, and cache-set conflicts of rows whose stride is a power of two; this is faster where a packed
  // element is used often. A is packed where its rows are adjacent, it does not stay in the cache and there are several
  // strips to use it.
  const bool crowds = all.b.row_stride * static_cast<std::int64_t>(sizeof(T)) % 1024 == 0;
  all.pack_a = all.a.row_stride == 1 && n > 2 * Tile<T>::cols && m * k > kCachedA / std::int64_t{sizeof(T)};
  all.pack_b = all.b.col_stride != 1 || (m >= kRowsToPack && (k > 64 || crowds));
  const bool is_long = k > kLong;
  if (is_long) all.rest = static_cast<T*>(scratch(Scratch::partial, sizeof(T) * static_cast<std::size_t>(m * n)));
  all.chain = is_long ? kShortestChain : chain_length(k);
  if constexpr (std::is_same_v<T, float>) {
    if (units_pay(units, m, n, k)) return multiply_on_units(all, units);
  }
  const auto multiply = [=](const Product<T>& block) {
    if (dots) {
      const Piece<T> to{block.c, block.c_stride, block.row, block.col, block.m, block.n};
      multiply_rows<T>(block.k, block.a, block.b, to, block.rest, block.bias, block.finish);
    } else {
      multiply_block<T>(block);
    }
  };
  if (work < 2 * kGrainWork && !is_long) return multiply(all);
  const std::int64_t wanted =
      max(min(work / kGrainWork, num_threads()), ceil_div(m * n * min(k, kDepth), kLongestWork));
  if (wanted <= 1 && work <= kLongestWork) return multiply(all);
  const Grid grid = columns ? Grid{ceil_div(m, wanted), n}
                    : rows  ? Grid{m, ceil_div(ceil_div(n, wanted), Dot<T>::sums) * Dot<T>::sums}
                            : choose_grid<T>(m, n, wanted);
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
