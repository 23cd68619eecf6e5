// Layer norm over the columns of each row (chapter, slides 39-40; Ba, Kiros & Hinton 2016):
// â = (a-μ) / √(σ²+ε), y = f(γ â + β), μ and biased σ² of the row. Saved for backward: x, μ, 1/√(σ²+ε), and y or the
// pre-activation. A row is read again from the first-level cache: 8 bytes per element forward, 12 backward.
// dγ = Σ_n dy â and dβ = Σ_n dy are summed over pieces of the rows; the split depends on the shape alone.
#include <variant>

#include "cpu_backend.h"
#include "gdcore/optimizer_rules.h"
#include "loops.h"
#include "slopes.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// y = f(γ (x - mean) rstd + β) of one row.
template <class T, class Function>
void scale_row(const LayerNormForward& call, const Function& f, std::int64_t r) {
  const std::int64_t cols = call.x.cols;
  const T *x = call.x.as<T>() + r * cols, *gamma = call.gamma.as<T>(), *beta = call.beta.as<T>();
  const T mean = call.mean.as<T>()[r], rstd = call.rstd.as<T>()[r];
  const bool around = beyond_cache(call.x.size(), sizeof(T)), plain = std::is_same_v<Function, Identity>;
  T *y = call.y.as<T>() + r * cols, *kept = call.pre ? call.pre.as<T>() + r * cols : nullptr;
  T* first = kept != nullptr ? kept : y;
  const auto scaled = [=](std::int64_t c) __attribute__((always_inline)) { return (x[c] - mean) * rstd; };
  const auto affine = [=](std::int64_t c) __attribute__((always_inline)) { return scaled(c) * gamma[c] + beta[c]; };
  if (kept == nullptr && gamma != nullptr) {
    fill(y, 0, cols, around, [=](std::int64_t c) __attribute__((always_inline)) { return f.value(affine(c)); });
  } else if (gamma != nullptr) {
    fill(first, 0, cols, false, affine);
  } else {
    fill(first, 0, cols, around && plain, scaled);
  }
  if (kept == nullptr && (gamma != nullptr || plain)) return;
  fill(y, 0, cols, false, [=](std::int64_t c) __attribute__((always_inline)) { return f.value(first[c]); });
}

/// Computes the mean and 1/√(σ²+ε) of each row, then calls `scale` while the row is in the cache.
template <class T>
void forward(const LayerNormForward& call, FunctionRef<void(std::int64_t)> scale, std::int64_t begin,
             std::int64_t end) {
  const std::int64_t cols = call.x.cols;
  const double share = 1.0 / static_cast<double>(cols);
  const bool around = beyond_cache(call.x.size(), sizeof(T));
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = call.x.as<T>() + r * cols;
    const T near = static_cast<T>(row_sum<T>(cols, [=](std::int64_t c) { return x[c]; }) * share);
    if (around && r + 2 < end) prefetch(x + 2 * cols, cols);
    // Deviations from the rounded mean and their squares; the sum of deviations corrects the rounding.
    double rest, squares;
    row_sums<T>(cols, rest, squares, [=](std::int64_t c, T& square) __attribute__((always_inline)) {
      const T d = x[c] - near;
      square = d * d;
      return d;
    });
    const double missing = rest * share, v = squares * share - missing * missing;
    call.mean.as<T>()[r] = static_cast<T>(static_cast<double>(near) + missing);
    call.rstd.as<T>()[r] = static_cast<T>(1.0 / math::sqrt((v < 0.0 ? 0.0 : v) + call.eps));
    scale(r);
  }
}

/// One row: dy ← dy f'(saved), dx = rstd (γdy - mean(γdy) - â mean(γdy â)); adds the row's terms of dγ and dβ.
template <class T>
void backward_row(const NormBackward& call, const Slopes<T>& slopes, std::int64_t r, T* sum_gamma, T* sum_beta) {
  const std::int64_t cols = call.x.cols;
  const T *x = call.x.as<T>() + r * cols, *gamma = call.gamma.as<T>();
  T* dy = call.dy.as<T>() + r * cols;
  const T mean = call.mean.as<T>()[r], rstd = call.rstd.as<T>()[r];
  if (call.saved) slopes.multiply(call.saved.as<T>() + r * cols, dy, 1, cols, cols);
  const auto scaled = [=](std::int64_t c) __attribute__((always_inline)) { return gamma ? dy[c] * gamma[c] : dy[c]; };
  const auto normal = [=](std::int64_t c) __attribute__((always_inline)) { return (x[c] - mean) * rstd; };
  double sum, with_x;
  if (sum_gamma != nullptr) {
    row_sums<T>(cols, sum, with_x, [=](std::int64_t c, T& product) __attribute__((always_inline)) {
      const T d = dy[c], normalised = normal(c), s = scaled(c);
      sum_gamma[c] += d * normalised;
      sum_beta[c] += d;
      product = s * normalised;
      return s;
    });
  } else {
    row_sums<T>(cols, sum, with_x, [=](std::int64_t c, T& product) __attribute__((always_inline)) {
      product = scaled(c) * normal(c);
      return scaled(c);
    });
  }
  if (!call.dx) return;
  T* dx = call.dx.as<T>() + r * cols;
  const T s1 = static_cast<T>(sum / static_cast<double>(cols)), s2 = static_cast<T>(with_x / static_cast<double>(cols));
  const auto next = [=](std::int64_t c, std::int64_t count) __attribute__((always_inline)) {
    prefetch(x + cols + c, count);
    prefetch(dy + cols + c, count);
  };
  fill(
      dx, 0, cols, beyond_cache(call.x.size(), sizeof(T)),
      [=](std::int64_t c) __attribute__((always_inline)) { return rstd * (scaled(c) - s1 - normal(c) * s2); }, next);
}

/// dγ and dβ of one piece of rows: sums in T over at most kRowsAtOnce rows, added to the doubles of `total` (2 x cols).
template <class T>
void backward_piece(const NormBackward& call, const Slopes<T>& slopes, std::int64_t begin, std::int64_t end,
                    double* total, T* sum) {
  const std::int64_t cols = call.x.cols;
  for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] = 0.0;
  for (std::int64_t r0 = begin; r0 < end; r0 += kRowsAtOnce) {
    for (std::int64_t c = 0; c < 2 * cols; ++c) sum[c] = T(0);
    for (std::int64_t r = r0; r < min(end, r0 + kRowsAtOnce); ++r) backward_row(call, slopes, r, sum, sum + cols);
    for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] += static_cast<double>(sum[c]);
  }
}

template <class T>
void backward(const NormBackward& call) {
  const Slopes<T> slopes(call.activation);
  const std::int64_t rows = call.x.rows, cols = call.x.cols, stride = cols * 8;
  if (!call.dgamma && !call.dbeta) {
    parallel_for(rows, stride, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) backward_row<T>(call, slopes, r, nullptr, nullptr);
    });
    return;
  }
  // A piece's buffer has the sums in double, then space for the sums in T.
  const auto piece = [&](std::int64_t begin, std::int64_t end, double* total) {
    backward_piece(call, slopes, begin, end, total, reinterpret_cast<T*>(total + 2 * cols));
  };
  const double* total = over_pieces(rows, stride, 4 * cols, piece, adding(2 * cols), kRowsAtOnce);
  for (std::int64_t c = 0; c < cols; ++c) {
    if (call.dgamma) call.dgamma.as<T>()[c] = static_cast<T>(total[c]);
    if (call.dbeta) call.dbeta.as<T>()[c] = static_cast<T>(total[cols + c]);
  }
}

}  // namespace

void CpuBackend::layer_norm_forward(const LayerNormForward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          const auto scale = [&](std::int64_t r) { scale_row<T>(call, f, r); };
          parallel_for(call.x.rows, call.x.cols * 6, 1,
                       [&](std::int64_t begin, std::int64_t end) { forward<T>(call, scale, begin, end); });
        },
        call.activation);
  });
}

void CpuBackend::layer_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype, [&]<class T>(T) { backward<T>(call); });
}

}  // namespace gdcore::GDCORE_ISA
