// How the CPU kernels divide their work: loops over ranges for the thread pool, and sums in a fixed order.
#pragma once

#include <cstdint>
#include <cstring>

#include "gdcore/loss.h"
#include "gdcore/parallel.h"

namespace gdcore::GDCORE_ISA {

#define GD_INLINE inline __attribute__((always_inline))

GD_INLINE std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
GD_INLINE std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
GD_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Work is counted in visits of one element by a simple pass. A task of less than kGrain is not worth waking a thread
// for; one of more than kLongest would keep Ctrl-C waiting.
inline constexpr std::int64_t kGrain = 1 << 15, kLongest = 1 << 23;

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
inline constexpr std::int64_t kMostColumns = 256;  // of one column block
inline constexpr std::int64_t kRowsAtOnce = 16;    // summed in T before the sum joins a double

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

/// Σ term(i) over [0, n): sums in T over at most 16 terms a vector lane, then doubles.
template <class T, class Term>
GD_INLINE double row_sum(std::int64_t n, const Term& term) {
  constexpr std::int64_t kAtOnce = 16 * GDCORE_VECTOR_BYTES / static_cast<std::int64_t>(sizeof(T));
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kAtOnce) {
    const std::int64_t end = min(n, begin + kAtOnce);
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) sum += term(i);
    total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace gdcore::GDCORE_ISA
