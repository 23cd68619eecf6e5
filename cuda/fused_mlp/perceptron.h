// Steps that are fused: their networks as chains of dense layers, and the offsets of the first kernel's arrays.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "backend/device.h"
#include "fused_mlp/tile.h"
#include "gdcore/step_program.h"

namespace gdcore::cuda {

inline constexpr int kMostWidth = 128;
inline constexpr std::int64_t kMostBlocks = 128;                            // of the first kernel, for each network
inline constexpr int kLeastTile = 16, kMostTile = 128, kMeasuredTile = 64;  // rows

inline AnyActivation any_of(const Activation& activation) {
  AnyActivation any{static_cast<int>(activation.index())};
  with_activation(activation, [&]<class F>(const F& f) {
    if constexpr (std::is_same_v<F, AnyActivation>) any = f;
  });
  return any;
}

// A fused step saves launches, about 2 µs each, and passes over memory. Beyond this much work (100 µs at 15 TFLOP/s, or
// at 100 TFLOP/s on tensor cores) the library's products are expected to save more. Not measured on a GPU yet.
inline constexpr double kMostWork = 1.5e9, kMostTensorWork = 1e10;  // floating-point operations

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
  bool drops;           // dropout is active
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
    if (dropout.p == 0.0 || !drops) return true;
    if (layers.empty() || layers.back().dropout > 0.0) return false;
    layers.back().dropout = dropout.p;
    layers.back().stream = dropout.stream;
    return true;
  }
};

/// Returns the step's plan as a multilayer perceptron, if it is one.
inline std::optional<MultilayerPerceptron> perceptron_of(const StepProgram& step) {
  MultilayerPerceptron made{static_cast<const float*>(step.parameters.states.data()), step.optimizer.has_value()};
  for (std::size_t i = 0; i < step.plan.operations.size(); ++i) {
    const Operation& operation = step.plan.operations[i];
    if (operation.input != static_cast<int>(i) - 1 || operation.skip != kNothing) return {};
    const auto add = [&](const auto& computation) { return made.add(operation, computation); };
    if (!std::visit(add, operation.computation)) return {};
  }
  return made;
}

/// The work does not depend on the number of networks, and neither does the choice.
inline bool fits(const StepProgram& step, const std::vector<DenseLayer>& layers) {
  const double per_weight = step.optimizer ? 6.0 : 2.0;
  double work = 0.0;
  for (const DenseLayer& layer : layers) {
    work += per_weight * static_cast<double>(step.rows) * static_cast<double>(layer.in * layer.out);
  }
  const auto small = [](const DenseLayer& layer) { return std::max(layer.in, layer.out) <= kMostWidth; };
  return !layers.empty() && layers.size() <= kMostLayers && std::ranges::all_of(layers, small) &&
         work <= (on_tensor_cores(step.precision) ? kMostTensorWork : kMostWork) &&
         step.parameters.layout.dtype() == DType::float32 &&
         !(step.optimizer && std::isfinite(step.optimizer->clip_norm));
}

/// Returns the most bytes of dynamic shared memory of a block, beside the kernel's static shared memory.
inline std::size_t most_shared() { return device_properties().sharedMemPerBlockOptin - 1024; }

/// Returns the first network's parameters.
inline const float* parameters_of(const StepProgram& step) {
  return step.optimizer ? step.optimizer->parameters.as<float>()
                        : static_cast<const float*>(step.parameters.values.data());
}

/// Assigns offsets in shared memory and in a partial gradient; returns the bytes of shared memory.
inline std::size_t plan(const StepProgram& step, const std::vector<DenseLayer>& layers, int tile_rows, bool resident,
                        GradientPass& p) {
  int offset = 0, matrix = 0, gradient = 0;
  const auto take = [&](int& from, std::int64_t rows, std::int64_t width) {
    return std::exchange(from, from + static_cast<int>(rows) * stride_of(static_cast<int>(width)));
  };
  const float* parameters = parameters_of(step);
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
    if (from.dropout > 0.0) layer.dropout = {from.dropout, step.seed, from.stream};
    // The gradient of the loss, or dropout, overwrites the outputs before their slope is computed.
    const bool changes = l + 1 == p.layers || from.dropout > 0.0;
    const bool keeps = p.trains && (layer.saves_input || (changes && from.activation.index() != 0));
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
inline std::size_t plan(const StepProgram& step, const std::vector<DenseLayer>& layers, GradientPass& p) {
  int tile_rows = p.trains ? kLeastTile : kMeasuredTile;
  while (tile_rows < kMostTile && tile_rows * kMostBlocks < step.rows) tile_rows *= 2;
  for (; tile_rows >= kLeastTile; tile_rows /= 2) {
    for (const bool resident : {true, false}) {
      const std::size_t shared = plan(step, layers, tile_rows, resident, p);
      if (shared <= most_shared()) return shared;
    }
  }
  return 0;
}

}  // namespace gdcore::cuda
