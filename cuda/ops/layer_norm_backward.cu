// Backward pass of layer norm (forward: layer_norm.cu): dy ← dy f'(saved) in place, d = γ dy,
// dx = rstd (d - mean(d) - â mean(d â)), dγ = Σ_n dy â, dβ = Σ_n dy; x, dy, saved, dx (N, C), mean and rstd (1, N),
// γ, dγ, dβ (1, C). Outputs are overwritten.
//
// Rows of up to 4,096 floats stay in registers. Each block sums the columns over its rows and writes the sums to
// scratch memory; a second launch adds them. Few rows need one launch; the number of blocks depends on the shape alone.
// Bytes per element: 12 (x, dy, dx), 20 with an activation; longer rows are read again for dγ and dβ, by one more
// launch.
#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/arithmetic.h"
#include "primitives/column_sums.h"
#include "primitives/reduce.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

template <class T>
struct Backward {
  const T *x, *gamma, *mean, *rstd, *saved;
  T *dy, *dx, *dgamma, *dbeta;
  std::int64_t rows, cols, piece = 0;  // piece: rows of a block
  double inverse_cols = 1.0 / static_cast<double>(cols);
  int across = 0;
  bool wide = false;
};

constexpr int kThreads = 256, kLongThreads = 512;  // for rows of up to 2 packs per thread, and for longer rows

inline RowPlan backward_plan(std::int64_t cols, int pack) {
  const std::int64_t packs = ceil_div(cols, pack);
  int across = 1;
  while (across < kThreads && across < packs) across *= 2;
  if (packs <= 2 * across) return {kThreads, across, packs <= across ? 1 : 2};
  return {kLongThreads, kLongThreads, packs <= 2 * kLongThreads ? 2 : 0};
}

constexpr int rows_at_once(int packs) { return packs == 1 ? 2 : 1; }

/// Sums for dγ and dβ of a thread's columns over a block's rows, in T over at most kRun rows.
template <class T, int kPacks>
struct ThreadColumns {
  Pack<T> run[2][kPacks] = {};
  double total[2][kPacks][kPack<T>] = {};
  int rows = 0;

  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
#pragma unroll
        for (int i = 0; i < kPack<T>; ++i) total[k][p][i] += static_cast<double>(run[k][p][i]);
        run[k][p] = {};
      }
    }
    rows = 0;
  }
};

/// Ends a block: writes dγ and dβ, or the sums of its columns as a piece for the second launch.
template <int kBlock, class T, int kPacks>
__device__ __forceinline__ void finish_columns(const Backward<T>& call, const ThreadColumns<T, kPacks>& columns,
                                               double* partial, double* shared) {
  const int thread = static_cast<int>(threadIdx.x), width = call.across * kPack<T>;
  constexpr int kTile = kBlock * kPack<T>;
  const PackIndex index = pack_index<T>(0, width, thread % call.across, call.wide);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (p > 0) __syncthreads();
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        shared[k * kTile + thread / call.across * width + index[i]] = columns.total[k][p][i];
      }
    }
    fold_rows<2>(shared, kTile, kBlock / call.across, width);
    for (int c = thread; c < width && p * width + c < call.cols; c += kBlock) {
      const double sum[2] = {shared[c], shared[kTile + c]};
      if (partial == nullptr) {
        ColumnPair<T>{call.dgamma, call.dbeta}(p * width + c, sum);
      } else {
#pragma unroll
        for (int k = 0; k < 2; ++k) partial[(2 * blockIdx.x + k) * call.cols + p * width + c] = sum[k];
      }
    }
  }
}

/// A thread's packs of one row.
template <class T, int kPacks>
struct RowPacks {
  Pack<T> x[kPacks], dy[kPacks], saved[kPacks];
  T mean = T(0), rstd = T(0);
  std::int64_t start, cols;  // cols is 0 if the row does not exist

  __device__ __forceinline__ PackIndex index(const Backward<T>& call, int p) const {
    return pack_index<T>(p * call.across * kPack<T>, cols, static_cast<int>(threadIdx.x) % call.across, call.wide);
  }
  template <class Function>
  __device__ __forceinline__ void load(const Backward<T>& call, const Function&, std::int64_t row,
                                       std::int64_t bottom) {
    start = row * call.cols;
    cols = row < bottom ? call.cols : 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const PackIndex at = index(call, p);
      dy[p] = load_pack(call.dy + start, at);
      x[p] = load_pack(call.x + start, at);
      if constexpr (!std::is_same_v<Function, Identity>) saved[p] = load_pack(call.saved + start, at);
    }
    if (row < bottom) {
      mean = call.mean[row];
      rstd = call.rstd[row];
    }
  }
  /// dy ← dy f'(saved) and x ← â; adds the row's terms to the sums of columns, and to Σ γ dy and Σ γ dy â.
  template <class Function>
  __device__ __forceinline__ void sum(const Backward<T>& call, const Function& f, const Pack<T> (&gamma)[kPacks],
                                      ThreadColumns<T, kPacks>& columns, double (&sums)[2]) {
    Pack<T> plain{}, with_x{};
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if constexpr (!std::is_same_v<Function, Identity>) {
#pragma unroll
        for (int i = 0; i < kPack<T>; ++i) dy[p][i] = product(dy[p][i], f.slope(saved[p][i]));
        store_pack(call.dy + start, index(call, p), dy[p]);
      }
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        x[p][i] = (x[p][i] - mean) * rstd;
        columns.run[0][p][i] = fused(dy[p][i], x[p][i], columns.run[0][p][i]);
        columns.run[1][p][i] += dy[p][i];
        plain[i] = fused(dy[p][i], gamma[p][i], plain[i]);
        with_x[i] = fused(dy[p][i] * gamma[p][i], x[p][i], with_x[i]);
      }
    }
    sums[0] = static_cast<double>(pack_sum(plain));
    sums[1] = static_cast<double>(pack_sum(with_x));
  }
  __device__ __forceinline__ void store(const Backward<T>& call, const Pack<T> (&gamma)[kPacks], T plain, T with_x) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      Pack<T> dx;
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        dx[i] = rstd * fused(-x[p][i], with_x, fused(dy[p][i], gamma[p][i], -plain));
      }
      store_pack(call.dx + start, index(call, p), dx);
    }
  }
};

template <class T, class Function, int kPacks, int kBlock>
__global__ void __launch_bounds__(kBlock, kThreads * 2 / kBlock)
    layer_norm_backward_kernel(Backward<T> call, Function f, double* partial) {
  constexpr int kAtOnce = rows_at_once(kPacks);
  GD_SHARED(double, shared, 2 * kBlock * kPack<T>);
  GD_SHARED(double, joint, 2 * kAtOnce * kBlock / kWarp);
  const int lane = static_cast<int>(threadIdx.x) % call.across, deep = kBlock / call.across;
  const std::int64_t top = static_cast<std::int64_t>(blockIdx.x) * call.piece;
  const std::int64_t bottom = top + call.piece < call.rows ? top + call.piece : call.rows;
  Pack<T> gamma[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const PackIndex index = pack_index<T>(p * call.across * kPack<T>, call.cols, lane, call.wide);
    gamma[p] = load_or(call.gamma, index, T(1));
  }
  ThreadColumns<T, kPacks> columns;
  for (std::int64_t first = top; first < bottom; first += deep * kAtOnce) {
    RowPacks<T, kPacks> rows[kAtOnce];
    double sums[2 * kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      rows[u].load(call, f, first + u * deep + static_cast<int>(threadIdx.x) / call.across, bottom);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      double pair[2];
      rows[u].sum(call, f, gamma, columns, pair);
      sums[2 * u] = pair[0];
      sums[2 * u + 1] = pair[1];
    }
    if ((columns.rows += kAtOnce) == kRun) columns.flush();
    if (call.dx == nullptr) continue;
    group_sums(sums, call.across, joint);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      rows[u].store(call, gamma, static_cast<T>(sums[2 * u] * call.inverse_cols),
                    static_cast<T>(sums[2 * u + 1] * call.inverse_cols));
    }
  }
  if (call.dgamma == nullptr && call.dbeta == nullptr) return;
  columns.flush();
  finish_columns<kBlock>(call, columns, partial, shared);
}

/// Rows too long for a block's registers: dy f' and dx by one block per row, which reads it twice.
template <class T, class Function>
__global__ void __launch_bounds__(kLongThreads) layer_norm_backward_long_kernel(Backward<T> call, Function f) {
  GD_SHARED(double, shared, 2 * kLongThreads / kWarp);
  const std::int64_t start = blockIdx.x * call.cols;
  const T *x = call.x + start, mean = call.mean[blockIdx.x], rstd = call.rstd[blockIdx.x];
  T* dy = call.dy + start;
  double sums[2];
  range_sums<T>(call.cols, call.wide, sums, shared, [&](const PackIndex& index, Pack<T>(&sum)[2]) {
    Pack<T> d = load_pack(dy, index);
    const Pack<T> a = load_pack(x, index), gamma = load_or(call.gamma, index, T(1));
    if constexpr (!std::is_same_v<Function, Identity>) {
      const Pack<T> saved = load_pack(call.saved + start, index);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) d[i] = product(d[i], f.slope(saved[i]));
      store_pack(dy, index, d);
    }
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      sum[0][i] = fused(d[i], gamma[i], sum[0][i]);
      sum[1][i] = fused(d[i] * gamma[i], (a[i] - mean) * rstd, sum[1][i]);
    }
  });
  if (call.dx == nullptr) return;
  const T plain = static_cast<T>(sums[0] * call.inverse_cols), with_x = static_cast<T>(sums[1] * call.inverse_cols);
  const std::int64_t step = static_cast<std::int64_t>(kLongThreads) * kPack<T>;
  for (std::int64_t c = (call.cols - 1) / step * step; c >= 0; c -= step) {  // backwards: the end is in the cache
    const PackIndex index = pack_index<T>(c, call.cols, static_cast<int>(threadIdx.x), call.wide);
    const Pack<T> d = load_pack(dy, index), a = load_pack(x, index), gamma = load_or(call.gamma, index, T(1));
    const Pack<T> dx =
        pack_of<T>([&](int i) { return rstd * fused(-(a[i] - mean) * rstd, with_x, fused(d[i], gamma[i], -plain)); });
    store_pack(call.dx + start, index, dx);
  }
}

/// Terms of dγ and dβ for rows too long for a block's registers; a pack lies within one row.
template <class T>
struct ParameterTerm {
  const T *dy, *x, *mean, *rstd;
  std::int64_t cols;

  struct Columns {};
  struct Values {
    Pack<T> dy, x;
    T mean, rstd;
  };
  __device__ Columns columns(const ColumnPlan&, const ColumnThread<T>&) const { return {}; }
  __device__ Values load(const PackIndex& index) const {
    const std::int64_t row = index.empty() ? 0 : index.first / cols;
    return {load_pack(dy, index), load_pack(x, index), mean[row], rstd[row]};
  }
  __device__ void add(const Columns&, Values& values, const PackIndex&, Pack<T> (&sums)[2]) const {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      sums[0][i] = fused(values.dy[i], (values.x[i] - values.mean) * values.rstd, sums[0][i]);
      sums[1][i] += values.dy[i];
    }
  }
};

template <class T, class Function>
void backward_long(const Backward<T>& call, const Function& f) {
  if (call.dx != nullptr || !std::is_same_v<Function, Identity>) {
    launch(layer_norm_backward_long_kernel<T, Function>, {static_cast<unsigned>(call.rows), kLongThreads}, call, f);
  }
  if (call.dgamma == nullptr && call.dbeta == nullptr) return;
  const ColumnPlan plan = column_plan(call.rows, call.cols, kPack<T>);
  column_sums<T, 2>(plan, plan_aligned<T>(plan, call.dy, call.x),
                    ParameterTerm<T>{call.dy, call.x, call.mean, call.rstd, call.cols},
                    ColumnPair<T>{call.dgamma, call.dbeta});
}

template <int kPacks, int kBlock, class T, class Function>
void backward_rows(const Backward<T>& given, const Function& f) {
  Backward<T> call = given;
  const std::int64_t tile = static_cast<std::int64_t>(kBlock / call.across) * rows_at_once(kPacks);
  const std::int64_t turns = ceil_div(call.rows, tile), most = turns <= 2 ? 1 : (turns < kBlocks ? turns : kBlocks);
  call.piece = ceil_div(turns, most) * tile;
  const std::int64_t pieces = ceil_div(call.rows, call.piece);
  const bool join = pieces > 1 && (call.dgamma != nullptr || call.dbeta != nullptr);
  double* partial = join ? scratch_array<double>(Scratch::partial, pieces * 2 * call.cols) : nullptr;
  launch(layer_norm_backward_kernel<T, Function, kPacks, kBlock>, {static_cast<unsigned>(pieces), kBlock}, call, f,
         partial);
  if (join) join_pieces<2>(partial, pieces, call.cols, ColumnPair<T>{call.dgamma, call.dbeta});
}

template <class T, class Function>
void backward(const Backward<T>& given, const Function& f) {
  Backward<T> call = given;
  const RowPlan plan = backward_plan(call.cols, kPack<T>);
  call.across = plan.across;
  if (plan.packs == 0) return backward_long(call, f);
  if (plan.threads == kLongThreads) return backward_rows<2, kLongThreads>(call, f);
  return plan.packs == 1 ? backward_rows<1, kThreads>(call, f) : backward_rows<2, kThreads>(call, f);
}

}  // namespace

void CudaBackend::layer_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    Backward<T> pass{call.x.as<T>(),     call.gamma.as<T>(), call.mean.as<T>(), call.rstd.as<T>(),
                     call.saved.as<T>(), call.dy.as<T>(),    call.dx.as<T>(),   call.dgamma.as<T>(),
                     call.dbeta.as<T>(), call.x.rows,        call.x.cols};
    pass.wide = pack_aligned<T>(pass.rows, pass.cols, pass.x, pass.gamma, pass.saved, pass.dy, pass.dx);
    with_activation(call.activation, [&](const auto& f) { backward(pass, f); });
  });
}

}  // namespace gdcore::cuda
