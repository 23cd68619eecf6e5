// Reading the user's data: gathers rows by index, converted to the model's dtype, and finds NaN and infinity.
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cpu_backend.h"
#include "vectors.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Copies a row to `to`. `after`: elements of the output behind the row, which are written later.
template <class S, class T>
GD_INLINE void copy_row(const S* row, std::int64_t cols, T* to, std::int64_t after) {
  constexpr std::int64_t kShort = 64;  // a call costs more than the copy
  if constexpr (std::is_same_v<S, T> && std::is_floating_point_v<T>) {
    constexpr int lanes = Tile<T>::lanes;
    if (cols < lanes && cols + after >= lanes) return store(to, FirstLanes<T>(cols).load(row));
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

/// A value in the type of the output. Labels have 32 bits: a number beyond them becomes the largest or the smallest,
/// NaN becomes -1, none of which is a class.
template <class T, class S>
GD_INLINE T converted(S value) {
  if constexpr (std::is_same_v<T, std::int32_t> && !std::is_same_v<S, T>) {
    constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
    if (value != value) return -1;
    if (static_cast<double>(value) >= static_cast<double>(kMost)) return kMost;
    if (static_cast<double>(value) <= -static_cast<double>(kMost)) return -kMost;
  }
  return static_cast<T>(value);
}

/// Rows to copy.
struct Rows {
  const std::int64_t* row;
  std::int64_t count;
  std::int64_t ahead, known;  // row[i + ahead] is prefetched where i + ahead < known
};

/// Copies rows one below the other to `to`.
template <class S, class T>
void copy_rows(const Source& source, const Rows& rows, void* to) {
  const std::int64_t cols = source.cols, stride = source.row_stride;
  const S* from = static_cast<const S*>(source.data);
  T* out = static_cast<T*>(to);
  // The hardware prefetcher cannot predict the addresses of shuffled rows. For a long row it needs only the beginning.
  // Rows of the next batch may turn out to be no rows of the source: their addresses are computed without overflow.
  constexpr std::int64_t kMost = 1024 / static_cast<std::int64_t>(sizeof(S));
  const auto step = static_cast<std::uintptr_t>(stride) * sizeof(S), base = reinterpret_cast<std::uintptr_t>(from);
  const auto prefetch_row = [=](std::int64_t i) __attribute__((always_inline)) {
    if (i >= rows.known) return;
    const auto* row = reinterpret_cast<const S*>(base + static_cast<std::uintptr_t>(rows.row[i]) * step);
    prefetch<2>(row, min(cols, kMost));
  };
  if (cols == 1) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      prefetch_row(i + rows.ahead);
      out[i] = converted<T>(from[rows.row[i] * stride]);
    }
    return;
  }
  for (std::int64_t i = 0; i < rows.count; ++i) {
    prefetch_row(i + rows.ahead);
    copy_row(from + rows.row[i] * stride, cols, out + i * cols, (rows.count - 1 - i) * cols);
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
  const Source& source = call.source;
  std::size_t size = 0, wide = 0;  // of a source's and of an output's element
  void (*copy)(const Source&, const Rows&, void*) = nullptr;
  with_type(source.type, [&]<class S>(S) {
    const auto choose = [&]<class T>(T) { copy = copy_rows<S, T>, size = sizeof(S), wide = sizeof(T); };
    switch (call.type) {
      case GatherType::float32:
        return choose(float{});
      case GatherType::float64:
        return choose(double{});
      case GatherType::label:
        return choose(std::int32_t{});
    }
  });
  // Rows in an order of their own are prefetched from memory larger than a cache: those of the next batch, or a few
  // ahead where a batch is large.
  constexpr std::int64_t kAhead = 8, kFar = 1 << 16, kBatch = 1 << 16;
  const auto each = static_cast<std::int64_t>(size);
  const bool far = !call.order.is_plain() && source.rows * source.row_stride * each > kFar;
  const bool whole = call.next > 0 && call.count * source.cols * each <= kBatch;
  const std::int64_t ahead = whole ? call.count : kAhead;
  const bool listed = call.order.shuffle == nullptr && call.order.rows != nullptr;
  parallel_for(call.count, source.cols * 2, 1, [&](std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kPiece = 256;
    std::int64_t row[kPiece];
    while (begin < end) {
      const std::int64_t count = listed ? end - begin : min(kPiece, end - begin);
      if (!listed) fill_order(call.order, call.first + begin, count, row);
      void* to = static_cast<char*>(call.to) + begin * source.cols * static_cast<std::int64_t>(wide);
      const std::int64_t known = !far ? 0 : listed ? call.count - begin + call.next : count;
      copy(source, {listed ? call.order.rows + call.first + begin : row, count, ahead, known}, to);
      begin += count;
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
