// Arguments of a backend's operations: one struct per operation.
//
// All views are row-major and contiguous and lie in the backend's memory. Outputs are overwritten, never accumulated
// into, and must not overlap inputs unless a comment allows it. The caller has checked the shapes.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "gdcore/activations.h"
#include "gdcore/column_ops.h"
#include "gdcore/loss.h"
#include "gdcore/memory.h"
#include "gdcore/optimizer_rules.h"
#include "gdcore/step_context.h"
#include "gdcore/tensor.h"

namespace gdcore {

/// Precision of matrix products in dense layers, on devices that offer a choice. Values and sums stay in the model's
/// dtype; `tf32` and `bfloat16` allow factors to be rounded to that format. The CPU rounds in training steps, if it has
/// matrix units for that.
enum class Precision : std::uint8_t { full, tf32, bfloat16 };

/// A copy of a dense layer's weight in the order in which a backend's product reads it. dense_forward makes it; the
/// caller keeps it, and clears `current` when the weight may have changed.
struct PackedWeight {
  Buffer data;
  bool current = false;
};

/// y = f(x Wᵀ + b): x (N, in), weight (out, in), bias (1, out) or null, y (N, out).
struct DenseForward {
  ConstView x, weight, bias;
  Activation activation;
  View y;
  View pre;  // (N, out): receives x Wᵀ + b where the activation saves its input, else null
  Precision precision = Precision::full;
  bool training = false;           // a training step: a row's output may depend on the number of rows
  PackedWeight* packed = nullptr;  // null: the weight is not packed in advance; a backend may ignore it
};

/// dy ← dy f'(saved), in place; dx = dy W, dweight = dyᵀ x, dbias = Σ_n dy_n; null outputs are skipped.
struct DenseBackward {
  ConstView x, weight;
  Activation activation;
  ConstView saved;  // y, or pre where the activation saves its input; null for Identity
  View dy;
  View dx, dweight, dbias;
  Precision precision = Precision::full;
  bool training = false;
};

/// Batch norm: per column over the N rows. â = (x - μ) / √(σ² + ε), y = f(γ â + β); null γ, β mean 1, 0.
struct BatchNormForward {
  ConstView x, gamma, beta;
  double eps;
  Activation activation;
  View y, mean, rstd, variance;  // mean, 1/√(σ²+ε), biased σ²: (1, C)
  View pre;
};

/// Layer norm: the same per row over the C columns; mean and rstd are (1, N).
struct LayerNormForward {
  ConstView x, gamma, beta;
  double eps;
  Activation activation;
  View y, mean, rstd;
  View pre;
};

/// Backward of both norms: dy ← dy f'(saved) in place, then dx, dγ = Σ dy â and dβ = Σ dy; null outputs are skipped.
struct NormBackward {
  ConstView x, gamma, mean, rstd;
  Activation activation;
  ConstView saved;
  View dy;
  View dx, dgamma, dbeta;
  bool constant = false;  // batch norm when predicting: mean and rstd do not depend on x; null: 0 and 1
};

/// The scope of a norm's mean and spread: each row (layer norm), each column (batch norm), or given constants per
/// column (batch norm when predicting; null: 0 and 1).
enum class NormOver : std::uint8_t { rows, columns, constants };

/// A norm along a direction; a dot is the derivative along it. ẏ = γ â̇ + γ̇ â + β̇ with
/// â̇ = rstd (ẋ - m(ẋ) - â m(â ẋ)), where m is the mean over the norm's row or column, 0 for constants. Null ẋ, γ̇ and
/// β̇ are zero.
struct NormTangent {
  NormOver over;
  ConstView x, gamma, mean, rstd;
  ConstView x_dot, gamma_dot, beta_dot;
  View y_dot;
};

/// Backward of NormTangent: dx as in NormBackward, and the derivatives of dx, dγ and dβ along the direction, for the
/// gradient dy of the outputs and its derivative dy_dot. Null outputs are skipped, dx and dx_dot together; `spare` is
/// (N, C).
struct NormCurvature {
  NormOver over;
  ConstView x, gamma, mean, rstd;
  ConstView x_dot, gamma_dot;
  ConstView dy, dy_dot;
  View dx, dx_dot, dgamma_dot, dbeta_dot;
  View spare;
};

/// Whether the spread of a column is given as σ or as σ².
enum class Spread : std::uint8_t { std, variance };

/// y = f(γ (x - mean) / √(σ² + ε) + β) with given constants per column: batch norm when predicting, data scaling, and
/// with a null spread, which means 1 without ε, a factor per column. A null mean is 0, so that the backward of data
/// scaling is the same operation.
struct ColumnAffine {
  ConstView x, mean, spread, gamma, beta;
  Spread kind;
  double eps;
  Activation activation;
  View y;
  View pre = {};
};

/// y = x m / (1 - p). The mask m is a function of (seed, stream) and p: backward is the same operation with the same
/// arguments.
struct Dropout {
  ConstView x;
  View y;  // may be x
  double p;
  std::uint64_t seed, stream;
  // Where given: the stream is stream ^ (counters->step << 12), and p is p · schedule[counters->batch].dropout.
  const StepCounters* counters = nullptr;
  const StepRates* schedule = nullptr;
};

/// Losses on logits (N, K), see loss.h. `grad` (null: skipped) receives the gradient of sums.loss / sums.weight.
struct LossPass {
  const Loss& loss;
  ConstView logits;
  ConstView targets;           // (N, K), for L quantile levels (N, K / L); null where labels are given
  const std::int32_t* labels;  // N integer labels, CrossEntropy only
  ConstView weights;           // (1, N), or null
  ConstView class_weights;     // (1, K) or (1, 2K): see loss_weights; or null
  View grad;
  LossSums* sums;
  StepCounters* counters = nullptr;  // where given, a loss that is not finite stops the steps
};

/// One pass over the arena: g ← clip(g · grad_scale), decay, rule, moving average of the weights. One call for any
/// number of parameters.
struct OptimizerPass {
  const OptimizerRule& rule;
  View parameters;
  ConstView gradients;
  View states[kMaxStates];
  std::span<const Segment> segments;
  StepRates rates;
  std::int64_t step;  // from 1
  double grad_scale = 1.0;
  double clip_value = std::numeric_limits<double>::infinity();
  // Where counters are given: rates = schedule[counters->batch], step = counters->step + 1, and grad_scale follows from
  // clip_norm, which stops the steps if the norm of the gradients is not finite.
  StepCounters* counters = nullptr;
  const StepRates* schedule = nullptr;
  double clip_norm = std::numeric_limits<double>::infinity();
  View average = {};  // of the weights, moved by rates.average; null: none is kept
};

/// average ← average + rate (value - average); with counters, rate = schedule[counters->batch].average, and nothing
/// happens once the steps have stopped.
struct AveragePass {
  View average;
  ConstView value;
  double rate;
  const StepCounters* counters = nullptr;
  const StepRates* schedule = nullptr;
};

/// average ← decay · average + (1 - decay) · f(value), f the square root where `root`.
struct Lerp {
  View average;
  ConstView value;
  double decay;
  bool root = false;
  const StepCounters* counters = nullptr;  // where given, does nothing once the steps have stopped
};

}  // namespace gdcore
