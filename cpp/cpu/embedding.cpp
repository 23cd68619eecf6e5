// Embedding of categories: y[n, out + d] = table[x[n, column], d], or a one-hot code without a table. x (N, in) holds
// whole numbers; a value that is no code gives NaN, and no gradient. Nothing is saved.
// Backward: a column's rows are sorted by code (counting sort); each row of the table's gradient is the sum of its rows
// of dy, in order, in double precision. It does not depend on the number of threads. The whole gradient is written.
#include "cpu_backend.h"
#include "gdcore/encodings.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

inline constexpr std::int64_t kSums = 16;  // columns of a table that are summed together

template <class T>
void embed(const EmbeddingForward& call, const EmbeddedColumn& column, std::int64_t r) {
  const std::int64_t code = code_of(call.x.as<T>()[r * call.x.cols + column.column], column.size);
  T* y = call.y.as<T>() + r * call.y.cols + column.out;
  if (code < 0) {
    for (std::int64_t d = 0; d < column.width; ++d) y[d] = static_cast<T>(__builtin_nan(""));
  } else if (column.table) {
    const T* row = column.table.as<T>() + code * column.width;
    for (std::int64_t d = 0; d < column.width; ++d) y[d] = row[d];
  } else {
    for (std::int64_t d = 0; d < column.width; ++d) y[d] = T(d == code);
  }
}

template <class T>
void table_gradient(const EmbeddingBackward& call, const EmbeddedColumn& column) {
  const std::int64_t rows = call.dy.rows, cols = call.dy.cols, size = column.size;
  auto* first = static_cast<std::int64_t*>(
      scratch(Scratch::partial, sizeof(std::int64_t) * static_cast<std::size_t>(size + 1 + rows)));
  std::int64_t* order = first + size + 1;  // the rows, sorted by code
  const T *x = call.x.as<T>() + column.column, *dy = call.dy.as<T>() + column.out;
  const auto code_in = [&](std::int64_t r) { return code_of(x[r * call.x.cols], size); };
  for (std::int64_t k = 0; k <= size; ++k) first[k] = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (const std::int64_t code = code_in(r); code >= 0) ++first[code + 1];
  }
  for (std::int64_t k = 0; k < size; ++k) first[k + 1] += first[k];
  for (std::int64_t r = 0; r < rows; ++r) {
    if (const std::int64_t code = code_in(r); code >= 0) order[first[code]++] = r;
  }
  // first[k] is now the end of code k, which is the beginning of code k + 1
  for (std::int64_t k = 0; k < size; ++k) {
    T* to = column.table.as<T>() + k * column.width;
    for (std::int64_t c = 0; c < column.width; c += kSums) {
      const std::int64_t width = min(kSums, column.width - c);
      double sum[kSums] = {};
      for (std::int64_t i = k == 0 ? 0 : first[k - 1]; i < first[k]; ++i) {
        const T* from = dy + order[i] * cols + c;
        for (std::int64_t d = 0; d < width; ++d) sum[d] += static_cast<double>(from[d]);
      }
      for (std::int64_t d = 0; d < width; ++d) to[c + d] = static_cast<T>(sum[d]);
    }
  }
}

}  // namespace

void CpuBackend::embedding_forward(const EmbeddingForward& call) {
  const EmbeddedColumn* columns = call.columns.data();
  const auto count = static_cast<std::int64_t>(call.columns.size());
  with_type(call.y.dtype, [&]<class T>(T) {
    parallel_for(call.y.rows, call.y.cols, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        for (std::int64_t i = 0; i < count; ++i) embed<T>(call, columns[i], r);
      }
    });
  });
}

void CpuBackend::embedding_backward(const EmbeddingBackward& call) {
  const EmbeddedColumn* columns = call.columns.data();
  const auto count = static_cast<std::int64_t>(call.columns.size());
  std::int64_t work = 0;
  for (std::int64_t i = 0; i < count; ++i) work += (call.dy.rows + columns[i].size) * (columns[i].width + 2);
  with_type(call.dy.dtype, [&]<class T>(T) {
    parallel_for(count, work / max(1, count), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (columns[i].table) table_gradient<T>(call, columns[i]);
      }
    });
  });
}

}  // namespace gdcore::GDCORE_ISA
