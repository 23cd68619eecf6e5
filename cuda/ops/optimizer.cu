// The optimiser's single pass over the arena: g ← clip(g · grad_scale), decay, rule (optimizer_rules.h), moving average
// of the weights; and sums of squares, additions, averages. Parameters, states and the average are overwritten. Bytes
// per parameter in float32: SGD 12, Momentum, AdaGrad and RMSProp 20, Adam 28; with an average 8 more; clipping by the
// norm reads 4 more. The rule's constants (rates, powers of betas) are computed on the device, by one thread per
// segment in each block, so that steps with counters have the bits of steps without.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <variant>

#include "backend/cuda_backend.h"
#include "ops/update.h"
#include "primitives/elementwise.h"
#include "primitives/reduce.h"

namespace gdcore::cuda {

namespace {

// ---- Sums of squares, and the scale that limits the norm. ----

inline constexpr int kSumThreads = 256, kMostSums = 1024;  // threads of a block; partial sums of an array

/// Writes *result: the sum of squares, or the scale of gradients whose norm must not exceed clip_norm.
struct SumUse {
  double* result;
  double clip_norm;
  StepCounters* counters;  // null: *result is the sum itself

  __device__ void operator()(double sum) const {
    if (counters == nullptr) {
      *result = sum;
      return;
    }
    const double norm = sqrt(sum);
    if (!(norm - norm == 0.0) && counters->stop == Stop::none) counters->stop = Stop::gradient_norm;
    *result = norm > clip_norm ? clip_norm / norm : 1.0;
  }
};

/// In double: the square of a float32 gradient may overflow, the sum must not.
template <class T>
__global__ void __launch_bounds__(kSumThreads)
    squares_kernel(const T* x, std::int64_t size, std::int64_t of_block, bool wide, double* sums, SumUse use) {
  GD_SHARED(double, shared, kSumThreads / kWarp);
  constexpr int kPacks = 4, kStride = kSumThreads * kPack<T>;
  const std::int64_t begin = blockIdx.x * of_block, end = begin + of_block < size ? begin + of_block : size;
  double sum[kPacks] = {};
  for (std::int64_t at = begin; at < end; at += kPacks * kStride) {
    Pack<T> pack[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      pack[p] = load_pack(x, pack_index<T>(at + p * kStride, end, static_cast<int>(threadIdx.x), wide));
    }
    unrolled<kPacks, kPack<T>>([&](int p, int i) {
      const double value = static_cast<double>(pack[p][i]);
      sum[p] += value * value;
    });
  }
  double total[1] = {(sum[0] + sum[1]) + (sum[2] + sum[3])};
  group_sums(total, kSumThreads, shared);
  if (threadIdx.x > 0) return;
  if (gridDim.x == 1) {
    use(total[0]);
  } else {
    sums[blockIdx.x] = total[0];
  }
}

__global__ void __launch_bounds__(kSumThreads) sum_kernel(const double* sums, int count, SumUse use) {
  GD_SHARED(double, shared, kSumThreads / kWarp);
  double total[1] = {};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSumThreads) total[0] += sums[i];
  group_sums(total, kSumThreads, shared);
  if (threadIdx.x == 0) use(total[0]);
}

/// Computes a sum of squares, with one launch for small arrays, else two; returns the result's address on the device.
const double* squares(ConstView x, double clip_norm, StepCounters* counters) {
  auto* sums = scratch_array<double>(Scratch::partial, kMostSums + 1);
  const SumUse use{sums + kMostSums, clip_norm, counters};
  with_type(x.dtype, [&]<class T>(T) {
    constexpr std::int64_t kStride = kSumThreads * kPack<T>;
    const std::int64_t size = std::max<std::int64_t>(x.size(), 1);  // a model may have no parameters
    const std::int64_t wanted = std::clamp<std::int64_t>(ceil_div(size, 8 * kStride), 1, kMostSums);
    const std::int64_t of_block = ceil_div(ceil_div(size, wanted), kStride) * kStride;
    const auto blocks = static_cast<unsigned>(ceil_div(size, of_block));
    launch(squares_kernel<T>, {blocks, kSumThreads}, x.as<T>(), x.size(), of_block, pack_aligned<T>(1, 1, x.as<T>()),
           sums, use);
    if (blocks > 1) launch(sum_kernel, {1, kSumThreads}, sums, static_cast<int>(blocks), use);
  });
  return use.result;
}

// ---- The step. ----

inline constexpr int kStepThreads = 256, kStepPacks = 2;  // threads of a block; packs of each array in flight
inline constexpr int kMostSegments = 64;                  // segments of a launch: its arguments must fit into 4 KB

/// A segment split into tiles; a block updates one tile at a time.
struct SegmentTiles {
  std::int64_t begin, count;
  double lr_factor, weight_decay;
  std::int64_t last_tile;  // end of its tiles, numbered over all segments of the launch
  bool wide;
};

/// `kAverages`: 1 where an average of the weights is kept, else 0.
template <class T, class Rule, int kAverages>
struct Step {
  static constexpr int kAverage = 2 + Rule::states, kArrays = kAverage + kAverages;
  T* array[kArrays];  // parameters, gradients, states, average
  Rule rule;
  StepRates rates;
  std::int64_t step;
  double grad_scale, clip;
  bool decoupled;
  const StepCounters* counters;  // if given, with `schedule`: replaces rates and step
  const StepRates* schedule;
  const double* scale;  // if given: replaces grad_scale
  int segments;
  SegmentTiles segment[kMostSegments];
};

template <class Call>
__device__ const StepRates& rates_of(const Call& call) {
  return call.counters != nullptr ? call.schedule[call.counters->batch] : call.rates;
}

template <class T, class Rule, int kAverages>
__device__ __forceinline__ UpdateNumbers<T, Rule> numbers_of(const Step<T, Rule, kAverages>& call,
                                                             const SegmentTiles& segment) {
  const std::int64_t step = call.counters != nullptr ? call.counters->step + 1 : call.step;
  return UpdateNumbers<T, Rule>::of(call.rule, rates_of(call), segment.lr_factor, step, segment.weight_decay,
                                    call.decoupled);
}

/// A thread's packs of a tile: kStepPacks of every array.
template <class T, class Rule, int kAverages>
struct TilePacks {
  using Call = Step<T, Rule, kAverages>;
  static constexpr int kArrays = Call::kArrays;
  PackIndex index[kStepPacks];  // relative to the segment's begin
  Pack<T> pack[kStepPacks][kArrays];

  __device__ __forceinline__ void load(const Call& call, const SegmentTiles& segment, std::int64_t tile) {
    constexpr int kStride = kStepThreads * kPack<T>;
#pragma unroll
    for (int p = 0; p < kStepPacks; ++p) {
      index[p] =
          pack_index<T>((tile * kStepPacks + p) * kStride, segment.count, static_cast<int>(threadIdx.x), segment.wide);
#pragma unroll
      for (int k = 0; k < kArrays; ++k) pack[p][k] = load_pack<T>(call.array[k] + segment.begin, index[p]);
    }
  }

  __device__ __forceinline__ void update(const UpdateNumbers<T, Rule>& numbers, T scale, T clip, T average_rate) {
    unrolled<kStepPacks, kPack<T>>([&](int p, int i) {
      T none = T(0);
      T& first = Rule::states > 0 ? pack[p][Rule::states > 0 ? 2 : 0][i] : none;
      T& second = Rule::states > 1 ? pack[p][Rule::states > 1 ? 3 : 0][i] : none;
      update_weight(numbers, clip, pack[p][1][i] * scale, pack[p][0][i], first, second);
      if constexpr (kAverages > 0) {
        T& average = pack[p][Call::kAverage][i];
        if (average_rate != T(0)) average = averaged(average, pack[p][0][i], average_rate);
      }
    });
  }

  __device__ __forceinline__ void store(const Call& call, const SegmentTiles& segment) const {
    unrolled<kStepPacks, kArrays>([&](int p, int k) {
      if (k != 1) store_pack(call.array[k] + segment.begin, index[p], pack[p][k]);
    });
  }
};

template <class T, class Rule, int kAverages>
__global__ void __launch_bounds__(kStepThreads) step_kernel(const __grid_constant__ Step<T, Rule, kAverages> call) {
  using Common = UpdateNumbers<T, Rule>;
  GD_SHARED(Common, numbers, kMostSegments);
  int s = 0;
  std::int64_t tile = blockIdx.x;
  TilePacks<T, Rule, kAverages> packs;
  const auto load = [&] {  // tiles increase, and so do their segments
    while (tile >= call.segment[s].last_tile) ++s;
    packs.load(call, call.segment[s], tile - (s > 0 ? call.segment[s - 1].last_tile : 0));
  };
  load();  // in flight while the constants are computed
  if (call.counters != nullptr && call.counters->stop != Stop::none) return;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < call.segments) numbers[thread] = numbers_of(call, call.segment[thread]);
  const T scale = static_cast<T>(call.scale != nullptr ? *call.scale : call.grad_scale);
  const T clip = static_cast<T>(call.clip);
  const T average_rate = static_cast<T>(rates_of(call).average);
  __syncthreads();
  while (true) {
    packs.update(numbers[s], scale, clip, average_rate);
    packs.store(call, call.segment[s]);
    tile += gridDim.x;
    if (tile >= call.segment[call.segments - 1].last_tile) break;
    load();
  }
}

/// One launch per kMostSegments segments that are not empty.
template <class T, int kAverages, class Rule>
void step(const OptimizerPass& pass, const Rule& rule, const double* scale) {
  Step<T, Rule, kAverages> call{.array = {pass.parameters.as<T>(), const_cast<T*>(pass.gradients.as<T>())},
                                .rule = rule,
                                .rates = pass.rates,
                                .step = pass.step,
                                .grad_scale = pass.grad_scale,
                                .clip = pass.clip_value,
                                .decoupled = decouples_decay(pass.rule),
                                .counters = pass.counters,
                                .schedule = pass.schedule,
                                .scale = scale,
                                .segments = 0,
                                .segment = {}};
  for (int k = 0; k < Rule::states; ++k) call.array[2 + k] = pass.states[k].as<T>();
  if constexpr (kAverages > 0) call.array[call.kAverage] = pass.average.as<T>();
  static_assert(sizeof call <= 4096, "the largest size of kernel arguments");
  constexpr std::int64_t kTile = kStepThreads * kStepPacks * kPack<T>;
  std::int64_t tiles = 0;
  const auto start = [&] {
    if (call.segments == 0) return;
    const std::int64_t blocks = std::min<std::int64_t>(tiles, 8 * multiprocessors());
    launch(step_kernel<T, Rule, kAverages>, {static_cast<unsigned>(blocks), kStepThreads}, call);
    call.segments = 0;
    tiles = 0;
  };
  for (const Segment& segment : pass.segments) {
    if (segment.count == 0) continue;
    bool wide = true;
    for (const T* array : call.array) wide = wide && pack_aligned<T>(1, 1, array + segment.begin);
    tiles += ceil_div(segment.count, kTile);
    call.segment[call.segments++] = {segment.begin,        segment.count, segment.lr_factor,
                                     segment.weight_decay, tiles,         wide};
    if (call.segments == kMostSegments) start();
  }
  start();
}

// ---- Additions, averages and counters. ----

struct AddScaled {
  double scale;
  template <class T>
  __device__ T operator()(T to, T x) const {
    return to + static_cast<T>(scale) * x;
  }
};

struct Average {
  double decay;
  bool root;
  const StepCounters* counters;
  template <class T>
  __device__ T operator()(T average, T value) const {
    if (counters != nullptr && counters->stop != Stop::none) return average;
    const double v = static_cast<double>(value);
    return static_cast<T>(decay * static_cast<double>(average) + (1.0 - decay) * (root ? sqrt(v) : v));
  }
};

struct MoveAverage {
  double rate;
  const StepCounters* counters;
  const StepRates* schedule;
  template <class T>
  __device__ T operator()(T average, T value) const {
    if (counters != nullptr && counters->stop != Stop::none) return average;
    const T moves = static_cast<T>(counters != nullptr ? schedule[counters->batch].average : rate);
    return moves == T(0) ? average : averaged(average, value, moves);
  }
};

__global__ void advance_kernel(StepCounters* counters, const LossSums* sums, std::int64_t rows) {
  if (counters->stop == Stop::none) counters->advance(rows, *sums);
}

}  // namespace

void CudaBackend::optimizer_step(const OptimizerPass& pass) {
  // The norm of all gradients, as on the host; gradients of no segment are zero.
  const bool clip = pass.counters != nullptr && std::isfinite(pass.clip_norm);
  const double* scale = clip ? squares(pass.gradients, pass.clip_norm, pass.counters) : nullptr;
  with_type(pass.parameters.dtype, [&]<class T>(T) {
    std::visit([&](const auto& rule) { pass.average ? step<T, 1>(pass, rule, scale) : step<T, 0>(pass, rule, scale); },
               pass.rule);
  });
}

double CudaBackend::sum_of_squares(ConstView x) {
  double sum = 0.0;
  copy(&sum, squares(x, 0.0, nullptr), sizeof sum, CopyKind::to_host);
  return sum;
}

void CudaBackend::add(View to, ConstView x, double scale) {
  with_type(to.dtype, [&]<class T>(T) { elementwise(to.size(), AddScaled{scale}, to.as<T>(), to.as<T>(), x.as<T>()); });
}

void CudaBackend::lerp(const Lerp& call) {
  with_type(call.average.dtype, [&]<class T>(T) {
    T* average = call.average.as<T>();
    elementwise(call.average.size(), Average{call.decay, call.root, call.counters}, average, average,
                call.value.as<T>());
  });
}

void CudaBackend::average(const AveragePass& call) {
  with_type(call.average.dtype, [&]<class T>(T) {
    T* average = call.average.as<T>();
    elementwise(call.average.size(), MoveAverage{call.rate, call.counters, call.schedule}, average, average,
                call.value.as<T>());
  });
}

void CudaBackend::advance(const Advance& call) { launch(advance_kernel, {1, 1}, call.counters, call.sums, call.rows); }

}  // namespace gdcore::cuda
