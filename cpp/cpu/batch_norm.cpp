// Batch norm over the rows of each column (chapter, slides 35-38; Ioffe & Szegedy 2015):
// μ = Σ a / N, σ² = Σ (a-μ)² / N, â = (a-μ) / √(σ²+ε), y = f(γ â + β). Saved for backward: x, μ, 1/√(σ²+ε), and y or
// the pre-activation. A block of columns is read again from the cache: 8 bytes per element forward, 12 backward. With
// many rows x and dy are read from memory twice: 12 and 20 bytes.
#include <array>
#include <variant>

#include "cpu_backend.h"
#include "gdcore/optimizer_rules.h"
#include "loops.h"
#include "slopes.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Mean, scale and shift of each column.
template <class T>
struct Columns {
  T mean[kMostColumns], scale[kMostColumns], shift[kMostColumns];
};

/// y = f((x - mean) · scale + shift) in a block.
template <class T, class Function>
void scale_rows(ConstView x, View pre, View y, const Columns<T>& by, const Function& f, const Block& in) {
  const std::int64_t c0 = in.c0, cols = in.cols;
  const bool around = !pre && y.data != x.data && beyond_cache(x.size(), sizeof(T));
  const T *mean = by.mean, *scale = by.scale, *shift = by.shift;
  for (std::int64_t r = in.begin; r < in.end; ++r) {
    const T* from = x.as<T>() + r * x.cols + c0;
    T* to = y.as<T>() + r * x.cols + c0;
    const auto scaled = [=](std::int64_t c)
                            __attribute__((always_inline)) { return (from[c] - mean[c]) * scale[c] + shift[c]; };
    if constexpr (Function::saves_input) {
      if (pre) {
        T* kept = pre.as<T>() + r * x.cols + c0;
        fill(kept, 0, cols, false, scaled);
        fill(to, 0, cols, false, [=](std::int64_t c) __attribute__((always_inline)) { return f.value(kept[c]); });
        continue;
      }
    }
    fill(to, 0, cols, around, [=](std::int64_t c) __attribute__((always_inline)) { return f.value(scaled(c)); });
  }
}

template <class T>
using ScaleRows = FunctionRef<void(const Columns<T>&, const Block&)>;

/// Computes the mean of each column of a block and the sum of squared deviations from it, given the mean of other rows,
/// or null. Chan, Golub & LeVeque 1983: the sum of deviations from any shift corrects that of their squares. The mean
/// of the at least as many rows before the block is as good a shift as the block's own where both are merged: the term
/// that cancels is at most about twice as large as the sum of squares of them all.
template <class T>
void moments(const BatchNormForward& call, const Block& of, const double* other, double* mean, double* squares) {
  const std::int64_t rows = of.end - of.begin, cols = of.cols, stride = call.x.cols;
  const T* x = call.x.as<T>() + of.begin * stride + of.c0;
  double sum[1][kMostColumns], rest[2][kMostColumns];
  T near[kMostColumns];
  const double count = static_cast<double>(rows);
  if (other == nullptr) {
    column_sums<T, 1>(rows, cols, sum,
                      [=](std::int64_t r, std::int64_t c) __attribute__((always_inline)) { return x[r * stride + c]; });
    for (std::int64_t c = 0; c < cols; ++c) sum[0][c] /= count;
  }
  for (std::int64_t c = 0; c < cols; ++c) near[c] = static_cast<T>(other != nullptr ? other[c] : sum[0][c]);
  // Deviations from the rounded mean and their squares; the sum of deviations corrects the rounding.
  const T* from = near;
  column_sums<T, 2>(rows, cols, rest, [=](std::int64_t r, std::int64_t c, T& square) __attribute__((always_inline)) {
    const T d = x[r * stride + c] - from[c];
    square = d * d;
    return d;
  });
  for (std::int64_t c = 0; c < cols; ++c) {
    const double missing = rest[0][c] / count, left = rest[1][c] - rest[0][c] * missing;
    mean[c] = static_cast<double>(near[c]) + missing;
    squares[c] = left < 0.0 ? 0.0 : left;
  }
}

/// Merges the moments of `more` further rows into those of `rows` (Chan, Golub & LeVeque 1983).
void join(std::int64_t cols, std::int64_t rows, double* mean, double* squares, std::int64_t more, const double* mean2,
          const double* squares2) {
  const double share = static_cast<double>(more) / static_cast<double>(rows + more);
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) {
    const double apart = mean2[c] - mean[c];
    mean[c] += apart * share;
    squares[c] += squares2[c] + apart * apart * share * static_cast<double>(rows);
  }
}

/// Computes the statistics of columns [c0, c0 + cols) from their moments and saves them for backward and the running
/// averages.
template <class T>
void finish(const BatchNormForward& call, std::int64_t c0, std::int64_t cols, const double* mean, const double* squares,
            Columns<T>& by) {
  const double rows = static_cast<double>(call.x.rows), eps = call.eps;
  const T *gamma = call.gamma.as<T>() + c0, *beta = call.beta.as<T>() + c0;
  T *to_variance = call.variance.as<T>() + c0, *to_rstd = call.rstd.as<T>() + c0, *to_mean = call.mean.as<T>() + c0;
  const bool scaled = bool(call.gamma), shifted = bool(call.beta);
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) {
    const double variance = squares[c] / rows;
    const T rstd = static_cast<T>(1.0 / math::sqrt(variance + eps));
    to_variance[c] = static_cast<T>(variance);
    to_rstd[c] = rstd;
    to_mean[c] = by.mean[c] = static_cast<T>(mean[c]);
    by.scale[c] = scaled ? gamma[c] * rstd : rstd;
    by.shift[c] = shifted ? beta[c] : T(0);
  }
}

/// Calls work(first column, columns) over [0, cols) in steps of at most kMostColumns, the limit of column_sums.
template <class Work>
GD_INLINE void in_steps(std::int64_t cols, const Work& work) {
  for (std::int64_t c = 0; c < cols; c += kMostColumns) work(c, min(kMostColumns, cols - c));
}

/// Calls work(first column, columns) for blocks of columns, on the pool.
template <class T, class Work>
void over_columns(std::int64_t rows, std::int64_t cols, const Work& work) {
  const std::int64_t block = column_block<T>(rows, cols);
  parallel_for(cols, rows * 4, block, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; c += block) work(c, min(block, end - c));
  });
}

/// For many rows: few columns fit into the cache at a time, so the rows are split and x is read twice.
template <class T>
void forward_tall(const BatchNormForward& call, ScaleRows<T> scale) {
  constexpr std::int64_t kRows = 64;  // the first are read again while they are in the cache
  const std::int64_t cols = call.x.cols;
  const auto piece = [&](std::int64_t begin, std::int64_t end, double* sums) {
    double mean[kMostColumns], squares[kMostColumns];
    for (std::int64_t r = begin; r < end; r += kRows) {
      in_steps(cols, [&](std::int64_t c0, std::int64_t step) {
        const std::int64_t last = min(end, r + kRows);
        if (r == begin) {
          moments<T>(call, {r, last, c0, step}, nullptr, sums + c0, sums + cols + c0);
        } else {
          moments<T>(call, {r, last, c0, step}, sums + c0, mean, squares);
          join(step, r - begin, sums + c0, sums + cols + c0, last - r, mean, squares);
        }
      });
    }
  };
  const auto merge = [=](double* into, const double* from, std::int64_t begin, std::int64_t end) {
    join(cols, begin, into, into + cols, end - begin, from, from + cols);
  };
  const double* sums = over_pieces(call.x.rows, cols * 6, 2 * cols, piece, merge);
  in_steps(cols, [&](std::int64_t c0, std::int64_t step) {
    Columns<T> by;
    finish(call, c0, step, sums + c0, sums + cols + c0, by);
    parallel_for(call.x.rows, step * 2, 1,
                 [&](std::int64_t begin, std::int64_t end) { scale(by, {begin, end, c0, step}); });
  });
}

template <class T>
void forward(const BatchNormForward& call, ScaleRows<T> scale, std::int64_t c0, std::int64_t cols) {
  double mean[kMostColumns], squares[kMostColumns];
  Columns<T> by;
  const Block block{0, call.x.rows, c0, cols};
  moments<T>(call, block, nullptr, mean, squares);
  finish(call, c0, cols, mean, squares, by);
  scale(by, block);
}

template <class T>
constexpr std::array<T, kMostColumns> kZeros{};
template <class T>
constexpr std::array<T, kMostColumns> kOnes = [] {
  std::array<T, kMostColumns> ones{};
  ones.fill(T(1));
  return ones;
}();

/// The statistics of the columns from c0 on; constants where there are none.
template <class T>
GD_INLINE const T* columns_or(ConstView statistics, std::int64_t c0, const std::array<T, kMostColumns>& otherwise) {
  return statistics ? statistics.as<T>() + c0 : otherwise.data();
}

/// dy ← dy f'(saved) in a block; sums Σ dy and Σ dy â of its columns.
template <class T>
void backward_sums(const NormBackward& call, const Block& in, double (*total)[kMostColumns]) {
  const Slopes<T> slopes(call.activation);
  const std::int64_t stride = call.x.cols, at = in.begin * stride + in.c0, rows = in.end - in.begin;
  const T *x = call.x.as<T>() + at, *mean = columns_or(call.mean, in.c0, kZeros<T>),
          *rstd = columns_or(call.rstd, in.c0, kOnes<T>);
  const T* saved = call.saved ? call.saved.as<T>() + at : nullptr;
  T* dy = call.dy.as<T>() + at;
  column_sums<T, 2>(
      rows, in.cols, total,
      [=](std::int64_t r, std::int64_t c, T& with_x) __attribute__((always_inline)) {
        const T d = dy[r * stride + c];
        with_x = d * ((x[r * stride + c] - mean[c]) * rstd[c]);
        return d;
      },
      [=](std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
        const std::int64_t first = begin * stride;
        if (saved != nullptr) slopes.multiply(saved + first, dy + first, end - begin, in.cols, stride);
      });
}

/// Coefficients of dx by column: dx = scale (dy - mean_dy - â mean_with_x).
template <class T>
struct BackwardColumns {
  T scale[kMostColumns], mean_dy[kMostColumns], mean_with_x[kMostColumns];
};

template <class T>
void finish_backward(const NormBackward& call, std::int64_t c0, std::int64_t cols, const double* sum,
                     const double* with_x, BackwardColumns<T>& by) {
  const double count = static_cast<double>(call.x.rows);
  const T *gamma = columns_or(call.gamma, c0, kOnes<T>), *rstd = columns_or(call.rstd, c0, kOnes<T>);
  for (std::int64_t c = 0; call.dbeta && c < cols; ++c) call.dbeta.as<T>()[c0 + c] = static_cast<T>(sum[c]);
  for (std::int64_t c = 0; call.dgamma && c < cols; ++c) call.dgamma.as<T>()[c0 + c] = static_cast<T>(with_x[c]);
  for (std::int64_t c = 0; c < cols; ++c) {
    by.mean_dy[c] = call.constant ? T(0) : static_cast<T>(sum[c] / count);
    by.mean_with_x[c] = call.constant ? T(0) : static_cast<T>(with_x[c] / count);
    by.scale[c] = gamma[c] * rstd[c];
  }
}

/// Writes dx of rows [begin, end), last row first, as the last rows are still in the cache. Arrays beyond the caches
/// are read forwards, as the processor prefetches.
template <class T>
void backward_rows(const NormBackward& call, const BackwardColumns<T>& by, std::int64_t begin, std::int64_t end,
                   std::int64_t c0, std::int64_t cols) {
  const bool far = beyond_cache(call.x.size(), sizeof(T)), around = far && call.dx.data != call.dy.data;
  const T *mean = columns_or(call.mean, c0, kZeros<T>), *rstd = columns_or(call.rstd, c0, kOnes<T>);
  const T *scale = by.scale, *mean_dy = by.mean_dy, *mean_with_x = by.mean_with_x;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = (far ? i : begin + end - 1 - i) * call.x.cols + c0;
    const T *from = call.x.as<T>() + at, *d = call.dy.as<T>() + at;
    fill(call.dx.as<T>() + at, 0, cols, around, [=](std::int64_t c) __attribute__((always_inline)) {
      const T normalised = (from[c] - mean[c]) * rstd[c];
      return scale[c] * (d[c] - mean_dy[c] - normalised * mean_with_x[c]);
    });
  }
}

template <class T>
void backward_tall(const NormBackward& call) {
  const std::int64_t cols = call.x.cols;
  const auto piece = [&](std::int64_t begin, std::int64_t end, double* sums) {
    double total[2][kMostColumns];
    in_steps(cols, [&](std::int64_t c0, std::int64_t step) {
      backward_sums<T>(call, {begin, end, c0, step}, total);
      for (std::int64_t c = 0; c < step; ++c) {
        sums[c0 + c] = total[0][c];
        sums[cols + c0 + c] = total[1][c];
      }
    });
  };
  const double* sums = over_pieces(call.x.rows, cols * 6, 2 * cols, piece, adding(2 * cols));
  in_steps(cols, [&](std::int64_t c0, std::int64_t step) {
    BackwardColumns<T> by;
    finish_backward(call, c0, step, sums + c0, sums + cols + c0, by);
    if (!call.dx) return;
    parallel_for(call.x.rows, step * 2, 1,
                 [&](std::int64_t begin, std::int64_t end) { backward_rows(call, by, begin, end, c0, step); });
  });
}

template <class T>
void backward(const NormBackward& call, std::int64_t c0, std::int64_t cols) {
  double total[2][kMostColumns];
  BackwardColumns<T> by;
  backward_sums<T>(call, {0, call.x.rows, c0, cols}, total);
  finish_backward(call, c0, cols, total[0], total[1], by);
  if (call.dx) backward_rows(call, by, 0, call.x.rows, c0, cols);
}

template <class T>
void forward(const BatchNormForward& call, ScaleRows<T> scale) {
  if (is_tall<T>(call.x.rows, call.x.cols)) return forward_tall<T>(call, scale);
  over_columns<T>(call.x.rows, call.x.cols,
                  [&](std::int64_t c, std::int64_t cols) { forward<T>(call, scale, c, cols); });
}

template <class T>
void backward(const NormBackward& call) {
  if (is_tall<T>(call.x.rows, call.x.cols)) return backward_tall<T>(call);
  over_columns<T>(call.x.rows, call.x.cols, [&](std::int64_t c, std::int64_t cols) { backward<T>(call, c, cols); });
}

template <class T>
void affine(const ColumnAffine& call, ScaleRows<T> scale) {
  in_steps(call.x.cols, [&](std::int64_t c0, std::int64_t cols) {
    Columns<T> by;
    const T *mean = columns_or(call.mean, c0, kZeros<T>), *spread = columns_or(call.spread, c0, kOnes<T>);
    const T *gamma = columns_or(call.gamma, c0, kOnes<T>), *beta = columns_or(call.beta, c0, kZeros<T>);
    const double eps = call.spread ? call.eps : 0.0;
    for (std::int64_t c = 0; c < cols; ++c) {
      const double given = static_cast<double>(spread[c]), variance = call.kind == Spread::std ? given * given : given;
      // Without ε, σ is not squared, as data in float64 may be huge or tiny.
      const double spread_c = call.kind == Spread::std && eps == 0.0 ? given : math::sqrt(variance + eps);
      by.mean[c] = mean[c];
      by.scale[c] = gamma[c] * static_cast<T>(1.0 / spread_c);
      by.shift[c] = beta[c];
    }
    parallel_for(call.x.rows, cols * 2, 1,
                 [&](std::int64_t begin, std::int64_t end) { scale(by, {begin, end, c0, cols}); });
  });
}

}  // namespace

void CpuBackend::batch_norm_forward(const BatchNormForward& call) {
  const auto run = [&]<class T>(T, const auto& f) {
    forward<T>(
        call, [&](const Columns<T>& by, const Block& block) { scale_rows<T>(call.x, call.pre, call.y, by, f, block); });
  };
  with_type(call.x.dtype, [&]<class T>(T t) { std::visit([&](const auto& f) { run(t, f); }, call.activation); });
}

void CpuBackend::batch_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype, [&]<class T>(T) { backward<T>(call); });
}

void CpuBackend::column_affine(const ColumnAffine& call) {
  const auto run = [&]<class T>(T, const auto& f) {
    affine<T>(call,
              [&](const Columns<T>& by, const Block& block) { scale_rows<T>(call.x, call.pre, call.y, by, f, block); });
  };
  with_type(call.x.dtype, [&]<class T>(T t) { std::visit([&](const auto& f) { run(t, f); }, call.activation); });
}

}  // namespace gdcore::GDCORE_ISA
