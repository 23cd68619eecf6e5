// Derivatives of the losses' gradients along a direction of the logits, for second derivatives (formulas: loss.h).
#include <variant>

#include "cpu_backend.h"
#include "loss_rows.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Computes the derivative of a row's gradient along ẏ.
template <class T>
void row_curvature(const MeanSquaredError&, const LossPass&, const Row<T>& row, const T* tangent) {
  const T factor = static_cast<T>(2.0 * static_cast<double>(row.scale) / static_cast<double>(row.cols));
  for (std::int64_t k = 0; k < row.cols; ++k) row.grad[k] = factor * tangent[k];
}

template <class T>
void row_curvature(const BinaryCrossEntropy&, const LossPass& call, const Row<T>& row, const T* tangent) {
  const T* weight = call.class_weights.as<T>();
  for (std::int64_t k = 0; k < row.cols; ++k) {
    const T positive = weight != nullptr ? weight[k] * row.target[k] : row.target[k], negative = T(1) - row.target[k];
    const T p = math::sigmoid(row.logits[k]);
    row.grad[k] = row.scale * (positive + negative) * p * (T(1) - p) * tangent[k];
  }
}

/// Ω (p ẏ - p (p · ẏ)) with p the softmax and Ω = Σ ω t̃.
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
  const T factor = static_cast<T>(static_cast<double>(row.scale) * total / sum), mean = static_cast<T>(along / sum);
  for (std::int64_t c = 0; c < row.cols; ++c) row.grad[c] = factor * row.grad[c] * (tangent[c] - mean);
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
            [&]<class T>(T) { std::visit([&](const auto& kind) { curvature<T>(kind, call, tangent); }, call.loss); });
}

}  // namespace gdcore::GDCORE_ISA
