// Parts of the matrix product: packing of an operand into strips, and the innermost kernels, which keep a tile of C in
// registers. Written with the compiler's vector types: one source for all vector widths.
#pragma once

#include <type_traits>

#include "transpose.h"

namespace gdcore::GDCORE_ISA {

/// A matrix operand: element (i, j) is data[i * row_stride + j * col_stride]; one of the strides is 1.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_stride, col_stride;
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
      if constexpr (Strip % Tile<T>::lanes == 0) {  // not A, which is packed only where its rows are adjacent
        if (transposes) {
          pack_transposed<T, Strip>(source, from.row_stride, rows, k, strip);
          continue;
        }
      }
      if (rows == Strip) {
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

/// Tiles of C below one another: c[0..rows)[0..cols) (+)= a b, + bias. Element (i, p) of a tile's A is a[i + p *
/// a_stride] (packed, or adjacent rows) or, with Along, a[i * a_stride + p]; the next tile's A is `a_step` behind it.
/// Element (p, j) of B is b[p * b_stride + j].
template <class T>
struct TileCall {
  std::int64_t k, chain;
  const T* a;
  std::int64_t a_stride, a_step;
  const T* b;
  std::int64_t b_stride, b_step;  // b_step: from one strip of Tile::cols columns to the next one
  T* c;
  std::int64_t c_stride, rows, cols;
  bool add;
  const T* bias = nullptr;  // of the columns, or null
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

/// Finishes a piece whose sums are complete. `rest`, unless null, has the layout of the piece; `bias`: of all columns,
/// where it has not been added yet, or null.
template <class T>
GD_INLINE void finish_piece(const Piece<T>& piece, const T* rest, const T* bias, const Finish<T>* finish) {
  for (std::int64_t r = 0; (rest != nullptr || bias != nullptr) && r < piece.rows; ++r) {
    T* row = piece.data + r * piece.stride;
    if (rest != nullptr) finish_sums(row, rest + r * piece.stride, piece.cols);
    for (std::int64_t j = 0; bias != nullptr && j < piece.cols; ++j) row[j] += bias[piece.col + j];
  }
  if (finish != nullptr) (*finish)(piece);
}

/// A row of C or B within a tile, in vectors. Part: the last vector is not whole.
template <class T, int Vectors, bool Part>
struct TileColumns {
  using vector = typename Tile<T>::vector;
  static constexpr int vectors = Vectors;
  FirstLanes<T> last;

  GD_INLINE explicit TileColumns(std::int64_t cols) : last(Part ? cols - (Vectors - 1) * Tile<T>::lanes : 0) {}
  /// `step`: from one strip to the next one.
  GD_INLINE vector read(const T* row, int v, std::int64_t step = Tile<T>::cols) const {
    const T* from = row + v % Tile<T>::vectors * Tile<T>::lanes + v / Tile<T>::vectors * step;
    return Part && v == Vectors - 1 ? last.load(from) : load(from);
  }
  GD_INLINE void write(T* row, int v, vector value) const {
    T* to = row + v * Tile<T>::lanes;
    if (Part && v == Vectors - 1) return last.store(to, value);
    store(to, value);
  }
};

/// Whether rows end with half a vector, where that is enough. A Zen 4 computes 512 bits in two steps of 256, and half a
/// vector in one; on other processors with vectors of 512 bits this has not been measured.
inline constexpr bool kHalves = GDCORE_VECTOR_BYTES == 64;

#if GDCORE_VECTOR_BYTES == 64
/// A row of at most half a vector.
template <class T>
struct HalfColumns {
  typedef T vector __attribute__((vector_size(GDCORE_VECTOR_BYTES / 2)));
  static constexpr int vectors = 1;
  __mmask8 first;

  GD_INLINE explicit HalfColumns(std::int64_t cols) : first(static_cast<__mmask8>((1u << cols) - 1)) {}
  GD_INLINE vector read(const float* row, int, std::int64_t = 0) const {
    return (vector)_mm256_maskz_loadu_ps(first, row);
  }
  GD_INLINE vector read(const double* row, int, std::int64_t = 0) const {
    return (vector)_mm256_maskz_loadu_pd(first, row);
  }
  GD_INLINE void write(float* row, int, vector value) const { _mm256_mask_storeu_ps(row, first, (__m256)value); }
  GD_INLINE void write(double* row, int, vector value) const { _mm256_mask_storeu_pd(row, first, (__m256d)value); }
};
#else
template <class T>
using HalfColumns = TileColumns<T, 1, true>;
#endif

/// Computes one tile, at `a` and `c`, as a sum of chains of multiply-adds. It has Rows rows, or one less: then the last
/// one is computed twice.
template <class T, int Rows, class Columns, bool Along>
GD_INLINE void compute_tile(const TileCall<T>& call, const Columns& columns, const T* from, T* to, std::int64_t rows) {
  using vector = typename Columns::vector;
  constexpr int Vectors = Columns::vectors, group = 3, groups = Rows > 1 ? (Rows + group - 2) / group : 1;
  const std::int64_t a_stride = call.a_stride, b_stride = call.b_stride, c_stride = call.c_stride;
  const std::int64_t k = call.k, chain = call.chain;
  const T *b = call.b, *last = from + (rows - 1) * (Along ? a_stride : 1);
  const T* a[groups];  // Along: one pointer per three rows before the last; the stride addresses the other two
#pragma GCC unroll 4
  for (int g = 0; g < groups; ++g) a[g] = from + (Along ? g * group * a_stride : g * group);
  if (k >= 4 * kShortestChain) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      __builtin_prefetch(to + i * c_stride, 1);
      __builtin_prefetch(to + i * c_stride + call.cols - 1, 1);
    }
  }
  vector sum[Rows][Vectors], total[Rows][Vectors];
  for (std::int64_t p0 = 0;; p0 += chain) {
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[i][v] = vector{};
    }
    for (std::int64_t left = min(chain, k - p0); left > 0; --left) {
      vector row[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) row[v] = columns.read(b, v, call.b_step);
#pragma GCC unroll 32
      for (int i = 0; i < Rows; ++i) {
        const T factor = i == Rows - 1 ? *last : Along ? a[i / group][i % group * a_stride] : a[0][i];
        const vector broadcast = factor - vector{};
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[i][v] += broadcast * row[v];
      }
#pragma GCC unroll 4
      for (int g = 0; g < (Along ? groups : 1); ++g) a[g] += Along ? 1 : a_stride;
      last += Along ? 1 : a_stride;
      b += b_stride;
    }
    if (k <= chain) break;
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) total[i][v] = sum[i][v] += p0 > 0 ? total[i][v] : vector{};
    }
    if (p0 + chain >= k) break;
  }
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
    if (i == Rows - 1 && rows < Rows) break;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      if (call.add) sum[i][v] = columns.read(to + i * c_stride, v) + sum[i][v];
      if (call.bias != nullptr) sum[i][v] += columns.read(call.bias, v);
      columns.write(to + i * c_stride, v, sum[i][v]);
    }
  }
}

template <class T, int Rows, class Columns, bool Along>
__attribute__((noinline)) void tile_kernel(const TileCall<T>& call) {
  const Columns columns(call.cols);
  const T* a = call.a;
  T* c = call.c;
  for (std::int64_t left = call.rows; left > 0; left -= Rows) {
    compute_tile<T, Rows, Columns, Along>(call, columns, a, c, min(Rows, left));
    a += call.a_step;
    c += Rows * call.c_stride;
  }
}

template <class T>
using TileKernel = void (*)(const TileCall<T>&);

/// The kernels for 1, 2, 4, 6, 8 and 12 rows, by half the number.
template <class T, class Columns, bool Along,
          class Half = std::make_index_sequence<(Columns::vectors == 1 ? Tile<T>::narrow_rows : Tile<T>::rows) / 2 + 1>>
struct TileKernels;
template <class T, class Columns, bool Along, std::size_t... Half>
struct TileKernels<T, Columns, Along, std::index_sequence<Half...>> {
  static constexpr int rows(std::size_t half) { return half == 0 ? 1 : half > 4 ? 12 : 2 * static_cast<int>(half); }
  template <std::size_t Which>
  static constexpr TileKernel<T> one = &tile_kernel<T, rows(Which), Columns, Along && Which != 0>;
  static constexpr TileKernel<T> of[] = {one<Half>...};
};

/// Columns of a tile of few rows: as many strips as hide the latency of multiply-adds.
template <class T>
GD_INLINE std::int64_t tile_cols(std::int64_t rows) {
  return (rows == 1 ? 4 : rows == 2 ? 2 : 1) * Tile<T>::cols;
}

/// Returns the kernel for tiles of this size: of tile_cols(rows) columns, or at most Tile::cols. A single row is read
/// as adjacent rows are: `a_stride` is the step along k.
template <class T>
GD_INLINE TileKernel<T> kernel_of(std::int64_t rows, std::int64_t cols, bool along) {
  constexpr int lanes = Tile<T>::lanes;
  const std::int64_t half = rows == 1 ? 0 : (rows + 1) / 2;
  const auto kernel = [=]<class Columns>(std::type_identity<Columns>) __attribute__((always_inline)) {
    return (along ? TileKernels<T, Columns, true>::of : TileKernels<T, Columns, false>::of)[half];
  };
  if (cols == 2 * lanes) return kernel(std::type_identity<TileColumns<T, 2, false>>{});
  if (cols == 8 * lanes) return &tile_kernel<T, 1, TileColumns<T, 8, false>, false>;
  if (cols == 4 * lanes) {
    using Columns = TileColumns<T, 4, false>;
    return along ? &tile_kernel<T, 2, Columns, true> : &tile_kernel<T, 2, Columns, false>;
  }
  if (cols > lanes) return kernel(std::type_identity<TileColumns<T, 2, true>>{});
  if (kHalves && 2 * cols <= lanes) return kernel(std::type_identity<HalfColumns<T>>{});
  return kernel(std::type_identity<TileColumns<T, 1, true>>{});
}

/// Computes a tile of a long k: its sums are added to C with compensation; `rest` has the layout of C.
template <class T>
__attribute__((noinline)) void multiply_long_tile(TileKernel<T> kernel, const TileCall<T>& call, T* rest) {
  alignas(64) T sums[Tile<T>::narrow_rows * Tile<T>::cols];
  TileCall<T> inside = call;
  inside.c = sums;
  inside.c_stride = Tile<T>::cols;
  inside.add = false;
  inside.bias = nullptr;
  kernel(inside);
  for (std::int64_t r = 0; r < call.rows; ++r) {
    const std::int64_t at = r * call.c_stride;
#pragma omp simd
    for (std::int64_t q = 0; q < call.cols; ++q) {
      add_exactly(call.c[at + q], rest[at + q], sums[r * Tile<T>::cols + q], !call.add);
    }
  }
}

}  // namespace gdcore::GDCORE_ISA
