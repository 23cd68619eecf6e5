// Sums over the rows of each column: gradients of biases, γ and β, statistics of batch norm. A matrix is split into
// strips of columns and pieces of rows, one block each. With one piece a single launch finishes the sums; otherwise the
// pieces write theirs to scratch memory, (pieces, K, cols) doubles, and a second launch adds them. A term is summed in
// T over at most kRun rows, then in double. The order of additions depends on the shape alone, so results have the same
// bits on every device and for every alignment. Bytes: each input of the terms is read once.
#pragma once

#include <cstdint>
#include <numeric>
#include <type_traits>

#include "backend/stream.h"
#include "gdcore/activations.h"
#include "primitives/arithmetic.h"
#include "primitives/reduce.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kColumnThreads = 256;

/// Division of a matrix. A block covers its piece in turns; the packs of a turn form a tile of whole rows of a strip. A
/// strip of all columns is `flat`: its rows are contiguous in memory, so packs may cross row ends, and the tile's rows
/// form whole packs.
struct ColumnPlan {
  std::int64_t rows, cols, strips, pieces, piece;  // piece: rows of one
  int threads, across;                             // threads of a block; threads along a row (flat: along the tile)
  int tile_rows, tile_cols;
  bool flat;
};

inline ColumnPlan strip_plan(std::int64_t rows, std::int64_t cols, int pack, int across) {
  const int deep = kColumnThreads / across, width = across * pack;
  return {rows, cols, ceil_div(cols, width), 1, rows, kColumnThreads, across, deep, width, false};
}

/// Returns the plan of one piece with the best memory access: flat, or strips of whole warps.
inline ColumnPlan whole_plan(std::int64_t rows, std::int64_t cols, int pack) {
  const std::int64_t unit = cols / std::gcd(cols, static_cast<std::int64_t>(pack));  // packs of the fewest whole rows
  if (unit > kColumnThreads) return strip_plan(rows, cols, pack, kWarp);
  const int threads = static_cast<int>(kColumnThreads / unit * unit), deep = static_cast<int>(threads * pack / cols);
  return {rows, cols, 1, 1, rows, threads, threads, deep, static_cast<int>(cols), true};
}

/// Returns the plan of a sum. One piece, and so one launch, if threads have few turns or there are enough strips.
/// Strips are narrow for few columns, but whole memory lines for large matrices.
inline ColumnPlan column_plan(std::int64_t rows, std::int64_t cols, int pack) {
  const auto turns = [](const ColumnPlan& plan) { return ceil_div(plan.rows, plan.tile_rows); };
  int across = 1;
  while (across < kWarp && across * pack < cols) across *= 2;
  ColumnPlan plan = strip_plan(rows, cols, pack, across);
  while (plan.across > 2 && plan.strips < kBlocks / 2 && turns(plan) > 4) {
    plan = strip_plan(rows, cols, pack, plan.across / 2);
  }
  if (turns(plan) <= 16 || (plan.strips >= kBlocks / 2 && plan.across >= 8)) return plan;
  plan = whole_plan(rows, cols, pack);
  const std::int64_t worth = ceil_div(turns(plan), 8), most = kBlocks / plan.strips > 1 ? kBlocks / plan.strips : 1;
  plan.piece = ceil_div(turns(plan), worth < most ? worth : most) * plan.tile_rows;
  plan.pieces = ceil_div(rows, plan.piece);
  return plan;
}

/// Whether the packs of a plan can be read in one access from all these matrices.
template <class T, class... P>
bool plan_aligned(const ColumnPlan& plan, const P*... data) {
  return pack_aligned<T>(plan.flat ? 1 : plan.rows, plan.cols, data...);
}

/// A thread's packs and columns in a plan.
template <class T>
struct ColumnThread {
  std::int64_t begin, stride, end;    // first element; elements between turns; end of the piece
  std::int64_t first_col, left_cols;  // column of the first element (flat: index in the tile); columns from it on
  int turns, step, position;          // position: index of the first element within the tile
  bool wide;

  __device__ ColumnThread(const ColumnPlan& plan, bool wide_) : wide(wide_) {
    const int thread = static_cast<int>(threadIdx.x), row = thread / plan.across, lane = thread % plan.across;
    const int within = wide ? lane * kPack<T> : lane;
    const std::int64_t top = static_cast<std::int64_t>(blockIdx.y) * plan.piece;
    const std::int64_t bottom = top + plan.piece < plan.rows ? top + plan.piece : plan.rows;
    step = wide ? 1 : plan.across;
    position = row * plan.across * kPack<T> + within;
    first_col = static_cast<std::int64_t>(blockIdx.x) * plan.tile_cols + within;
    begin = (top + row) * plan.cols + first_col;
    stride = plan.tile_rows * plan.cols;
    end = bottom * plan.cols;
    left_cols = thread >= plan.threads ? 0 : (plan.flat ? stride : plan.cols) - first_col;
    turns = static_cast<int>(ceil_div(bottom - top, plan.tile_rows));
  }
  /// Returns the index of the pack of one turn; empty past the end.
  __device__ PackIndex index(int turn) const {
    const std::int64_t first = begin + turn * stride, below = end - first, left = below < left_cols ? below : left_cols;
    return {first, step, left < 0 ? 0 : static_cast<int>(left < 0x7fffffff ? left : 0x7fffffff), wide};
  }
  /// Returns the column of element i of a pack, or -1 beyond the last.
  __device__ std::int64_t col(const ColumnPlan& plan, int i) const {
    if (i * step >= left_cols) return -1;
    return plan.flat ? (first_col + i * step) % plan.cols : first_col + i * step;
  }
  /// Loads values[column] for each element of a pack; `otherwise` if `values` is null or the column does not exist.
  __device__ Pack<T> load_columns(const ColumnPlan& plan, const T* values, T otherwise) const {
    return pack_of<T>([&](int i) {
      const std::int64_t c = values == nullptr ? -1 : col(plan, i);
      return c < 0 ? otherwise : values[c];
    });
  }
};

/// Sums one thread's packs over its turns. A Term has
///   Columns columns(plan, thread): the constants of the thread's columns, read once;
///   Values load(index): the input packs; all rows in flight are loaded before one is used;
///   void add(columns, values, index, sums): adds the K terms of every element (zero if it does not exist, as loaded),
///   and may write the element back.
template <class T, int K, class Term>
__device__ __forceinline__ void thread_sums(const ColumnPlan& plan, const ColumnThread<T>& thread, const Term& term,
                                            double (&total)[K][kPack<T>]) {
  constexpr int kAtOnce = sizeof(typename Term::Values) <= 2 * sizeof(Pack<T>) ? 4 : 2;
  const auto columns = term.columns(plan, thread);
  unrolled<K, kPack<T>>([&](int k, int i) { total[k][i] = 0.0; });
  for (int run = 0; run < thread.turns; run += kRun) {
    Pack<T> sums[K] = {};
    const int stop = run + kRun < thread.turns ? run + kRun : thread.turns;
    for (int turn = run; turn < stop; turn += kAtOnce) {
      typename Term::Values values[kAtOnce];
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) values[u] = term.load(thread.index(turn + u));
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) term.add(columns, values[u], thread.index(turn + u), sums);
    }
    unrolled<K, kPack<T>>([&](int k, int i) { total[k][i] += static_cast<double>(sums[k][i]); });
  }
}

/// Sums a block's threads into the first tile_cols values of each of K arrays in `shared`, kColumnThreads · kPack
/// apart.
template <class T, int K>
__device__ __forceinline__ void block_columns(const ColumnPlan& plan, const ColumnThread<T>& thread,
                                              const double (&total)[K][kPack<T>], double* shared) {
  constexpr int kTile = kColumnThreads * kPack<T>;
  if (static_cast<int>(threadIdx.x) < plan.threads) {
    unrolled<K, kPack<T>>([&](int k, int i) { shared[k * kTile + thread.position + i * thread.step] = total[k][i]; });
  }
  fold_rows<K>(shared, kTile, plan.tile_rows, plan.tile_cols);
}

/// Computes a block's sums: calls finish(column, sums), or writes to `partial` (pieces, K, cols) unless that is null.
template <class T, int K, class Term, class Finish>
__device__ __forceinline__ void sum_columns(const ColumnPlan& plan, const ColumnThread<T>& thread, const Term& term,
                                            const Finish& finish, double* partial) {
  constexpr int kTile = kColumnThreads * kPack<T>;
  GD_SHARED(double, shared, K* kTile);
  double total[K][kPack<T>];
  thread_sums<T, K>(plan, thread, term, total);
  block_columns<T, K>(plan, thread, total, shared);
  const std::int64_t c0 = static_cast<std::int64_t>(blockIdx.x) * plan.tile_cols;
  for (int c = static_cast<int>(threadIdx.x); c < plan.tile_cols && c0 + c < plan.cols; c += kColumnThreads) {
    double sum[K];
#pragma unroll
    for (int k = 0; k < K; ++k) sum[k] = shared[k * kTile + c];
    if (partial == nullptr) {
      finish(c0 + c, sum);
    } else {
#pragma unroll
      for (int k = 0; k < K; ++k) partial[(blockIdx.y * K + k) * plan.cols + c0 + c] = sum[k];
    }
  }
}

template <class T, int K, class Term, class Finish>
__global__ void __launch_bounds__(kColumnThreads, 2)
    column_sums_kernel(ColumnPlan plan, bool wide, Term term, Finish finish, double* partial) {
  sum_columns<T, K>(plan, ColumnThread<T>(plan, wide), term, finish, partial);
}

/// Adds partial sums (pieces, K, cols) and calls finish(column, sums); a block has `across` columns.
template <int K, class Finish>
__global__ void __launch_bounds__(kColumnThreads)
    join_pieces_kernel(const double* __restrict__ partial, std::int64_t pieces, std::int64_t cols, int across,
                       Finish finish) {
  GD_SHARED(double, shared, K* kColumnThreads);
  const int thread = static_cast<int>(threadIdx.x), deep = kColumnThreads / across;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * across + thread % across;
  double sum[K] = {};
  if (c < cols) {
#pragma unroll 4
    for (std::int64_t p = thread / across; p < pieces; p += deep) {
#pragma unroll
      for (int k = 0; k < K; ++k) sum[k] += partial[(p * K + k) * cols + c];
    }
  }
#pragma unroll
  for (int k = 0; k < K; ++k) shared[k * kColumnThreads + thread] = sum[k];
  fold_rows<K>(shared, kColumnThreads, deep, across);
  if (thread >= across || c >= cols) return;
#pragma unroll
  for (int k = 0; k < K; ++k) sum[k] = shared[k * kColumnThreads + thread];
  finish(c, sum);
}

/// Returns the columns of a block that joins pieces: enough blocks for all multiprocessors, and at least 32 bytes, the
/// unit of memory access.
inline int join_width(std::int64_t cols) {
  int across = kWarp;
  while (across > 4 && ceil_div(cols, across) < kBlocks / 2) across /= 2;
  return across;
}

template <int K, class Finish>
void join_pieces(const double* partial, std::int64_t pieces, std::int64_t cols, const Finish& finish) {
  const int across = join_width(cols);
  launch(join_pieces_kernel<K, Finish>, {static_cast<unsigned>(ceil_div(cols, across)), kColumnThreads}, partial,
         pieces, cols, across, finish);
}

inline dim3 grid_of(const ColumnPlan& plan) {
  return dim3(static_cast<unsigned>(plan.strips), static_cast<unsigned>(plan.pieces));
}

/// Calls finish(column, sums) with the K sums of `term` over the rows of each column; `aligned`: plan_aligned of all
/// matrices of the term. One launch for few rows or many columns, else two.
template <class T, int K, class Term, class Finish>
void column_sums(const ColumnPlan& plan, bool aligned, const Term& term, const Finish& finish) {
  double* partial = plan.pieces == 1 ? nullptr : scratch_array<double>(Scratch::partial, plan.pieces * K * plan.cols);
  launch(column_sums_kernel<T, K, Term, Finish>, {grid_of(plan), kColumnThreads}, plan, aligned, term, finish, partial);
  if (partial != nullptr) join_pieces<K>(partial, plan.pieces, plan.cols, finish);
}

/// Writes two sums of a column, such as dγ and dβ; null arrays are skipped.
template <class T>
struct ColumnPair {
  T *first, *second;
  __device__ void operator()(std::int64_t c, const double (&sum)[2]) const {
    if (first != nullptr) first[c] = static_cast<T>(sum[0]);
    if (second != nullptr) second[c] = static_cast<T>(sum[1]);
  }
};

/// A term: sums dy ← dy f'(saved), written back unless f is the identity.
template <class T, class Function>
struct SlopeTerm {
  T* dy;
  const T* saved;
  Function f;

  struct Columns {};
  struct Values {
    Pack<T> dy, saved;
  };
  __device__ Columns columns(const ColumnPlan&, const ColumnThread<T>&) const { return {}; }
  __device__ Values load(const PackIndex& index) const {
    Values values;
    values.dy = load_pack(dy, index);
    if constexpr (!std::is_same_v<Function, Identity>) values.saved = load_pack(saved, index);
    return values;
  }
  __device__ void add(const Columns&, Values& values, const PackIndex& index, Pack<T> (&sums)[1]) const {
    slope(values, index);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) sums[0][i] += values.dy[i];
  }
  __device__ void slope(Values& values, const PackIndex& index) const {
    if constexpr (!std::is_same_v<Function, Identity>) {
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) values.dy[i] = product(values.dy[i], f.slope(values.saved[i]));
      store_pack(dy, index, values.dy);
    }
  }
};

}  // namespace gdcore::cuda
