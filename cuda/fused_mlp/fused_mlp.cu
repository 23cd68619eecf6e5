// The fused MLP step: a whole training step of a small multilayer perceptron in two launches (up to kMostLayers dense
// layers of widths up to kMostWidth, each with optional dropout, optionally with standardised inputs). With separate
// kernels per operation, launches and passes over memory take most of the time of such a step, not arithmetic.
//   fused_mlp_gradient_kernel: a block processes tiles of rows: gathers the rows, computes y_l = f(y_{l-1} Wᵀ + b) for
//     all layers with the activations in shared memory, the loss, and the backward pass. It writes its partial sums of
//     every dW and db, and of the loss. A block's tiles, and so the order of additions, depend on the batch, the
//     network and the shared memory of the device.
//   fused_mlp_update_kernel: adds these in the order of the blocks, updates the weights (optimizer_rules.h) and
//     advances the counters.
// Gradients overwrite the activations: g_{l-1} = (g_l W) f'(y_{l-1}) m / (1 - p), with dropout's mask m, replaces
// y_{l-1}. If the total weight is not the number of rows, the partial gradients are those of Σ s l; the second kernel
// divides them by Σ s W.
//
// Counters without a third launch: no kernel writes memory that its other blocks read. The first kernel copies the
// counters; the second reads the copy and advances the counters. If the loss is not finite, which every block of the
// second kernel finds for itself, it sets `stop` instead: from then on the first writes a NaN loss and nothing changes.
//
// Bytes: rows and targets once; each block reads the weights and writes a partial gradient (4 bytes per parameter each,
// from and to the L2 cache); the update reads these, weights and states, and writes weights, states and gradients.
#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "backend/cuda_backend.h"
#include "backend/device.h"
#include "backend/stream.h"
#include "fused_mlp/tile.h"
#include "gdcore/step_program.h"
#include "ops/update.h"

namespace gdcore::cuda {

namespace {

constexpr int kMostWidth = 128;
constexpr int kThreads = kFusedThreads;
constexpr std::int64_t kMostBlocks = 128;        // blocks of fused_mlp_gradient_kernel
constexpr int kLeastTile = 16, kMostTile = 128;  // rows

template <class Numbers>
__global__ void __launch_bounds__(kThreads, 1) fused_mlp_gradient_kernel(const __grid_constant__ GradientPass p) {
  GD_DYN_SHARED(float, shared);
  const StepCounters at = *p.counters;
  if (at.stop != Stop::none) {
    if (threadIdx.x == 0) p.sums[blockIdx.x].loss = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *p.seen = at;
  for (int i = static_cast<int>(threadIdx.x); i < p.first_matrix; i += kThreads) shared[i] = 0.0f;
  for (int l = 0; p.resident && l < p.layers; ++l) load_weights<Numbers>(p.layer[l], shared);
  __syncthreads();
  LossSums sums;
  for (std::int64_t i = blockIdx.x; i < p.tiles; i += gridDim.x) {
    const std::int64_t begin = i * p.tile_rows, left = p.rows - begin;
    const RowTile tile{begin, static_cast<int>(left < p.tile_rows ? left : p.tile_rows)};
    sums.add(tile_step<Numbers>(p, tile, at, i == blockIdx.x, shared));
  }
  sums.loss = block_sum(sums.loss);
  sums.weight = block_sum(sums.weight);
  if (threadIdx.x == 0) p.sums[blockIdx.x] = sums;
}

// ---- The update. ----

constexpr int kMostTensors = 2 * kMostLayers;
constexpr int kSlices = kThreads / kWarp;  // partial sums of one weight: a block updates kWarp weights

/// A trained weight matrix or bias: its offsets in a partial gradient and in the arena.
struct Tensor {
  std::int64_t gradient, count, arena;
  double lr_factor, weight_decay;
};

template <class Rule>
struct Update {
  float* array[2 + Rule::states];  // parameters, gradients, states
  Rule rule;
  float clip;
  bool decoupled;
  StepCounters* counters;
  const StepCounters* seen;
  const double* rates;
  LossSums* sums;
  const float* partials;
  std::int64_t partial_size, rows;
  const LossSums* block_sums;
  bool divides;  // divides gradients by the total weight of the rows
  int blocks;    // blocks of the first kernel
  int tensors;
  Tensor tensor[kMostTensors];  // in the order of their gradients
};

template <class Rule>
__device__ UpdateNumbers<float, Rule> numbers_of(const Update<Rule>& p, const Tensor& tensor) {
  const double lr = p.rates[p.seen->batch] * tensor.lr_factor;
  return UpdateNumbers<float, Rule>::of(p.rule, lr, p.seen->step + 1, tensor.weight_decay, p.decoupled);
}

/// Ends the step; called by one thread of the grid.
template <class Rule>
__device__ void end_step(const Update<Rule>& p, const LossSums& sums, bool finite) {
  StepCounters& counters = *p.counters;
  if (counters.stop != Stop::none) return;
  *p.sums = sums;
  if (finite) {
    counters.advance(p.rows, sums);
  } else {
    counters.stop = Stop::loss;
  }
}

template <class Rule>
__global__ void __launch_bounds__(kThreads) fused_mlp_update_kernel(const __grid_constant__ Update<Rule> p) {
  using Common = UpdateNumbers<float, Rule>;
  GD_SHARED(Common, numbers, kMostTensors);
  GD_SHARED(float, slices, kThreads);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, slice = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t i = std::int64_t{blockIdx.x} * kWarp + lane;
  const bool exists = i < p.partial_size;
  float sum = 0.0f;  // over at most 16 blocks
#pragma unroll 4
  for (int block = slice; exists && block < p.blocks; block += kSlices) sum += p.partials[block * p.partial_size + i];
  slices[threadIdx.x] = sum;
  const int thread = static_cast<int>(threadIdx.x);
  const LossSums of_block = thread < p.blocks ? p.block_sums[thread] : LossSums{};
  const LossSums sums{block_sum(of_block.loss), block_sum(of_block.weight)};
  const bool finite = sums.loss - sums.loss == 0.0;
  if (blockIdx.x == 0 && threadIdx.x == 0) end_step(p, sums, finite);
  if (!finite) return;
  if (thread < p.tensors) numbers[thread] = numbers_of(p, p.tensor[thread]);
  __syncthreads();
  int t = 0;
  while (t < p.tensors && i >= p.tensor[t].gradient + p.tensor[t].count) ++t;
  if (slice != 0 || t == p.tensors || i < p.tensor[t].gradient) return;  // frozen weights belong to no tensor
  double gradient = 0.0;
  for (int s = 0; s < kSlices; ++s) gradient += static_cast<double>(slices[s * kWarp + lane]);
  if (p.divides) gradient *= inverse_of(sums.weight);
  const std::int64_t at = p.tensor[t].arena + (i - p.tensor[t].gradient);
  float none = 0.0f;
  float& first = Rule::states > 0 ? p.array[Rule::states > 0 ? 2 : 0][at] : none;
  float& second = Rule::states > 1 ? p.array[Rule::states > 1 ? 3 : 0][at] : none;
  p.array[1][at] = static_cast<float>(gradient);
  update_weight(numbers[t], p.clip, static_cast<float>(gradient), p.array[0][at], first, second);
}

// ---- Host code. ----

LossKind kind_of(const MeanSquaredError&) { return LossKind::squares; }
LossKind kind_of(const CrossEntropy&) { return LossKind::classes; }
LossKind kind_of(const BinaryCrossEntropy&) { return LossKind::binary; }

AnyActivation any_of(const Activation& activation) {
  AnyActivation any{static_cast<int>(activation.index())};
  with_activation(activation, [&]<class F>(const F& f) {
    if constexpr (std::is_same_v<F, AnyActivation>) any = f;
  });
  return any;
}

// A fused step saves launches, about 2 µs each, and passes over memory. Beyond this much work (100 µs at 15 TFLOP/s, or
// at 100 TFLOP/s on tensor cores) the library's products are expected to save more. Not measured on a GPU yet.
constexpr double kMostWork = 1.5e9, kMostTensorWork = 1e10;  // floating-point operations

/// A dense layer with its fused activation and the dropout of its outputs; bias -1: none.
struct DenseLayer {
  std::int64_t in, out, weight, bias;
  Activation activation;
  double dropout = 0.0;
  std::uint64_t stream = 0;
};

/// A chain of dense layers; inputs are (x - mean) / std if these are given.
struct MultilayerPerceptron {
  const float* states;  // the network's arena
  const float *mean = nullptr, *std = nullptr;
  std::vector<DenseLayer> layers{};

  /// Each adds an operation or returns false: a standardizer must come first, dropout once, after a dense layer.
  bool add(const Operation&, const OtherComputation&) { return false; }
  bool add(const Operation& operation, const DenseComputation& dense) {
    layers.push_back({operation.in, operation.out, dense.weight, dense.bias, operation.activation});
    return true;
  }
  bool add(const Operation&, const StandardizerComputation& given) {
    if (!layers.empty() || mean != nullptr) return false;
    mean = states + given.mean;
    std = states + given.std;
    return true;
  }
  bool add(const Operation&, const DropoutComputation& dropout) {
    if (dropout.p == 0.0) return true;
    if (layers.empty() || layers.back().dropout > 0.0) return false;
    layers.back().dropout = dropout.p;
    layers.back().stream = dropout.stream;
    return true;
  }
};

/// Returns the step's plan as a multilayer perceptron, if it is one.
std::optional<MultilayerPerceptron> perceptron_of(const StepProgram& step) {
  MultilayerPerceptron made{static_cast<const float*>(step.parameters.states.data())};
  for (std::size_t i = 0; i < step.plan.operations.size(); ++i) {
    const Operation& operation = step.plan.operations[i];
    if (operation.input != static_cast<int>(i) - 1 || operation.skip != kNothing) return {};
    const auto add = [&](const auto& computation) { return made.add(operation, computation); };
    if (!std::visit(add, operation.computation)) return {};
  }
  return made;
}

bool fits(const StepProgram& step, const std::vector<DenseLayer>& layers) {
  double work = 0.0;
  for (const DenseLayer& layer : layers) {
    work += 6.0 * static_cast<double>(step.rows) * static_cast<double>(layer.in * layer.out);
  }
  const auto small = [](const DenseLayer& layer) { return std::max(layer.in, layer.out) <= kMostWidth; };
  const OptimizerPass& pass = step.optimizer;
  return !layers.empty() && layers.size() <= kMostLayers && std::ranges::all_of(layers, small) &&
         work <= (on_tensor_cores(step.precision) ? kMostTensorWork : kMostWork) &&
         pass.parameters.dtype == DType::float32 && !std::isfinite(pass.clip_norm);
}

/// Returns the most bytes of dynamic shared memory of a block, beside the kernel's static shared memory.
std::size_t most_shared() { return device_properties().sharedMemPerBlockOptin - 1024; }

/// Assigns offsets in shared memory and in a partial gradient; returns the bytes of shared memory.
std::size_t plan(const StepProgram& step, const std::vector<DenseLayer>& layers, int tile_rows, bool resident,
                 GradientPass& p) {
  int offset = 0, matrix = 0, gradient = 0;
  const auto take = [&](int& from, std::int64_t rows, std::int64_t width) {
    return std::exchange(from, from + static_cast<int>(rows) * stride_of(static_cast<int>(width)));
  };
  const auto* parameters = step.optimizer.parameters.as<float>();
  p.layers = static_cast<int>(layers.size());
  p.resident = resident;
  p.tile_rows = tile_rows;
  p.tiles = ceil_div(step.rows, tile_rows);
  const int x = take(offset, tile_rows, layers[0].in);
  for (int l = 0; l < p.layers; ++l) {
    const DenseLayer& from = layers[static_cast<std::size_t>(l)];
    FusedLayer& layer = p.layer[l];
    layer.in = static_cast<int>(from.in);
    layer.out = static_cast<int>(from.out);
    layer.activation = any_of(from.activation);
    layer.saves_input = saves_input(from.activation);
    layer.weight = parameters + from.weight;
    layer.bias = from.bias >= 0 ? parameters + from.bias : nullptr;
    layer.x = l == 0 ? x : p.layer[l - 1].y;
    layer.y = take(offset, tile_rows, from.out);
    if (from.dropout > 0.0) layer.dropout = DropoutMask::of(from.dropout, step.seed, from.stream);
    // The gradient of the loss, or dropout, overwrites the outputs before their slope is computed.
    const bool changes = l + 1 == p.layers || from.dropout > 0.0;
    const bool keeps = layer.saves_input || (changes && from.activation.index() != 0);
    layer.saved = keeps ? take(offset, tile_rows, from.out) : -1;
    layer.weight_gradient = std::exchange(gradient, gradient + layer.in * layer.out);
    layer.bias_gradient = layer.bias != nullptr ? std::exchange(gradient, gradient + layer.out) : -1;
  }
  p.partial_size = gradient;
  p.targets = take(offset, tile_rows, p.layer[p.layers - 1].out);
  p.weights = take(offset, 1, tile_rows);
  p.first_matrix = offset;
  for (int l = 0; l < p.layers; ++l) {
    int end = resident ? matrix : 0;
    p.layer[l].matrix =
        p.first_matrix + take(end, round_up(static_cast<std::size_t>(p.layer[l].out), 8), p.layer[l].in);
    matrix = std::max(matrix, end);
  }
  return static_cast<std::size_t>(p.first_matrix + matrix) * sizeof(float);
}

/// Does the same for the largest useful tile that fits, with all weights in shared memory or else those of one layer at
/// a time; 0 if none fits. Small tiles spread a batch over the multiprocessors; large tiles read the weights and update
/// the partial gradients less often.
std::size_t plan(const StepProgram& step, const std::vector<DenseLayer>& layers, GradientPass& p) {
  int tile_rows = kLeastTile;
  while (tile_rows < kMostTile && tile_rows * kMostBlocks < step.rows) tile_rows *= 2;
  for (; tile_rows >= kLeastTile; tile_rows /= 2) {
    for (const bool resident : {true, false}) {
      const std::size_t shared = plan(step, layers, tile_rows, resident, p);
      if (shared <= most_shared()) return shared;
    }
  }
  return 0;
}

/// Finds the trained tensors with their segments' rates and decays; false if a segment ends within a tensor.
template <class Rule>
bool find_tensors(const OptimizerPass& pass, const std::vector<DenseLayer>& layers, const GradientPass& gradient,
                  Update<Rule>& update) {
  bool whole = true;
  const auto add = [&](std::int64_t offset, std::int64_t count, std::int64_t arena) {
    for (const Segment& segment : pass.segments) {
      const std::int64_t end = segment.begin + segment.count;
      if (arena + count <= segment.begin || arena >= end) continue;
      whole = whole && arena >= segment.begin && arena + count <= end;
      update.tensor[update.tensors++] = {offset, count, arena, segment.lr_factor, segment.weight_decay};
      return;
    }
  };
  for (int l = 0; l < gradient.layers; ++l) {
    const FusedLayer& layer = gradient.layer[l];
    const DenseLayer& from = layers[static_cast<std::size_t>(l)];
    add(layer.weight_gradient, from.in * from.out, from.weight);
    if (layer.bias != nullptr) add(layer.bias_gradient, from.out, from.bias);
  }
  return whole;
}

void (*gradient_kernel(Precision precision))(GradientPass) {
  if (!on_tensor_cores(precision)) return fused_mlp_gradient_kernel<Float32>;
  return precision == Precision::tf32 ? fused_mlp_gradient_kernel<Tf32> : fused_mlp_gradient_kernel<Bfloat16>;
}

/// The two launches with their arguments; run() adds the scratch memory.
template <class Rule>
class FusedPerceptron final : public FusedStep {
 public:
  FusedPerceptron(const GradientPass& gradient, std::size_t shared, const Update<Rule>& update, Precision precision)
      : gradient_(gradient), update_(update), shared_(shared), kernel_(gradient_kernel(precision)) {
    check_cuda(
        cudaFuncSetAttribute(kernel_, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most_shared())),
        "cudaFuncSetAttribute");
  }

  void run() override {
    const auto blocks = static_cast<unsigned>(update_.blocks);
    const std::size_t sums = sizeof(StepCounters) + blocks * sizeof(LossSums);
    const std::size_t partials = static_cast<std::size_t>(gradient_.partial_size) * blocks * sizeof(float);
    auto* memory = static_cast<char*>(scratch(Scratch::partial, sums + partials));
    gradient_.seen = reinterpret_cast<StepCounters*>(memory);
    gradient_.sums = reinterpret_cast<LossSums*>(memory + sizeof(StepCounters));
    gradient_.partials = reinterpret_cast<float*>(memory + sums);
    update_.seen = gradient_.seen;
    update_.block_sums = gradient_.sums;
    update_.partials = gradient_.partials;
    launch(kernel_, {blocks, kThreads, shared_}, gradient_);
    launch(fused_mlp_update_kernel<Rule>, {static_cast<unsigned>(ceil_div(gradient_.partial_size, kWarp)), kThreads},
           update_);
  }

 private:
  GradientPass gradient_;
  Update<Rule> update_;
  std::size_t shared_;
  void (*kernel_)(GradientPass);
};

template <class Rule>
std::unique_ptr<FusedStep> fuse_with(const StepProgram& step, const std::vector<DenseLayer>& layers, const Rule& rule,
                                     const GradientPass& gradient, std::size_t shared) {
  const OptimizerPass& pass = step.optimizer;
  Update<Rule> update{};
  if (!find_tensors(pass, layers, gradient, update)) return nullptr;
  update.array[0] = pass.parameters.as<float>();
  update.array[1] = const_cast<float*>(pass.gradients.as<float>());
  for (int k = 0; k < Rule::states; ++k) update.array[2 + k] = pass.states[k].as<float>();
  update.rule = rule;
  update.clip = static_cast<float>(pass.clip_value);
  update.decoupled = decouples_decay(pass.rule);
  update.counters = pass.counters;
  update.rates = pass.rates;
  update.sums = step.sums;
  update.partial_size = gradient.partial_size;
  update.rows = step.rows;
  update.divides = gradient.loss.weighing != Weighing::rows;
  update.blocks = static_cast<int>(std::min(gradient.tiles, kMostBlocks));
  return std::make_unique<FusedPerceptron<Rule>>(gradient, shared, update, step.precision);
}

}  // namespace

std::unique_ptr<FusedStep> CudaBackend::fuse(const StepProgram& step) {
  const std::optional<MultilayerPerceptron> network = perceptron_of(step);
  if (!network || !fits(step, network->layers)) return nullptr;
  GradientPass p{};
  const std::size_t shared = plan(step, network->layers, p);
  if (shared == 0) return nullptr;
  p.x = step.x;
  p.y = step.y;
  p.row_weights = step.weights;
  p.mean = network->mean;
  p.std = network->std;
  p.labels = step.labels;
  p.order = step.order;
  p.rows = step.rows;
  p.counters = step.optimizer.counters;
  p.kind = std::visit([](const auto& loss) { return kind_of(loss); }, step.loss);
  const LossPass loss{.loss = step.loss,
                      .logits = {nullptr, step.rows, step.plan.out, DType::float32},
                      .targets = {},
                      .labels = nullptr,
                      .weights = {},
                      .class_weights = step.class_weights,
                      .grad = step.optimizer.parameters,  // requests the gradient; not written there
                      .sums = step.sums};
  p.loss = losses_of<float>(loss);
  p.loss.weighing = weighing_of(step.loss, step.labels, static_cast<bool>(step.weights), bool(step.class_weights));
  return std::visit([&](const auto& rule) { return fuse_with(step, network->layers, rule, p, shared); },
                    step.optimizer.rule);
}

}  // namespace gdcore::cuda
