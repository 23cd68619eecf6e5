// The derivative of a loss's gradient along a direction ẏ of the logits (N, K); formulas: cpp/cpu/loss.cpp.
//   mean squared error:    s (2/K) ẏ
//   binary cross-entropy:  s (ω t + 1 - t) p (1-p) ẏ, p = sigmoid(y)
//   cross-entropy:         s Ω p (ẏ - p · ẏ), p = softmax(y), Ω = Σ ω t̃
// each divided by Σ s W, which the loss pass wrote to `sums` in device memory. One warp per row; a lane reads only its
// own writes again. Not part of training steps, so elements are read and written one by one. Outputs are overwritten.
#include <algorithm>
#include <variant>

#include "backend/cuda_backend.h"
#include "ops/loss_pass.h"

namespace gdcore::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kMostBlocks = 1 << 14;

template <class T>
struct RowView {
  const T *logits, *targets, *tangent;
  T* grad;
  double scale;  // s_n / Σ s W
};

template <class T>
__device__ void row_curvature(const MeanSquaredError&, const Losses<T>& p, const RowView<T>& row, std::int64_t,
                              int lane) {
  const T factor = static_cast<T>(2.0 * row.scale / static_cast<double>(p.cols));
  for (std::int64_t c = lane; c < p.cols; c += kWarp) row.grad[c] = factor * row.tangent[c];
}

template <class T>
__device__ void row_curvature(const BinaryCrossEntropy&, const Losses<T>& p, const RowView<T>& row, std::int64_t,
                              int lane) {
  for (std::int64_t c = lane; c < p.cols; c += kWarp) {
    const T t = row.targets[c], positive = p.class_weights != nullptr ? p.class_weights[c] * t : t;
    const T q = math::sigmoid(row.logits[c]);
    row.grad[c] = static_cast<T>(row.scale) * (positive + (T(1) - t)) * q * (T(1) - q) * row.tangent[c];
  }
}

template <class T>
__device__ void row_curvature(const CrossEntropy&, const Losses<T>& p, const RowView<T>& row, std::int64_t n,
                              int lane) {
  const Row<T> targets(p, n);
  T top = -std::numeric_limits<T>::infinity();
  for (std::int64_t c = lane; c < p.cols; c += kWarp) top = row.logits[c] > top ? row.logits[c] : top;
  top = group_max(top, kWarp);
  double sums[3] = {0.0, 0.0, 0.0};  // Σ e, Σ e ẏ and Ω
  for (std::int64_t c = lane; c < p.cols; c += kWarp) {
    const T e = math::exp_difference(row.logits[c], top);
    sums[0] += static_cast<double>(e);
    sums[1] += static_cast<double>(e) * static_cast<double>(row.tangent[c]);
    const T target = row.targets != nullptr ? row.targets[c] : targets.target(c);
    sums[2] += static_cast<double>(targets.weighted_target(p, target, c));
    row.grad[c] = e;
  }
  warp_sums(sums);
  const T factor = static_cast<T>(row.scale * sums[2] / sums[0]), mean = static_cast<T>(sums[1] / sums[0]);
  for (std::int64_t c = lane; c < p.cols; c += kWarp) row.grad[c] = factor * row.grad[c] * (row.tangent[c] - mean);
}

template <class T, class Kind>
__global__ void __launch_bounds__(kThreads) curvature_kernel(const Losses<T> p, const T* tangent) {
  const double inverse = inverse_of(p.sums->weight);
  constexpr int kRows = kThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  for (std::int64_t n = std::int64_t{blockIdx.x} * kRows + warp; n < p.rows; n += std::int64_t{gridDim.x} * kRows) {
    const std::int64_t begin = n * p.cols;
    const double s = p.weights != nullptr ? static_cast<double>(p.weights[n]) : 1.0;
    const T* targets = p.targets != nullptr ? p.targets + begin : nullptr;
    row_curvature(Kind{}, p, {p.logits + begin, targets, tangent + begin, p.grad + begin, s * inverse}, n, lane);
  }
}

}  // namespace

void CudaBackend::loss_curvature(const LossPass& call, ConstView tangent) {
  const std::int64_t blocks = std::min(ceil_div(call.logits.rows, kThreads / kWarp), kMostBlocks);
  const auto start = [&]<class T, class Kind>(T, const Kind&) {
    launch(curvature_kernel<T, Kind>, {static_cast<unsigned>(blocks), kThreads}, losses_of<T>(call), tangent.as<T>());
  };
  with_type(call.logits.dtype,
            [&]<class T>(T type) { std::visit([&](const auto& kind) { start(type, kind); }, call.loss); });
}

}  // namespace gdcore::cuda
