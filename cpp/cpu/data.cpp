// Reading the user's data: gathers rows by index, converted to the model's dtype, and finds NaN and infinity.
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cpu_backend.h"
#include "vectors.h"

namespace gdcore::GDCORE_ISA {

namespace {

template <class S, class T>
GD_INLINE void copy_row(const S* row, std::int64_t cols, T* to) {
  constexpr std::int64_t kShort = 64;  // a call costs more than the copy
  if constexpr (std::is_same_v<S, T> && std::is_floating_point_v<T>) {
    constexpr int lanes = Tile<T>::lanes;
    if (cols >= lanes && cols <= kShort) {  // whole vectors; the last one overlaps the one before
      for (std::int64_t c = 0; c < cols - lanes; c += lanes) store(to + c, load(row + c));
      return store(to + cols - lanes, load(row + cols - lanes));
    }
  }
  if (std::is_same_v<S, T> && cols > kShort) {
    std::memcpy(to, row, sizeof(T) * static_cast<std::size_t>(cols));
  } else {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) to[c] = static_cast<T>(row[c]);
  }
}

/// gather_rows for a function that returns the source's row of each output row.
template <class S, class T, class RowOf>
GD_INLINE void gather_by(const Gather& call, const RowOf& row_of) {
  const std::int64_t cols = call.source.cols, stride = call.source.row_stride;
  const S* from = static_cast<const S*>(call.source.data);
  T* to = static_cast<T*>(call.to);
  // The hardware prefetcher cannot predict the addresses of shuffled rows. For a long row it needs only the beginning.
  constexpr std::int64_t kAhead = 8, kMost = 1024 / static_cast<std::int64_t>(sizeof(S)), kCache = 1 << 18;
  const bool far = call.source.rows * stride * static_cast<std::int64_t>(sizeof(S)) > kCache && !call.order.is_plain();
  const std::int64_t most = far ? min(cols, kMost) : 0;
  parallel_for(call.count, cols * 2, 1, [=](std::int64_t begin, std::int64_t end) {
    if (cols == 1 && !far) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(from[row_of(i) * stride]);
      return;
    }
    for (std::int64_t i = begin; i < end; ++i) {
      if (far && i + kAhead < end) prefetch(from + row_of(i + kAhead) * stride, most);
      copy_row(from + row_of(i) * stride, cols, to + i * cols);
    }
  });
}

template <class S, class T>
void gather_rows(const Gather& call) {
  const RowOrder order = call.order;
  if (order.shuffle == nullptr && order.rows != nullptr) {
    const std::int64_t* rows = order.rows + call.first;
    gather_by<S, T>(call, [=](std::int64_t i) { return rows[i]; });
  } else {
    gather_by<S, T>(call, [=, first = call.first](std::int64_t i) { return order(first + i); });
  }
}

/// Whether all values are finite. NaN and infinity have all exponent bits set. Integer operations: a sum of x - x would
/// be limited by the latency of additions.
template <class S>
bool all_finite(const S* x, std::int64_t n) {
  using Bits = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  const Bits exponent = std::bit_cast<Bits>(std::numeric_limits<S>::infinity());
  Bits bad = 0;
#pragma omp simd reduction(| : bad)
  for (std::int64_t i = 0; i < n; ++i) {
    bad |= (std::bit_cast<Bits>(x[i]) & exponent) == exponent ? ~Bits{0} : Bits{0};
  }
  return bad == 0;
}

}  // namespace

void CpuBackend::gather(const Gather& call) {
  with_type(call.source.type, [&]<class S>(S) {
    switch (call.type) {
      case GatherType::float32:
        return gather_rows<S, float>(call);
      case GatherType::float64:
        return gather_rows<S, double>(call);
      case GatherType::label:
        return gather_rows<S, std::int32_t>(call);
    }
  });
}

std::int64_t CpuBackend::first_nonfinite(const Source& source) {
  std::int64_t found = -1;
  with_type(source.type, [&]<class S>(S) {
    if constexpr (std::is_floating_point_v<S>) {
      const S* data = static_cast<const S*>(source.data);
      const std::int64_t cols = source.cols, stride = source.row_stride;
      const auto finite = [=](std::int64_t begin, std::int64_t end) {
        if (stride == cols) return all_finite(data + begin * cols, (end - begin) * cols);
        for (std::int64_t r = begin; r < end; ++r) {
          if (!all_finite(data + r * stride, cols)) return false;
        }
        return true;
      };
      // On all threads: each then has rows in its cache that it computes with next.
      const auto bad = [=](std::int64_t begin, std::int64_t end) { return finite(begin, end) ? 0 : 1; };
      if (ordered_sum<int>(source.rows, cols, bad) == 0) return;
      std::int64_t row = 0;
      while (row < source.rows && finite(row, row + 1)) ++row;
      for (std::int64_t c = 0; row < source.rows && c < cols && found < 0; ++c) {
        const S x = data[row * stride + c];
        if (!(x - x == S(0))) found = row * cols + c;
      }
    }
  });
  return found;
}

}  // namespace gdcore::GDCORE_ISA
