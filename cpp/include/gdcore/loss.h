// Losses. Every loss is Σ s_n l_n / Σ s_n W_n over the batch, with sample weights s_n (1 where none are given).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "gdcore/tensor.h"

namespace gdcore {

/// l_n = (1/K) Σ_k (y_nk - t_nk)², W_n = 1: the mean over all elements.
struct MeanSquaredError {
  bool operator==(const MeanSquaredError&) const = default;
};

/// On logits: t̃ = (1-ε) t + ε/C, l_n = -Σ_c ω_c t̃_nc log softmax(y_n)_c, W_n = Σ_c ω_c t_nc (ω of the label). With
/// γ > 0 the loss of a label of probability p is multiplied by (1 - p)^γ (focal loss), without smoothing.
struct CrossEntropy {
  std::optional<std::vector<double>> class_weights;
  double label_smoothing = 0.0;
  double gamma = 0.0;
  bool operator==(const CrossEntropy&) const = default;
};

/// On logits: l_n = Σ_k softplus(y_nk) - t_nk y_nk, the positive term times pos_weight_k; W_n = 1. Class weights ν_k of
/// no and ω_k of yes multiply both terms; then W_n = (1/K) Σ_k ω_k t_nk + ν_k (1 - t_nk). γ as for CrossEntropy.
struct BinaryCrossEntropy {
  std::optional<std::vector<double>> pos_weight;  // one for each output, or one for all
  std::optional<std::vector<double>> class_weights =
      std::nullopt;  // of no and yes: for all outputs, or for one after the other
  double gamma = 0.0;
  bool operator==(const BinaryCrossEntropy&) const = default;
};

/// l_n is the mean of the elements' losses (loss_elements.h), W_n = 1.
struct Huber {
  double delta = 1.0;
  bool operator==(const Huber&) const = default;
};
struct MeanAbsoluteError {
  bool operator==(const MeanAbsoluteError&) const = default;
};
/// L levels: outputs t L, ..., t L + L - 1 are the quantiles of target t, in the order of the levels.
struct Quantile {
  std::vector<double> levels;
  bool operator==(const Quantile&) const = default;
};
/// On logarithms of expected counts.
struct Poisson {
  bool operator==(const Poisson&) const = default;
};

/// The losses that every backend computes.
using Loss =
    std::variant<MeanSquaredError, CrossEntropy, BinaryCrossEntropy, Huber, MeanAbsoluteError, Quantile, Poisson>;

/// Arguments of a user-defined loss function, all in host memory. Without a direction, the function writes l_n and its
/// gradient with respect to the outputs y_n. With a direction, it writes the product of l_n's Hessian (with respect to
/// y_n) and row n of the direction, in place of the gradient.
struct CustomLossCall {
  ConstView outputs;           // (N, K)
  ConstView targets;           // (N, any number of columns) in the outputs' dtype, or null where labels are given
  const std::int32_t* labels;  // N class numbers
  double* losses;              // N; null with a direction
  View gradient;               // (N, K); may be null without a direction
  ConstView direction = {};    // (N, K), or null
};

/// A user-defined l_n, computed on the host. W_n = 1.
struct CustomLoss {
  bool labels = false;  // whether the targets are class numbers
  std::shared_ptr<const std::function<void(const CustomLossCall&)>> function;
};

using AnyLoss = std::variant<Loss, CustomLoss>;

/// Whether targets may be class numbers.
inline bool takes_labels(const AnyLoss& loss) {
  const Loss* known = std::get_if<Loss>(&loss);
  return known != nullptr ? std::holds_alternative<CrossEntropy>(*known) : std::get<CustomLoss>(loss).labels;
}

/// Meaning of logits (N, K) as probabilities: of K classes, of K independent answers being yes, or of one answer being
/// no and being yes.
enum class Probabilities : std::uint8_t { classes, yes, no_and_yes };
/// Writes the probabilities in the dtype of the logits to host memory: (N, K), or (N, 2) for no_and_yes.
void probabilities(Probabilities kind, ConstView logits, void* to);

/// Σ s_n l_n and Σ s_n W_n. Kept as sums, so that batches add up.
struct LossSums {
  double loss = 0.0, weight = 0.0;
  /// NaN where the total weight is 0: a mean over no weight must not look like a good loss.
  double mean() const { return loss / weight; }
  constexpr void add(const LossSums& other, double unit = 1.0) {
    loss += other.loss * unit;
    weight += other.weight * unit;
  }
};

}  // namespace gdcore
