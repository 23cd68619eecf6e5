// Backend: the kernels a device offers. Layers, losses and the trainer know devices only through it.
//
// All views are row-major and contiguous; outputs are overwritten, never accumulated into, and must not overlap inputs
// unless a comment says so. Shapes were checked by the caller. `sums` and views lie in the backend's own memory.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gdcore/activations.h"
#include "gdcore/data.h"
#include "gdcore/loss.h"
#include "gdcore/optimizer.h"
#include "gdcore/parallel.h"
#include "gdcore/tensor.h"

namespace gdcore {

/// Why steps that follow each other on a device came to an end before their time.
enum class Stop : std::int32_t { none, loss, gradient_norm };

/// What changes from step to step where steps follow each other on a device without the host: in the device's memory,
/// moved on by StepRecorder::advance. Operations that are handed the counters read from them what the host would tell
/// them otherwise; once something has stopped the steps, nothing that lasts is written any more.
struct StepCounters {
  std::int64_t step = 0;   // optimiser steps made
  std::int64_t batch = 0;  // batches since the counters were set: which rate is next
  std::int64_t first = 0;  // the place of the next batch's first row in the order
  LossSums sums;           // of the batches so far
  Stop stop = Stop::none;
};

/// What products of dense layers compute in, on a device that has the choice: values and sums stay in the model's
/// dtype, `tf32` and `bfloat16` allow factors to be rounded as far. The CPU always computes in full.
enum class Precision : std::uint8_t { full, tf32, bfloat16 };

/// y = f(x Wᵀ + b): x (N, in), weight (out, in), bias (1, out) or null, y (N, out).
struct DenseForward {
  ConstView x, weight, bias;
  Activation activation;
  View y;
  View pre;  // (N, out): receives x Wᵀ + b where the activation saves its input, else null
  Precision precision = Precision::full;
};

/// dy ← dy f'(saved), in place; dx = dy W, dweight = dyᵀ x, dbias = Σ_n dy_n; null outputs are skipped.
struct DenseBackward {
  ConstView x, weight;
  Activation activation;
  ConstView saved;  // y, or pre where the activation saves its input; null for Identity
  View dy;
  View dx, dweight, dbias;
  Precision precision = Precision::full;
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
  bool constant = false;  // batch norm when predicting: mean and rstd do not depend on x
};

/// Whose mean and spread a norm takes: each row's (layer norm), each column's (batch norm), or constants for each
/// column (batch norm when predicting).
enum class NormOver : std::uint8_t { rows, columns, constants };

/// A norm along a direction; a dot is a derivative along it. ẏ = γ â̇ + γ̇ â + β̇ with â̇ = rstd (ẋ - m(ẋ) - â m(â ẋ)),
/// where m is the mean over what the norm averages, or nothing. Null ẋ, γ̇ and β̇ are zero.
struct NormTangent {
  NormOver over;
  ConstView x, gamma, mean, rstd;
  ConstView x_dot, gamma_dot, beta_dot;
  View y_dot;
};

/// Its way back: dx as NormBackward gives it, and the derivatives of dx, dγ and dβ along the direction, for the
/// gradient dy of the outputs and its derivative. Null outputs are skipped, dx and dx_dot together; `spare` is (N, C).
struct NormCurvature {
  NormOver over;
  ConstView x, gamma, mean, rstd;
  ConstView x_dot, gamma_dot;
  ConstView dy, dy_dot;
  View dx, dx_dot, dgamma_dot, dbeta_dot;
  View spare;
};

/// What the spread of a column is given as.
enum class Spread : std::uint8_t { std, variance };

/// y = f(γ (x - mean) / √(σ² + ε) + β) with given column constants: batch norm when predicting, and data scaling.
/// A null mean means 0, so that the backward of data scaling is the same call.
struct ColumnAffine {
  ConstView x, mean, spread, gamma, beta;
  Spread kind;
  double eps;
  Activation activation;
  View y;
};

/// y = x m / (1 - p), m drawn anew for each (seed, stream) but the same for the same pair: the backward is the same
/// call.
struct Dropout {
  ConstView x;
  View y;  // may be x
  double p;
  std::uint64_t seed, stream;
  const StepCounters* counters = nullptr;  // where given, the stream is stream ^ (counters->step << 12)
};

/// Losses on logits (N, K), see loss.h. `grad` (null: skipped) receives the gradient of sums.loss / sums.weight.
struct LossPass {
  const Loss& loss;
  ConstView logits;
  ConstView targets;           // (N, K) floating, or null where labels are given
  const std::int32_t* labels;  // N integer labels, CrossEntropy only
  ConstView weights;           // (1, N), or null
  ConstView class_weights;     // (1, K): the loss's class_weights or pos_weight in the logits' dtype, or null
  View grad;
  LossSums* sums;
  StepCounters* counters = nullptr;  // where given, a loss that is not finite stops the steps
};

/// One pass over the arena: g ← clip(g · grad_scale), decay, rule; one call whatever the number of parameters.
struct OptimizerPass {
  const OptimizerRule& rule;
  View parameters;
  ConstView gradients;
  View states[kMaxStates];
  std::span<const Segment> segments;
  double lr;
  std::int64_t step;  // from 1
  double grad_scale = 1.0;
  double clip_value = std::numeric_limits<double>::infinity();
  // Where counters are given: lr = rates[counters->batch], step = counters->step + 1, and grad_scale follows from
  // clip_norm, which stops the steps if the norm of the gradients is not finite.
  StepCounters* counters = nullptr;
  const double* rates = nullptr;
  double clip_norm = std::numeric_limits<double>::infinity();
};

/// average ← decay · average + (1 - decay) · f(value), f the square root where `root`.
struct Lerp {
  View average;
  ConstView value;
  double decay;
  bool root = false;
  const StepCounters* counters = nullptr;  // where given, nothing moves once the steps have stopped
};

/// The end of a step: adds the batch's sums, counts the step and the batch, and moves on by `rows`; nothing once the
/// steps have stopped.
struct Advance {
  StepCounters* counters;
  const LossSums* sums;
  std::int64_t rows;
};

/// A dense layer with the activation it absorbed: where weight (out, in) and bias (-1: none) begin in the arena.
struct NarrowLayer {
  std::int64_t in, out, weight, bias;
  Activation activation;
  double dropout = 0.0;  // of its outputs, with `stream` as in Dropout
  std::uint64_t stream = 0;
};

/// Dense layers one behind the other, of inputs (x - mean) / std where these (1, in) are given.
struct NarrowNetwork {
  ConstView mean, std;
  std::vector<NarrowLayer> layers;
  std::uint64_t seed = 0;  // of dropout
};

/// A whole training step: gathering, forward, loss, backward, the optimiser's pass and the end of the step. Its
/// counters and rates are the optimiser pass's.
struct NarrowStep {
  const NarrowNetwork& network;
  Precision precision;
  Source x, y, weights;  // on the device; weights may be absent
  bool labels;           // y holds labels, not targets
  RowOrder order;
  std::int64_t rows;  // of the batch
  const Loss& loss;
  ConstView class_weights;  // as in LossPass
  const OptimizerPass& optimizer;
  LossSums* sums;
};

/// Steps that a device repeats by itself.
class StepGraph {
 public:
  virtual ~StepGraph() = default;
  /// Starts them; returns when at most these and the ones started before are under way.
  virtual void launch() = 0;
};

/// A device on which steps follow each other without the host.
class StepRecorder {
 public:
  virtual ~StepRecorder() = default;
  /// What `steps` asks of the backend, not done but kept, to be launched as often as wanted; all memory that it touches
  /// must outlive the graph.
  virtual std::unique_ptr<StepGraph> record(FunctionRef<void()> steps) = 0;
  virtual void advance(const Advance&) = 0;
  /// The whole step in fewer launches than its operations would take, or false where it is not narrow enough for that,
  /// or something in it asks for more.
  virtual bool narrow_step(const NarrowStep&) = 0;
  /// Memory that can still be allocated.
  virtual std::size_t free_bytes() = 0;
};

enum class CopyKind : std::uint8_t { to_device, to_host, within };

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  virtual std::string description() const = 0;  // instruction set or device name, for people

  virtual void* allocate(std::size_t bytes) = 0;  // aligned to kAlignment, zeroed
  virtual void deallocate(void* data, std::size_t bytes) noexcept = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) = 0;
  /// Until all that was asked for is done; a device may lag behind the calls.
  virtual void wait() {}
  /// Null where steps are the host's business.
  virtual StepRecorder* recorder() { return nullptr; }

  virtual void dense_forward(const DenseForward&) = 0;
  virtual void dense_backward(const DenseBackward&) = 0;
  virtual void activation_forward(const Activation&, ConstView x, View y) = 0;                      // y may be x
  virtual void activation_backward(const Activation&, ConstView saved, ConstView dy, View dx) = 0;  // dx may be dy
  virtual void dropout(const Dropout&) = 0;
  virtual void batch_norm_forward(const BatchNormForward&) = 0;
  virtual void batch_norm_backward(const NormBackward&) = 0;
  virtual void layer_norm_forward(const LayerNormForward&) = 0;
  virtual void layer_norm_backward(const NormBackward&) = 0;
  virtual void column_affine(const ColumnAffine&) = 0;
  virtual void loss(const LossPass&) = 0;
  virtual void optimizer_step(const OptimizerPass&) = 0;
  virtual double sum_of_squares(ConstView x) = 0;
  /// Derivatives along a direction, for second derivatives of the loss: dx_dot = dy_dot f'(saved) + dy f''(saved) ẋ.
  virtual void activation_curvature(const Activation&, ConstView saved, ConstView x_dot, ConstView dy, ConstView dy_dot,
                                    View dx_dot) = 0;
  virtual void norm_tangent(const NormTangent&) = 0;
  virtual void norm_curvature(const NormCurvature&) = 0;
  /// grad = the derivative of the loss's gradient where the logits move along `tangent`; the pass's sums were filled by
  /// `loss` and are only read.
  virtual void loss_curvature(const LossPass&, ConstView tangent) = 0;
  /// to += scale · x
  virtual void add(View to, ConstView x, double scale) = 0;
  virtual void lerp(const Lerp&) = 0;
  /// Rows of the source, converted, into `to` (count, source.cols).
  virtual void gather(const Gather&) = 0;
  /// Flat index of the first NaN or infinity, or -1.
  virtual std::int64_t first_nonfinite(const Source& source) = 0;
};

/// The backend of a device, made at first use. Throws DeviceError where there is none.
Backend& backend(Device device);

/// The instruction sets of this build that this processor has, the best first. The CPU's backend describes itself by
/// the one that it uses.
std::vector<std::string> instruction_sets();

/// The CUDA backend, from a shared library of its own (cpp/src/cuda_library.cpp); throws DeviceError, saying what is
/// missing and what to do.
Backend& cuda_backend();
/// Why there is no CUDA backend, or an empty text.
std::string cuda_missing();
/// Whether `device="auto"` takes the GPU: there is one, and everything that it needs.
bool has_cuda();

/// Makes the buffer at least this large; what was in it is lost.
void grow(Buffer& buffer, Backend& backend, std::size_t bytes);
/// Gathers into `buffer`, which grows to `bytes`, from the backend's own memory or from the host's (then converted
/// there and copied). The order lies in the host's memory; `call.to` is not used.
void gather_into(Backend& backend, Gather call, std::size_t bytes, Buffer& buffer);

}  // namespace gdcore
