// Embedding of categories: y[n, out + d] = table[x[n, column], d], or a one-hot code without a table. x (N, in) holds
// whole numbers; a value that is no code gives NaN, and no gradient. Nothing is saved. Forward: a thread per element.
// Backward, one launch per column: a group of threads adds up a code's rows of dy, kSums columns at a time, in double
// precision: each thread its rows in order, then the threads' sums. The groups' size depends on the table's alone, so
// the bits do not depend on the device. x is read once per code, which pays while codes · N is below some 10^9.
#include <algorithm>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "gdcore/encodings.h"
#include "primitives/reduce.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

inline constexpr int kTableThreads = 256, kSums = 8;
inline constexpr std::int64_t kFewCodes = 1024;  // up to here a block adds up a code's rows, beyond it a warp

template <class T>
struct Tables {
  struct Column {
    std::int64_t column, out, size, width;
    const T* table;
  };
  Column column[kEmbeddedAtOnce];
  std::int64_t outputs;  // of all columns
};

template <class T>
__global__ void __launch_bounds__(kTableThreads)
    embedding_forward_kernel(const T* x, T* y, std::int64_t in, std::int64_t out, std::int64_t size,
                             const __grid_constant__ Tables<T> tables) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kTableThreads + threadIdx.x;
  if (at >= size) return;
  const std::int64_t row = at / tables.outputs;
  std::int64_t d = at % tables.outputs;
  int i = 0;
  while (d >= tables.column[i].width) d -= tables.column[i++].width;
  const auto& column = tables.column[i];
  const std::int64_t code = code_of(x[row * in + column.column], column.size);
  T value = T(0);
  if (code < 0) {
    value = static_cast<T>(NAN);
  } else if (column.table != nullptr) {
    value = column.table[code * column.width + d];
  } else {
    value = d == code ? T(1) : T(0);
  }
  y[row * out + column.out + d] = value;
}

template <class T>
struct TableGradient {
  const T *x, *dy;  // of the column and of its outputs
  T* to;
  std::int64_t rows, in, out, size, width;
};

template <class T>
__global__ void __launch_bounds__(kTableThreads) embedding_backward_kernel(TableGradient<T> call, int across) {
  GD_SHARED(double, shared, kSums* kTableThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t code = std::int64_t{blockIdx.x} * (kTableThreads / across) + thread / across;
  const std::int64_t first = std::int64_t{blockIdx.y} * kSums;
  const int width = static_cast<int>(call.width - first < kSums ? call.width - first : kSums);
  double sum[kSums] = {};
  for (std::int64_t row = thread % across; row < call.rows && code < call.size; row += across) {
    if (code_of(call.x[row * call.in], call.size) != code) continue;
    const T* dy = call.dy + row * call.out + first;
#pragma unroll
    for (int d = 0; d < kSums; ++d) {
      if (d < width) sum[d] += static_cast<double>(dy[d]);
    }
  }
  group_sums(sum, across, shared);
  if (code >= call.size || thread % across != 0) return;
#pragma unroll
  for (int d = 0; d < kSums; ++d) {
    if (d < width) call.to[code * call.width + first + d] = static_cast<T>(sum[d]);
  }
}

}  // namespace

void CudaBackend::embedding_forward(const EmbeddingForward& call) {
  with_type(call.y.dtype, [&]<class T>(T) {
    Tables<T> tables{};
    for (std::size_t i = 0; i < call.columns.size(); ++i) {
      const EmbeddedColumn& own = call.columns[i];
      tables.column[i] = {own.column, own.out, own.size, own.width, own.table.as<T>()};
      tables.outputs += own.width;
    }
    const std::int64_t size = call.y.rows * tables.outputs;
    launch(embedding_forward_kernel<T>, {static_cast<unsigned>(ceil_div(size, kTableThreads)), kTableThreads},
           call.x.as<T>(), call.y.as<T>(), call.x.cols, call.y.cols, size, tables);
  });
}

void CudaBackend::embedding_backward(const EmbeddingBackward& call) {
  with_type(call.dy.dtype, [&]<class T>(T) {
    for (const EmbeddedColumn& own : call.columns) {
      if (!own.table) continue;
      const int across = own.size <= kFewCodes ? kTableThreads : kWarp;
      const TableGradient<T> column{call.x.as<T>() + own.column,
                                    call.dy.as<T>() + own.out,
                                    own.table.as<T>(),
                                    call.dy.rows,
                                    call.x.cols,
                                    call.dy.cols,
                                    own.size,
                                    own.width};
      const Shape shape{{static_cast<unsigned>(ceil_div(own.size, kTableThreads / across)),
                         static_cast<unsigned>(ceil_div(own.width, kSums))},
                        kTableThreads};
      launch(embedding_backward_kernel<T>, shape, column, across);
    }
  });
}

}  // namespace gdcore::cuda
