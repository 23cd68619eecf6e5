// Batch norm over the rows of each column (chapter, slides 35-38; Ioffe & Szegedy 2015):
// μ = Σ a / N, σ² = Σ (a-μ)² / N, â = (a-μ) / √(σ²+ε), y = f(γ â + β). Saved for backward: x, μ, 1/√(σ²+ε), and y or
// the pre-activation. A block of columns is read again while it is in the cache: 8 bytes an element forward, 12
// backward.
#include <variant>

#include "cpu_backend.h"
#include "gdcore/optimizer.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// y = f((x - mean) · scale + shift) for columns [begin, end).
template <class T, class Function>
void scale_columns(ConstView x, View pre, View y, std::int64_t begin, std::int64_t cols, const T* mean, const T* scale,
                   const T* shift, const Function& f) {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const T* from = x.as<T>() + r * x.cols + begin;
    T* to = y.as<T>() + r * x.cols + begin;
    if (pre) {
      T* kept = pre.as<T>() + r * x.cols + begin;
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) kept[c] = (from[c] - mean[c]) * scale[c] + shift[c];
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) to[c] = f.value(kept[c]);
    } else {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) to[c] = f.value((from[c] - mean[c]) * scale[c] + shift[c]);
    }
  }
}

template <class T, class Function>
void forward(const BatchNormForward& call, const Function& f, std::int64_t c0, std::int64_t cols) {
  const std::int64_t rows = call.x.rows, stride = call.x.cols;
  const T* x = call.x.as<T>() + c0;
  double sum[1][kMostColumns], rest[2][kMostColumns];
  column_sums<T, 1>(rows, cols, sum,
                    [=](std::int64_t r, std::int64_t c) __attribute__((always_inline)) { return x[r * stride + c]; });
  T *mean = call.mean.as<T>() + c0, *rstd = call.rstd.as<T>() + c0, *variance = call.variance.as<T>() + c0;
  T scale[kMostColumns], shift[kMostColumns];
  const double count = static_cast<double>(rows);
  for (std::int64_t c = 0; c < cols; ++c) mean[c] = static_cast<T>(sum[0][c] / count);
  // Deviations from that mean, and their squares: what rounding took off the mean comes out again.
  column_sums<T, 2>(rows, cols, rest, [=](std::int64_t r, std::int64_t c, T& square) __attribute__((always_inline)) {
    const T d = x[r * stride + c] - mean[c];
    square = d * d;
    return d;
  });
  for (std::int64_t c = 0; c < cols; ++c) {
    const double missing = rest[0][c] / count, v = rest[1][c] / count - missing * missing;
    mean[c] = static_cast<T>(static_cast<double>(mean[c]) + missing);
    variance[c] = static_cast<T>(v < 0.0 ? 0.0 : v);
    rstd[c] = static_cast<T>(1.0 / math::sqrt((v < 0.0 ? 0.0 : v) + call.eps));
    scale[c] = call.gamma ? call.gamma.as<T>()[c0 + c] * rstd[c] : rstd[c];
    shift[c] = call.beta ? call.beta.as<T>()[c0 + c] : T(0);
  }
  scale_columns<T>(call.x, call.pre, call.y, c0, cols, mean, scale, shift, f);
}

template <class T, class Function>
void backward(const NormBackward& call, const Function& f, std::int64_t c0, std::int64_t cols) {
  const std::int64_t rows = call.x.rows, stride = call.x.cols;
  const T *x = call.x.as<T>() + c0, *mean = call.mean.as<T>() + c0, *rstd = call.rstd.as<T>() + c0;
  const T* saved = call.saved ? call.saved.as<T>() + c0 : nullptr;
  T* dy = call.dy.as<T>() + c0;
  double total[2][kMostColumns];  // Σ dy, Σ dy â
  column_sums<T, 2>(rows, cols, total, [=](std::int64_t r, std::int64_t c, T& with_x) __attribute__((always_inline)) {
    T& d = dy[r * stride + c];
    if (saved != nullptr) d *= f.slope(saved[r * stride + c]);
    with_x = d * ((x[r * stride + c] - mean[c]) * rstd[c]);
    return d;
  });
  T scale[kMostColumns], mean_dy[kMostColumns], mean_with_x[kMostColumns];
  for (std::int64_t c = 0; c < cols; ++c) {
    if (call.dbeta) call.dbeta.as<T>()[c0 + c] = static_cast<T>(total[0][c]);
    if (call.dgamma) call.dgamma.as<T>()[c0 + c] = static_cast<T>(total[1][c]);
    mean_dy[c] = static_cast<T>(total[0][c] / static_cast<double>(rows));
    mean_with_x[c] = static_cast<T>(total[1][c] / static_cast<double>(rows));
    scale[c] = call.gamma ? call.gamma.as<T>()[c0 + c] * rstd[c] : rstd[c];
  }
  if (!call.dx) return;
  for (std::int64_t r = rows - 1; r >= 0; --r) {  // backwards: the last rows are still in the cache
    const T *from = x + r * stride, *d = dy + r * stride;
    T* to = call.dx.as<T>() + r * stride + c0;
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      const T normalised = (from[c] - mean[c]) * rstd[c];
      to[c] = scale[c] * (d[c] - mean_dy[c] - normalised * mean_with_x[c]);
    }
  }
}

/// Runs work(first column, columns) over blocks of columns.
template <class T, class Work>
void over_columns(std::int64_t rows, std::int64_t cols, const Work& work) {
  const std::int64_t block = column_block<T>(rows, cols);
  parallel_for(cols, rows * 4, block, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; c += block) work(c, min(block, end - c));
  });
}

}  // namespace

void CpuBackend::batch_norm_forward(const BatchNormForward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          over_columns<T>(call.x.rows, call.x.cols,
                          [&](std::int64_t c, std::int64_t cols) { forward<T>(call, f, c, cols); });
        },
        call.activation);
  });
}

void CpuBackend::batch_norm_backward(const NormBackward& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          over_columns<T>(call.x.rows, call.x.cols,
                          [&](std::int64_t c, std::int64_t cols) { backward<T>(call, f, c, cols); });
        },
        call.activation);
  });
}

void CpuBackend::column_affine(const ColumnAffine& call) {
  const auto columns = [&]<class T>(T, const auto& f, std::int64_t c0, std::int64_t cols) {
    T mean[kMostColumns], scale[kMostColumns], shift[kMostColumns];
    for (std::int64_t c = 0; c < cols; ++c) {
      const double spread = static_cast<double>(call.spread.as<T>()[c0 + c]);
      const double variance = call.kind == Spread::std ? spread * spread : spread;
      const T rstd = static_cast<T>(1.0 / math::sqrt(variance + call.eps));
      mean[c] = call.mean ? call.mean.as<T>()[c0 + c] : T(0);
      scale[c] = call.gamma ? call.gamma.as<T>()[c0 + c] * rstd : rstd;
      shift[c] = call.beta ? call.beta.as<T>()[c0 + c] : T(0);
    }
    scale_columns<T>(call.x, View{}, call.y, c0, cols, mean, scale, shift, f);
  };
  with_type(call.x.dtype, [&]<class T>(T t) {
    std::visit(
        [&](const auto& f) {
          over_columns<T>(call.x.rows, call.x.cols, [&](std::int64_t c, std::int64_t cols) { columns(t, f, c, cols); });
        },
        call.activation);
  });
}

}  // namespace gdcore::GDCORE_ISA
