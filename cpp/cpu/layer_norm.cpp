// Layer norm over the columns of each row (chapter, slides 39-40; Ba, Kiros & Hinton 2016):
// â = (a-μ) / √(σ²+ε), y = f(γ â + β), μ and biased σ² of the row. Saved for backward: x, μ, 1/√(σ²+ε), and y or the
// pre-activation. A row is read again from the first-level cache: 8 bytes an element forward, 12 backward.
// dγ = Σ_n dy â and dβ = Σ_n dy are summed over pieces of the rows whose number depends on the shape alone.
#include <variant>

#include "cpu_backend.h"
#include "gdcore/optimizer.h"
#include "gdcore/scratch.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

template <class T, class Function>
void forward(const LayerNormForward& call, const Function& f, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = call.x.cols;
  const T *gamma = call.gamma.as<T>(), *beta = call.beta.as<T>();
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = call.x.as<T>() + r * cols;
    T* y = call.y.as<T>() + r * cols;
    const double count = static_cast<double>(cols);
    const T near = static_cast<T>(row_sum<T>(cols, [=](std::int64_t c) { return x[c]; }) / count);
    // Deviations from that mean, and their squares: what rounding took off the mean comes out again.
    const double missing = row_sum<T>(cols, [=](std::int64_t c) { return x[c] - near; }) / count;
    const double squares = row_sum<T>(cols, [=](std::int64_t c) { return (x[c] - near) * (x[c] - near); });
    const T mean = static_cast<T>(static_cast<double>(near) + missing);
    const double v = squares / count - missing * missing;
    const T rstd = static_cast<T>(1.0 / math::sqrt((v < 0.0 ? 0.0 : v) + call.eps));
    call.mean.as<T>()[r] = mean;
    call.rstd.as<T>()[r] = rstd;
    if (gamma != nullptr) {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) y[c] = (x[c] - mean) * rstd * gamma[c] + beta[c];
    } else {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) y[c] = (x[c] - mean) * rstd;
    }
    if (call.pre) {
      T* pre = call.pre.as<T>() + r * cols;
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) pre[c] = y[c];
    }
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) y[c] = f.value(y[c]);
  }
}

/// One row: dy ← dy f'(saved), dx = rstd (γdy - mean(γdy) - â mean(γdy â)), and the row's terms of dγ and dβ.
template <class T, class Function>
void backward_row(const NormBackward& call, const Function& f, std::int64_t r, T* sum_gamma, T* sum_beta) {
  const std::int64_t cols = call.x.cols;
  const T *x = call.x.as<T>() + r * cols, *gamma = call.gamma.as<T>();
  T* dy = call.dy.as<T>() + r * cols;
  const T mean = call.mean.as<T>()[r], rstd = call.rstd.as<T>()[r];
  if (call.saved) {
    const T* saved = call.saved.as<T>() + r * cols;
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) dy[c] *= f.slope(saved[c]);
  }
  if (sum_gamma != nullptr) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      sum_gamma[c] += dy[c] * ((x[c] - mean) * rstd);
      sum_beta[c] += dy[c];
    }
  }
  if (!call.dx) return;
  T* dx = call.dx.as<T>() + r * cols;
  const auto scaled = [=](std::int64_t c) __attribute__((always_inline)) { return gamma ? dy[c] * gamma[c] : dy[c]; };
  const T s1 = static_cast<T>(row_sum<T>(cols, scaled) / static_cast<double>(cols));
  const T s2 = static_cast<T>(row_sum<T>(cols, [=](std::int64_t c) { return scaled(c) * ((x[c] - mean) * rstd); }) /
                              static_cast<double>(cols));
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) dx[c] = rstd * (scaled(c) - s1 - (x[c] - mean) * rstd * s2);
}

/// dγ and dβ of one piece of rows: T sums over at most kRowsAtOnce rows, then the doubles of `total` (2 x cols).
template <class T, class Function>
void backward_piece(const NormBackward& call, const Function& f, std::int64_t begin, std::int64_t end, double* total,
                    T* sum) {
  const std::int64_t cols = call.x.cols;
  for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] = 0.0;
  for (std::int64_t r0 = begin; r0 < end; r0 += kRowsAtOnce) {
    for (std::int64_t c = 0; c < 2 * cols; ++c) sum[c] = T(0);
    for (std::int64_t r = r0; r < min(end, r0 + kRowsAtOnce); ++r) backward_row<T>(call, f, r, sum, sum + cols);
    for (std::int64_t c = 0; c < 2 * cols; ++c) total[c] += static_cast<double>(sum[c]);
  }
}

template <class T, class Function>
void backward(const NormBackward& call, const Function& f) {
  const std::int64_t rows = call.x.rows, cols = call.x.cols, stride = cols * 8;
  if (!call.dgamma && !call.dbeta) {
    parallel_for(rows, stride, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) backward_row<T>(call, f, r, nullptr, nullptr);
    });
    return;
  }
  constexpr std::int64_t kPieces = 32;
  const std::int64_t piece = max(ceil_div(rows, kPieces), max(1, kGrain / stride)), pieces = ceil_div(rows, piece);
  const std::size_t one = round_up(static_cast<std::size_t>(cols) * 2 * (sizeof(double) + sizeof(T)), kAlignment);
  char* partial = static_cast<char*>(scratch(Scratch::partial, one * static_cast<std::size_t>(pieces)));
  const auto totals = [=](std::int64_t t) {
    return reinterpret_cast<double*>(partial + one * static_cast<std::size_t>(t));
  };
  const auto task = [&](std::int64_t t) {
    double* total = totals(t);
    backward_piece<T>(call, f, t * piece, min(rows, (t + 1) * piece), total, reinterpret_cast<T*>(total + 2 * cols));
  };
  if (pieces == 1) {
    task(0);
  } else {
    run_tasks(pieces, task);
  }
  for (std::int64_t t = 1; t < pieces; ++t) {
    for (std::int64_t c = 0; c < 2 * cols; ++c) totals(0)[c] += totals(t)[c];
  }
  for (std::int64_t c = 0; c < cols; ++c) {
    if (call.dgamma) call.dgamma.as<T>()[c] = static_cast<T>(totals(0)[c]);
    if (call.dbeta) call.dbeta.as<T>()[c] = static_cast<T>(totals(0)[cols + c]);
  }
}

}  // namespace

void CpuBackend::layer_norm_forward(const LayerNormForward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          parallel_for(call.x.rows, call.x.cols * 6, 1,
                       [&](std::int64_t begin, std::int64_t end) { forward<T>(call, f, begin, end); });
        },
        call.activation);
  });
}

void CpuBackend::layer_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype,
            [&]<class T>(T) { std::visit([&](const auto& f) { backward<T>(call, f); }, call.activation); });
}

}  // namespace gdcore::GDCORE_ISA
