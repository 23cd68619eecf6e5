// The second kernel of a fused MLP step (fused_mlp.cu): adds the partial gradients in the order of the blocks, updates
// the weights (optimizer_rules.h) and their average, and advances the counters.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fused_mlp/perceptron.h"
#include "ops/update.h"

namespace gdcore::cuda {

inline constexpr int kMostTensors = 2 * kMostLayers;
inline constexpr int kSlices = kFusedThreads / kWarp;  // partial sums of one weight

/// A trained weight matrix or bias: its offsets in a partial gradient and in the arena.
struct Tensor {
  std::int64_t gradient, count, arena;
  int entry;  // its number in the layout
  double lr_factor, weight_decay;
};

template <class Rule>
struct Update {
  float* array[2 + Rule::states];  // parameters, gradients, states
  float* average;                  // of the weights, or null
  Rule rule;
  float clip;
  bool decoupled;
  StepCounters* counters;
  const StepCounters* seen;
  const StepRates* schedule;
  LossSums* sums;
  const float* partials;
  std::int64_t partial_size, rows;
  const LossSums* block_sums;
  NetworkStack stack;
  std::int64_t first_network;  // of the launch
  int entries;                 // of the layout
  int slices;    // threads that add the blocks of a weight: kSlices, or 1 with as many weights more in a block
  bool divides;  // divides gradients by the total weight of the rows
  int blocks;    // blocks of the first kernel
  int tensors;
  Tensor tensor[kMostTensors];  // in the order of their gradients
};

template <class Rule>
__device__ __forceinline__ UpdateNumbers<float, Rule> numbers_of(const Update<Rule>& p, const Tensor& tensor,
                                                                 std::int64_t network, const StepCounters& seen,
                                                                 const StepRates& rates) {
  EntryRates own{tensor.lr_factor, tensor.weight_decay};
  if (p.stack.entries != nullptr) own = p.stack.entries[network * p.entries + tensor.entry];
  return UpdateNumbers<float, Rule>::of(p.rule, rates, own.lr_factor, seen.step + 1, own.weight_decay, p.decoupled);
}

/// Ends the step of a network; called by one thread of its blocks.
template <class Rule>
__device__ void end_step(const Update<Rule>& p, std::int64_t network, const LossSums& sums, bool finite) {
  p.sums[network] = sums;
  if (finite) {
    p.counters[network].advance(p.rows, sums);
  } else {
    p.counters[network].stop = Stop::loss;
  }
}

/// Adds every kSlices-th block's part of a gradient's element, at most 16, in float32.
__device__ inline float slice_sum(const float* parts, std::int64_t partial_size, int blocks, int slice) {
  float sum = 0.0f;
#pragma unroll 4
  for (int block = slice; block < blocks; block += kSlices) sum += parts[block * partial_size];
  return sum;
}

template <class Rule>
__global__ void __launch_bounds__(kFusedThreads) fused_mlp_update_kernel(const __grid_constant__ Update<Rule> p) {
  using Common = UpdateNumbers<float, Rule>;
  GD_SHARED(Common, numbers, kMostTensors);
  GD_SHARED(float, slices, kFusedThreads);
  const StepCounters seen = p.seen[blockIdx.y];
  const bool stopped = seen.stop != Stop::none, alone = p.slices == 1;
  if (stopped && alone) return;  // otherwise the partial gradients are read without waiting for this
  const std::int64_t network = p.first_network + blockIdx.y, before = std::int64_t{blockIdx.y} * p.blocks;
  const int thread = static_cast<int>(threadIdx.x), lanes = alone ? kFusedThreads : kWarp;
  const int lane = alone ? thread : thread % kWarp, slice = alone ? 0 : thread / kWarp;
  const std::int64_t i = std::int64_t{blockIdx.x} * lanes + lane;
  const float* parts = p.partials + before * p.partial_size + i;
  const bool exists = i < p.partial_size;
  double gradient = 0.0;
  if (alone) {
    for (int s = 0; exists && s < kSlices && s < p.blocks; ++s) {
      gradient += static_cast<double>(slice_sum(parts, p.partial_size, p.blocks, s));
    }
  } else {
    slices[thread] = exists ? slice_sum(parts, p.partial_size, p.blocks, slice) : 0.0f;
  }
  const LossSums of_block = thread < p.blocks ? p.block_sums[before + thread] : LossSums{};
  const LossSums sums{block_sum(of_block.loss), block_sum(of_block.weight)};
  if (stopped) return;
  const bool finite = sums.loss - sums.loss == 0.0;
  if (blockIdx.x == 0 && thread == 0) end_step(p, network, sums, finite);
  if (!finite) return;
  const StepRates& rates = p.schedule[network * p.stack.rates + seen.batch];
  if (thread < p.tensors) numbers[thread] = numbers_of(p, p.tensor[thread], network, seen, rates);
  __syncthreads();
  int t = 0;
  while (t < p.tensors && i >= p.tensor[t].gradient + p.tensor[t].count) ++t;
  if (slice != 0 || t == p.tensors || i < p.tensor[t].gradient) return;  // frozen weights belong to no tensor
  for (int s = 0; !alone && s < kSlices; ++s) gradient += static_cast<double>(slices[s * kWarp + lane]);
  if (p.divides) gradient *= inverse_of(sums.weight);
  const std::int64_t at = network * p.stack.stride + p.tensor[t].arena + (i - p.tensor[t].gradient);
  float none = 0.0f;
  float& first = Rule::states > 0 ? p.array[Rule::states > 0 ? 2 : 0][at] : none;
  float& second = Rule::states > 1 ? p.array[Rule::states > 1 ? 3 : 0][at] : none;
  p.array[1][at] = static_cast<float>(gradient);
  update_weight(numbers[t], p.clip, static_cast<float>(gradient), p.array[0][at], first, second);
  if (p.average == nullptr) return;
  const float rate = static_cast<float>(rates.average);
  if (rate != 0.0f) p.average[at] = averaged(p.average[at], p.array[0][at], rate);
}

/// Finds the trained tensors with their segments' rates and decays; false if a segment ends within a tensor.
template <class Rule>
bool find_tensors(const StepProgram& step, const std::vector<DenseLayer>& layers, const GradientPass& gradient,
                  Update<Rule>& update) {
  bool whole = true;
  const auto& entries = step.parameters.layout.entries();
  update.entries = static_cast<int>(entries.size());
  const auto add = [&](std::int64_t offset, std::int64_t count, std::int64_t arena) {
    for (const Segment& segment : step.optimizer->segments) {
      const std::int64_t end = segment.begin + segment.count;
      if (arena + count <= segment.begin || arena >= end) continue;
      whole = whole && arena >= segment.begin && arena + count <= end;
      const auto entry = std::ranges::find(entries, arena, &Entry::offset) - entries.begin();
      update.tensor[update.tensors++] = {
          offset, count, arena, static_cast<int>(entry), segment.lr_factor, segment.weight_decay};
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

}  // namespace gdcore::cuda
