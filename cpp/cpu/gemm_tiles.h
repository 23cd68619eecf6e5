// Parts of the matrix product: packing of an operand into strips, and the innermost kernels, which keep a tile of C in
// registers. Written with the compiler's vector types: one source for all vector widths.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "loops.h"

namespace gdcore::GDCORE_ISA {

/// A matrix operand: element (i, j) is data[i * row_stride + j * col_stride]; one of the strides is 1.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_stride, col_stride;
};

template <class T>
struct Tile {
  typedef T vector __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(GDCORE_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int lanes = GDCORE_VECTOR_BYTES / sizeof(T);
  static constexpr int rows = GDCORE_VECTOR_BYTES == 64 ? 12 : 6;
  static constexpr int vectors = 2;
  static constexpr int cols = lanes * vectors;
};

/// A finished piece of C, still in the first-level cache; (row, col) is its position in C.
template <class T>
struct Piece {
  T* data;
  std::int64_t stride, row, col, rows, cols;
};

/// Function applied to finished pieces. Called once per tile, so that the product is compiled once for all activations.
template <class T>
using Finish = FunctionRef<void(const Piece<T>&)>;

// ---- Packing --------------------------------------------------------------------------------------------------------

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

/// Packs one strip of an operand with k-contiguous rows: to[p * Strip + r] = from[r * stride + p]. Transposes squares
/// in registers; rows from `rows` on are zero.
template <class T, int Strip>
GD_INLINE void pack_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t k, T* to) {
  constexpr int lanes = Tile<T>::lanes;
  const std::int64_t depth = min(lanes, k);
  for (std::int64_t first = 0; first < k; first += lanes) {
    const std::int64_t p = min(first, k - depth);  // the last square overlaps the previous one
#pragma GCC unroll 8
    for (int g = 0; g < Strip; g += lanes) {
      constexpr int whole = lanes;
      const int width = Strip - g < whole ? Strip - g : whole;
      typename Tile<T>::vector v[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) {
        v[r] = typename Tile<T>::vector{};
        if (r >= width || g + r >= rows) continue;
        const T* row = from + (g + r) * stride + p;
        if (depth == lanes) {
          v[r] = *reinterpret_cast<const typename Tile<T>::unaligned*>(row);
        } else {
          std::memcpy(&v[r], row, sizeof(T) * static_cast<std::size_t>(depth));
        }
      }
      transpose<T>(v);
#pragma GCC unroll 16
      for (int q = 0; q < lanes; ++q) {
        if (q < depth) std::memcpy(to + (p + q) * Strip + g, &v[q], sizeof(T) * static_cast<std::size_t>(width));
      }
    }
  }
}

/// Packs an m x k operand into strips of `Strip` rows, k-major within a strip; missing rows are zero. B is packed as
/// Bᵀ. If the elements of one k are contiguous, a few k at a time are packed for all strips: memory is read in order.
template <class T, int Strip>
__attribute__((noinline)) void pack(Operand<T> from, std::int64_t m, std::int64_t k, T* to) {
  const bool transposes = from.row_stride != 1;
  const std::int64_t at_once = transposes ? k : 8;
  for (std::int64_t first = 0; first < k; first += at_once) {
    const std::int64_t last = min(k, first + at_once);
    for (std::int64_t i = 0; i < m; i += Strip) {
      const std::int64_t rows = min(Strip, m - i);
      const T* source = from.data + i * from.row_stride;
      T* strip = to + i * k;
      if (transposes) {
        pack_transposed<T, Strip>(source, from.row_stride, rows, k, strip);
      } else if (rows == Strip) {
        for (std::int64_t p = first; p < last; ++p) {
          std::memcpy(strip + p * Strip, source + p * from.col_stride, sizeof(T) * Strip);
        }
      } else {
        for (std::int64_t p = first; p < last; ++p) {
          for (std::int64_t r = 0; r < Strip; ++r)
            strip[p * Strip + r] = r < rows ? source[p * from.col_stride + r] : T(0);
        }
      }
    }
  }
}

// ---- Kernels --------------------------------------------------------------------------------------------------------

/// Operands of a tile kernel. Element (i, p) of A is a[i + p * a_stride] (packed, or adjacent rows) or, with Along,
/// a[i * a_stride + p]; element (p, j) of B is b[p * b_stride + j].
template <class T>
struct TileCall {
  std::int64_t k, chain;
  const T* a;
  std::int64_t a_stride;
  const T* b;
  std::int64_t b_stride;
  T* c;
  std::int64_t c_stride;
  bool add;
  T* rest = nullptr;  // rounding errors of C's sums in the layout of C, for a long k
};

inline constexpr std::int64_t kShortestChain = 16;  // multiply-adds of a chain for a long k

/// sum + rest (+)= x; rest holds the accumulated rounding error of the sum (Knuth's two-sum).
template <class T>
GD_INLINE void add_exactly(T& sum, T& rest, T x, bool first) {
  const T before = first ? T(0) : sum, kept = first ? T(0) : rest;
  sum = before + x;
  const T added = sum - before;
  rest = kept + ((before - (sum - added)) + (x - added));
}

/// Adds the rounding errors of add_exactly to the sums; a sum that overflowed has none.
template <class T>
GD_INLINE void finish_sums(T* sum, const T* rest, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) sum[i] += rest[i] - rest[i] == T(0) ? rest[i] : T(0);
}

/// Finishes a piece whose sums are complete; `rest`, unless null, has the layout of the piece.
template <class T>
GD_INLINE void finish_piece(const Piece<T>& piece, const T* rest, const Finish<T>* finish) {
  if (rest != nullptr) {
    for (std::int64_t r = 0; r < piece.rows; ++r) {
      finish_sums(piece.data + r * piece.stride, rest + r * piece.stride, piece.cols);
    }
  }
  if (finish != nullptr) (*finish)(piece);
}

/// c[0..Rows)[0..Vectors·lanes) (+)= a b, as a sum of chains of multiply-adds.
template <class T, int Rows, int Vectors, bool Along>
__attribute__((noinline)) void tile_kernel(const TileCall<T>& call) {
  using vector = typename Tile<T>::vector;
  using unaligned = typename Tile<T>::unaligned;
  constexpr int lanes = Tile<T>::lanes, group = 3, groups = (Rows + group - 1) / group;
  const std::int64_t a_stride = call.a_stride, b_stride = call.b_stride, c_stride = call.c_stride;
  const T* b = call.b;
  const T* a[groups];  // Along: one pointer per three rows; the stride addresses the other two
#pragma GCC unroll 4
  for (int g = 0; g < groups; ++g) a[g] = call.a + (Along ? g * group * a_stride : g * group);
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) __builtin_prefetch(call.c + i * c_stride + v * lanes, 1);
  }
  vector sum[Rows][Vectors], total[Rows][Vectors];
  for (std::int64_t p0 = 0;; p0 += call.chain) {
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] = vector{};
    }
    for (std::int64_t left = min(call.chain, call.k - p0); left > 0; --left) {
      vector row[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) row[v] = *reinterpret_cast<const unaligned*>(b + v * lanes);
#pragma GCC unroll 32
      for (int i = 0; i < Rows; ++i) {
        const vector broadcast = (Along ? a[i / group][i % group * a_stride] : a[0][i]) - vector{};
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[i][v] += broadcast * row[v];
      }
      if (Along) {
#pragma GCC unroll 4
        for (int g = 0; g < groups; ++g) ++a[g];
      } else {
        a[0] += a_stride;
      }
      b += b_stride;
    }
    if (call.k <= call.chain) break;
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) total[i][v] = sum[i][v] += p0 > 0 ? total[i][v] : vector{};
    }
    if (p0 + call.chain >= call.k) break;
  }
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      auto* to = reinterpret_cast<unaligned*>(call.c + i * c_stride + v * lanes);
      *to = call.add ? *to + sum[i][v] : sum[i][v];
    }
  }
}

/// Runs the tile_kernel of the next larger number of rows, for 1 to Tile::rows rows; rows past the end must be packed
/// as zeros.
template <class T, int Vectors>
GD_INLINE void run_tile(std::int64_t rows, bool along, const TileCall<T>& call) {
  constexpr int most = Tile<T>::rows;
  if (along) {
    tile_kernel<T, most, Vectors, true>(call);
  } else if (rows == 1) {
    tile_kernel<T, 1, Vectors, false>(call);
  } else if (rows == 2) {
    tile_kernel<T, 2, Vectors, false>(call);
  } else if (rows <= 4) {
    tile_kernel<T, 4, Vectors, false>(call);
  } else if (most > 6 && rows <= 6) {
    tile_kernel<T, 6, Vectors, false>(call);
  } else if (most > 8 && rows <= 8) {
    tile_kernel < T, most<8 ? most : 8, Vectors, false>(call);
  } else if (most > 10 && rows <= 10) {
    tile_kernel < T, most<10 ? most : 10, Vectors, false>(call);
  } else {
    tile_kernel<T, most, Vectors, false>(call);
  }
}

/// c[0..rows)[0..cols) (+)= a b for any part of a tile; a partial tile, and any tile of a long k, uses a buffer.
template <class T>
GD_INLINE void multiply_tile(std::int64_t rows, std::int64_t cols, bool along, const TileCall<T>& call) {
  constexpr int tile_rows = Tile<T>::rows, tile_cols = Tile<T>::cols, lanes = Tile<T>::lanes;
  const bool narrow = cols <= lanes;
  const auto run = [&](const TileCall<T>& tile) __attribute__((always_inline)) {
    if (narrow) {
      run_tile<T, 1>(rows, along, tile);
    } else {
      run_tile<T, 2>(rows, along, tile);
    }
  };
  const bool whole_rows = rows == tile_rows || rows == 1 || rows % 2 == 0;
  if (call.rest == nullptr && whole_rows && cols == (narrow ? lanes : tile_cols)) {
    run(call);
    return;
  }
  alignas(64) T edge[tile_rows * tile_cols];
  const bool goes_on = call.add && call.rest == nullptr;
  for (std::int64_t r = 0; goes_on && r < rows; ++r) {  // continues the sum, in the order of a whole tile
    for (std::int64_t q = 0; q < cols; ++q) edge[r * tile_cols + q] = call.c[r * call.c_stride + q];
  }
  TileCall<T> inside = call;
  inside.c = edge;
  inside.c_stride = tile_cols;
  inside.add = goes_on;
  run(inside);
  const auto join = [&](std::int64_t wide) __attribute__((always_inline)) {
    for (std::int64_t r = 0; r < rows; ++r) {
      T *sum = call.c + r * call.c_stride, *rest = call.rest + r * call.c_stride;
#pragma omp simd
      for (std::int64_t q = 0; q < wide; ++q) add_exactly(sum[q], rest[q], edge[r * tile_cols + q], !call.add);
    }
  };
  if (call.rest != nullptr) return cols == tile_cols ? join(tile_cols) : join(cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t q = 0; q < cols; ++q) call.c[r * call.c_stride + q] = edge[r * tile_cols + q];
  }
}

}  // namespace gdcore::GDCORE_ISA
