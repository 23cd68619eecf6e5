// Piecewise-linear encoding of numbers (Gorishniy et al. 2022): y[n, bin] = (x - start) / width, limited to [0, 1]
// except below a column's first bin and above its last. x (N, in), y (N, out); nothing is saved. Backward and the
// derivative along a direction compute the slopes again. A value of x and its bins are written per column: about
// 4 bytes per element of y in float32.
#include "cpu_backend.h"
#include "gdcore/encodings.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

template <class T, class Call, class Work>
void over_columns(const Call& call, std::int64_t rows, std::int64_t outputs, const Work& work) {
  const EncodedColumn* columns = call.columns.data();
  const auto count = static_cast<std::int64_t>(call.columns.size());
  parallel_for(rows, outputs, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t i = 0; i < count; ++i) work(r, columns[i], columns[i].out - columns[0].out);
    }
  });
}

}  // namespace

void CpuBackend::piecewise_forward(const PiecewiseForward& call) {
  with_type(call.y.dtype, [&]<class T>(T) {
    const T *start = call.start.as<T>(), *width = call.width.as<T>();
    over_columns<T>(call, call.y.rows, call.y.cols, [&](std::int64_t r, const EncodedColumn& column, std::int64_t at) {
      const std::int64_t from = r * call.x.cols + column.column;
      const T x = call.x.as<T>()[from];
      T* y = call.y.as<T>() + r * call.y.cols + column.out;
      if (call.x_dot) {
        const T dot = call.x_dot.as<T>()[from];
        for (std::int64_t j = 0; j < column.width; ++j) {
          y[j] = bin_of(start, width, at, j, column.width, call.clip).slope(x) * dot;
        }
        return;
      }
#pragma omp simd
      for (std::int64_t j = 0; j < column.width; ++j) y[j] = Bin<T>{start[at + j], width[at + j], true, true}.value(x);
      for (const std::int64_t j : {std::int64_t{0}, column.width - 1}) {  // one of their limits does not apply
        y[j] = bin_of(start, width, at, j, column.width, call.clip).value(x);
      }
    });
  });
}

void CpuBackend::piecewise_backward(const PiecewiseBackward& call) {
  with_type(call.dy.dtype, [&]<class T>(T) {
    const T *start = call.start.as<T>(), *width = call.width.as<T>();
    over_columns<T>(call, call.dy.rows, call.dy.cols,
                    [&](std::int64_t r, const EncodedColumn& column, std::int64_t at) {
                      const T x = call.x.as<T>()[r * call.x.cols + column.column];
                      const T* dy = call.dy.as<T>() + r * call.dy.cols + column.out;
                      T sum = T(0);
                      for (std::int64_t j = 0; j < column.width; ++j) {
                        sum += dy[j] * bin_of(start, width, at, j, column.width, call.clip).slope(x);
                      }
                      call.dx.as<T>()[r * call.dx.cols + column.column] = sum;
                    });
  });
}

}  // namespace gdcore::GDCORE_ISA
