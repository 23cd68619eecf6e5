// Periodic embedding of numbers (formula in encodings.h). x (N, in), y (N, out). The waves of kRows rows of a column
// are computed in cache and never stored for the whole batch; backward computes them again from x. Forward reads 4 and
// writes 4 · width bytes per row and column in float32. Sums over rows have at most kRows terms in T and are then added
// in double precision, over pieces of rows that depend on the shape alone.
// With numbers that carry a derivative (Dual) the same code computes the derivatives along a direction.
#include "cpu_backend.h"
#include "gdcore/encodings.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

inline constexpr std::int64_t kRows = 64, kLanes = 8;  // rows at once; a multiple of kLanes is computed
inline constexpr std::int64_t kWaveCost = 16;          // of a wave, in elements visited by a simple pass

/// One column of up to kRows rows: x, and its waves. The waves of a frequency are kRows apart.
template <class N, class T>
struct Block {
  std::int64_t first, rows, computed;
  N x[kRows];

  /// Rows beyond the last repeat it.
  Block(const Values<N, T>& from, std::int64_t cols, std::int64_t column, std::int64_t first, std::int64_t rows)
      : first(first), rows(rows), computed(ceil_div(rows, kLanes) * kLanes) {
    for (std::int64_t r = 0; r < computed; ++r) {
      const std::int64_t at = (first + min(r, rows - 1)) * cols + column;
      x[r] = from[at];
    }
  }

  /// Without `sines`, the cosines alone.
  GD_INLINE void waves(const PeriodicNumbers<N, T>& weights, std::int64_t k, std::int64_t frequencies, N* sines,
                       N* cosines) const {
    for (std::int64_t f = 0; f < frequencies; ++f) {
      const N w = weights.frequency[k * frequencies + f], b = weights.phase[k * frequencies + f];
      N* c = cosines + f * kRows;
      if constexpr (std::is_same_v<N, T>) {
        if (sines == nullptr) {
#pragma omp simd
          for (std::int64_t r = 0; r < computed; ++r) c[r] = math::cosine_of_turns(turns(w, x[r], b));
          continue;
        }
      }
      N* s = sines + f * kRows;
#pragma omp simd
      for (std::int64_t r = 0; r < computed; ++r) wave(w, x[r], b, s[r], c[r]);
    }
  }
};

/// Scratch memory for the waves of a block: the cosines, then the sines.
template <class N>
N* wave_memory(const PeriodicShape& shape) {
  return static_cast<N*>(scratch(Scratch::pack_a, sizeof(N) * static_cast<std::size_t>(2 * shape.frequencies * kRows)));
}

template <class N, class T>
void forward(const PeriodicForward& call, std::int64_t begin, std::int64_t end) {
  const PeriodicShape& shape = call.shape;
  const PeriodicNumbers<N, T> weights(call.weights, call.direction);
  const Values<N, T> x = inputs_of<N, T>(call);
  const std::int64_t waves = shape.waves(), cols = call.y.cols;
  const bool needs_sines = shape.sines || call.direction != nullptr;
  N *cosines = wave_memory<N>(shape), *sines = needs_sines ? cosines + shape.frequencies * kRows : nullptr;
  for (std::int64_t first = begin; first < end; first += kRows) {
    for (std::int64_t k = 0; k < shape.count(); ++k) {
      const EncodedColumn column = shape.columns.data()[k];
      const Block<N, T> block(x, call.x.cols, column.column, first, min(kRows, end - first));
      block.waves(weights, k, shape.frequencies, sines, cosines);
      T* y = call.y.as<T>() + first * cols + column.out;
      if (shape.identity) {
        for (std::int64_t r = 0; r < block.rows; ++r) y[r * cols] = result(block.x[r]);
        ++y;
      }
      for (std::int64_t d = k * shape.outputs; d < (k + 1) * shape.outputs; ++d, ++y) {
        N sum[kRows];
        for (std::int64_t r = 0; r < block.computed; ++r) sum[r] = weights.bias[d];
        for (std::int64_t f = 0; f < waves; ++f) {
          const N w = weights.weight[d * waves + f];
          const N* wave = cosines + f * kRows;
#pragma omp simd
          for (std::int64_t r = 0; r < block.computed; ++r) sum[r] = sum[r] + w * wave[r];
        }
        for (std::int64_t r = 0; r < block.rows; ++r) {
          y[r * cols] = shape.relu && value_of(sum[r]) <= T(0) ? T(0) : result(sum[r]);
        }
      }
    }
  }
}

/// Where the gradients of the parameters lie among the sums of a piece of rows.
struct Sums {
  std::int64_t phase, weight, bias, count;

  explicit Sums(const PeriodicShape& shape)
      : phase(shape.count() * shape.frequencies),
        weight(2 * phase),
        bias(weight + shape.count() * shape.outputs * shape.waves()),
        count(bias + shape.count() * shape.outputs) {}
};

template <class N, class T>
GD_INLINE double sum_over(const N* terms, std::int64_t rows) {
  T sum = T(0);
#pragma omp simd reduction(+ : sum)
  for (std::int64_t r = 0; r < rows; ++r) sum += result(terms[r]);
  return static_cast<double>(sum);
}

/// The outputs' part of a block's backward pass: adds to the gradients of weight and bias, and computes in `to_cosine`
/// and `to_sine` the gradients of the waves.
template <class N, class T>
void outputs_backward(const PeriodicBackward& call, const PeriodicNumbers<N, T>& weights, const Block<N, T>& block,
                      std::int64_t k, const N* waves, N* gradients, double* sums) {
  const PeriodicShape& shape = call.shape;
  const Sums at(shape);
  const PeriodicGradients<N, T> dy(call);
  const std::int64_t count = shape.waves(), computed = block.computed;
  const std::int64_t out = shape.columns.data()[k].out + (shape.identity ? 1 : 0);
  for (std::int64_t i = 0; i < count * kRows; ++i) gradients[i] = constant<N>(T(0));
  for (std::int64_t o = 0; o < shape.outputs; ++o) {
    const std::int64_t d = k * shape.outputs + o;
    N g[kRows], term[kRows];
    for (std::int64_t r = 0; r < computed; ++r) {
      g[r] = r < block.rows ? dy.at(block.first + r, out + o, shape.relu) : constant<N>(T(0));
    }
    sums[at.bias + d] += sum_over<N, T>(g, computed);
    for (std::int64_t f = 0; f < count; ++f) {
      const N w = weights.weight[d * count + f];
      const N* wave = waves + f * kRows;
      N* to = gradients + f * kRows;
#pragma omp simd
      for (std::int64_t r = 0; r < computed; ++r) {
        term[r] = g[r] * wave[r];
        to[r] = to[r] + w * g[r];
      }
      sums[at.weight + d * count + f] += sum_over<N, T>(term, computed);
    }
  }
}

/// The waves' part: adds to the gradients of frequency and phase, and to dx.
template <class N, class T>
void waves_backward(const PeriodicBackward& call, const PeriodicNumbers<N, T>& weights, const Block<N, T>& block,
                    std::int64_t k, const N* waves, const N* gradients, N* dx, double* sums) {
  const PeriodicShape& shape = call.shape;
  const Sums at(shape);
  const N turn = constant<N>(T(kTwoPi));
  const N *cosines = waves, *sines = waves + shape.frequencies * kRows;
  for (std::int64_t f = 0; f < shape.frequencies; ++f) {
    const std::int64_t number = k * shape.frequencies + f, from = f * kRows;
    const N w = weights.frequency[number];
    N angle[kRows], term[kRows];  // the gradient of 2π w x + b, and that of w
#pragma omp simd
    for (std::int64_t r = 0; r < block.computed; ++r) {
      angle[r] = constant<N>(T(0)) - gradients[from + r] * sines[from + r];
      if (shape.sines) angle[r] = angle[r] + gradients[shape.frequencies * kRows + from + r] * cosines[from + r];
      term[r] = turn * (block.x[r] * angle[r]);
      dx[r] = dx[r] + turn * (w * angle[r]);
    }
    sums[number] += sum_over<N, T>(term, block.computed);
    sums[at.phase + number] += sum_over<N, T>(angle, block.computed);
  }
}

template <class N, class T>
void backward(const PeriodicBackward& call, std::int64_t begin, std::int64_t end, double* sums) {
  const PeriodicShape& shape = call.shape;
  const PeriodicNumbers<N, T> weights(call.weights, call.direction);
  const Values<N, T> x = inputs_of<N, T>(call);
  const PeriodicGradients<N, T> dy(call);
  N *cosines = wave_memory<N>(shape), *sines = cosines + shape.frequencies * kRows;
  N* gradients =
      static_cast<N*>(scratch(Scratch::pack_b, sizeof(N) * static_cast<std::size_t>(2 * shape.frequencies * kRows)));
  for (std::int64_t i = 0; i < Sums(shape).count; ++i) sums[i] = 0.0;
  for (std::int64_t first = begin; first < end; first += kRows) {
    for (std::int64_t k = 0; k < shape.count(); ++k) {
      const EncodedColumn column = shape.columns.data()[k];
      const Block<N, T> block(x, call.x.cols, column.column, first, min(kRows, end - first));
      block.waves(weights, k, shape.frequencies, sines, cosines);
      outputs_backward<N, T>(call, weights, block, k, cosines, gradients, sums);
      N dx[kRows];
      for (std::int64_t r = 0; r < block.computed; ++r) {
        const bool passes = shape.identity && r < block.rows;
        dx[r] = passes ? dy.at(first + r, column.out, false) : constant<N>(T(0));
      }
      waves_backward<N, T>(call, weights, block, k, cosines, gradients, dx, sums);
      for (std::int64_t r = 0; call.dx && r < block.rows; ++r) {
        const std::int64_t at = (first + r) * call.dx.cols + column.column;
        call.dx.as<T>()[at] = value_of(dx[r]);
        if constexpr (!std::is_same_v<N, T>) call.direction->dx_dot.as<T>()[at] = dx[r].dot;
      }
    }
  }
}

template <class T>
void store(const View& to, const double* sums) {
  for (std::int64_t i = 0; to && i < to.size(); ++i) to.as<T>()[i] = static_cast<T>(sums[i]);
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

/// The work of a row, in elements visited by a simple pass.
std::int64_t cost_of(const PeriodicShape& shape) { return shape.count() * shape.waves() * (kWaveCost + shape.outputs); }

}  // namespace

void CpuBackend::periodic_forward(const PeriodicForward& call) {
  with_type(call.y.dtype, [&]<class T>(T) {
    with_number<T>(call.direction, [&]<class N>(N) {
      parallel_for(call.y.rows, cost_of(call.shape), kRows,
                   [&](std::int64_t begin, std::int64_t end) { forward<N, T>(call, begin, end); });
    });
  });
}

void CpuBackend::periodic_backward(const PeriodicBackward& call) {
  const Sums at(call.shape);
  with_type(call.dy.dtype, [&]<class T>(T) {
    with_number<T>(call.direction, [&]<class N>(N) {
      const auto piece = [&](std::int64_t begin, std::int64_t end, double* sums) {
        backward<N, T>(call, begin, end, sums);
      };
      const std::int64_t cost = 2 * cost_of(call.shape);
      const double* sums = over_pieces(call.dy.rows, cost, at.count, piece, adding(at.count), kRows);
      store<T>(call.gradients.frequency, sums);
      store<T>(call.gradients.phase, sums + at.phase);
      store<T>(call.gradients.weight, sums + at.weight);
      store<T>(call.gradients.bias, sums + at.bias);
    });
  });
}

}  // namespace gdcore::GDCORE_ISA
