// How the CPU kernels divide their work: loops over ranges for the thread pool, and sums in a fixed order.
#pragma once

#include <cstdint>
#include <cstring>
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

// Work is counted in visits of one element by a simple pass. A task of less than kGrain is not worth waking a thread
// for; one of more than kLongest would keep Ctrl-C waiting.
inline constexpr std::int64_t kGrain = 1 << 13, kLongest = 1 << 23;

/// body(begin, end) over [0, n) in pieces of whole multiples of `unit`; `cost` is the work of one item.
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

/// The sum of body(begin, end) over at most 64 pieces of [0, n), added in order: the split depends on n alone, so the
/// result does not depend on the number of threads.
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

/// How many columns one task of a column reduction takes: a multiple of 16, few enough that `rows` of them stay in the
/// second-level cache and every thread gets some, so that later passes do not go to memory again.
template <class T>
GD_INLINE std::int64_t column_block(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kCache = 256 * 1024, kLeast = 16, kMost = 256;
  const std::int64_t cached = kCache / max(1, rows * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t shared = rows * cols < 2 * kGrain ? cols : ceil_div(cols, num_threads());
  return max(kLeast, min(min(cached, shared), kMost) / 16 * 16);
}
inline constexpr std::int64_t kMostColumns = 1024;  // of one column block

/// Rows [begin, end) of columns [c0, c0 + cols). What is done to a block by an activation function is handed to the
/// code around it by reference, so that this is compiled once for all of them.
struct Block {
  std::int64_t begin, end, c0, cols;
};

inline constexpr std::int64_t kRowsAtOnce = 16;  // summed in T before the sum joins a double

/// Adds to `total` (doubles) the sums over rows [0, rows) of term(row, column) for columns [0, cols), cols <=
/// kMostColumns. Float sums run over at most kRowsAtOnce rows, so rounding does not grow with the number of rows.
template <class T, int Sums, class Term>
GD_INLINE void column_sums(std::int64_t rows, std::int64_t cols, double (*total)[kMostColumns], const Term& term) {
  T sum[Sums][kMostColumns];
  for (int s = 0; s < Sums; ++s) {
    for (std::int64_t c = 0; c < cols; ++c) total[s][c] = 0.0;
  }
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    for (int s = 0; s < Sums; ++s) {
      for (std::int64_t c = 0; c < cols; ++c) sum[s][c] = T(0);
    }
    const std::int64_t end = min(rows, begin + kRowsAtOnce);
    for (std::int64_t r = begin; r < end; ++r) {
      if constexpr (Sums == 1) {
        T* s0 = sum[0];
#pragma omp simd
        for (std::int64_t c = 0; c < cols; ++c) s0[c] += term(r, c);
      } else {
        T *s0 = sum[0], *s1 = sum[1];
#pragma omp simd
        for (std::int64_t c = 0; c < cols; ++c) {
          T second;
          s0[c] += term(r, c, second);
          s1[c] += second;
        }
      }
    }
    for (int s = 0; s < Sums; ++s) {
      for (std::int64_t c = 0; c < cols; ++c) total[s][c] += static_cast<double>(sum[s][c]);
    }
  }
}

/// Reductions over many rows: body(begin, end, doubles) for each of at most 32 pieces of [0, rows), which have
/// `doubles` numbers each, then merge(first piece's, piece's, begin, end) in order. The split depends on the shape
/// alone. Returns the first piece's numbers, which lie in the calling thread's scratch memory; `cost` is the work of a
/// row.
template <class Body, class Merge>
GD_INLINE double* over_pieces(std::int64_t rows, std::int64_t cost, std::int64_t doubles, const Body& body,
                              const Merge& merge) {
  constexpr std::int64_t kPieces = 32;
  const std::int64_t piece = max(ceil_div(rows, kPieces), max(1, kGrain / max(1, cost)));
  const std::int64_t pieces = ceil_div(rows, piece), stride = ceil_div(doubles, 16) * 16;  // on lines of their own
  double* all =
      static_cast<double*>(scratch(Scratch::partial, sizeof(double) * static_cast<std::size_t>(stride * pieces)));
  const auto task = [&](std::int64_t t) { body(t * piece, min(rows, (t + 1) * piece), all + t * stride); };
  if (pieces == 1) {
    task(0);
  } else {
    run_tasks(pieces, task);
  }
  for (std::int64_t t = 1; t < pieces; ++t) merge(all, all + t * stride, t * piece, min(rows, (t + 1) * piece));
  return all;
}

/// The merge of over_pieces for sums: the first `count` numbers are added.
GD_INLINE auto adding(std::int64_t count) {
  return [=](double* into, const double* from, std::int64_t, std::int64_t) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) into[i] += from[i];
  };
}

/// Whether a reduction over rows is better cut into pieces of rows than into columns: where few columns fit into the
/// second-level cache, or there are few.
template <class T>
GD_INLINE bool is_tall(std::int64_t rows, std::int64_t cols) {
  return rows * static_cast<std::int64_t>(sizeof(T)) > 4096 && rows * cols >= 2 * kGrain;
}

inline constexpr std::int64_t kLaneTerms = 16;  // summed in T by one lane before the sum joins a double

/// Σ term(i) over [0, n). Four sums at once, for an addition takes as long as four.
template <class T, class Term>
GD_INLINE double row_sum(std::int64_t n, const Term& term) {
  constexpr std::int64_t kAtOnce = 4 * kLaneTerms * GDCORE_VECTOR_BYTES / static_cast<std::int64_t>(sizeof(T));
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kAtOnce) {
    const std::int64_t count = min(n - begin, kAtOnce), q = count / 4;
    T s0 = T(0), s1 = T(0), s2 = T(0), s3 = T(0);
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (std::int64_t i = begin; i < begin + q; ++i) {
      s0 += term(i);
      s1 += term(i + q);
      s2 += term(i + 2 * q);
      s3 += term(i + 3 * q);
    }
    for (std::int64_t i = begin + 4 * q; i < begin + count; ++i) s0 += term(i);
    total += (static_cast<double>(s0) + static_cast<double>(s1)) + (static_cast<double>(s2) + static_cast<double>(s3));
  }
  return total;
}

/// Two sums over [0, n): of what term(i, second) returns, and of what it puts into `second`.
template <class T, class Term>
GD_INLINE void row_sums(std::int64_t n, double& first, double& second, const Term& term) {
  constexpr std::int64_t kAtOnce = 2 * kLaneTerms * GDCORE_VECTOR_BYTES / static_cast<std::int64_t>(sizeof(T));
  first = second = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kAtOnce) {
    const std::int64_t count = min(n - begin, kAtOnce), half = count / 2;
    T a0 = T(0), a1 = T(0), b0 = T(0), b1 = T(0);
#pragma omp simd reduction(+ : a0, a1, b0, b1)
    for (std::int64_t i = begin; i < begin + half; ++i) {
      T extra0, extra1;
      a0 += term(i, extra0);
      a1 += term(i + half, extra1);
      b0 += extra0;
      b1 += extra1;
    }
    if (count % 2 != 0) {
      T extra;
      a0 += term(begin + count - 1, extra);
      b0 += extra;
    }
    first += static_cast<double>(a0) + static_cast<double>(a1);
    second += static_cast<double>(b0) + static_cast<double>(b1);
  }
}

// ---- Outputs larger than the caches ---------------------------------------------------------------------------------

/// Whether an output is so large that none of it would still be in the caches when it is read: then it is written
/// around them, which saves reading what is overwritten, a third to a half of the traffic.
GD_INLINE bool beyond_cache(std::int64_t count, std::int64_t bytes_each) { return count * bytes_each > (32 << 20); }

/// Asks for a row that is read next.
template <class T>
GD_INLINE void prefetch(const T* row, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 64 / static_cast<std::int64_t>(sizeof(T))) __builtin_prefetch(row + i);
}

/// Copies `count` elements from the first-level cache to memory; whole cache lines go around the caches.
template <class T>
GD_INLINE void stream_out(T* to, const T* from, std::int64_t count) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t before = reinterpret_cast<std::uintptr_t>(to) / sizeof(T) % kLine;
  const std::int64_t head = min(count, before == 0 ? 0 : kLine - before), lines = (count - head) / kLine;
  std::memcpy(to, from, sizeof(T) * static_cast<std::size_t>(head));
  to += head;
  from += head;
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
  for (std::int64_t i = 0; i < lines * kLine; i += static_cast<std::int64_t>(sizeof(piece) / sizeof(T))) {
    piece value;
    std::memcpy(&value, from + i, sizeof value);
    store(to + i, value);
  }
#else
  std::memcpy(to, from, sizeof(T) * static_cast<std::size_t>(lines * kLine));
#endif
  const std::int64_t done = lines * kLine;
  std::memcpy(to + done, from + done, sizeof(T) * static_cast<std::size_t>(count - head - done));
}

/// to[i] = term(i) for [begin, end), around the caches if told so. `to` may be what term reads at i.
template <class T, class Term>
GD_INLINE void fill(T* to, std::int64_t begin, std::int64_t end, bool around, const Term& term) {
  if (!around) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) to[i] = term(i);
    return;
  }
  constexpr std::int64_t kPiece = 1024;
  T piece[kPiece];
  for (std::int64_t i = begin; i < end; i += kPiece) {
    const std::int64_t count = min(kPiece, end - i);
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) piece[j] = term(i + j);
    stream_out(to + i, piece, count);
  }
}

}  // namespace gdcore::GDCORE_ISA
