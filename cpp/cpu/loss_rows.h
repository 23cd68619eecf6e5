// A row of a loss, for the passes over the rows.
#pragma once

#include "gdcore/math.h"
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
                .target = call.targets ? call.targets.as<T>() + n * cols : nullptr,
                .grad = call.grad ? call.grad.as<T>() + n * cols : nullptr,
                .scale = static_cast<T>(s * inverse),
                .top = T(0),
                .e = nullptr,
                .sum = 0.0};
}

}  // namespace gdcore::GDCORE_ISA
