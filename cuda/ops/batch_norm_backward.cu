// Backward pass of batch norm (forward: batch_norm.cu): dy ← dy f'(saved) in place, dγ = Σ_n dy â, dβ = Σ_n dy,
// dx = γ rstd (dy - dβ / N - â dγ / N), or γ rstd dy if mean and rstd are constants; x, dy, saved, dx (N, C), the
// others (1, C). Outputs are overwritten.
//
// If a block can have all rows of some columns: one launch, 12 bytes per element (20 with an activation), as the second
// read hits a cache. Otherwise three launches (sums of pieces, their total, dx), and x and dy are read twice if they do
// not fit into the second-level cache: 20 bytes (28).
#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/arithmetic.h"
#include "primitives/column_map.h"

namespace gdcore::cuda {

namespace {

/// The terms of dγ and dβ.
template <class T, class Function>
struct ParameterTerm {
  SlopeTerm<T, Function> slope;
  const T *x, *mean, *rstd;

  struct Columns {
    Pack<T> mean, rstd;
  };
  struct Values {
    typename SlopeTerm<T, Function>::Values slope;
    Pack<T> x;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    return {thread.load_columns(plan, mean, T(0)), thread.load_columns(plan, rstd, T(1))};
  }
  __device__ Values load(const PackIndex& index) const { return {slope.load(index), load_pack(x, index)}; }
  __device__ void add(const Columns& by, Values& values, const PackIndex& index, Pack<T> (&sums)[2]) const {
    slope.slope(values.slope, index);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const T d = values.slope.dy[i];
      sums[0][i] = fused(d, (values.x[i] - by.mean[i]) * by.rstd[i], sums[0][i]);
      sums[1][i] += d;
    }
  }
};

/// Writes dγ and dβ of a column, and the means of dy â and of dy for its dx.
template <class T>
struct Finish {
  ColumnPair<T> parameters;
  T *mean_with_x, *mean_dy;
  double rows;
  bool constant;

  __device__ void operator()(std::int64_t c, const double (&sum)[2]) const {
    parameters(c, sum);
    mean_with_x[c] = constant ? T(0) : static_cast<T>(sum[0] / rows);
    mean_dy[c] = constant ? T(0) : static_cast<T>(sum[1] / rows);
  }
};

template <class T>
struct Inputs {
  const T *x, *dy, *mean, *rstd, *gamma, *mean_with_x, *mean_dy;
  T* dx;

  struct Columns {
    Pack<T> mean, rstd, scale, mean_with_x, mean_dy;
  };
  struct Values {
    Pack<T> x, dy;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    Columns by{thread.load_columns(plan, mean, T(0)), thread.load_columns(plan, rstd, T(1)),
               thread.load_columns(plan, gamma, T(1)), thread.load_columns(plan, mean_with_x, T(0)),
               thread.load_columns(plan, mean_dy, T(0))};
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) by.scale[i] *= by.rstd[i];
    return by;
  }
  __device__ Values load(const PackIndex& index) const { return {load_pack(x, index), load_pack(dy, index)}; }
  __device__ void store(const Columns& by, const Values& values, const PackIndex& index) const {
    const Pack<T> out = pack_of<T>([&](int i) {
      const T normalised = (values.x[i] - by.mean[i]) * by.rstd[i];
      return by.scale[i] * fused(-normalised, by.mean_with_x[i], values.dy[i] - by.mean_dy[i]);
    });
    store_pack(dx, index, out);
  }
};

/// All rows of a strip of columns: dγ and dβ, then dx.
template <class T, class Function>
__global__ void __launch_bounds__(kColumnThreads)
    batch_norm_backward_kernel(ColumnPlan plan, bool wide, ParameterTerm<T, Function> term, Finish<T> finish,
                               Inputs<T> inputs) {
  const ColumnThread<T> thread(plan, wide);
  sum_columns<T, 2>(plan, thread, term, finish, nullptr);
  __syncthreads();  // the strip's means are complete
  map_columns(plan, thread, inputs);
}

template <class T, class Function>
void backward(const NormBackward& call, const Function& f) {
  const std::int64_t rows = call.x.rows, cols = call.x.cols;
  const ColumnPlan plan = column_plan(rows, cols, kPack<T>);
  T* means = scratch_array<T>(Scratch::second, 2 * cols);
  const ParameterTerm<T, Function> term{
      {call.dy.as<T>(), call.saved.as<T>(), f}, call.x.as<T>(), call.mean.as<T>(), call.rstd.as<T>()};
  const Finish<T> finish{
      {call.dgamma.as<T>(), call.dbeta.as<T>()}, means, means + cols, static_cast<double>(rows), call.constant};
  const Inputs<T> inputs{call.x.as<T>(),     call.dy.as<T>(), call.mean.as<T>(), call.rstd.as<T>(),
                         call.gamma.as<T>(), means,           means + cols,      call.dx.as<T>()};
  const bool aligned = plan_aligned<T>(plan, term.x, inputs.dy, term.slope.saved, inputs.dx);
  if (plan.pieces == 1 && call.dx) {
    return launch(batch_norm_backward_kernel<T, Function>, {grid_of(plan), kColumnThreads}, plan, aligned, term, finish,
                  inputs);
  }
  column_sums<T, 2>(plan, aligned, term, finish);
  if (call.dx) launch_map<T>(plan, aligned, inputs);
}

}  // namespace

void CudaBackend::batch_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype,
            [&]<class T>(T) { with_activation(call.activation, [&](const auto& f) { backward<T>(call, f); }); });
}

}  // namespace gdcore::cuda
