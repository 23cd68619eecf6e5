// Columns that an encoding passes on: y[:, to] = x[:, from] for runs of neighbouring columns. 8 bytes per element in
// float32.
#include "cpu_backend.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

void CpuBackend::copy_columns(const CopyColumns& call) {
  const ColumnRun* runs = call.runs.data();
  const auto count = static_cast<std::int64_t>(call.runs.size());
  std::int64_t columns = 0;
  for (std::int64_t i = 0; i < count; ++i) columns += runs[i].count;
  with_type(call.y.dtype, [&]<class T>(T) {
    parallel_for(call.y.rows, columns, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t from = call.back ? runs[i].to : runs[i].from, to = call.back ? runs[i].from : runs[i].to;
          T* y = call.y.as<T>() + r * call.y.cols + to;
          const T* x = call.x ? call.x.as<T>() + r * call.x.cols + from : nullptr;
#pragma omp simd
          for (std::int64_t c = 0; c < runs[i].count; ++c) y[c] = x != nullptr ? x[c] : T(0);
        }
      }
    });
  });
}

}  // namespace gdcore::GDCORE_ISA
