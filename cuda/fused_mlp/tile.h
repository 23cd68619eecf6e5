// A block's computation for a tile of rows in a fused MLP step (fused_mlp.cu): gathers the rows, then forward pass,
// loss and backward pass. `Numbers` is the type of the products' factors (product.h).
#pragma once

#include <cstdint>
#include <type_traits>

#include "fused_mlp/product.h"
#include "ops/activation.h"
#include "ops/dropout_mask.h"
#include "ops/loss_pass.h"

namespace gdcore::cuda {

inline constexpr int kMostLayers = 10;

/// A dense layer, its activation and dropout.
struct FusedLayer {
  int in, out;
  AnyActivation activation;
  bool saves_input;
  DropoutMask dropout;         // of the outputs
  const float *weight, *bias;  // in device memory
  int x, y, saved, matrix;     // offsets in shared memory: inputs, outputs, values saved for f' (-1: none), weights
  int weight_gradient, bias_gradient;  // offsets in a partial gradient
};

struct GradientPass {
  FusedLayer layer[kMostLayers];
  int layers;
  Source x, y, row_weights;
  const float *mean, *std;  // of the inputs, or null
  bool labels, resident;    // labels instead of targets; all weights stay in shared memory
  RowOrder order;
  std::int64_t rows, tiles;
  int tile_rows;
  int targets, weights, first_matrix;  // offsets in shared memory; memory before first_matrix is initially zero
  Losses<float> loss;
  const StepCounters* counters;
  const StepRates* schedule;  // of a network after the other; null: a measurement
  std::int64_t rates;         // of a network in it
  StepCounters* seen;         // a copy for the second kernel
  float* partials;            // partial gradients, network by network and block by block
  std::int64_t partial_size;
  LossSums* sums;                     // one per block
  bool trains;                        // otherwise the pass ends with the loss
  float* outputs;                     // of a measurement, or null
  std::int64_t first_network;         // of the launch
  std::int64_t stride, state_stride;  // of a network's parameters and states
  const std::uint64_t* seeds;         // of dropout by network, or null
};

/// What distinguishes a network of a stack.
struct Member {
  std::int64_t network, arena, states;  // its number, and the offsets of its parameters and its states
  std::int64_t first, step;             // position of the batch's first row, and steps made
  RowOrder order;
  const KeptShare* kept;  // by layer, in shared memory

  __device__ Member(const GradientPass& p, std::int64_t network_, const StepCounters& at, const KeptShare* shares)
      : network(network_),
        arena(network_ * p.stride),
        states(network_ * p.state_stride),
        first(at.first),
        step(at.step),
        order(p.order.rows, p.order.shuffle != nullptr ? p.order.shuffle + network_ : nullptr),
        kept(shares) {}
};

template <class To>
__device__ inline To number_at(const Source& source, std::int64_t at) {
  To number = To(0);
  with_type(source.type, [&]<class S>(S) { number = static_cast<To>(static_cast<const S*>(source.data)[at]); });
  return number;
}

/// Existing rows of a tile, and the first one's index in the batch.
struct RowTile {
  std::int64_t first;
  int rows;
};

/// Gathers rows of the sources into shared memory; rows that do not exist are zero.
__device__ inline void gather_tile(const GradientPass& p, const RowTile& tile, const Member& member, float* shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int in = p.layer[0].in, out = p.layer[p.layers - 1].out;
  for (int r = warp; r < p.tile_rows; r += kFusedWarps) {
    const bool exists = r < tile.rows;
    const std::int64_t row = exists ? member.order(member.first + tile.first + r) : 0;
    float* x = shared + p.layer[0].x + r * stride_of(in);
    for (int c = lane; c < in; c += kWarp) {
      float value = exists ? number_at<float>(p.x, row * p.x.row_stride + c) : 0.0f;
      if (p.mean != nullptr && exists) value = (value - p.mean[member.states + c]) / p.std[member.states + c];
      x[c] = value;
    }
    if (p.row_weights.data != nullptr && lane == 0) {
      shared[p.weights + r] = exists ? number_at<float>(p.row_weights, row * p.row_weights.row_stride) : 0.0f;
    }
    if (p.labels) {
      auto* labels = reinterpret_cast<std::int32_t*>(shared + p.targets);
      if (lane == 0) labels[r] = exists ? number_at<std::int32_t>(p.y, row * p.y.row_stride) : 0;
      continue;
    }
    float* t = shared + p.targets + r * stride_of(out);
    const int repeat = static_cast<int>(p.loss.element.repeat);
    for (int c = lane; c < out; c += kWarp) {
      t[c] = exists ? number_at<float>(p.y, row * p.y.row_stride + c / repeat) : 0.0f;
    }
  }
}

/// Loads weights into shared memory, with zeros behind the columns and rows of zeros up to a multiple of 8.
template <class Numbers>
__device__ inline void load_weights(const FusedLayer& layer, const Member& member, float* shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int stride = stride_of(layer.in), rows = (layer.out + 7) / 8 * 8;
  const float* weight = layer.weight + member.arena;
#pragma unroll 4
  for (int o = warp; o < rows; o += kFusedWarps) {
    for (int i = lane; i < stride; i += kWarp) {
      const bool exists = o < layer.out && i < layer.in;
      shared[layer.matrix + o * stride + i] = exists ? Numbers::prepared(weight[o * layer.in + i]) : 0.0f;
    }
  }
}

/// Computes a layer's outputs; rows that do not exist stay zero.
template <class Numbers>
__device__ inline void forward(const GradientPass& p, const FusedLayer& layer, const RowTile& tile,
                               const Member& member, float* shared) {
  const int stride = stride_of(layer.out);
  const float* bias = layer.bias != nullptr ? layer.bias + member.arena : nullptr;
  float* y = shared + layer.y;
  product<Numbers, false, true>({shared + layer.x, stride_of(layer.in)}, {shared + layer.matrix, stride_of(layer.in)},
                                {p.tile_rows, layer.out, layer.in}, [&](const auto& patch) {
                                  patch.hand_out([&](int r, int o, float sum) {
                                    const float pre = bias != nullptr ? sum + bias[o] : sum;
                                    y[r * stride + o] = r < tile.rows ? pre : 0.0f;
                                  });
                                  layer.activation.pick([&]<class F>(const F& f) {
                                    if constexpr (!std::is_same_v<F, Identity>) {
                                      patch.visit([&](int r, int o) {
                                        const int at = r * stride + o;
                                        const float pre = y[at];
                                        if (r < tile.rows) y[at] = f.value(pre);
                                        if (layer.saved >= 0)
                                          shared[layer.saved + at] = layer.saves_input ? pre : y[at];
                                      });
                                    }
                                  });
                                });
}

/// Applies dropout to the outputs of layer number `l` or their gradients, with the mask of the whole batch. A thread
/// has the four elements of a Philox block.
__device__ inline void drop(const GradientPass& p, int l, const RowTile& tile, const Member& member, float* shared) {
  const FusedLayer& layer = p.layer[l];
  const KeptShare kept = member.kept[l];
  Philox random = layer.dropout.random(member.step);
  if (p.seeds != nullptr) random.seed = p.seeds[member.network];
  const std::int64_t begin = tile.first * layer.out;
  const int size = tile.rows * layer.out, before = static_cast<int>(begin % 4);
  for (int e = 4 * static_cast<int>(threadIdx.x) - before; e < size; e += 4 * kFusedThreads) {
    const Philox::Block drawn = random.block(static_cast<std::uint64_t>((begin + e) / 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (e + i < 0 || e + i >= size) continue;
      float& y = shared[layer.y + (e + i) / layer.out * stride_of(layer.out) + (e + i) % layer.out];
      y = kept.apply(y, drawn.word[i]);
    }
  }
}

/// Returns this thread's partial sums of the losses and weights of a tile's rows. Overwrites the logits with the
/// gradient of the last layer's pre-activations: of the sum of losses if the total weight is not the number of rows,
/// else of their mean.
__device__ inline LossSums tile_loss(const GradientPass& p, const RowTile& tile, float* shared) {
  const FusedLayer& last = p.layer[p.layers - 1];
  const int lanes = kFusedThreads / p.tile_rows, r = static_cast<int>(threadIdx.x) / lanes;
  const RowGroup group{static_cast<int>(threadIdx.x) % lanes, lanes};
  const bool exists = r < tile.rows;
  const int begin = r * stride_of(last.out);
  float *y = shared + last.y + begin, *t = shared + p.targets + begin;
  const double inverse = p.loss.weighing == Weighing::rows ? 1.0 / static_cast<double>(p.rows) : 1.0;
  Losses<float> loss = p.loss;
  loss.labels = p.labels ? reinterpret_cast<const std::int32_t*>(shared + p.targets) : nullptr;
  loss.weights = p.row_weights.data != nullptr ? shared + p.weights : nullptr;
  const float s = loss.weights != nullptr ? loss.weights[r] : 1.0f;
  LossSums sums;
  if (p.loss.weighing == Weighing::by_element) {
    for (int c = group.lane; exists && c < last.out; c += lanes) {
      sums.weight += static_cast<double>(s) * loss.weight_of_element(t[c], c);
    }
  } else if (exists && group.lane == 0) {
    sums.weight = weight_of_row(loss, r);
  }
  if (loss.element.kind == ElementKind::none) {
    const SharedRow<float> row{y, p.labels ? nullptr : t, inverse};
    sums.loss = shared_row(loss, Row<float>(loss, r), group, exists ? last.out : 0, row, [](int c) { return c; });
  }
  with_element<float>(loss.element, [&]<class Formula>(const Formula& formula) {
    const double share = Formula::mean ? static_cast<double>(last.out) : 1.0;
    const float factor = static_cast<float>(static_cast<double>(s) * inverse * (Formula::factor / share));
    for (int c = group.lane; exists && c < last.out; c += lanes) {
      const OutputFactors<float> by = loss.factors(c);
      const float term = formula.loss(y[c], t[c], by);
      if (s != 0.0f) sums.loss += static_cast<double>(s * term);
      y[c] = factor * formula.slope(y[c], t[c], by);
    }
    sums.loss *= 1.0 / share;
  });
#pragma unroll 1
  for (int c = group.lane; c < last.out; c += lanes) {
    if (!exists) {
      y[c] = 0.0f;
    } else if (last.saved >= 0) {
      y[c] *= last.activation.slope(shared[last.saved + begin + c]);
    }
  }
  return sums;
}

/// Adds this tile to the block's partial sums of dW and db; `begins`: the first tile overwrites them.
template <class Numbers>
__device__ inline void weight_gradients(const GradientPass& p, const FusedLayer& layer, const RowTile& tile,
                                        bool begins, const float* shared) {
  float* partials = p.partials + (std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x) * p.partial_size;
  const auto add = [&](float& sum, float value) { sum = begins ? value : sum + value; };
  const int stride = stride_of(layer.out);
  product<Numbers, true, false>(
      {shared + layer.y, stride}, {shared + layer.x, stride_of(layer.in)}, {layer.out, layer.in, tile.rows},
      [&](const auto& patch) {
        patch.hand_out([&](int o, int i, float sum) { add(partials[layer.weight_gradient + o * layer.in + i], sum); });
      });
  if (layer.bias == nullptr) return;
  for (int o = static_cast<int>(threadIdx.x); o < layer.out; o += kFusedThreads) {
    float sum = 0.0f;
#pragma unroll 4
    for (int r = 0; r < tile.rows; ++r) sum += shared[layer.y + r * stride + o];
    add(partials[layer.bias_gradient + o], sum);
  }
}

/// Overwrites the outputs of the layer below with the gradient of its pre-activations.
template <class Numbers>
__device__ inline void input_gradients(const GradientPass& p, const FusedLayer& layer, const FusedLayer& below,
                                       float* shared) {
  const int stride = stride_of(layer.in), saved = below.saved >= 0 ? below.saved : below.y;
  product<Numbers, false, false>(
      {shared + layer.y, stride_of(layer.out)}, {shared + layer.matrix, stride}, {p.tile_rows, layer.in, layer.out},
      [&](const auto& patch) {
        below.activation.pick([&](const auto& f) {
          patch.visit([&](int r, int i) {
            const int at = r * stride + i;
            shared[below.y + at] = f.slope(shared[saved + at]);
          });
        });
        patch.hand_out([&](int r, int i, float sum) { shared[below.y + r * stride + i] *= sum; });
      });
}

/// Writes the outputs of a tile's rows to device memory.
__device__ inline void write_outputs(const GradientPass& p, const RowTile& tile, const Member& member,
                                     const float* shared) {
  const FusedLayer& last = p.layer[p.layers - 1];
  float* to = p.outputs + (member.network * p.rows + tile.first) * last.out;
  for (int e = static_cast<int>(threadIdx.x); e < tile.rows * last.out; e += kFusedThreads) {
    to[e] = shared[last.y + e / last.out * stride_of(last.out) + e % last.out];
  }
}

/// Computes the step for one tile, without the update of the weights. A barrier comes before each read of other
/// threads' writes, and before each write to memory that other threads read.
template <class Numbers>
__device__ inline LossSums tile_step(const GradientPass& p, const RowTile& tile, const Member& member, bool begins,
                                     float* shared) {
  const auto drop_if = [&](int l) {
    if (p.layer[l].dropout.p == 0.0) return;
    __syncthreads();
    drop(p, l, tile, member, shared);
  };
  gather_tile(p, tile, member, shared);
  for (int l = 0; l < p.layers; ++l) {
    if (!p.resident) {
      __syncthreads();
      load_weights<Numbers>(p.layer[l], member, shared);
    }
    __syncthreads();
    forward<Numbers>(p, p.layer[l], tile, member, shared);
    drop_if(l);
  }
  __syncthreads();
  if (p.outputs != nullptr) {
    write_outputs(p, tile, member, shared);
    __syncthreads();
  }
  const LossSums sums = tile_loss(p, tile, shared);
  drop_if(p.layers - 1);
  for (int l = p.layers - 1; p.trains && l >= 0; --l) {
    __syncthreads();
    weight_gradients<Numbers>(p, p.layer[l], tile, begins, shared);
    if (l == 0) break;
    if (!p.resident && l + 1 < p.layers) load_weights<Numbers>(p.layer[l], member, shared);
    __syncthreads();
    input_gradients<Numbers>(p, p.layer[l], p.layer[l - 1], shared);
    drop_if(l - 1);
  }
  __syncthreads();
  return sums;
}

}  // namespace gdcore::cuda
