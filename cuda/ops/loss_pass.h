// Shared code of the loss kernels (loss.cu, loss_curvature.cu, fused_mlp.cu): arguments, sums over a block, the sum of
// the weights, and the formulas of one row (loss.h); numerics as in cpp/cpu/loss.cpp.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "gdcore/backend.h"
#include "gdcore/loss_elements.h"
#include "primitives/reduce.h"

namespace gdcore::cuda {

inline constexpr int kLossThreads = 512;    // most threads of a block
inline constexpr int kLossPacks = 4;        // packs of a matrix in flight per thread
inline constexpr int kWeightBlocks = 256;   // most blocks that sum the weights
inline constexpr int kLossChunk = 1 << 13;  // most elements of a block at a time

/// Kind of Σ s_n W_n: the number of rows, a sum over rows, or a sum over elements.
enum class Weighing : std::uint8_t { rows, by_row, by_element };

/// Kernel arguments of a LossPass.
template <class T>
struct Losses {
  const T *logits, *targets, *weights, *class_weights;  // null if not given
  const T* no_weights;                                  // of BinaryCrossEntropy's class weights, else null
  const std::int32_t* labels;
  T* grad;
  std::int64_t rows, cols;
  double smoothing, gamma;  // of cross-entropy
  Element element;          // of the other losses
  Weighing weighing;
  bool wide_targets, wide_grad;  // aligned to 16 bytes
  LossSums* sums;
  StepCounters* counters;
  // With several blocks: each block's partial sum of Σ s l, and the partial sums of Σ s W from weight_kernel.
  double* partial_losses;
  double* partial_weights;
  int weight_blocks;

  /// Returns the same pack of the gradient: the order of additions must not depend on the gradient's alignment.
  __device__ PackIndex for_grad(PackIndex index) const {
    index.wide = index.wide && wide_grad;
    return index;
  }
  __device__ OutputFactors<T> factors(std::int64_t c) const {
    return {class_weights != nullptr ? class_weights[c] : T(1), no_weights != nullptr ? no_weights[c] : T(1)};
  }
  /// An element's part of W_n where the sum is over elements, for the target t: of its class, or of yes and no.
  __device__ double weight_of_element(T t, std::int64_t c) const {
    const OutputFactors<T> by = factors(c);
    const double yes = static_cast<double>(t) * static_cast<double>(by.first);
    if (no_weights == nullptr) return yes;
    return (yes + (1.0 - static_cast<double>(t)) * static_cast<double>(by.second)) / static_cast<double>(cols);
  }
};

inline Weighing weighing_of(const Loss& loss, bool labels, bool weights, bool class_weights) {
  const bool classes = std::holds_alternative<CrossEntropy>(loss);
  const auto* answers = std::get_if<BinaryCrossEntropy>(&loss);
  if ((classes && !labels) || (answers != nullptr && answers->class_weights)) return Weighing::by_element;
  return weights || (classes && class_weights) ? Weighing::by_row : Weighing::rows;
}

template <class T>
Losses<T> losses_of(const LossPass& call) {
  const CrossEntropy* classes = std::get_if<CrossEntropy>(&call.loss);
  Losses<T> p{};
  p.logits = call.logits.as<T>();
  p.targets = call.targets.as<T>();
  p.weights = call.weights.as<T>();
  p.class_weights = call.class_weights.as<T>();
  p.no_weights = call.class_weights.cols > call.logits.cols ? p.class_weights + call.logits.cols : nullptr;
  p.labels = call.labels;
  p.grad = call.grad.as<T>();
  p.rows = call.logits.rows;
  p.cols = call.logits.cols;
  p.smoothing = classes != nullptr ? classes->label_smoothing : 0.0;
  p.gamma = classes != nullptr ? classes->gamma : 0.0;
  p.element = element_of(call.loss);
  p.weighing = weighing_of(call.loss, p.labels != nullptr, p.weights != nullptr, p.class_weights != nullptr);
  p.wide_targets = pack_aligned<T>(1, p.cols, p.targets);
  p.wide_grad = pack_aligned<T>(1, p.cols, p.grad);
  p.sums = call.sums;
  p.counters = call.counters;
  return p;
}

/// Returns the sum over the threads of a block to all of them.
__device__ __forceinline__ double block_sum(double value) {
  GD_SHARED(double, shared, kLossThreads / kWarp);
  double one[1] = {value};
  group_sums<1>(one, static_cast<int>(blockDim.x), shared);
  return one[0];
}

/// Returns the maximum over groups of `lanes` lanes; may ignore NaN.
template <class T>
__device__ __forceinline__ T group_max(T value, int lanes) {
  for (int far = lanes / 2; far > 0; far /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, far);
    value = other > value ? other : value;
  }
  return value;
}
/// Returns the maximum over a block. There must be a barrier between two calls, such as that of block_sum.
template <class T>
__device__ __forceinline__ T block_max(T value) {
  GD_SHARED(T, shared, kLossThreads / kWarp);
  value = group_max(value, kWarp);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) value = shared[w] > value ? shared[w] : value;
  return value;
}

/// Row and column of each of at most kLossChunk consecutive elements, without a 64-bit division per element.
class ChunkIndex {
 public:
  __device__ ChunkIndex(std::int64_t begin, std::int64_t cols)
      : cols_(cols), row_(begin / cols), col_(begin - row_ * cols) {}
  __device__ std::int64_t row(int at) const { return row_ + rows_below(at); }
  __device__ std::int64_t col(int at) const { return col_ + at - rows_below(at) * cols_; }

 private:
  __device__ std::int64_t rows_below(int at) const {
    if (cols_ >= kLossChunk) return col_ + at >= cols_ ? 1 : 0;
    return static_cast<unsigned>(col_ + at) / static_cast<unsigned>(cols_);
  }
  std::int64_t cols_, row_, col_;
};

/// Returns a thread's pack `turn` in the chunk that begins at `begin`.
template <class T>
__device__ __forceinline__ PackIndex pack_index_of_turn(std::int64_t begin, std::int64_t size, int turn, bool wide) {
  const int threads = static_cast<int>(blockDim.x);
  return pack_index<T>(begin + turn * threads * kPack<T>, size, static_cast<int>(threadIdx.x), wide);
}

/// Returns s W of a row with a label or with an elementwise loss.
template <class T>
__device__ double weight_of_row(const Losses<T>& p, std::int64_t n) {
  const double s = p.weights != nullptr ? static_cast<double>(p.weights[n]) : 1.0;
  const bool classes = p.labels != nullptr && p.class_weights != nullptr;
  return classes ? s * static_cast<double>(p.class_weights[p.labels[n]]) : s;
}

/// Returns this thread's partial sum of Σ s W over the whole grid.
template <class T>
__device__ double weights_of_thread(const Losses<T>& p) {
  double sum = 0.0;
  if (p.weighing == Weighing::by_row) {
#pragma unroll 4
    for (std::int64_t n = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; n < p.rows;
         n += std::int64_t{gridDim.x} * blockDim.x) {
      sum += weight_of_row(p, n);
    }
    return sum;
  }
  const std::int64_t size = p.rows * p.cols, chunk = std::int64_t{blockDim.x} * kLossPacks * kPack<T>;
  const bool weighted = p.weights != nullptr || p.class_weights != nullptr;
  for (std::int64_t begin = blockIdx.x * chunk; begin < size; begin += gridDim.x * chunk) {
    const ChunkIndex chunk_index(begin, p.cols);
    Pack<T> t[kLossPacks];
#pragma unroll
    for (int j = 0; j < kLossPacks; ++j)
      t[j] = load_pack(p.targets, pack_index_of_turn<T>(begin, size, j, p.wide_targets));
#pragma unroll
    for (int j = 0; j < kLossPacks; ++j) {
      const PackIndex index = pack_index_of_turn<T>(begin, size, j, p.wide_targets);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        double term = static_cast<double>(t[j][i]);  // 0 past the end
        if (weighted && index.exists(i)) {
          const int at = static_cast<int>(index[i] - begin);
          term = p.weight_of_element(t[j][i], chunk_index.col(at));
          if (p.weights != nullptr) term *= static_cast<double>(p.weights[chunk_index.row(at)]);
        }
        sum += term;
      }
    }
  }
  return sum;
}

/// Returns Σ s W to every thread of the block: from the partial sums or, if there are none, summed by this only block.
template <class T>
__device__ double weight_of(const Losses<T>& p) {
  if (p.weighing == Weighing::rows) return static_cast<double>(p.rows);
  if (p.partial_weights == nullptr) return block_sum(weights_of_thread(p));
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < p.weight_blocks; i += static_cast<int>(blockDim.x)) {
    sum += p.partial_weights[i];
  }
  return block_sum(sum);
}
__device__ __forceinline__ double inverse_of(double weight) { return weight > 0.0 ? 1.0 / weight : 0.0; }

/// Writes the sums of the whole batch; called by one thread.
template <class T>
__device__ void write_sums(const Losses<T>& p, double loss, double weight) {
  *p.sums = {loss, weight};
  const bool finite = loss - loss == 0.0;
  if (p.counters != nullptr && !finite && p.counters->stop == Stop::none) p.counters->stop = Stop::loss;
}

/// Ends a kernel in which each thread has a partial sum of Σ s l.
template <class T>
__device__ void end_of_block(const Losses<T>& p, double loss, double weight) {
  loss = block_sum(loss);
  if (threadIdx.x != 0) return;
  if (p.partial_losses != nullptr) {
    p.partial_losses[blockIdx.x] = loss;
  } else {
    write_sums(p, loss, weight);
  }
}

/// Returns log(tops + rest) for a sum of exponentials: `tops` of them are 1, the sum of the others is `rest`, which
/// must not be lost to rounding.
__device__ __forceinline__ double log_of_sum(double tops, double rest, double) {
  return tops == 1.0 ? ::log1p(rest) : ::log(tops + rest);
}
/// The same in float32 precision: the logarithm of the power of two plus that of the mantissa in [1, 2).
__device__ __forceinline__ double log_of_sum(double tops, double others, float) {
  const double sum = tops + others;
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  const double rest = std::bit_cast<double>((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
  // Explicit fma, here and below: the compiler's choice to fuse a product with a sum may differ between kernels.
  const float log =
      ::fmaf(0.693147181f, static_cast<float>(exponent), math::log1p_unit(static_cast<float>(rest - 1.0)));
  return sum < 1e300 ? static_cast<double>(log) : sum;  // keeps NaN
}

/// Focal loss of a label whose logit is `below` the largest. Apart, as its functions are long.
__device__ __noinline__ inline Focal focal_of_label(double tops, double rest, double below, double gamma) {
  const double sum = tops + rest, own = below == 0.0 ? 1.0 : ::exp(-below);
  const double others = below == 0.0 ? (tops - 1.0) + rest : sum - own;
  return focal_of(-below - log_of_sum(tops, rest, 0.0), others / sum, gamma);
}

/// A row of cross-entropy: its targets and its weights.
template <class T>
struct Row {
  bool plain;  // a label and no smoothing
  int label;   // -1: targets
  T s, class_weight;
  T keep, spread;

  __device__ Row(const Losses<T>& p, std::int64_t n)
      : plain(p.labels != nullptr && p.smoothing == 0.0),
        label(p.labels != nullptr ? p.labels[n] : -1),
        s(p.weights != nullptr ? p.weights[n] : T(1)),
        class_weight(plain && p.class_weights != nullptr ? p.class_weights[label] : T(1)),
        keep(static_cast<T>(1.0 - p.smoothing)),
        spread(static_cast<T>(p.smoothing / static_cast<double>(p.cols))) {}
  __device__ T target(std::int64_t c) const { return c == label ? T(1) : T(0); }
  /// ω_c t̃_c
  __device__ T weighted_target(const Losses<T>& p, T target, std::int64_t c) const {
    return (keep * target + spread) * (p.class_weights != nullptr ? p.class_weights[c] : T(1));
  }
};

/// Sums over a row, in double: small exponentials would be lost beside the largest one, which is 1, and equal smoothing
/// terms would all round in the same direction.
template <class T>
struct RowSums {
  double tops = 0.0, rest = 0.0;   // Σ e^(z - top): number of terms equal to 1, sum of the others
  double total = 0.0, away = 0.0;  // Ω = Σ ω t̃, Σ ω t̃ (top - z)
  Focal focal;                     // of a plain row

  __device__ double exponentials() const { return tops + rest; }
  __device__ void add(const Losses<T>& p, const Row<T>& row, T e, T below, T target, std::int64_t c) {
    if (e == T(1)) {
      tops += 1.0;
    } else {
      rest += static_cast<double>(e);
    }
    if (row.plain) return;
    const double weighted = static_cast<double>(row.weighted_target(p, target, c));
    total += weighted;
    away = ::fma(weighted, static_cast<double>(below), away);
  }
  /// Sets Ω and Σ ω t̃ (top - z) of a plain row from its label. Labels without class weights have Ω = 1 exactly.
  __device__ void complete(const Losses<T>& p, const Row<T>& row, T below_label) {
    if (row.plain) {
      total = static_cast<double>(row.class_weight);
      away = total * static_cast<double>(below_label);
      if (p.gamma > 0.0) focal = focal_of_label(tops, rest, static_cast<double>(below_label), p.gamma);
    } else if (row.label >= 0 && p.class_weights == nullptr) {
      total = 1.0;
    }
  }
  /// s l
  __device__ double loss(const Row<T>& row) const {
    if (row.s == T(0)) return 0.0;
    return static_cast<double>(row.s) * focal.loss * ::fma(total, log_of_sum(tops, rest, T(0)), away);
  }
};

/// Computes the gradient of one element from e^(z - top).
template <class T>
struct RowGradient {
  T scale, factor;
  __device__ RowGradient(const Row<T>& row, const RowSums<T>& sums, double inverse)
      : scale(static_cast<T>(static_cast<double>(row.s) * inverse * sums.focal.slope)),
        factor(static_cast<T>(sums.total) / static_cast<T>(sums.exponentials())) {}
  __device__ T at(const Losses<T>& p, const Row<T>& row, T e, T target, std::int64_t c) const {
    if (!row.plain) return scale * (factor * e - row.weighted_target(p, target, c));
    const T whole = factor * scale * e;
    return c == row.label ? whole - scale * row.class_weight : whole;
  }
};

/// Lanes of a warp that share a row.
struct RowGroup {
  int lane, lanes;
};

template <class T>
struct SharedRow {
  T* z;  // the logits, overwritten with their gradient
  const T* targets;
  double inverse;  // 1 / Σ s W
};

/// A row of cross-entropy in shared memory, with column c at index_of(c), by a group of lanes. Returns s l to the
/// group's first lane. Every lane of a warp must call it, for the shuffles; `cols` is 0 if the row does not exist.
template <class T, class IndexOf>
__device__ double shared_row(const Losses<T>& p, const Row<T>& row, RowGroup group, int cols, const SharedRow<T>& data,
                             const IndexOf& index_of) {
  [[maybe_unused]] constexpr int kUnroll = sizeof(T) == sizeof(float) ? 4 : 2;
  T* z = data.z;
  const auto target = [&](int c) {
    return row.plain ? T(0) : (data.targets != nullptr ? data.targets[index_of(c)] : row.target(c));
  };
  T top = -std::numeric_limits<T>::infinity();
#pragma unroll kUnroll
  for (int c = group.lane; c < cols; c += group.lanes) {
    const T value = z[index_of(c)];
    top = value > top ? value : top;
  }
  top = group_max(top, group.lanes);
  const T below_label = cols > 0 && row.plain ? top - z[index_of(row.label)] : T(0);
  __syncwarp();  // all lanes have read the label's logit before its lane overwrites it
  RowSums<T> sums;
#pragma unroll kUnroll
  for (int c = group.lane; c < cols; c += group.lanes) {
    T& value = z[index_of(c)];
    const T e = math::exp_difference(value, top);
    sums.add(p, row, e, top - value, target(c), c);
    value = e;
  }
  for (int far = group.lanes / 2; far > 0; far /= 2) {
    sums.tops += __shfl_xor_sync(kAllLanes, sums.tops, far);
    sums.rest += __shfl_xor_sync(kAllLanes, sums.rest, far);
    if (row.plain) continue;  // all rows or none
    sums.total += __shfl_xor_sync(kAllLanes, sums.total, far);
    sums.away += __shfl_xor_sync(kAllLanes, sums.away, far);
  }
  sums.complete(p, row, below_label);
  if (p.grad != nullptr) {
    const RowGradient<T> gradient(row, sums, data.inverse);
#pragma unroll kUnroll
    for (int c = group.lane; c < cols; c += group.lanes) {
      T& value = z[index_of(c)];
      value = gradient.at(p, row, value, target(c), c);
    }
  }
  return cols > 0 && group.lane == 0 ? sums.loss(row) : 0.0;
}

}  // namespace gdcore::cuda
