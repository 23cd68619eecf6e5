// Piecewise-linear encoding of numbers (formula in encodings.h): x (N, in), y (N, out); nothing is saved. Forward and
// the derivative along a direction: a thread per element of y, 4 to 8 bytes each in float32. Backward: a thread per row
// and column, which adds up the column's bins in order. A launch for every kColumns columns.
#include <algorithm>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "gdcore/encodings.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

inline constexpr int kBinThreads = 256, kColumns = 32;

/// Some of the encoded columns. Their outputs are neighbours, from `out` on.
template <class T>
struct Bins {
  EncodedColumn column[kColumns];
  int count;
  std::int64_t out, outputs, begin;  // begin: number of the first column's first bin
  const T *start, *width;
  bool clip;

  __device__ std::int64_t bin(int i) const { return begin + column[i].out - out; }
};

template <class T>
struct PiecewiseArrays {
  const T *x, *x_dot, *dy;
  T *y, *dx;
  std::int64_t rows, in, out;
};

template <class T>
__global__ void __launch_bounds__(kBinThreads)
    piecewise_forward_kernel(PiecewiseArrays<T> arrays, const __grid_constant__ Bins<T> bins) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kBinThreads + threadIdx.x;
  if (at >= arrays.rows * bins.outputs) return;
  const std::int64_t row = at / bins.outputs, output = at % bins.outputs + bins.out;
  int i = 0;
  while (output >= bins.column[i].out + bins.column[i].width) ++i;
  const EncodedColumn& column = bins.column[i];
  const std::int64_t from = row * arrays.in + column.column;
  const Bin<T> bin = bin_of(bins.start, bins.width, bins.bin(i), output - column.out, column.width, bins.clip);
  const T x = arrays.x[from];
  arrays.y[row * arrays.out + output] = arrays.x_dot != nullptr ? bin.slope(x) * arrays.x_dot[from] : bin.value(x);
}

template <class T>
__global__ void __launch_bounds__(kBinThreads)
    piecewise_backward_kernel(PiecewiseArrays<T> arrays, const __grid_constant__ Bins<T> bins) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kBinThreads + threadIdx.x;
  if (at >= arrays.rows * bins.count) return;
  const std::int64_t row = at / bins.count;
  const int i = static_cast<int>(at % bins.count);
  const EncodedColumn& column = bins.column[i];
  const T x = arrays.x[row * arrays.in + column.column];
  const T* dy = arrays.dy + row * arrays.out + column.out;
  T sum = T(0);
  for (std::int64_t j = 0; j < column.width; ++j) {
    sum += dy[j] * bin_of(bins.start, bins.width, bins.bin(i), j, column.width, bins.clip).slope(x);
  }
  arrays.dx[row * arrays.in + column.column] = sum;
}

/// Calls work(bins) for every kColumns columns.
template <class T, class Call, class Work>
void over_columns(const Call& call, const Work& work) {
  for (std::size_t first = 0; first < call.columns.size(); first += kColumns) {
    Bins<T> bins{};
    bins.count = static_cast<int>(std::min<std::size_t>(kColumns, call.columns.size() - first));
    std::copy_n(call.columns.begin() + static_cast<std::ptrdiff_t>(first), bins.count, bins.column);
    const EncodedColumn& last = bins.column[bins.count - 1];
    bins.out = bins.column[0].out;
    bins.outputs = last.out + last.width - bins.out;
    bins.begin = bins.out - call.columns[0].out;
    bins.start = call.start.template as<T>();
    bins.width = call.width.template as<T>();
    bins.clip = call.clip;
    work(bins);
  }
}

inline Shape shape_for(std::int64_t threads) {
  return {static_cast<unsigned>(ceil_div(threads, kBinThreads)), kBinThreads};
}

}  // namespace

void CudaBackend::piecewise_forward(const PiecewiseForward& call) {
  with_type(call.y.dtype, [&]<class T>(T) {
    const PiecewiseArrays<T> arrays{call.x.as<T>(), call.x_dot.as<T>(), nullptr,     call.y.as<T>(),
                                    nullptr,        call.y.rows,        call.x.cols, call.y.cols};
    over_columns<T>(call, [&](const Bins<T>& bins) {
      launch(piecewise_forward_kernel<T>, shape_for(call.y.rows * bins.outputs), arrays, bins);
    });
  });
}

void CudaBackend::piecewise_backward(const PiecewiseBackward& call) {
  with_type(call.dy.dtype, [&]<class T>(T) {
    const PiecewiseArrays<T> arrays{call.x.as<T>(),  nullptr,      call.dy.as<T>(), nullptr,
                                    call.dx.as<T>(), call.dy.rows, call.x.cols,     call.dy.cols};
    over_columns<T>(call, [&](const Bins<T>& bins) {
      launch(piecewise_backward_kernel<T>, shape_for(call.dy.rows * bins.count), arrays, bins);
    });
  });
}

}  // namespace gdcore::cuda
