// Losses on logits (N, K) with their gradient, one pass over the rows (formulas: loss.h). Sums are doubles, added in an
// order that depends on N alone. Logits, targets and gradient are each read or written once: 12 bytes an element.
#include <variant>

#include "cpu_backend.h"
#include "gdcore/math.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

template <class T>
struct Row {  // what the losses need of one row
  std::int64_t n, cols;
  const T* logits;
  const T* target;  // null where the row has a label
  T* grad;          // null: not wanted
  T scale;          // s_n / Σ s W
};

/// W_n of cross-entropy.
template <class T>
double class_weight(const LossPass& call, std::int64_t n) {
  const T* weights = call.class_weights.as<T>();
  if (weights == nullptr && call.labels != nullptr) return 1.0;
  if (call.labels != nullptr) return static_cast<double>(weights[call.labels[n]]);
  const T* target = call.targets.as<T>() + n * call.logits.cols;
  double sum = 0.0;
  for (std::int64_t c = 0; c < call.logits.cols; ++c) {
    sum += static_cast<double>(target[c]) * (weights != nullptr ? static_cast<double>(weights[c]) : 1.0);
  }
  return sum;
}

template <class T>
double row_loss(const MeanSquaredError&, const LossPass&, const Row<T>& row) {
  const double cols = static_cast<double>(row.cols);
  const T* t = row.target;
  const T* y = row.logits;
  const double sum = row_sum<T>(row.cols, [=](std::int64_t k) { return (y[k] - t[k]) * (y[k] - t[k]); });
  if (row.grad != nullptr) {
    const T factor = static_cast<T>(2.0 * static_cast<double>(row.scale) / cols);
#pragma omp simd
    for (std::int64_t k = 0; k < row.cols; ++k) row.grad[k] = factor * (y[k] - t[k]);
  }
  return sum / cols;
}

template <class T>
double row_loss(const BinaryCrossEntropy&, const LossPass& call, const Row<T>& row) {
  // -ω t log p - (1-t) log(1-p), p = sigmoid(z): with softplus(-z) = softplus(z) - z this is
  // (1 + (ω-1) t) softplus(-|z|) + max(z, 0) (1-t) + max(-z, 0) ω t, where nothing overflows.
  const T *z = row.logits, *t = row.target, *weight = call.class_weights.as<T>();
  const double sum = row_sum<T>(row.cols, [=](std::int64_t k) __attribute__((always_inline)) {
    const T positive = weight != nullptr ? weight[k] * t[k] : t[k], negative = T(1) - t[k];
    const T size = z[k] < T(0) ? -z[k] : z[k];
    const T rest = math::log1p_unit(math::exp(-size));
    return (positive + negative) * rest + (z[k] < T(0) ? positive : negative) * size;
  });
  if (row.grad != nullptr) {
#pragma omp simd
    for (std::int64_t k = 0; k < row.cols; ++k) {
      const T positive = weight != nullptr ? weight[k] * t[k] : t[k], negative = T(1) - t[k];
      const T p = math::sigmoid(z[k]);
      row.grad[k] = row.scale * (negative * p - positive * (T(1) - p));
    }
  }
  return sum;
}

template <class T>
double row_loss(const CrossEntropy& loss, const LossPass& call, const Row<T>& row) {
  const T* z = row.logits;
  const std::int64_t cols = row.cols;
  T largest = z[0];
#pragma omp simd reduction(max : largest)
  for (std::int64_t c = 0; c < cols; ++c) largest = z[c] > largest ? z[c] : largest;
  const T top = largest;
  T* grad = row.grad;
  // In doubles: beside the largest term, which is 1, small ones would all be rounded.
  const double sum = row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
    return static_cast<double>(math::exp_difference(z[c], top));
  });
  const double log_sum = std::log(sum);
  const T* weights = call.class_weights.as<T>();
  const bool plain = call.labels != nullptr && loss.label_smoothing == 0.0;
  const std::int64_t label = call.labels != nullptr ? call.labels[row.n] : -1;
  if (plain) {
    const T weight = weights != nullptr ? weights[label] : T(1);
    if (grad != nullptr) {
      const T factor = static_cast<T>(static_cast<double>(row.scale * weight) / sum);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) grad[c] = factor * math::exp_difference(z[c], top);
      grad[label] -= row.scale * weight;
    }
    return static_cast<double>(weight) * (log_sum - static_cast<double>(z[label] - top));
  }
  const T keep = static_cast<T>(1.0 - loss.label_smoothing),
          spread = static_cast<T>(loss.label_smoothing / static_cast<double>(cols));
  const T* target = row.target;
  const auto share = [=](std::int64_t c) __attribute__((always_inline)) {  // ω_c t̃_c
    const T t = target != nullptr ? target[c] : (c == label ? T(1) : T(0));
    return (keep * t + spread) * (weights != nullptr ? weights[c] : T(1));
  };
  // In doubles: equal shares of the smoothing would all round the same way. Plain labels share out exactly 1.
  const bool whole = target == nullptr && weights == nullptr;
  const double total = whole ? 1.0 : row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
    return static_cast<double>(share(c));
  });
  const double away = row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
    return static_cast<double>(share(c)) * static_cast<double>(top - z[c]);
  });
  if (grad != nullptr) {
    const T factor = static_cast<T>(total / sum);
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) grad[c] = row.scale * (factor * math::exp_difference(z[c], top) - share(c));
  }
  return total * log_sum + away;
}

template <class T, class Kind>
void run(const Kind& kind, const LossPass& call) {
  const std::int64_t rows = call.logits.rows, cols = call.logits.cols;
  const T* weights = call.weights.as<T>();
  constexpr bool classes = std::is_same_v<Kind, CrossEntropy>;
  double weight = static_cast<double>(rows);
  if (weights != nullptr || (classes && (call.class_weights || call.labels == nullptr))) {
    weight = ordered_sum<double>(rows, call.labels == nullptr ? cols : 1, [&](std::int64_t begin, std::int64_t end) {
      double sum = 0.0;
      for (std::int64_t n = begin; n < end; ++n) {
        const double s = weights != nullptr ? static_cast<double>(weights[n]) : 1.0;
        sum += classes ? s * class_weight<T>(call, n) : s;
      }
      return sum;
    });
  }
  const double inverse = weight > 0.0 ? 1.0 / weight : 0.0;
  call.sums->loss = ordered_sum<double>(rows, cols * 8, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0.0;
    for (std::int64_t n = begin; n < end; ++n) {
      const double s = weights != nullptr ? static_cast<double>(weights[n]) : 1.0;
      const Row<T> row{n,
                       cols,
                       call.logits.as<T>() + n * cols,
                       call.targets ? call.targets.as<T>() + n * cols : nullptr,
                       call.grad ? call.grad.as<T>() + n * cols : nullptr,
                       static_cast<T>(s * inverse)};
      const double value = row_loss<T>(kind, call, row);
      if (s != 0.0) sum += s * value;
    }
    return sum;
  });
  call.sums->weight = weight;
}

}  // namespace

void CpuBackend::loss(const LossPass& call) {
  with_type(call.logits.dtype,
            [&]<class T>(T) { std::visit([&](const auto& kind) { run<T>(kind, call); }, call.loss); });
}

}  // namespace gdcore::GDCORE_ISA
