// Losses on logits (N, K) with their gradient, in one pass over the rows (formulas: loss.h). Sums are in double, added
// in an order that depends on the shape alone. Logits, targets and gradient are read or written once: 12 bytes per
// element.
#include <variant>

#include "cpu_backend.h"
#include "loss_rows.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Σ log x for values in [1, 1e50] as the logarithm of their product: few logarithms.
class LogSum {
 public:
  void add(double x) {
    product_ *= x;
    if (product_ > 1e250) {
      sum_ += std::log(product_);
      product_ = 1.0;
    }
  }
  double value() const { return sum_ + std::log(product_); }

 private:
  double product_ = 1.0, sum_ = 0.0;
};

constexpr std::int64_t kBlock = 1024;  // logits whose exponentials are computed together

template <class T>
struct Exponentials {
  T e[kBlock], tops[kBlock];  // tops: each row's largest logit, repeated for every column
  double sum[kBlock];         // in double: small terms would be lost beside the largest one, which is 1
};

/// Exponentials of rows with at most kBlock logits in total: one long vector loop even for few classes.
template <class T>
void exponentials(const T* z, std::int64_t rows, std::int64_t cols, Exponentials<T>& to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T top = largest(z + r * cols, cols);
    for (std::int64_t c = 0; c < cols; ++c) to.tops[r * cols + c] = top;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < rows * cols; ++i) to.e[i] = math::exp_difference(z[i], to.tops[i]);
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* e = to.e + r * cols;
    to.sum[r] = row_sum<double>(cols, [=](std::int64_t c) { return static_cast<double>(e[c]); });
  }
}

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
    const T rest = math::log1p_unit(math::exp_nonpositive(-size));
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

/// Exponentials of one row of more than kBlock logits, stored in the gradient's memory if there is a gradient.
template <class T>
void long_row(Row<T>& row) {
  T piece[kBlock];
  row.top = largest(row.logits, row.cols);
  row.e = row.grad;
  for (std::int64_t begin = 0; begin < row.cols; begin += kBlock) {
    const std::int64_t cols = min(kBlock, row.cols - begin);
    const T *z = row.logits + begin, top = row.top;
    T* e = row.grad != nullptr ? row.grad + begin : piece;
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) e[c] = math::exp_difference(z[c], top);
    row.sum += row_sum<double>(cols, [=](std::int64_t c) { return static_cast<double>(e[c]); });
  }
}

template <class T>
double row_loss(const CrossEntropy& loss, const LossPass& call, const Row<T>& row, LogSum& logs) {
  const T *z = row.logits, *e = row.e, *weights = call.class_weights.as<T>();
  const std::int64_t cols = row.cols;
  const T top = row.top;
  T* grad = row.grad;
  const std::int64_t label = call.labels != nullptr ? call.labels[row.n] : -1;
  if (call.labels != nullptr && loss.label_smoothing == 0.0) {
    const T weight = weights != nullptr ? weights[label] : T(1);
    if (grad != nullptr) {
      const T factor = static_cast<T>(static_cast<double>(row.scale * weight) / row.sum);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) grad[c] = factor * e[c];
      grad[label] -= row.scale * weight;
    }
    const double below = static_cast<double>(top - z[label]);
    if (weights != nullptr || call.weights) return static_cast<double>(weight) * (std::log(row.sum) + below);
    logs.add(row.sum);
    return below;
  }
  const T keep = static_cast<T>(1.0 - loss.label_smoothing),
          spread = static_cast<T>(loss.label_smoothing / static_cast<double>(cols));
  const T* target = row.target;
  const auto share = [=](std::int64_t c) __attribute__((always_inline)) {  // ω_c t̃_c
    const T t = target != nullptr ? target[c] : (c == label ? T(1) : T(0));
    return (keep * t + spread) * (weights != nullptr ? weights[c] : T(1));
  };
  // In double: equal smoothing terms would all round in the same direction. Plain labels sum to exactly 1.
  const bool whole = target == nullptr && weights == nullptr;
  const double total = whole ? 1.0 : row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
    return static_cast<double>(share(c));
  });
  const double away = row_sum<double>(cols, [=](std::int64_t c) __attribute__((always_inline)) {
    return static_cast<double>(share(c)) * static_cast<double>(top - z[c]);
  });
  if (grad != nullptr) {
    const T factor = static_cast<T>(total / row.sum);
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) grad[c] = row.scale * (factor * e[c] - share(c));
  }
  return total * std::log(row.sum) + away;
}

constexpr std::int64_t kFew = 16, kSideBySide = 16;  // most logits of a row, and rows computed together

/// Cross-entropy with plain labels of few classes: one vector lane per row, as a row alone would not fill a vector.
template <class T>
double few_classes(const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols;
  const T* weights = call.weights.as<T>();
  LogSum logs;
  double loss = 0.0;
  for (std::int64_t n0 = begin; n0 < end; n0 += kSideBySide) {
    const std::int64_t rows = min(kSideBySide, end - n0);
    const T* z = call.logits.as<T>() + n0 * cols;
    T e[kFew][kSideBySide], top[kSideBySide], factor[kSideBySide];
    if (rows < kSideBySide) std::memset(e, 0, sizeof e);
    double sum[kSideBySide];
    for (std::int64_t c = 0; c < cols; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) e[c][r] = z[r * cols + c];
    }
    for (std::int64_t r = 0; r < kSideBySide; ++r) top[r] = e[0][r];
    for (std::int64_t c = 1; c < cols; ++c) {
#pragma omp simd
      for (std::int64_t r = 0; r < kSideBySide; ++r) top[r] = e[c][r] > top[r] ? e[c][r] : top[r];
    }
    for (std::int64_t r = 0; r < kSideBySide; ++r) sum[r] = 0.0;
    for (std::int64_t c = 0; c < cols; ++c) {
#pragma omp simd
      for (std::int64_t r = 0; r < kSideBySide; ++r) {
        e[c][r] = math::exp_difference(e[c][r], top[r]);
        sum[r] += static_cast<double>(e[c][r]);
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const T below = top[r] - z[r * cols + call.labels[n0 + r]];
      if (weights == nullptr) {
        logs.add(sum[r]);
        loss += static_cast<double>(below);
      } else if (weights[n0 + r] != T(0)) {
        loss += static_cast<double>(weights[n0 + r]) * (std::log(sum[r]) + static_cast<double>(below));
      }
    }
    if (!call.grad) continue;
    T* grad = call.grad.as<T>() + n0 * cols;
    for (std::int64_t r = 0; r < kSideBySide; ++r) top[r] = static_cast<T>(inverse);  // from here on: the scale
    for (std::int64_t r = 0; weights != nullptr && r < rows; ++r) {
      top[r] = static_cast<T>(static_cast<double>(weights[n0 + r]) * inverse);
    }
#pragma omp simd
    for (std::int64_t r = 0; r < kSideBySide; ++r) factor[r] = static_cast<T>(static_cast<double>(top[r]) / sum[r]);
    for (std::int64_t c = 0; c < cols; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) grad[r * cols + c] = factor[r] * e[c][r];
    }
    for (std::int64_t r = 0; r < rows; ++r) grad[r * cols + call.labels[n0 + r]] -= top[r];
  }
  return loss + logs.value();
}

/// Mean squared errors of rows with few columns: one vector loop over all elements, then the sum of each row.
template <class T>
double few_squares(const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols, together = kBlock / cols;
  const T *weights = call.weights.as<T>(), *y = call.logits.as<T>(), *t = call.targets.as<T>();
  T *grad = call.grad.as<T>(), squares[kBlock];
  double loss = 0.0;
  for (std::int64_t n0 = begin; n0 < end; n0 += together) {
    const std::int64_t rows = min(together, end - n0), at = n0 * cols, count = rows * cols;
    const T factor = static_cast<T>(2.0 * static_cast<double>(static_cast<T>(inverse)) / static_cast<double>(cols));
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      const T difference = y[at + i] - t[at + i];
      squares[i] = difference * difference;
    }
    if (grad != nullptr && weights == nullptr) {
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) grad[at + i] = factor * (y[at + i] - t[at + i]);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0.0;
      for (std::int64_t c = 0; c < cols; ++c) sum += static_cast<double>(squares[r * cols + c]);
      const double s = weights != nullptr ? static_cast<double>(weights[n0 + r]) : 1.0;
      if (s != 0.0) loss += s * (sum / static_cast<double>(cols));
      if (grad == nullptr || weights == nullptr) continue;
      const double scale = static_cast<double>(static_cast<T>(s * inverse));
      const T row_factor = static_cast<T>(2.0 * scale / static_cast<double>(cols));
      for (std::int64_t i = at + r * cols; i < at + (r + 1) * cols; ++i) grad[i] = row_factor * (y[i] - t[i]);
    }
  }
  return loss;
}

/// Returns Σ s_n l_n over rows [begin, end), in order.
template <class T, class Kind>
double rows_loss(const Kind& kind, const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols;
  const T* weights = call.weights.as<T>();
  double sum = 0.0;
  const auto add = [&](std::int64_t n, double value) {
    if (weights == nullptr) sum += value;
    if (weights != nullptr && weights[n] != T(0)) sum += static_cast<double>(weights[n]) * value;
  };
  if constexpr (std::is_same_v<Kind, MeanSquaredError>) {
    if (cols <= kFew) return few_squares<T>(call, inverse, begin, end);
  }
  if constexpr (!std::is_same_v<Kind, CrossEntropy>) {
    for (std::int64_t n = begin; n < end; ++n) add(n, row_loss<T>(kind, call, row_of<T>(call, n, inverse)));
    return sum;
  } else {
    const bool plain = call.labels != nullptr && kind.label_smoothing == 0.0 && !call.class_weights;
    if (plain && cols <= kFew) return few_classes<T>(call, inverse, begin, end);
    LogSum logs;
    const std::int64_t together = max(1, kBlock / cols);
    Exponentials<T> block;
    for (std::int64_t n0 = begin; n0 < end; n0 += together) {
      const std::int64_t rows = min(together, end - n0);
      if (cols <= kBlock) exponentials(call.logits.as<T>() + n0 * cols, rows, cols, block);
      for (std::int64_t n = n0; n < n0 + rows; ++n) {
        Row<T> row = row_of<T>(call, n, inverse);
        if (cols <= kBlock) {
          row.e = block.e + (n - n0) * cols;
          row.top = block.tops[(n - n0) * cols];
          row.sum = block.sum[n - n0];
        } else {
          long_row(row);
        }
        add(n, row_loss<T>(kind, call, row, logs));
      }
    }
    return sum + logs.value();
  }
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
    return rows_loss<T>(kind, call, inverse, begin, end);
  });
  call.sums->weight = weight;
}

/// The softmax of each row.
template <class T>
void softmax(ConstView logits, T* to) {
  const std::int64_t cols = logits.cols, together = max(1, kBlock / cols);
  parallel_for(logits.rows, cols * 16, together, [=](std::int64_t begin, std::int64_t end) {
    Exponentials<T> block;
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t r = (n - begin) % together;
      const T* z = logits.as<T>() + n * cols;
      Row<T> row{n, cols, z, nullptr, to + n * cols, T(0), T(0), block.e + r * cols, 0.0};
      if (cols > kBlock) long_row(row);
      if (cols <= kBlock && r == 0) exponentials(z, min(together, end - n), cols, block);
      const T *e = row.e, sum = static_cast<T>(cols > kBlock ? row.sum : block.sum[r]);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) row.grad[c] = e[c] / sum;
    }
  });
}

/// The logistic function of each logit; with `both`, preceded by its complement.
template <class T>
void logistic(ConstView logits, bool both, T* to) {
  const T* z = logits.as<T>();
  parallel_for(logits.size(), 16, 16, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const T e = math::exp_nonpositive(z[i] < T(0) ? z[i] : -z[i]);  // e^-|z| does not overflow
      const T more = T(1) / (T(1) + e), less = e / (T(1) + e);
      if (both) to[2 * i] = z[i] < T(0) ? more : less;
      to[both ? 2 * i + 1 : i] = z[i] < T(0) ? less : more;
    }
  });
}

}  // namespace

/// One of CpuFunctions.
void probabilities(Probabilities kind, ConstView logits, void* to) {
  with_type(logits.dtype, [&]<class T>(T) {
    if (kind == Probabilities::classes) return softmax<T>(logits, static_cast<T*>(to));
    logistic<T>(logits, kind == Probabilities::no_and_yes, static_cast<T*>(to));
  });
}

void CpuBackend::loss(const LossPass& call) {
  with_type(call.logits.dtype,
            [&]<class T>(T) { std::visit([&](const auto& kind) { run<T>(kind, call); }, call.loss); });
}

}  // namespace gdcore::GDCORE_ISA
