// Division of work in the CPU kernels: loops over ranges on the thread pool, and sums in a fixed order.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "gdcore/loss.h"
#include "gdcore/parallel.h"
#include "gdcore/scratch.h"

namespace gdcore::GDCORE_ISA {

#define GD_INLINE inline __attribute__((always_inline))

GD_INLINE std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
GD_INLINE std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
GD_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Work is counted in elements visited by a simple pass. A task of less than kGrain costs less than waking a thread; a
// task of more than kLongest would delay Ctrl-C.
inline constexpr std::int64_t kGrain = 1 << 13, kLongest = 1 << 23;

/// Calls body(begin, end) over [0, n), on the pool, in pieces of whole multiples of `unit`; `cost` is the work of one
/// item.
template <class Body>
GD_INLINE void parallel_for(std::int64_t n, std::int64_t cost, std::int64_t unit, const Body& body) {
  const std::int64_t work = n * cost;
  if (work < 2 * kGrain || n <= unit) {
    if (n > 0) body(std::int64_t{0}, n);
    return;
  }
  const std::int64_t wanted = max(min(work / kGrain, num_threads()), ceil_div(work, kLongest));
  const std::int64_t piece = ceil_div(ceil_div(n, wanted), unit) * unit;
  const auto task = [&](std::int64_t t) { body(t * piece, min(n, (t + 1) * piece)); };
  run_tasks(ceil_div(n, piece), task);
}

/// Returns the sum of body(begin, end) over at most 64 pieces of [0, n), added in order. The split does not depend on
/// the number of threads, so neither does the result.
template <class Sum, class Body>
GD_INLINE Sum ordered_sum(std::int64_t n, std::int64_t cost, const Body& body) {
  constexpr std::int64_t kPieces = 64;
  const std::int64_t piece = max(ceil_div(n, kPieces), max(1, kGrain / max(cost, 1)));
  const std::int64_t pieces = ceil_div(n, piece);
  if (pieces <= 1) return n > 0 ? body(std::int64_t{0}, n) : Sum{};
  Sum part[kPieces];
  const auto task = [&](std::int64_t t) { part[t] = body(t * piece, min(n, (t + 1) * piece)); };
  run_tasks(pieces, task);
  Sum total = part[0];
  for (std::int64_t t = 1; t < pieces; ++t) total += part[t];
  return total;
}

/// Returns the number of columns of one task of a column reduction: a multiple of 16, few enough that `rows` of them
/// stay in the second-level cache for later passes and that every thread has work.
template <class T>
GD_INLINE std::int64_t column_block(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kCache = 256 * 1024, kLeast = 16, kMost = 256;
  const std::int64_t cached = kCache / max(1, rows * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t shared = rows * cols < 2 * kGrain ? cols : ceil_div(cols, num_threads());
  return max(kLeast, min(min(cached, shared), kMost) / 16 * 16);
}
inline constexpr std::int64_t kMostColumns = 1024;  // limit of one column block

/// Rows [begin, end) of columns [c0, c0 + cols). The code of an activation for a block is passed by reference, so that
/// the surrounding code is compiled once for all activations.
struct Block {
  std::int64_t begin, end, c0, cols;
};

inline constexpr std::int64_t kRowsAtOnce = 16;  // rows summed in T before the sum is added to a double

/// Returns 0 as a value that the compiler does not know: it would replace short loops that store zeros by memset, which
/// costs tens of cycles.
template <class T>
GD_INLINE T hidden_zero() {
  T zero = T(0);
  asm("" : "+m"(zero));
  return zero;
}

struct Nothing {
  GD_INLINE void operator()(std::int64_t, std::int64_t) const {}
};

/// Computes in `total` the sums of term(row, column) over rows [0, rows) for columns [0, cols), cols <= kMostColumns;
/// if there are two, term(row, column, second) writes the second. Sums in T have at most kRowsAtOnce terms, so the
/// rounding error does not grow with the number of rows. Four rows at a time are added to a sum in memory. Before their
/// terms are computed, before(begin, end) is called for kRowsAtOnce rows.
template <class T, int Sums, class Term, class Before = Nothing>
GD_INLINE void column_sums(std::int64_t rows, std::int64_t cols, double (*total)[kMostColumns], const Term& term,
                           const Before& before = {}) {
  T sum[Sums][kMostColumns];
  T *s0 = sum[0], *s1 = sum[Sums - 1];
  const T zero = hidden_zero<T>();
  for (int s = 0; s < Sums; ++s) {
    for (std::int64_t c = 0; c < cols; ++c) total[s][c] = static_cast<double>(zero);
  }
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    for (int s = 0; s < Sums; ++s) {
      for (std::int64_t c = 0; c < cols; ++c) sum[s][c] = zero;
    }
    const std::int64_t end = min(rows, begin + kRowsAtOnce);
    before(begin, end);
    const auto add = [&]<int Rows>(std::int64_t r, std::integral_constant<int, Rows>) __attribute__((always_inline)) {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) {
        T first[Rows], second[Rows];
        for (int k = 0; k < Rows; ++k) {
          if constexpr (Sums == 1) {
            first[k] = term(r + k, c);
          } else {
            first[k] = term(r + k, c, second[k]);
          }
        }
        if constexpr (Rows == 4) {
          s0[c] += (first[0] + first[1]) + (first[2] + first[3]);
          if constexpr (Sums == 2) s1[c] += (second[0] + second[1]) + (second[2] + second[3]);
        } else {
          s0[c] += first[0];
          if constexpr (Sums == 2) s1[c] += second[0];
        }
      }
    };
    std::int64_t r = begin;
    for (; r + 4 <= end; r += 4) add(r, std::integral_constant<int, 4>{});
    for (; r < end; ++r) add(r, std::integral_constant<int, 1>{});
    for (int s = 0; s < Sums; ++s) {
      for (std::int64_t c = 0; c < cols; ++c) total[s][c] += static_cast<double>(sum[s][c]);
    }
  }
}

/// Reduction over many rows: calls body(begin, end, values) for each of at most 32 pieces of [0, rows), with `doubles`
/// values each, then merge(first piece's values, piece's values, begin, end) in order. The split depends on the shape
/// alone. Returns the first piece's values, in the calling thread's scratch memory; `cost` is the work of a row,
/// `least` the rows of a piece. Of little work, a task is several adjacent pieces: their rows may be in its thread's
/// cache.
template <class Body, class Merge>
GD_INLINE double* over_pieces(std::int64_t rows, std::int64_t cost, std::int64_t doubles, const Body& body,
                              const Merge& merge, std::int64_t least = 1) {
  constexpr std::int64_t kPieces = 32;
  const std::int64_t piece = max(ceil_div(rows, kPieces), max(least, kGrain / max(1, cost)));
  const std::int64_t pieces = ceil_div(rows, piece), stride = ceil_div(doubles, 16) * 16;  // separate cache lines
  double* all =
      static_cast<double*>(scratch(Scratch::partial, sizeof(double) * static_cast<std::size_t>(stride * pieces)));
  const auto task = [&](std::int64_t t) { body(t * piece, min(rows, (t + 1) * piece), all + t * stride); };
  const std::int64_t groups = rows * cost < kLongest / 2 ? min(pieces, num_threads()) : pieces;
  const auto group = [&](std::int64_t g) {
    for (std::int64_t t = g * pieces / groups; t < (g + 1) * pieces / groups; ++t) task(t);
  };
  run_tasks(groups, group);
  for (std::int64_t t = 1; t < pieces; ++t) merge(all, all + t * stride, t * piece, min(rows, (t + 1) * piece));
  return all;
}

/// Returns the merge of over_pieces for sums: it adds the first `count` values.
GD_INLINE auto adding(std::int64_t count) {
  return [=](double* into, const double* from, std::int64_t, std::int64_t) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) into[i] += from[i];
  };
}

/// Whether a reduction over rows is split into pieces of rows instead of columns: there are so many rows that few
/// columns fit into the second-level cache.
template <class T>
GD_INLINE bool is_tall(std::int64_t rows, std::int64_t cols) {
  return rows * static_cast<std::int64_t>(sizeof(T)) > 4096 && rows * cols >= 2 * kGrain;
}

inline constexpr std::int64_t kLaneTerms = 16;  // terms summed in T by one lane before the sum is added to a double

/// Returns the sum of `Count` values by halves: first of whole vectors, then within one.
template <int Count, class T>
GD_INLINE T sum_of(T* values) {
  constexpr int kHalf = Count / 2;
  if constexpr (Count == 1) {
    return values[0];
  } else if constexpr (kHalf * sizeof(T) >= GDCORE_VECTOR_BYTES) {
#pragma omp simd
    for (int l = 0; l < kHalf; ++l) values[l] += values[l + kHalf];
    return sum_of<kHalf>(values);
  } else {
    return sum_of<kHalf>(values) + sum_of<kHalf>(values + kHalf);
  }
}

/// Computes two sums over [0, n): of the values that term(i, second) returns, and of those it writes to `second`. Four
/// vectors of independent sums hide the latency of additions.
template <class T, class Term>
GD_INLINE void row_sums(std::int64_t n, double& first, double& second, const Term& term) {
  constexpr std::int64_t kLanes = 4 * GDCORE_VECTOR_BYTES / static_cast<std::int64_t>(sizeof(T));
  const T zero = hidden_zero<T>();
  first = second = 0.0;
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t end = min(n, i + kLaneTerms * kLanes);
    T a[kLanes], b[kLanes];
    for (std::int64_t l = 0; l < kLanes; ++l) a[l] = b[l] = zero;
    const auto add = [&](std::int64_t lanes) __attribute__((always_inline)) {
#pragma omp simd
      for (std::int64_t l = 0; l < lanes; ++l) {
        T extra;
        a[l] += term(i + l, extra);
        b[l] += extra;
      }
      i += lanes;
    };
    while (i + kLanes <= end) add(kLanes);
    add(end - i);
    first += static_cast<double>(sum_of<kLanes>(a));
    second += static_cast<double>(sum_of<kLanes>(b));
  }
}

/// Returns Σ term(i) over [0, n).
template <class T, class Term>
GD_INLINE double row_sum(std::int64_t n, const Term& term) {
  double sum, unused;
  row_sums<T>(n, sum, unused, [&](std::int64_t i, T& none) __attribute__((always_inline)) {
    none = T(0);
    return term(i);
  });
  return sum;
}

// ---- Outputs larger than the caches ---------------------------------------------------------------------------------

/// Whether an output is so large that nothing of it would be in the caches when it is read. Such an output is written
/// with non-temporal stores: the overwritten lines are not read first, a third to a half of the traffic.
GD_INLINE bool beyond_cache(std::int64_t count, std::int64_t bytes_each) { return count * bytes_each > (32 << 20); }

/// Prefetches a row, which need not begin with a cache line. Locality 3: into the first-level cache, which waits where
/// more lines are missing than it has room for; 2: into the second-level cache, which does not.
template <int Locality = 3, class T>
GD_INLINE void prefetch(const T* row, std::int64_t count) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  const auto line = [=](std::size_t at) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(row) + at), 0, Locality);
  };
  for (std::size_t at = 0; at < bytes; at += 64) line(at);
  line(bytes - 1);
}

/// Copies `count` elements from the first-level cache to memory, whole cache lines: they bypass the caches.
template <class T>
GD_INLINE void stream_out(T* to, const T* from, std::int64_t count) {
#if defined(__x86_64__)
#if GDCORE_VECTOR_BYTES == 64
  using piece = __m512i;
  const auto store = [](T* at, piece value) { _mm512_stream_si512(reinterpret_cast<piece*>(at), value); };
#elif GDCORE_VECTOR_BYTES == 32
  using piece = __m256i;
  const auto store = [](T* at, piece value) { _mm256_stream_si256(reinterpret_cast<piece*>(at), value); };
#else
  using piece = __m128i;
  const auto store = [](T* at, piece value) { _mm_stream_si128(reinterpret_cast<piece*>(at), value); };
#endif
  for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(sizeof(piece) / sizeof(T))) {
    piece value;
    std::memcpy(&value, from + i, sizeof value);
    store(to + i, value);
  }
#else
  std::memcpy(to, from, sizeof(T) * static_cast<std::size_t>(count));
#endif
}

/// to[i] = term(i) for [begin, end); `around`: bypasses the caches, and ahead(i, count) is called before some elements,
/// to prefetch what is read later. term(i) may read to[i].
template <class T, class Term, class Ahead = Nothing>
GD_INLINE void fill(T* to, std::int64_t begin, std::int64_t end, bool around, const Term& term,
                    const Ahead& ahead = {}) {
  // Small pieces: the processor reads the next one while it writes this one.
  constexpr std::int64_t kPiece = 512 / static_cast<std::int64_t>(sizeof(T)), kLine = kPiece / 8;
  alignas(64) T piece[kPiece];
  std::int64_t i = begin, last = end;
  if (around) {
    const auto before = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to + begin) / sizeof(T)) % kLine;
    last = min(end, begin + (kLine - before) % kLine);
  }
  for (;; last = end) {  // up to a cache line's start, pieces, the rest; the code of term(i) is large
#pragma omp simd
    for (std::int64_t j = i; j < last; ++j) to[j] = term(j);
    if (last == end) return;
    for (i = last; i + kPiece <= end; i += kPiece) {
      ahead(i, kPiece);
#pragma omp simd
      for (std::int64_t j = 0; j < kPiece; ++j) piece[j] = term(i + j);
      stream_out(to + i, piece, kPiece);
    }
  }
}

}  // namespace gdcore::GDCORE_ISA
