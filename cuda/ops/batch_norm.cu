// Batch norm over the rows of each column (chapter, slides 35-38; Ioffe & Szegedy 2015):
// μ = Σ a / N, σ² = Σ (a-μ)² / N, â = (a-μ) / √(σ²+ε), y = f(γ â + β). Saved for backward: x (N, C), μ and 1/√(σ²+ε)
// (1, C), and y or the pre-activation (N, C). Outputs are overwritten.
//
// Statistics: a thread reads a few rows of its columns at a time, computes their mean and the deviations from it, and
// merges these into its moments (Chan, Golub & LeVeque 1983); then moments are merged over threads and blocks. x is
// read once. If a block can have all rows of some columns it also scales them: one launch, and 8 bytes per element, as
// the second read hits a cache. Otherwise three launches (pieces, merge, scale), 12 bytes if x does not fit into the
// second-level cache.
#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/arithmetic.h"
#include "primitives/column_map.h"

namespace gdcore::cuda {

namespace {

// ---- Scaling --------------------------------------------------------------------------------------------------------

/// y = f((x - mean) · scale + shift) with scale = γ rstd, or γ / √(σ² + ε) if `spread` is given.
template <class T, class Function>
struct Scaling {
  const T *x, *mean, *rstd = nullptr, *spread = nullptr, *gamma, *beta;
  T *y, *pre = nullptr;
  double eps;
  bool squared = false;  // `spread` is σ, not σ²
  Function f;

  struct Columns {
    Pack<T> mean, scale, shift;
  };
  struct Values {
    Pack<T> x;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    Columns by{thread.load_columns(plan, mean, T(0)),
               thread.load_columns(plan, spread != nullptr ? spread : rstd, T(1)),
               thread.load_columns(plan, beta, T(0))};
    const Pack<T> factor = thread.load_columns(plan, gamma, T(1));
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      if (spread != nullptr) {
        const double given = static_cast<double>(by.scale[i]);
        // Without ε, σ is not squared, as data in float64 may be huge or tiny.
        const double root = squared && eps == 0.0 ? given : sqrt(fused(given, squared ? given : 1.0, eps));
        by.scale[i] = static_cast<T>(1.0 / root);
      }
      by.scale[i] *= factor[i];
    }
    return by;
  }
  __device__ Values load(const PackIndex& index) const { return {load_pack(x, index)}; }
  __device__ void store(const Columns& by, const Values& values, const PackIndex& index) const {
    if (index.empty()) return;
    Pack<T> a, out;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      a[i] = fused(values.x[i] - by.mean[i], by.scale[i], by.shift[i]);
      out[i] = f.value(a[i]);
    }
    if (pre != nullptr) store_pack(pre, index, a);
    store_pack(y, index, out);
  }
};

// ---- Moments --------------------------------------------------------------------------------------------------------

/// Mean and sum of squared deviations from it over some rows of a column.
struct Moments {
  double mean = 0.0, squares = 0.0;
  std::int64_t count = 0;

  /// `fraction` is more.count / (count + more.count).
  __device__ __forceinline__ void join(const Moments& more, double fraction) {
    if (more.count == 0) return;
    if (count == 0) {
      *this = more;
      return;
    }
    const double apart = more.mean - mean;
    squares += fused(apart * apart * fraction, static_cast<double>(count), more.squares);
    mean = fused(apart, fraction, mean);
    count += more.count;
  }
  __device__ __forceinline__ void join(const Moments& more) {
    join(more, static_cast<double>(more.count) / static_cast<double>(count + more.count));
  }
};

constexpr int kRowsAtOnce = 8;  // rows of a thread in registers

/// Returns the number of rows of element i of a thread's packs; it may lack the row of the last turn.
template <class T>
__device__ __forceinline__ int rows_of(const ColumnThread<T>& thread, int i) {
  const std::int64_t last = thread.begin + (thread.turns - 1) * thread.stride + i * thread.step;
  return last < thread.end ? thread.turns : thread.turns - 1;
}

template <class T>
__device__ __forceinline__ void thread_moments(const ColumnThread<T>& thread, const T* x, Moments (&all)[kPack<T>]) {
  for (int turn = 0; turn < thread.turns; turn += kRowsAtOnce) {
    Pack<T> values[kRowsAtOnce];
#pragma unroll
    for (int u = 0; u < kRowsAtOnce; ++u) values[u] = load_pack(x, thread.index(turn + u));
    const double fraction = static_cast<double>(kRowsAtOnce) / static_cast<double>(turn + kRowsAtOnce);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const int left = rows_of(thread, i) - turn, count = left < kRowsAtOnce ? left : kRowsAtOnce;
      if (count <= 0) continue;
      T sum = T(0), rest = T(0), squares = T(0);
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) sum += values[u][i];
      const T near = count == kRowsAtOnce ? sum * (T(1) / kRowsAtOnce) : sum / static_cast<T>(count);
      // Deviations from the rounded mean and their squares; the sum of deviations corrects the rounding.
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) {
        const T d = u < count ? values[u][i] - near : T(0);
        rest += d;
        squares = fused(d, d, squares);
      }
      const double off = static_cast<double>(rest);
      const double missing = count == kRowsAtOnce ? off * (1.0 / kRowsAtOnce) : off / static_cast<double>(count);
      const double over = fused(-off, missing, static_cast<double>(squares));
      all[i].count = turn;
      all[i].join({static_cast<double>(near) + missing, over < 0.0 ? 0.0 : over, count},
                  count == kRowsAtOnce ? fraction : static_cast<double>(count) / static_cast<double>(turn + count));
    }
  }
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i) all[i].count = rows_of(thread, i);
}

/// Moments in shared memory.
struct SharedMoments {
  double *mean, *squares;
  int* count;

  __device__ Moments get(int i) const { return {mean[i], squares[i], count[i]}; }
  __device__ void set(int i, const Moments& moments) const {
    mean[i] = moments.mean;
    squares[i] = moments.squares;
    count[i] = static_cast<int>(moments.count);
  }
  __device__ void join(int i, int j) const {
    Moments moments = get(i);
    moments.join(get(j));
    set(i, moments);
  }
};

/// Writes the statistics of a column.
template <class T>
struct Statistics {
  T *mean, *rstd, *variance;
  double eps;

  __device__ void operator()(std::int64_t c, const Moments& moments) const {
    const double spread = moments.squares / static_cast<double>(moments.count);
    mean[c] = static_cast<T>(moments.mean);
    variance[c] = static_cast<T>(spread);
    rstd[c] = static_cast<T>(1.0 / sqrt(spread + eps));
  }
};

/// Computes the moments of a block's columns over its piece; writes `partial` (pieces, 2, cols) or, if null, the
/// statistics.
template <class T>
__device__ __forceinline__ void block_moments(const ColumnPlan& plan, const ColumnThread<T>& thread, const T* x,
                                              const Statistics<T>& statistics, double* partial) {
  constexpr int kTile = kColumnThreads * kPack<T>;
  GD_SHARED(double, mean, kTile);
  GD_SHARED(double, squares, kTile);
  GD_SHARED(int, count, kTile);
  const SharedMoments shared{mean, squares, count};
  Moments moments[kPack<T>];
  thread_moments(thread, x, moments);
  if (static_cast<int>(threadIdx.x) < plan.threads) {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) shared.set(thread.position + i * thread.step, moments[i]);
  }
  fold(plan.tile_rows, plan.tile_cols, [&](int i, int j) { shared.join(i, j); });
  const std::int64_t c0 = static_cast<std::int64_t>(blockIdx.x) * plan.tile_cols;
  for (int c = static_cast<int>(threadIdx.x); c < plan.tile_cols && c0 + c < plan.cols; c += kColumnThreads) {
    if (partial == nullptr) {
      statistics(c0 + c, shared.get(c));
    } else {
      partial[2 * blockIdx.y * plan.cols + c0 + c] = mean[c];
      partial[(2 * blockIdx.y + 1) * plan.cols + c0 + c] = squares[c];
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kColumnThreads, 1)
    batch_norm_moments_kernel(ColumnPlan plan, bool wide, const T* x, double* partial) {
  block_moments<T>(plan, ColumnThread<T>(plan, wide), x, {}, partial);
}

/// Merges the moments of the pieces; a block has `across` columns.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    batch_norm_join_kernel(ColumnPlan plan, const double* __restrict__ partial, int across, Statistics<T> statistics) {
  GD_SHARED(double, mean, kColumnThreads);
  GD_SHARED(double, squares, kColumnThreads);
  GD_SHARED(int, count, kColumnThreads);
  const SharedMoments shared{mean, squares, count};
  const int thread = static_cast<int>(threadIdx.x), deep = kColumnThreads / across;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * across + thread % across;
  Moments moments;
  if (c < plan.cols) {
#pragma unroll 2
    for (std::int64_t p = thread / across; p < plan.pieces; p += deep) {
      const std::int64_t left = plan.rows - p * plan.piece;
      moments.join({partial[2 * p * plan.cols + c], partial[(2 * p + 1) * plan.cols + c],
                    left < plan.piece ? left : plan.piece});
    }
  }
  shared.set(thread, moments);
  fold(deep, across, [&](int i, int j) { shared.join(i, j); });
  if (thread < across && c < plan.cols) statistics(c, shared.get(thread));
}

/// All rows of a strip of columns: statistics, then scaling.
template <class T, class Function>
__global__ void __launch_bounds__(kColumnThreads, 1)
    batch_norm_kernel(ColumnPlan plan, bool wide, Statistics<T> statistics, Scaling<T, Function> scaling) {
  const ColumnThread<T> thread(plan, wide);
  block_moments<T>(plan, thread, scaling.x, statistics, nullptr);
  __syncthreads();  // the strip's statistics are complete
  map_columns(plan, thread, scaling);
}

template <class T, class Function, class Call>
Scaling<T, Function> scaling_of(const Call& call, const Function& f) {
  return {.x = call.x.template as<T>(),
          .mean = call.mean.template as<T>(),
          .gamma = call.gamma.template as<T>(),
          .beta = call.beta.template as<T>(),
          .y = call.y.template as<T>(),
          .eps = call.eps,
          .f = f};
}

template <class T, class Function>
void forward(const Scaling<T, Function>& scaling, const Statistics<T>& statistics, std::int64_t rows,
             std::int64_t cols) {
  const ColumnPlan plan = column_plan(rows, cols, kPack<T>);
  const bool aligned = plan_aligned<T>(plan, scaling.x, scaling.y, scaling.pre);
  const Shape shape{grid_of(plan), kColumnThreads};
  if (plan.pieces == 1) {
    return launch(batch_norm_kernel<T, Function>, shape, plan, aligned, statistics, scaling);
  }
  double* partial = scratch_array<double>(Scratch::partial, plan.pieces * 2 * cols);
  launch(batch_norm_moments_kernel<T>, shape, plan, aligned, scaling.x, partial);
  const int across = join_width(cols);
  launch(batch_norm_join_kernel<T>, {static_cast<unsigned>(ceil_div(cols, across)), kColumnThreads}, plan, partial,
         across, statistics);
  launch_map<T>(plan, aligned, scaling);
}

}  // namespace

void CudaBackend::batch_norm_forward(const BatchNormForward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    with_activation(call.activation, [&]<class F>(const F& f) {
      Scaling<T, F> scaling = scaling_of<T>(call, f);
      scaling.rstd = call.rstd.as<T>();
      scaling.pre = call.pre.as<T>();
      const Statistics<T> statistics{call.mean.as<T>(), call.rstd.as<T>(), call.variance.as<T>(), call.eps};
      forward(scaling, statistics, call.x.rows, call.x.cols);
    });
  });
}

void CudaBackend::column_affine(const ColumnAffine& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    with_activation(call.activation, [&]<class F>(const F& f) {
      Scaling<T, F> scaling = scaling_of<T>(call, f);
      scaling.spread = call.spread.as<T>();
      scaling.pre = call.pre.as<T>();
      scaling.squared = call.kind == Spread::std;
      const ColumnPlan plan = map_plan(call.x.rows, call.x.cols, kPack<T>);
      launch_map<T>(plan, plan_aligned<T>(plan, scaling.x, scaling.y, scaling.pre), scaling);
    });
  });
}

}  // namespace gdcore::cuda
