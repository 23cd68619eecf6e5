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

constexpr std::int64_t kMostAtOnce = 16;

/// Returns how many rows of some arrays to pass over together: the processor then begins the sums of a row before those
/// of the row before are added up, which takes long beside the sums of a short row. More rows were slower on arrays in
/// the third-level cache.
template <class T>
std::int64_t rows_at_once(std::int64_t cols, std::int64_t arrays) {
  constexpr std::int64_t kElements = (4 << 10) / sizeof(T);
  return max(1, min(kMostAtOnce, kElements / (cols * arrays)));
}

/// Computes the mean and 1/√(σ²+ε) of rows [r0, end), at most kMostAtOnce.
template <class T>
void normalise(const LayerNormForward& call, std::int64_t r0, std::int64_t end, bool prefetches) {
  const std::int64_t cols = call.x.cols;
  const double share = 1.0 / static_cast<double>(cols);
  const T* rows = call.x.as<T>();
  T near[kMostAtOnce];
  double rest[kMostAtOnce], squares[kMostAtOnce];
  for (std::int64_t r = r0; r < end; ++r) {
    const T* x = rows + r * cols;
    near[r - r0] = static_cast<T>(row_sum<T>(cols, [=](std::int64_t c) { return x[c]; }) * share);
    if (prefetches && r + 2 < call.x.rows) prefetch(x + 2 * cols, cols);
  }
  // Deviations from the rounded mean and their squares; the sum of deviations corrects the rounding.
  for (std::int64_t r = r0; r < end; ++r) {
    const T *x = rows + r * cols, from = near[r - r0];
    row_sums<T>(cols, rest[r - r0], squares[r - r0], [=](std::int64_t c, T& square) __attribute__((always_inline)) {
      const T d = x[c] - from;
      square = d * d;
      return d;
    });
  }
  for (std::int64_t r = r0; r < end; ++r) {
    const double missing = rest[r - r0] * share, v = squares[r - r0] * share - missing * missing;
    call.mean.as<T>()[r] = static_cast<T>(static_cast<double>(near[r - r0]) + missing);
    call.rstd.as<T>()[r] = static_cast<T>(1.0 / math::sqrt((v < 0.0 ? 0.0 : v) + call.eps));
  }
}

/// Normalises rows, then calls `scale` for each while it is in the cache.
template <class T>
void forward(const LayerNormForward& call, FunctionRef<void(std::int64_t)> scale, std::int64_t begin,
             std::int64_t end) {
  const bool around = beyond_cache(call.x.size(), sizeof(T));
  const std::int64_t at_once = rows_at_once<T>(call.x.cols, 1);
  for (std::int64_t r0 = begin; r0 < end; r0 += at_once) {
    const std::int64_t last = min(end, r0 + at_once);
    normalise<T>(call, r0, last, around);
    for (std::int64_t r = r0; r < last; ++r) scale(r);
  }
}

/// Rows [r0, end), at most kMostAtOnce: dy ← dy f'(saved), dx = rstd (γdy - mean(γdy) - â mean(γdy â)); adds their
/// terms of dγ and dβ.
template <class T>
void backward_rows(const NormBackward& call, const Slopes<T>& slopes, std::int64_t r0, std::int64_t end, T* sum_gamma,
                   T* sum_beta) {
  const std::int64_t cols = call.x.cols;
  const T *gamma = call.gamma.as<T>(), *means = call.mean.as<T>(), *rstds = call.rstd.as<T>();
  double sum[kMostAtOnce], with_x[kMostAtOnce];
  if (call.saved) {
    slopes.multiply(call.saved.as<T>() + r0 * cols, call.dy.as<T>() + r0 * cols, end - r0, cols, cols);
  }
  const auto scaled = [=](const T* dy, std::int64_t c)
                          __attribute__((always_inline)) { return gamma ? dy[c] * gamma[c] : dy[c]; };
  for (std::int64_t r = r0; r < end; ++r) {
    const T *x = call.x.as<T>() + r * cols, *dy = call.dy.as<T>() + r * cols, mean = means[r], rstd = rstds[r];
    if (sum_gamma != nullptr) {
      row_sums<T>(cols, sum[r - r0], with_x[r - r0], [=](std::int64_t c, T& product) __attribute__((always_inline)) {
        const T d = dy[c], normalised = (x[c] - mean) * rstd, s = scaled(dy, c);
        sum_gamma[c] += d * normalised;
        sum_beta[c] += d;
        product = s * normalised;
        return s;
      });
    } else {
      row_sums<T>(cols, sum[r - r0], with_x[r - r0], [=](std::int64_t c, T& product) __attribute__((always_inline)) {
        product = scaled(dy, c) * ((x[c] - mean) * rstd);
        return scaled(dy, c);
      });
    }
  }
  if (!call.dx) return;
  const bool around = beyond_cache(call.x.size(), sizeof(T));
  for (std::int64_t r = r0; r < end; ++r) {
    const T *x = call.x.as<T>() + r * cols, *dy = call.dy.as<T>() + r * cols, mean = means[r], rstd = rstds[r];
    const T s1 = static_cast<T>(sum[r - r0] / static_cast<double>(cols));
    const T s2 = static_cast<T>(with_x[r - r0] / static_cast<double>(cols));
    const auto next = [=](std::int64_t c, std::int64_t count) __attribute__((always_inline)) {
      prefetch(x + cols + c, count);
      prefetch(dy + cols + c, count);
    };
    fill(
        call.dx.as<T>() + r * cols, 0, cols, around,
        [=](std::int64_t c)
            __attribute__((always_inline)) { return rstd * (scaled(dy, c) - s1 - (x[c] - mean) * rstd * s2); },
        next);
  }
}

/// dγ and dβ of one piece of rows: sums in T over at most kRowsAtOnce rows, added to the doubles of `total` (2 x cols).
template <class T>
void backward_piece(const NormBackward& call, const Slopes<T>& slopes, std::int64_t begin, std::int64_t end,
                    double* total, T* sum) {
  const std::int64_t cols = call.x.cols;
  const std::int64_t at_once = rows_at_once<T>(cols, 2);
  for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] = 0.0;
  for (std::int64_t r0 = begin; r0 < end; r0 += kRowsAtOnce) {
    const std::int64_t last = min(end, r0 + kRowsAtOnce);
    for (std::int64_t c = 0; c < 2 * cols; ++c) sum[c] = T(0);
    for (std::int64_t r = r0; r < last; r += at_once) {
      backward_rows(call, slopes, r, min(last, r + at_once), sum, sum + cols);
    }
    for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] += static_cast<double>(sum[c]);
  }
}

template <class T>
void backward(const NormBackward& call) {
  const Slopes<T> slopes(call.activation);
  const std::int64_t rows = call.x.rows, cols = call.x.cols, stride = cols * 8;
  if (!call.dgamma && !call.dbeta) {
    parallel_for(rows, stride, 1, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t at_once = rows_at_once<T>(cols, 2);
      for (std::int64_t r = begin; r < end; r += at_once) {
        backward_rows<T>(call, slopes, r, min(end, r + at_once), nullptr, nullptr);
      }
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
