// Transposition in registers: of a square of vectors, and of a few rows of any length.
#pragma once

#include <utility>

#include "vectors.h"

namespace gdcore::GDCORE_ISA {

/// One stage of a transposition of two rows. Lanes whose index has bit `Step` clear come from a, the others from b,
/// `Step` lanes before. Upper: the former come from a, `Step` lanes behind, the others from b in place.
template <int Step, bool Upper, class Vector, std::size_t... Lane>
GD_INLINE Vector exchange(Vector a, Vector b, std::index_sequence<Lane...>) {
  constexpr int lanes = sizeof...(Lane);
  return __builtin_shufflevector(a, b,
                                 (static_cast<int>(Lane) & Step ? lanes + static_cast<int>(Lane) - (Upper ? 0 : Step)
                                                                : static_cast<int>(Lane) + (Upper ? Step : 0))...);
}

/// Transposes the square matrix in v, lanes x lanes.
template <class T, int Step = Tile<T>::lanes / 2>
GD_INLINE void transpose(typename Tile<T>::vector* v) {
  using Lanes = std::make_index_sequence<Tile<T>::lanes>;
#pragma GCC unroll 16
  for (int i = 0; i < Tile<T>::lanes; ++i) {
    if (i & Step) continue;
    const auto a = v[i], b = v[i + Step];
    v[i] = exchange<Step, false>(a, b, Lanes{});
    v[i + Step] = exchange<Step, true>(a, b, Lanes{});
  }
  if constexpr (Step > 1) transpose<T, Step / 2>(v);
}

/// to[p * Strip + r] = from[r * stride + p] for up to Strip rows of k elements, in squares. Missing rows are zero in a
/// vector of `to` with at least two rows; a vector without a row, and the lanes beside a single row, are not written.
template <class T, int Strip>
GD_INLINE void pack_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t k, T* to) {
  constexpr int lanes = Tile<T>::lanes;
  static_assert(Strip % lanes == 0);
  const std::int64_t depth = min(lanes, k);
  const FirstLanes<T> part(depth);
  for (std::int64_t first = 0; first < k; first += lanes) {
    const std::int64_t p = min(first, k - depth);  // the last square overlaps the previous one
#pragma GCC unroll 8
    for (int g = 0; g < Strip; g += lanes) {
      if (g >= rows) continue;
      if (g + 1 == rows) {
        for (std::int64_t q = p; q < p + depth; ++q) to[q * Strip + g] = from[g * stride + q];
        continue;
      }
      typename Tile<T>::vector v[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) {
        v[r] = typename Tile<T>::vector{};
        if (g + r >= rows) continue;
        const T* row = from + (g + r) * stride + p;
        v[r] = depth == lanes ? load(row) : part.load(row);
      }
      transpose<T>(v);
#pragma GCC unroll 16
      for (int q = 0; q < lanes; ++q) {
        if (q < depth) store(to + (p + q) * Strip + g, v[q]);
      }
    }
  }
}

}  // namespace gdcore::GDCORE_ISA
