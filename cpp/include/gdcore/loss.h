// Losses. Every loss is Σ s_n l_n / Σ s_n W_n over the batch, with sample weights s_n (1 where none are given).
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace gdcore {

/// l_n = (1/K) Σ_k (y_nk - t_nk)², W_n = 1: the mean over all elements.
struct MeanSquaredError {};

/// On logits: t̃ = (1-ε) t + ε/C, l_n = -Σ_c ω_c t̃_nc log softmax(y_n)_c, W_n = Σ_c ω_c t_nc (ω of the label).
struct CrossEntropy {
  std::optional<std::vector<double>> class_weights;
  double label_smoothing = 0.0;
};

/// On logits: l_n = Σ_k softplus(y_nk) - t_nk y_nk, the positive term times pos_weight_k; W_n = 1.
struct BinaryCrossEntropy {
  std::optional<std::vector<double>> pos_weight;  // one for each output, or one for all
};

using Loss = std::variant<MeanSquaredError, CrossEntropy, BinaryCrossEntropy>;

/// Σ s_n l_n and Σ s_n W_n: sums, so that batches add up.
struct LossSums {
  double loss = 0.0, weight = 0.0;
  /// NaN where nothing has any weight: a mean of nothing must not look like a good one.
  double mean() const { return loss / weight; }
};

}  // namespace gdcore
