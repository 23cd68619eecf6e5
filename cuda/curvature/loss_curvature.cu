// The derivative of a loss's gradient along a direction ẏ of the logits (N, K); formulas: cpp/cpu/loss.cpp.
//   elementwise losses:  s l''(y) ẏ (gdcore/loss_elements.h)
//   cross-entropy:       s Ω p (ẏ - p · ẏ), p = softmax(y), Ω = Σ ω t̃
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

template <class T, class Formula>
__device__ void row_curvature(const Formula& formula, const Losses<T>& p, const RowView<T>& row, std::int64_t,
                              int lane) {
  const double factor = Formula::mean ? Formula::factor / static_cast<double>(p.cols) : Formula::factor;
  const T scale = static_cast<T>(factor * row.scale);
  for (std::int64_t c = lane; c < p.cols; c += kWarp) {
    row.grad[c] =
        scale * formula.curvature(row.logits[c], row.targets[c / p.element.repeat], p.factors(c)) * row.tangent[c];
  }
}

/// Selects the formula of cross-entropy.
struct Classes {};

template <class T>
__device__ void row_curvature(const Classes&, const Losses<T>& p, const RowView<T>& row, std::int64_t n, int lane) {
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
  const double scale = row.scale * sums[2], mean = sums[1] / sums[0];
  Focal focal;
  double extra = 0.0;  // as in cpp/cpu/loss_curvature.cpp
  if (p.gamma > 0.0 && targets.label >= 0) {
    const double below = static_cast<double>(top - row.logits[targets.label]);
    focal = focal_of_label(1.0, sums[0] - 1.0, below, p.gamma);
    extra = scale * focal.bend * (static_cast<double>(row.tangent[targets.label]) - mean);
  }
  const T factor = static_cast<T>(scale * focal.slope / sums[0]), centre = static_cast<T>(mean),
          more = static_cast<T>(extra / sums[0]);
  for (std::int64_t c = lane; c < p.cols; c += kWarp) {
    const T gradient = row.grad[c] * (factor * (row.tangent[c] - centre) + more);
    row.grad[c] = c == targets.label ? gradient - static_cast<T>(extra) : gradient;
  }
}

template <class T, class Formula>
__global__ void __launch_bounds__(kThreads)
    curvature_kernel(const Losses<T> p, const Formula formula, const T* tangent) {
  const double inverse = inverse_of(p.sums->weight);
  constexpr int kRows = kThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  for (std::int64_t n = std::int64_t{blockIdx.x} * kRows + warp; n < p.rows; n += std::int64_t{gridDim.x} * kRows) {
    const std::int64_t begin = n * p.cols;
    const double s = p.weights != nullptr ? static_cast<double>(p.weights[n]) : 1.0;
    const T* targets = p.targets != nullptr ? p.targets + begin / p.element.repeat : nullptr;
    row_curvature(formula, p, {p.logits + begin, targets, tangent + begin, p.grad + begin, s * inverse}, n, lane);
  }
}

}  // namespace

void CudaBackend::loss_curvature(const LossPass& call, ConstView tangent) {
  const std::int64_t blocks = std::min(ceil_div(call.logits.rows, kThreads / kWarp), kMostBlocks);
  with_type(call.logits.dtype, [&]<class T>(T) {
    const Losses<T> p = losses_of<T>(call);
    const auto start = [&]<class Formula>(const Formula& formula) {
      launch(curvature_kernel<T, Formula>, {static_cast<unsigned>(blocks), kThreads}, p, formula, tangent.as<T>());
    };
    if (p.element.kind == ElementKind::none) return start(Classes{});
    with_element<T>(p.element, start);
  });
}

}  // namespace gdcore::cuda
