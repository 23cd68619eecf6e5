// Columns that an encoding passes on: y[:, to] = x[:, from] for runs of neighbouring columns, zeros without x. A thread
// copies one element. 8 bytes per element in float32; a launch for every kRuns runs.
#include <algorithm>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

inline constexpr int kCopyThreads = 256, kRuns = 32;

struct CopyRuns {
  ColumnRun run[kRuns];
  int count;
  std::int64_t columns;  // of all runs
};

template <class T>
__global__ void __launch_bounds__(kCopyThreads)
    copy_columns_kernel(const T* x, T* y, std::int64_t x_cols, std::int64_t y_cols, std::int64_t size,
                        const __grid_constant__ CopyRuns runs) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kCopyThreads + threadIdx.x;
  if (at >= size) return;
  const std::int64_t row = at / runs.columns;
  std::int64_t column = at % runs.columns;
  int i = 0;
  while (column >= runs.run[i].count) column -= runs.run[i++].count;
  y[row * y_cols + runs.run[i].to + column] = x != nullptr ? x[row * x_cols + runs.run[i].from + column] : T(0);
}

}  // namespace

void CudaBackend::copy_columns(const CopyColumns& call) {
  with_type(call.y.dtype, [&]<class T>(T) {
    for (std::size_t first = 0; first < call.runs.size(); first += kRuns) {
      CopyRuns runs{};
      runs.count = static_cast<int>(std::min<std::size_t>(kRuns, call.runs.size() - first));
      for (int i = 0; i < runs.count; ++i) {
        ColumnRun run = call.runs[first + static_cast<std::size_t>(i)];
        if (call.back) std::swap(run.from, run.to);
        runs.run[i] = run;
        runs.columns += run.count;
      }
      const std::int64_t size = call.y.rows * runs.columns;
      launch(copy_columns_kernel<T>, {static_cast<unsigned>(ceil_div(size, kCopyThreads)), kCopyThreads},
             call.x.as<T>(), call.y.as<T>(), call.x.cols, call.y.cols, size, runs);
    }
  });
}

}  // namespace gdcore::cuda
