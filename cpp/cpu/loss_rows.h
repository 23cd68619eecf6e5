// A row of a loss, for the passes over the rows.
#pragma once

#include "gdcore/loss_elements.h"
#include "gdcore/ops.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

template <class T>
struct Row {  // inputs and outputs of one row
  std::int64_t n, cols;
  const T* logits;
  const T* target;  // null if the row has a label
  T* grad;          // null: not computed
  T scale;          // s_n / Σ s W
  // Cross-entropy: the largest logit, e^(logit - top) or null if not needed, and their sum.
  T top;
  const T* e;
  double sum;
};

template <class T>
GD_INLINE T largest(const T* z, std::int64_t cols) {
  T top = z[0];
  if (cols < 32) {
    for (std::int64_t c = 1; c < cols; ++c) top = z[c] > top ? z[c] : top;
  } else {
#pragma omp simd reduction(max : top)
    for (std::int64_t c = 0; c < cols; ++c) top = z[c] > top ? z[c] : top;
  }
  return top;
}

template <class T>
GD_INLINE Row<T> row_of(const LossPass& call, std::int64_t n, double inverse) {
  const std::int64_t cols = call.logits.cols;
  const double s = call.weights ? static_cast<double>(call.weights.as<T>()[n]) : 1.0;
  return Row<T>{.n = n,
                .cols = cols,
                .logits = call.logits.as<T>() + n * cols,
                .target = call.targets ? call.targets.as<T>() + n * call.targets.cols : nullptr,
                .grad = call.grad ? call.grad.as<T>() + n * cols : nullptr,
                .scale = static_cast<T>(s * inverse),
                .top = T(0),
                .e = nullptr,
                .sum = 0.0};
}

/// The numbers of each output, see OutputFactors; 1 where none are given.
template <class T>
struct OutputNumbers {
  const T *first, *second;
  GD_INLINE explicit OutputNumbers(const LossPass& call)
      : first(call.class_weights.as<T>()),
        second(call.class_weights.cols > call.logits.cols ? first + call.logits.cols : nullptr) {}
  GD_INLINE OutputFactors<T> operator[](std::int64_t k) const {
    return {first != nullptr ? first[k] : T(1), second != nullptr ? second[k] : T(1)};
  }
};

/// Calls `work` with CrossEntropy, or with the formula of an elementwise loss.
template <class T, class Work>
GD_INLINE void on_loss(const Loss& loss, const Work& work) {
  const Element element = element_of(loss);
  if (element.kind != ElementKind::none) return with_element<T>(element, work);
  std::visit(
      [&]<class Kind>(const Kind& kind) {
        if constexpr (std::is_same_v<Kind, CrossEntropy>) work(kind);
      },
      loss);
}

/// Focal loss of a row with a label, from the largest logit and the sum of e^(logit - top).
struct FocalOfLabel {
  Focal by;
  double log_p = 0.0;

  GD_INLINE FocalOfLabel() = default;
  template <class T>
  GD_INLINE FocalOfLabel(const T* z, std::int64_t cols, std::int64_t label, T top, double sum, double gamma) {
    const double below = static_cast<double>(top - z[label]);
    double others = sum - std::exp(-below);
    if (below == 0.0) {  // near probability 1 the difference would cancel
      others = row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
        return c == label ? 0.0 : static_cast<double>(math::exp_difference(z[c], top));
      });
      sum = 1.0 + others;
    }
    log_p = below == 0.0 ? -std::log1p(others) : -below - std::log(sum);
    by = focal_of(log_p, others / sum, gamma);
  }
};

}  // namespace gdcore::GDCORE_ISA
