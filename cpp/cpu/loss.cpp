// Losses on logits (N, K) with their gradient, in one pass over the rows (formulas: loss.h). Sums are in double, added
// in an order that depends on the shape alone. Logits, targets and gradient are read or written once: 12 bytes per
// element.
#include <variant>

#include "cpu_backend.h"
#include "gdcore/loss_elements.h"
#include "loss_rows.h"
#include "transpose.h"

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

/// W_n of a loss with classes.
template <class T>
double class_weight(const LossPass& call, std::int64_t n) {
  const T* weights = call.class_weights.as<T>();
  if (weights == nullptr && call.labels != nullptr) return 1.0;
  if (call.labels != nullptr) return static_cast<double>(weights[call.labels[n]]);
  const std::int64_t cols = call.logits.cols;
  const T* target = call.targets.as<T>() + n * cols;
  const bool answers = call.class_weights.cols > cols;  // weights of yes, then those of no
  double sum = 0.0;
  for (std::int64_t c = 0; c < cols; ++c) {
    const double t = static_cast<double>(target[c]),
                 weight = weights != nullptr ? static_cast<double>(weights[c]) : 1.0;
    sum += t * weight + (answers ? (1.0 - t) * static_cast<double>(weights[cols + c]) : 0.0);
  }
  return answers ? sum / static_cast<double>(cols) : sum;
}

/// Σ_k of an elementwise loss over a row, and its gradient.
template <class T, class Formula>
double row_loss(const Formula& formula, const LossPass& call, const Row<T>& row) {
  const OutputNumbers<T> by(call);
  const double factor = Formula::mean ? Formula::factor / static_cast<double>(row.cols) : Formula::factor;
  const T scale = static_cast<T>(factor * static_cast<double>(row.scale));
  const std::int64_t targets = call.targets.cols, repeat = row.cols / targets;
  double sum = 0.0;
  for (std::int64_t j = 0, k0 = 0; k0 < row.cols; ++j, k0 += targets == row.cols ? row.cols : repeat) {
    // Outputs with a target each in one piece; otherwise the outputs that share target j.
    const T *y = row.logits + k0, *t = row.target + j;
    const std::int64_t cols = targets == row.cols ? row.cols : repeat, next = targets == row.cols ? 1 : 0;
    sum += row_sum<T>(cols, [=](std::int64_t k)
                                __attribute__((always_inline)) { return formula.loss(y[k], t[k * next], by[k0 + k]); });
    if (row.grad == nullptr) continue;
    T* grad = row.grad + k0;
#pragma omp simd
    for (std::int64_t k = 0; k < cols; ++k) grad[k] = scale * formula.slope(y[k], t[k * next], by[k0 + k]);
  }
  return Formula::mean ? sum / static_cast<double>(row.cols) : sum;
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
    const double below = static_cast<double>(top - z[label]);
    const FocalOfLabel focal =
        loss.gamma > 0.0 ? FocalOfLabel(z, cols, label, top, row.sum, loss.gamma) : FocalOfLabel();
    if (grad != nullptr) {
      const T scale = static_cast<T>(static_cast<double>(row.scale * weight) * focal.by.slope);
      const T factor = static_cast<T>(static_cast<double>(scale) / row.sum);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) grad[c] = factor * e[c];
      grad[label] -= scale;
    }
    if (loss.gamma > 0.0) return static_cast<double>(weight) * focal.by.loss * -focal.log_p;
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

/// Up to kSideBySide rows of few classes with plain labels, a vector lane each: a row alone would not fill a vector.
template <class T>
struct RowsSideBySide {
  std::int64_t rows, cols;
  T e[kFew][kSideBySide], top[kSideBySide], below[kSideBySide];  // below: the largest logit less that of the label
  double sum[kSideBySide];                                       // of e^(logit - top), 1 where there is no row
  std::int32_t label[kSideBySide];

  GD_INLINE RowsSideBySide(const T* z, const std::int32_t* labels, std::int64_t rows, std::int64_t cols)
      : rows(rows), cols(cols) {
    if (rows < kSideBySide) {
      std::memset(e, 0, sizeof e);
      std::memset(label, 0, sizeof label);
    }
    std::memcpy(label, labels, sizeof(std::int32_t) * static_cast<std::size_t>(rows));
    pack_transposed<T, kSideBySide>(z, cols, rows, cols, e[0]);
    for (std::int64_t r = 0; r < kSideBySide; ++r) top[r] = e[0][r];
    for (std::int64_t c = 1; c < cols; ++c) {
#pragma omp simd
      for (std::int64_t r = 0; r < kSideBySide; ++r) top[r] = e[c][r] > top[r] ? e[c][r] : top[r];
    }
    for (std::int64_t r = 0; r < kSideBySide; ++r) {
      below[r] = T(0);
      sum[r] = 0.0;
    }
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto which = static_cast<std::int32_t>(c);
#pragma omp simd
      for (std::int64_t r = 0; r < kSideBySide; ++r) {
        below[r] = label[r] == which ? top[r] - e[c][r] : below[r];
        e[c][r] = math::exp_difference(e[c][r], top[r]);
        sum[r] += static_cast<double>(e[c][r]);
      }
    }
    for (std::int64_t r = rows; r < kSideBySide; ++r) sum[r] = 1.0;
  }

  /// Returns Σ (top - logit of the label); the product of the sums, at most 16^16, goes to `logs`.
  GD_INLINE double add_to(LogSum& logs) const {
    double product[kSideBySide], away[kSideBySide];
#pragma omp simd
    for (std::int64_t r = 0; r < kSideBySide; ++r) {
      product[r] = sum[r];
      away[r] = static_cast<double>(below[r]);
    }
    for (std::int64_t half = kSideBySide / 2; half > 0; half /= 2) {
#pragma omp simd
      for (std::int64_t r = 0; r < half; ++r) product[r] *= product[r + half];
    }
    logs.add(product[0]);
    return sum_of<kSideBySide>(away);
  }

  /// Writes scale (softmax - one at the label) of each row.
  GD_INLINE void gradient(const T* scale, T* grad) {
    T factor[kSideBySide], by_row[kSideBySide][kFew];
#pragma omp simd
    for (std::int64_t r = 0; r < kSideBySide; ++r) factor[r] = static_cast<T>(static_cast<double>(scale[r]) / sum[r]);
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto which = static_cast<std::int32_t>(c);
#pragma omp simd
      for (std::int64_t r = 0; r < kSideBySide; ++r) {
        e[c][r] = factor[r] * e[c][r] - (label[r] == which ? scale[r] : T(0));
      }
    }
    pack_transposed<T, kFew>(e[0], kSideBySide, cols, kSideBySide, by_row[0]);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < kFew; c += Tile<T>::lanes) {
        if (c < cols) FirstLanes<T>(min(Tile<T>::lanes, cols - c)).store(grad + r * cols + c, load(by_row[r] + c));
      }
    }
  }
};

/// Cross-entropy with plain labels of few classes.
template <class T>
double few_classes(const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols;
  const T* weights = call.weights.as<T>();
  LogSum logs;
  double loss = 0.0;
  for (std::int64_t n0 = begin; n0 < end; n0 += kSideBySide) {
    RowsSideBySide<T> block(call.logits.as<T>() + n0 * cols, call.labels + n0, min(kSideBySide, end - n0), cols);
    if (weights == nullptr) loss += block.add_to(logs);
    for (std::int64_t r = 0; weights != nullptr && r < block.rows; ++r) {
      const double weight = static_cast<double>(weights[n0 + r]);
      if (weight != 0.0) loss += weight * (std::log(block.sum[r]) + static_cast<double>(block.below[r]));
    }
    if (!call.grad) continue;
    T scale[kSideBySide];
    for (std::int64_t r = 0; r < kSideBySide; ++r) scale[r] = static_cast<T>(inverse);
    for (std::int64_t r = 0; weights != nullptr && r < block.rows; ++r) {
      scale[r] = static_cast<T>(static_cast<double>(weights[n0 + r]) * inverse);
    }
    block.gradient(scale, call.grad.as<T>() + n0 * cols);
  }
  return loss + logs.value();
}

/// An elementwise loss of rows with few columns: one vector loop over all elements, then the sum of each row.
template <class T, class Formula>
double few_columns(const Formula& formula, const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols, together = kBlock / cols, repeat = cols / call.targets.cols;
  const OutputNumbers<T> by(call);
  const T *weights = call.weights.as<T>(), *y = call.logits.as<T>(), *targets = call.targets.as<T>();
  T *grad = call.grad.as<T>(), losses[kBlock], shared[kBlock], first[kBlock], second[kBlock];
  const std::int64_t most = min(together, end - begin) * cols;
  for (std::int64_t i = 0, c = 0; i < most; ++i, c = c + 1 < cols ? c + 1 : 0) {
    first[i] = by[c].first;
    second[i] = by[c].second;
  }
  const double share = Formula::mean ? static_cast<double>(cols) : 1.0, factor = Formula::factor / share;
  double loss = 0.0;
  for (std::int64_t n0 = begin; n0 < end; n0 += together) {
    const std::int64_t rows = min(together, end - n0), at = n0 * cols, count = rows * cols;
    const T* t = targets + at;
    if (repeat > 1) {
      for (std::int64_t i = 0; i < count; ++i) shared[i] = targets[at / repeat + i / repeat];
      t = shared;
    }
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) losses[i] = formula.loss(y[at + i], t[i], {first[i], second[i]});
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0.0;
      for (std::int64_t c = 0; c < cols; ++c) sum += static_cast<double>(losses[r * cols + c]);
      const double s = weights != nullptr ? static_cast<double>(weights[n0 + r]) : 1.0;
      if (s != 0.0) loss += s * (sum / share);
    }
    if (grad == nullptr) continue;
    const T same = static_cast<T>(factor * static_cast<double>(static_cast<T>(inverse)));
    for (std::int64_t i = 0; i < count; ++i) losses[i] = same;  // from here on: the scale of each element
    for (std::int64_t r = 0; weights != nullptr && r < rows; ++r) {
      const double scale = static_cast<double>(static_cast<T>(static_cast<double>(weights[n0 + r]) * inverse));
      for (std::int64_t c = 0; c < cols; ++c) losses[r * cols + c] = static_cast<T>(factor * scale);
    }
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      grad[at + i] = losses[i] * formula.slope(y[at + i], t[i], {first[i], second[i]});
    }
  }
  return loss;
}

/// Returns Σ s_n l_n over rows [begin, end), in order. `Kind` is CrossEntropy or the formula of an elementwise loss.
template <class T, class Kind>
double rows_loss(const Kind& kind, const LossPass& call, double inverse, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.logits.cols;
  const T* weights = call.weights.as<T>();
  double sum = 0.0;
  const auto add = [&](std::int64_t n, double value) {
    if (weights == nullptr) sum += value;
    if (weights != nullptr && weights[n] != T(0)) sum += static_cast<double>(weights[n]) * value;
  };
  if constexpr (!std::is_same_v<Kind, CrossEntropy>) {
    if (cols <= kFew) return few_columns<T>(kind, call, inverse, begin, end);
    for (std::int64_t n = begin; n < end; ++n) add(n, row_loss<T>(kind, call, row_of<T>(call, n, inverse)));
    return sum;
  } else {
    const bool plain =
        call.labels != nullptr && kind.label_smoothing == 0.0 && kind.gamma == 0.0 && !call.class_weights;
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
  bool classes = false;  // whether W_n depends on classes or answers
  if constexpr (std::is_same_v<Kind, CrossEntropy>) {
    classes = call.class_weights || call.labels == nullptr;
  } else {
    classes = !Kind::mean && call.class_weights.cols > cols;
  }
  double weight = static_cast<double>(rows);
  if (weights != nullptr || classes) {
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
            [&]<class T>(T) { on_loss<T>(call.loss, [&](const auto& kind) { run<T>(kind, call); }); });
}

}  // namespace gdcore::GDCORE_ISA
