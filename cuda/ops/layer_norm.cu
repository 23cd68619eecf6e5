// Layer norm over the columns of each row (chapter, slides 39-40; Ba, Kiros & Hinton 2016):
// â = (a-μ) / √(σ²+ε), y = f(γ â + β), μ and biased σ² of the row. Saved for backward: x (N, C), μ and 1/√(σ²+ε)
// (1, N), and y or the pre-activation (N, C). Outputs are overwritten; dy becomes dy f' in place.
//
// A few lanes, a warp or a block read a row once into registers; mean and deviations are two passes over registers.
// Rows of more than 16,384 floats are read again from the caches. Bytes per element: 8. One launch.
#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/arithmetic.h"
#include "primitives/column_sums.h"
#include "primitives/reduce.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

template <class T>
struct Forward {
  const T *x, *gamma, *beta;
  T *y, *mean, *rstd, *pre;
  std::int64_t rows, cols;
  double eps, inverse_cols = 1.0 / static_cast<double>(cols);
  int across = 0;
  bool wide = false;
};

constexpr int kForwardThreads = 512;  // at most

inline RowPlan forward_plan(std::int64_t cols, int pack) {
  const std::int64_t packs = ceil_div(cols, pack);
  int across = 1;
  while (across < kWarp && across < packs) across *= 2;
  for (const int each : {1, 2, 4, 8}) {
    if (packs <= across * each) return {128, across, each};
  }
  for (const int each : {2, 4, 8}) {
    if (packs <= 256 * each) return {256, 256, each};
  }
  return {kForwardThreads, kForwardThreads, packs <= kForwardThreads * 8 ? 8 : 0};
}

template <class T>
struct RowStatistics {
  T mean, rstd;

  /// From the sums of deviations from the rounded mean `near` and of their squares; corrects the rounding of the mean.
  __device__ RowStatistics(T near, double rest, double squares, double inverse_cols, double eps) {
    const double missing = product(rest, inverse_cols), left = fused(squares, inverse_cols, -product(missing, missing));
    const double variance = left < 0.0 ? 0.0 : left;  // keeps NaN
    mean = static_cast<T>(static_cast<double>(near) + missing);
    rstd = T(1) / sqrt(static_cast<T>(variance + eps));
  }
};

template <class T, class Function>
__device__ __forceinline__ void finish_pack(const Forward<T>& call, const Function& f, const RowStatistics<T>& row,
                                            const Pack<T>& x, std::int64_t start, const PackIndex& index) {
  Pack<T> a, y;
  const Pack<T> gamma = load_or(call.gamma, index, T(1)), beta = load_or(call.beta, index, T(0));
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i) {
    a[i] = fused((x[i] - row.mean) * row.rstd, gamma[i], beta[i]);
    y[i] = f.value(a[i]);
  }
  if (call.pre != nullptr) store_pack(call.pre + start, index, a);
  store_pack(call.y + start, index, y);
}

template <class T, class Function, int kPacks>
__global__ void __launch_bounds__(kForwardThreads) layer_norm_forward_kernel(Forward<T> call, Function f) {
  GD_SHARED(double, shared, 2 * kForwardThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % call.across;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / call.across) + thread / call.across;
  const std::int64_t cols = row < call.rows ? call.cols : 0, start = row * call.cols;
  Pack<T> x[kPacks], sums{}, squares{};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    x[p] = load_pack(call.x + start, pack_index<T>(p * call.across * kPack<T>, cols, lane, call.wide));
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) sums[i] += x[p][i];
  }
  T total[1] = {pack_sum(sums)};
  group_sums(total, call.across, reinterpret_cast<T*>(shared));
  const T near = product(total[0], static_cast<T>(call.inverse_cols));
  sums = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const PackIndex index = pack_index<T>(p * call.across * kPack<T>, cols, lane, call.wide);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const T d = index.exists(i) ? x[p][i] - near : T(0);
      sums[i] += d;
      squares[i] = fused(d, d, squares[i]);
    }
  }
  double rest[2] = {static_cast<double>(pack_sum(sums)), static_cast<double>(pack_sum(squares))};
  group_sums(rest, call.across, shared);
  if (row >= call.rows) return;
  const RowStatistics<T> statistics(near, rest[0], rest[1], call.inverse_cols, call.eps);
  if (lane == 0) {
    call.mean[row] = statistics.mean;
    call.rstd[row] = statistics.rstd;
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const PackIndex index = pack_index<T>(p * call.across * kPack<T>, cols, lane, call.wide);
    if (!index.empty()) finish_pack(call, f, statistics, x[p], start, index);
  }
}

/// Rows too long for a block's registers: one block per row, which reads it three times.
template <class T, class Function>
__global__ void __launch_bounds__(kForwardThreads) layer_norm_forward_long_kernel(Forward<T> call, Function f) {
  GD_SHARED(double, shared, 2 * kForwardThreads / kWarp);
  const std::int64_t row = blockIdx.x, start = row * call.cols;
  const T* x = call.x + start;
  double sum[1], rest[2];
  range_sums<T>(call.cols, call.wide, sum, shared, [&](const PackIndex& index, Pack<T>(&sums)[1]) {
    const Pack<T> pack = load_pack(x, index);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) sums[0][i] += pack[i];
  });
  const T near = static_cast<T>(product(sum[0], call.inverse_cols));
  range_sums<T>(call.cols, call.wide, rest, shared, [&](const PackIndex& index, Pack<T>(&sums)[2]) {
    const Pack<T> pack = load_pack(x, index, near);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const T d = index.exists(i) ? pack[i] - near : T(0);
      sums[0][i] += d;
      sums[1][i] = fused(d, d, sums[1][i]);
    }
  });
  const RowStatistics<T> statistics(near, rest[0], rest[1], call.inverse_cols, call.eps);
  if (threadIdx.x == 0) {
    call.mean[row] = statistics.mean;
    call.rstd[row] = statistics.rstd;
  }
  const std::int64_t step = static_cast<std::int64_t>(kForwardThreads) * kPack<T>;
  for (std::int64_t c = (call.cols - 1) / step * step; c >= 0; c -= step) {  // backwards: the end is in the cache
    const PackIndex index = pack_index<T>(c, call.cols, static_cast<int>(threadIdx.x), call.wide);
    if (!index.empty()) finish_pack(call, f, statistics, load_pack(x, index), start, index);
  }
}

template <class T, class Function>
void forward(const Forward<T>& given, const Function& f) {
  Forward<T> call = given;
  const RowPlan plan = forward_plan(call.cols, kPack<T>);
  call.across = plan.across;
  const Shape shape{static_cast<unsigned>(ceil_div(call.rows, plan.threads / plan.across)),
                    static_cast<unsigned>(plan.threads)};
  switch (plan.packs) {
    case 1:
      return launch(layer_norm_forward_kernel<T, Function, 1>, shape, call, f);
    case 2:
      return launch(layer_norm_forward_kernel<T, Function, 2>, shape, call, f);
    case 4:
      return launch(layer_norm_forward_kernel<T, Function, 4>, shape, call, f);
    case 8:
      return launch(layer_norm_forward_kernel<T, Function, 8>, shape, call, f);
    default:
      return launch(layer_norm_forward_long_kernel<T, Function>, shape, call, f);
  }
}

}  // namespace

void CudaBackend::layer_norm_forward(const LayerNormForward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    Forward<T> pass{call.x.as<T>(),    call.gamma.as<T>(), call.beta.as<T>(), call.y.as<T>(), call.mean.as<T>(),
                    call.rstd.as<T>(), call.pre.as<T>(),   call.x.rows,       call.x.cols,    call.eps};
    pass.wide = pack_aligned<T>(pass.rows, pass.cols, pass.x, pass.gamma, pass.beta, pass.y, pass.pre);
    with_activation(call.activation, [&](const auto& f) { forward(pass, f); });
  });
}

}  // namespace gdcore::cuda
