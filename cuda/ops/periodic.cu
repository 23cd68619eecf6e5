// Periodic embedding of numbers (formula in encodings.h). x (N, in), y (N, out). Waves are never stored: backward
// computes them again. Forward and dx: a thread per row and column. Gradients of the parameters: a group of threads per
// column and frequency adds up the rows, each thread its own in order, then the threads' sums, in double precision; the
// group's size depends on N alone. With numbers that carry a derivative (Dual), the same kernels compute the
// derivatives along a direction.
#include <algorithm>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "gdcore/encodings.h"
#include "primitives/reduce.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

inline constexpr int kPeriodicThreads = 256;
inline constexpr int kColumns = 32;              // columns of a launch
inline constexpr int kOutputs = 4;               // outputs of a column at a time
inline constexpr std::int64_t kManyRows = 2048;  // from here on a block adds up a frequency's rows, else a warp

/// The sizes of an embedding, and some of its columns: blockIdx.y chooses the column of a block.
struct Sizes {
  std::int64_t frequencies, outputs, waves;
  bool sines, identity, relu;
  EncodedColumn columns[kColumns];
  int count;
  std::int64_t first;  // number of the first of them among all

  Sizes(const PeriodicShape& shape, std::size_t from)
      : frequencies(shape.frequencies),
        outputs(shape.outputs),
        waves(shape.waves()),
        sines(shape.sines),
        identity(shape.identity),
        relu(shape.relu),
        columns{},
        count(static_cast<int>(std::min<std::size_t>(kColumns, shape.columns.size() - from))),
        first(static_cast<std::int64_t>(from)) {
    std::copy_n(shape.columns.begin() + first, count, columns);
  }
  __device__ const EncodedColumn& column() const { return columns[blockIdx.y]; }
  __device__ std::int64_t number() const { return first + blockIdx.y; }
};

template <class N, class T>
struct PeriodicCall {
  Sizes sizes;
  PeriodicNumbers<N, T> weights;
  Values<N, T> x;
  std::int64_t rows, in, out;

  __device__ N input(std::int64_t row) const { return x[row * in + sizes.column().column]; }
  __device__ void wave_at(std::int64_t f, N input, N& sine, N& cosine) const {
    const std::int64_t i = sizes.number() * sizes.frequencies + f;
    wave(weights.frequency[i], input, weights.phase[i], sine, cosine);
  }
  /// The weight of output o for wave h.
  __device__ N weight(std::int64_t o, std::int64_t h) const {
    return weights.weight[(sizes.number() * sizes.outputs + o) * sizes.waves + h];
  }
  /// The gradient of 2π w x + b of a frequency.
  __device__ N angle(const PeriodicGradients<N, T>& dy, std::int64_t row, std::int64_t f, N sine, N cosine) const {
    N to_cosine = constant<N>(T(0)), to_sine = to_cosine;
    const std::int64_t first = sizes.column().out + (sizes.identity ? 1 : 0);
    for (std::int64_t o = 0; o < sizes.outputs; ++o) {
      const N g = dy.at(row, first + o, sizes.relu);
      to_cosine = to_cosine + weight(o, f) * g;
      if (sizes.sines) to_sine = to_sine + weight(o, sizes.frequencies + f) * g;
    }
    return to_sine * cosine - to_cosine * sine;
  }
};

template <class N, class T>
__global__ void __launch_bounds__(kPeriodicThreads)
    periodic_forward_kernel(const __grid_constant__ PeriodicCall<N, T> call, T* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kPeriodicThreads + threadIdx.x;
  if (row >= call.rows) return;
  const Sizes& sizes = call.sizes;
  const N x = call.input(row);
  T* to = y + row * call.out + sizes.column().out;
  if (sizes.identity) *to++ = result(x);
  for (std::int64_t first = 0; first < sizes.outputs; first += kOutputs) {
    const int count = static_cast<int>(sizes.outputs - first < kOutputs ? sizes.outputs - first : kOutputs);
    N sum[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      sum[o] = constant<N>(T(0));
      if (o < count) sum[o] = call.weights.bias[sizes.number() * sizes.outputs + first + o];
    }
    for (std::int64_t f = 0; f < sizes.frequencies; ++f) {
      N sine, cosine;
      call.wave_at(f, x, sine, cosine);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        if (o >= count) continue;
        sum[o] = sum[o] + call.weight(first + o, f) * cosine;
        if (sizes.sines) sum[o] = sum[o] + call.weight(first + o, sizes.frequencies + f) * sine;
      }
    }
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (o < count) to[first + o] = sizes.relu && value_of(sum[o]) <= T(0) ? T(0) : result(sum[o]);
    }
  }
}

template <class N, class T>
__global__ void __launch_bounds__(kPeriodicThreads)
    periodic_input_kernel(const __grid_constant__ PeriodicCall<N, T> call,
                          const __grid_constant__ PeriodicGradients<N, T> dy, T* dx, T* dx_dot) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kPeriodicThreads + threadIdx.x;
  if (row >= call.rows) return;
  const Sizes& sizes = call.sizes;
  const N x = call.input(row), turn = constant<N>(T(kTwoPi));
  N sum = sizes.identity ? dy.at(row, sizes.column().out, false) : constant<N>(T(0));
  for (std::int64_t f = 0; f < sizes.frequencies; ++f) {
    N sine, cosine;
    call.wave_at(f, x, sine, cosine);
    const N w = call.weights.frequency[sizes.number() * sizes.frequencies + f];
    sum = sum + turn * (w * call.angle(dy, row, f, sine, cosine));
  }
  const std::int64_t at = row * call.in + sizes.column().column;
  dx[at] = value_of(sum);
  if constexpr (!std::is_same_v<N, T>) dx_dot[at] = sum.dot;
}

template <class T>
struct PeriodicOutputs {
  T *frequency, *phase, *weight, *bias;
};

/// A block per frequency of the column, or a warp.
template <class N, class T>
__global__ void __launch_bounds__(kPeriodicThreads)
    periodic_weights_kernel(const __grid_constant__ PeriodicCall<N, T> call,
                            const __grid_constant__ PeriodicGradients<N, T> dy, PeriodicOutputs<T> to, int across) {
  constexpr int kSums = 2 + 3 * kOutputs;
  GD_SHARED(double, shared, kSums* kPeriodicThreads / kWarp);
  const Sizes& sizes = call.sizes;
  const int lane = static_cast<int>(threadIdx.x) % across;
  const std::int64_t f = std::int64_t{blockIdx.x} * (kPeriodicThreads / across) + threadIdx.x / across;
  const std::int64_t begin = sizes.column().out + (sizes.identity ? 1 : 0);
  const N turn = constant<N>(T(kTwoPi));
  for (std::int64_t first = 0; first < sizes.outputs; first += kOutputs) {
    const int count = static_cast<int>(sizes.outputs - first < kOutputs ? sizes.outputs - first : kOutputs);
    double sum[kSums] = {};  // of frequency, phase, and per output: cosine, sine, bias
    for (std::int64_t row = lane; row < call.rows && f < sizes.frequencies; row += across) {
      const N x = call.input(row);
      N sine, cosine;
      call.wave_at(f, x, sine, cosine);
      if (first == 0) {
        const N angle = call.angle(dy, row, f, sine, cosine);
        sum[0] += static_cast<double>(result(turn * (x * angle)));
        sum[1] += static_cast<double>(result(angle));
      }
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        if (o >= count) continue;
        const N g = dy.at(row, begin + first + o, sizes.relu);
        sum[2 + 3 * o] += static_cast<double>(result(g * cosine));
        sum[3 + 3 * o] += static_cast<double>(result(g * sine));
        sum[4 + 3 * o] += static_cast<double>(result(g));
      }
    }
    group_sums(sum, across, shared);
    if (lane != 0 || f >= sizes.frequencies) continue;
    const std::int64_t i = sizes.number() * sizes.frequencies + f;
    if (first == 0 && to.frequency != nullptr) to.frequency[i] = static_cast<T>(sum[0]);
    if (first == 0 && to.phase != nullptr) to.phase[i] = static_cast<T>(sum[1]);
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (o >= count) continue;
      const std::int64_t d = sizes.number() * sizes.outputs + first + o;
      if (to.weight != nullptr) {
        to.weight[d * sizes.waves + f] = static_cast<T>(sum[2 + 3 * o]);
        if (sizes.sines) to.weight[d * sizes.waves + sizes.frequencies + f] = static_cast<T>(sum[3 + 3 * o]);
      }
      if (f == 0 && to.bias != nullptr) to.bias[d] = static_cast<T>(sum[4 + 3 * o]);
    }
  }
}

/// Calls work(call, columns) for every kColumns columns of an embedding with outputs or gradients like `y`.
template <class N, class T, class Call, class Work>
void over_columns(const Call& call, ConstView y, const Work& work) {
  for (std::size_t first = 0; first < call.shape.columns.size(); first += kColumns) {
    const Sizes sizes(call.shape, first);
    work(PeriodicCall<N, T>{sizes, PeriodicNumbers<N, T>(call.weights, call.direction), inputs_of<N, T>(call), y.rows,
                            call.x.cols, y.cols},
         static_cast<unsigned>(sizes.count));
  }
}

template <class N, class T>
void backward(const PeriodicBackward& call) {
  const auto row_blocks = static_cast<unsigned>(ceil_div(call.dy.rows, kPeriodicThreads));
  const int across = call.dy.rows >= kManyRows ? kPeriodicThreads : kWarp;
  const auto wave_blocks = static_cast<unsigned>(ceil_div(call.shape.frequencies, kPeriodicThreads / across));
  const PeriodicGradients<N, T> dy(call);
  const PeriodicOutputs<T> to{call.gradients.frequency.as<T>(), call.gradients.phase.as<T>(),
                              call.gradients.weight.as<T>(), call.gradients.bias.as<T>()};
  const bool trains = to.frequency != nullptr || to.phase != nullptr || to.weight != nullptr || to.bias != nullptr;
  T* dx_dot = call.direction != nullptr ? call.direction->dx_dot.as<T>() : nullptr;
  over_columns<N, T>(call, call.dy, [&](const PeriodicCall<N, T>& own, unsigned columns) {
    if (call.dx) {
      launch(periodic_input_kernel<N, T>, {{row_blocks, columns}, kPeriodicThreads}, own, dy, call.dx.as<T>(), dx_dot);
    }
    if (trains) {
      launch(periodic_weights_kernel<N, T>, {{wave_blocks, columns}, kPeriodicThreads}, own, dy, to, across);
    }
  });
}

/// Calls work(N{}) with the number type of a pass: with derivatives where there is a direction.
template <class T, class Work>
void with_number(const PeriodicDirection* direction, const Work& work) {
  if (direction == nullptr) {
    work(T{});
  } else {
    work(Dual<T>{});
  }
}

}  // namespace

void CudaBackend::periodic_forward(const PeriodicForward& call) {
  const auto row_blocks = static_cast<unsigned>(ceil_div(call.y.rows, kPeriodicThreads));
  with_type(call.y.dtype, [&]<class T>(T) {
    with_number<T>(call.direction, [&]<class N>(N) {
      over_columns<N, T>(call, call.y, [&](const PeriodicCall<N, T>& own, unsigned columns) {
        launch(periodic_forward_kernel<N, T>, {{row_blocks, columns}, kPeriodicThreads}, own, call.y.as<T>());
      });
    });
  });
}

void CudaBackend::periodic_backward(const PeriodicBackward& call) {
  with_type(call.dy.dtype,
            [&]<class T>(T) { with_number<T>(call.direction, [&]<class N>(N) { backward<N, T>(call); }); });
}

}  // namespace gdcore::cuda
