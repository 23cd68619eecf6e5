// Derivatives of the losses' gradients along a direction of the logits, for second derivatives (formulas: loss.h).
#include <variant>

#include "cpu_backend.h"
#include "loss_rows.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Computes the derivative of a row's gradient along ẏ, for the formula of an elementwise loss.
template <class T, class Formula>
void row_curvature(const Formula& formula, const LossPass& call, const Row<T>& row, const T* tangent) {
  const OutputNumbers<T> by(call);
  const double factor = Formula::mean ? Formula::factor / static_cast<double>(row.cols) : Formula::factor;
  const T scale = static_cast<T>(factor * static_cast<double>(row.scale));
  const std::int64_t repeat = row.cols / call.targets.cols;
  for (std::int64_t k = 0; k < row.cols; ++k) {
    row.grad[k] = scale * formula.curvature(row.logits[k], row.target[k / repeat], by[k]) * tangent[k];
  }
}

/// Ω (p ẏ - p (p · ẏ)) with p the softmax and Ω = Σ ω t̃. Focal loss with the label l: this times g, plus
/// Ω p_l g' (ẏ_l - p · ẏ) (p - δ_l), see Focal.
template <class T>
void row_curvature(const CrossEntropy& loss, const LossPass& call, const Row<T>& row, const T* tangent) {
  const T *z = row.logits, *weights = call.class_weights.as<T>();
  const T top = largest(z, row.cols);
  const double keep = 1.0 - loss.label_smoothing, spread = loss.label_smoothing / static_cast<double>(row.cols);
  const std::int64_t label = call.labels != nullptr ? call.labels[row.n] : -1;
  double sum = 0.0, along = 0.0, total = 0.0;
  for (std::int64_t c = 0; c < row.cols; ++c) {
    row.grad[c] = math::exp_difference(z[c], top);
    sum += static_cast<double>(row.grad[c]);
    along += static_cast<double>(row.grad[c]) * static_cast<double>(tangent[c]);
    const double t = row.target != nullptr ? static_cast<double>(row.target[c]) : (c == label ? 1.0 : 0.0);
    total += (keep * t + spread) * (weights != nullptr ? static_cast<double>(weights[c]) : 1.0);
  }
  const Focal focal = loss.gamma > 0.0 ? FocalOfLabel(z, row.cols, label, top, sum, loss.gamma).by : Focal{};
  const double scale = static_cast<double>(row.scale) * total, mean = along / sum;
  const T factor = static_cast<T>(scale * focal.slope / sum), centre = static_cast<T>(mean);
  const double extra = label >= 0 ? scale * focal.bend * (static_cast<double>(tangent[label]) - mean) : 0.0;
  const T more = static_cast<T>(extra / sum);
  for (std::int64_t c = 0; c < row.cols; ++c) row.grad[c] = row.grad[c] * (factor * (tangent[c] - centre) + more);
  if (extra != 0.0) row.grad[label] -= static_cast<T>(extra);
}

template <class T, class Kind>
void curvature(const Kind& kind, const LossPass& call, ConstView tangent) {
  const std::int64_t cols = call.logits.cols;
  const double inverse = call.sums->weight > 0.0 ? 1.0 / call.sums->weight : 0.0;
  parallel_for(call.logits.rows, cols * 8, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      row_curvature<T>(kind, call, row_of<T>(call, n, inverse), tangent.as<T>() + n * cols);
    }
  });
}

}  // namespace

void CpuBackend::loss_curvature(const LossPass& call, ConstView tangent) {
  with_type(call.logits.dtype,
            [&]<class T>(T) { on_loss<T>(call.loss, [&](const auto& kind) { curvature<T>(kind, call, tangent); }); });
}

}  // namespace gdcore::GDCORE_ISA
