// The row order of an epoch, many positions at once. The algorithm is described in row_order.h.
#include "gdcore/row_order.h"

#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

typedef std::uint32_t Numbers __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
typedef std::uint64_t Products __attribute__((vector_size(GDCORE_VECTOR_BYTES)));

/// The products of the numbers in the even lanes.
GD_INLINE Products even_products(Products a, Products b) {
#if !defined(__x86_64__)
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#elif GDCORE_VECTOR_BYTES == 64
  return (Products)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
#elif GDCORE_VECTOR_BYTES == 32
  return (Products)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (Products)_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
}

/// Permutation::Scaled in each lane.
struct ScaledLanes {
  GD_INLINE Numbers operator()(Numbers number, std::uint32_t size) const {
    const auto given = (Products)number, sizes = Products{} + size;
    const Products odd = even_products(given >> 32, sizes) & ~std::uint64_t{0xFFFFFFFFu};
    return (Numbers)(even_products(given, sizes) >> 32 | odd);
  }
};

/// Computes permutation(first), permutation(first + 1), ... several vectors at a time.
void fill_shuffled(const Permutation& permutation, std::int64_t first, std::int64_t count, std::int64_t* to) {
  constexpr int kVectors = 4, kLanes = kVectors * GDCORE_VECTOR_BYTES / 4, kMostRounds = 24;
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const std::uint32_t rows = permutation.rows, cols = permutation.cols, rounds = permutation.rounds;
  std::uint32_t key[kMostRounds], from_row[kLanes], from_col[kLanes];
  for (std::uint32_t round = 0; round < rounds; ++round) key[round] = permutation.round_key(round);
  from_row[0] = static_cast<std::uint32_t>(first / cols);
  from_col[0] = static_cast<std::uint32_t>(first % cols);
  for (int i = 1; i < kLanes; ++i) {
    const bool wraps = from_col[i - 1] + 1 == cols;
    from_row[i] = from_row[i - 1] + (wraps ? 1 : 0);
    from_col[i] = wraps ? 0 : from_col[i - 1] + 1;
  }
  for (std::int64_t done = 0; done < count; done += kLanes) {
    if (done % (1 << 16) == 0) poll_interrupt();
    Numbers row[kVectors], col[kVectors];
    std::memcpy(row, from_row, sizeof row);
    std::memcpy(col, from_col, sizeof col);
    for (std::uint32_t round = 0; round < rounds; round += 2) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        row[v] = Permutation::shifted(row[v], col[v], key[round], rows, ScaledLanes{});
        col[v] = Permutation::shifted(col[v], row[v], key[round + 1], cols, ScaledLanes{});
      }
    }
    const std::int64_t lanes = min(kLanes, count - done);
    std::uint32_t to_row[kLanes], to_col[kLanes];
    std::int64_t most = 0;
    if (permutation.n <= kMost) {  // the position fits into a lane
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) row[v] = row[v] * cols + col[v];
      std::memcpy(to_row, row, sizeof row);
      std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
      for (int i = 0; i < kLanes; ++i) largest = to_row[i] > largest ? to_row[i] : largest;
      most = largest;
#pragma omp simd
      for (std::int64_t i = 0; i < lanes; ++i) to[done + i] = to_row[i];
    } else {
      std::memcpy(to_row, row, sizeof row);
      std::memcpy(to_col, col, sizeof col);
      for (std::int64_t i = 0; i < lanes; ++i) to[done + i] = std::int64_t{to_row[i]} * cols + to_col[i];
      most = permutation.n;
    }
    for (std::int64_t i = done; i < done + lanes && most >= permutation.n; ++i) {
      if (to[i] >= permutation.n) to[i] = permutation(to[i]);
    }
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      const std::uint32_t next = from_col[i] + kLanes % cols, wraps = next >= cols ? 1 : 0;
      from_col[i] = next - wraps * cols;
      from_row[i] += kLanes / cols + wraps;
    }
  }
}

}  // namespace

/// One of CpuFunctions.
void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to) {
  if (order.shuffle != nullptr) {
    fill_shuffled(*order.shuffle, first, count, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = first + i;
  }
  for (std::int64_t i = 0; order.rows != nullptr && i < count; ++i) to[i] = order.rows[to[i]];
}

}  // namespace gdcore::GDCORE_ISA
