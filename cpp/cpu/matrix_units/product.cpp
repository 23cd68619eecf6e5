// C = A B in float32 on matrix units. A float32 number is the exact sum of three bfloat16 numbers h + m + l, each the
// rounding of what the others leave. Of the nine products of two such sums, hh, hm, mh, hl, mm and lh are computed; the
// other three add up to at most 2^-24 of a term (Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 artificial
// intelligence datatype for higher-precision computations"). Two parts give hh, hl and lh: 16 bits; one gives hh.
//
// Both operands are packed once into tiles of their parts, by all threads. Then tasks compute blocks of C. The products
// hh and the others, 2^-8 as large, are summed apart over kChain tiles along k, and these sums are added in double
// precision. The sums do not depend on the division into tasks.
//
// The units flush subnormal numbers, and the largest float32 numbers round to infinity. Squares of C where that could
// show are computed with vectors; see `fits`. Their choice depends on the values of 32 rows and 32 columns.
#include "../gemm_tiles.h"
#include "gdcore/matrix_units.h"
#include "tiles.h"

namespace gdcore::GDCORE_ISA {

namespace {

using Bits = std::uint32_t;
typedef float Floats __attribute__((vector_size(64)));
typedef Bits Words __attribute__((vector_size(64)));
static_assert(Tile<float>::lanes == 16);

constexpr std::int64_t kSide = 16, kDeep = 32;    // rows of A or columns of B of a tile, and its terms along k
constexpr std::int64_t kSquare = 2 * kSide;       // rows and columns of C computed from two by two tiles
constexpr std::int64_t kRows = 128, kCols = 256;  // largest block of a task: its sums are in the second-level cache
constexpr std::int64_t kPacked = std::int64_t{1} << 21;  // numbers of an operand packed at a time
constexpr std::int64_t kStripsTogether = 4;              // strips packed by a task
constexpr std::int64_t kGrainWork = 1 << 21;             // multiply-adds of a product that is not divided

constexpr Bits kMagnitude = 0x7fffffff, kUpper = 0xffff0000;
constexpr Bits kLeast = 0x0c800000;    // 2^-102: below it, the lowest part may be subnormal
constexpr Bits kMost = 0x7f7f8000;     // rounds to infinity in bfloat16
constexpr float kSmallSum = 0x1p-82f;  // of k <= 2^13 terms: flushing changes no larger sum by more than 2^-28 of it

/// Tiles along k whose products are summed by the units. Products of one part are less accurate than their sum.
template <int Parts>
constexpr std::int64_t kChain = Parts == 1 ? 16 : 4;

/// Least and greatest magnitude, as bits. Of an operand, the least one other than zero, minus 1.
template <class T>
struct Range {
  T least, most;
};

/// 16 rows of A or columns of B in parts: part p of the tile at q along k is tiles + (q * Parts + p) * kTileWords.
struct Strips {
  Bits* tiles;
  Range<Bits>* ranges;
  std::int64_t words;  // of a strip
};

/// An operand with its rows and columns, of A, or of B transposed.
struct Packing {
  const float* data;
  std::int64_t outer, along;  // strides
  std::int64_t count, k;
  bool left;
  Strips to;
};

/// Rounds to bfloat16, ties to even, and subtracts that from x; returns the bits as float32.
GD_INLINE Words take_part(Floats& x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words part = (bits + 0x7fff + (bits >> 16 & 1)) & kUpper;
  x -= reinterpret_cast<Floats>(part);
  return part;
}

GD_INLINE void extend(Range<Words>& range, Words least, Words most) {
  range.least = least < range.least ? least : range.least;
  range.most = most > range.most ? most : range.most;
}

GD_INLINE Words magnitudes(Floats x) { return reinterpret_cast<Words>(x) & kMagnitude; }

GD_INLINE Range<Bits> over_lanes(const Range<Words>& range) {
  Range<Bits> all{range.least[0], range.most[0]};
  for (int lane = 1; lane < kSide; ++lane) {
    all.least = range.least[lane] < all.least ? range.least[lane] : all.least;
    all.most = range.most[lane] > all.most ? range.most[lane] : all.most;
  }
  return all;
}

/// Packs 16 x 32 numbers into the tiles of their parts. Lines of memory along k become rows of pairs at once; lines
/// across it are joined in twos. The result is transposed if the other form is needed. `far`: the operand is larger
/// than the caches, and the processor does not prefetch the lines of so many rows in turn.
template <int Parts>
GD_INLINE void pack_tile(const float* from, std::int64_t stride, bool along, bool left, bool far, Bits* to,
                         Range<Words>& range) {
  constexpr std::int64_t kAhead = 2;  // tiles
  alignas(64) Bits pairs[Parts][kTileWords];
  for (std::int64_t i = 0; i < kSide; ++i) {
    Floats x[2];
    for (std::int64_t half = 0; half < 2; ++half) {
      const float* line = along ? from + i * stride + half * kSide : from + (2 * i + half) * stride;
      std::memcpy(&x[half], line, sizeof x[half]);
      if (far) __builtin_prefetch(line + kAhead * kDeep * (along ? 1 : stride), 0, 2);
      const Words size = magnitudes(x[half]);
      extend(range, size - 1, size);
    }
    for (int p = 0; p < Parts; ++p) {
      const Words first = take_part(x[0]), second = take_part(x[1]);
      Bits* row = pairs[p] + i * kSide;
      if (along) {
        typedef std::uint16_t Halves __attribute__((vector_size(32)));
        const Halves halves[2] = {__builtin_convertvector(first >> 16, Halves),
                                  __builtin_convertvector(second >> 16, Halves)};
        std::memcpy(row, halves, sizeof halves);
      } else {
        const Words joined = first >> 16 | second;
        std::memcpy(row, &joined, sizeof joined);
      }
    }
  }
  for (int p = 0; p < Parts; ++p) {
    if (along != left) {
      Floats rows[kSide];
      std::memcpy(rows, pairs[p], sizeof rows);
      transpose<float>(rows);
      std::memcpy(to + p * kTileWords, rows, sizeof rows);
    } else {
      std::memcpy(to + p * kTileWords, pairs[p], sizeof pairs[p]);
    }
  }
}

/// Packs strips first, first + 1, ... of an operand, a tile of each at a time. Numbers past the end are zero.
template <int Parts>
void pack_strips(const Packing& call, std::int64_t first, std::int64_t strips) {
  constexpr std::int64_t kCached = 1 << 18;  // numbers
  const bool along = call.along == 1, far = call.count * call.k > kCached;
  Range<Words> ranges[kStripsTogether];
  for (Range<Words>& range : ranges) range = {~Words{}, Words{}};
  for (std::int64_t p = 0; p < call.k; p += kDeep) {
    for (std::int64_t s = 0; s < strips; ++s) {
      const std::int64_t at = (first + s) * kSide;
      const std::int64_t count = max(0, min(kSide, call.count - at)), depth = min(kDeep, call.k - p);
      Bits* to = call.to.tiles + (first + s) * call.to.words + p / kDeep * Parts * kTileWords;
      const float* from = call.data + at * call.outer + p * call.along;
      if (count == kSide && depth == kDeep) {
        pack_tile<Parts>(from, along ? call.outer : call.along, along, call.left, far, to, ranges[s]);
        continue;
      }
      alignas(64) float edge[kSide * kDeep] = {};
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t q = 0; q < depth; ++q) {
          edge[along ? i * kDeep + q : q * kSide + i] = from[i * call.outer + q * call.along];
        }
      }
      pack_tile<Parts>(edge, along ? kDeep : kSide, along, call.left, false, to, ranges[s]);
    }
  }
  for (std::int64_t s = 0; s < strips; ++s) call.to.ranges[first + s] = over_lanes(ranges[s]);
}

/// Sums products of a square of C over tiles along k, smallest first: all but hh where Small, else hh.
template <int Parts, bool Small>
GD_INLINE void sum_products(Tiles& tiles, const Factors& a, const Factors& b, std::int64_t depth,
                            float (*sums)[kTileWords]) {
  const auto add = [&](std::int64_t left, std::int64_t right) __attribute__((always_inline)) {
    tiles.add({a[0] + left * kTileWords, a[1] + left * kTileWords},
              {b[0] + right * kTileWords, b[1] + right * kTileWords}, depth, Parts * kTileWords);
  };
  tiles.zero();
  if constexpr (!Small) {
    add(0, 0);
  } else {
    if constexpr (Parts > 2) {
      add(2, 0);
      add(1, 1);
      add(0, 2);
    }
    add(1, 0);
    add(0, 1);
  }
  tiles.store(sums);
}

/// The product of two strips of A and two of B over a chain of tiles along k, four tiles of C.
template <int Parts>
struct ChainSums {
  alignas(64) float large[4][kTileWords], small[Parts > 1 ? 4 : 1][kTileWords];

  GD_INLINE ChainSums(Tiles& tiles, const Factors& a, const Factors& b, std::int64_t depth) {
    sum_products<Parts, false>(tiles, a, b, depth, large);
    if constexpr (Parts > 1) sum_products<Parts, true>(tiles, a, b, depth, small);
  }
  /// to[l] = elements at, at + 1, ... of a tile, added to those of the chains before, unless null.
  template <std::int64_t Count, class To>
  GD_INLINE void write(std::int64_t tile, std::int64_t at, const double* before, To* to) const {
    const auto add = [&](const double* from) __attribute__((always_inline)) {
#pragma omp simd
      for (std::int64_t l = 0; l < Count; ++l) {
        double sum = static_cast<double>(large[tile][at + l]);
        if constexpr (Parts > 1) sum += static_cast<double>(small[tile][at + l]);
        to[l] = static_cast<To>(from == nullptr ? sum : from[l] + sum);
      }
    };
    before == nullptr ? add(nullptr) : add(before + tile * kTileWords + at);
  }
};

/// Whether the units computed a square right. Not if a number has parts that are subnormal or infinite, or a sum
/// overflowed; or if it is small and has a term that may have been flushed.
bool fits(const Range<Bits>* a, const Range<Bits>* b, const Range<Bits>& c) {
  float least = 1.0f;
  for (const Range<Bits>* strips : {a, b}) {
    Bits lower = ~Bits{0};
    for (int s = 0; s < 2; ++s) {
      if (strips[s].least + 1 > strips[s].least && strips[s].least + 1 < kLeast) return false;
      if (strips[s].most >= kMost) return false;
      lower = strips[s].least < lower ? strips[s].least : lower;
    }
    least *= lower < kMagnitude ? __builtin_bit_cast(float, lower + 1) : 0x1p126f;
  }
  // Compared as integers, which vectors do without regard to NaN.
  const bool finite = c.most < __builtin_bit_cast(Bits, __builtin_inff());
  return finite && !(c.least < __builtin_bit_cast(Bits, kSmallSum) && least < kSmallSum);
}

/// A division of a band of C into blocks of at most kRows x kCols, one for each thread at least.
struct Division {
  std::int64_t rows = kRows, cols = kCols, across = 0, blocks = 0;

  Division(std::int64_t m, std::int64_t n, bool whole) {
    const std::int64_t wanted = whole ? 1 : num_threads();
    while (ceil_div(m, rows) * ceil_div(n, cols) < wanted && (rows > kSquare || cols > kSquare)) {
      std::int64_t& longer = cols > rows ? cols : rows;
      longer /= 2;
    }
    across = ceil_div(n, cols);
    blocks = ceil_div(m, rows) * across;
  }
};

/// A band of C, as a product of its own; the functions of `call` count rows and columns from (row, col).
template <int Parts>
struct Band {
  const MatrixProduct& call;
  std::int64_t row, rows, col, cols;
  Strips a, b;

  /// Computes rows [i0, i1) and columns [j0, j1) of the band; i0 and j0 are multiples of kSquare.
  void compute(std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1) const {
    const std::int64_t down = ceil_div(i1 - i0, kSquare), across = ceil_div(j1 - j0, kSquare);
    const std::int64_t deep = ceil_div(call.k, kDeep);
    constexpr std::int64_t square = kSquare * kSquare;
    auto* totals = static_cast<double*>(
        scratch(Scratch::pack_a, sizeof(double) * static_cast<std::size_t>(down * across * square)));
    Range<Bits> found[kRows * kCols / square];
    Tiles tiles;
    for (std::int64_t q = 0; q < deep; q += kChain<Parts>) {
      for (std::int64_t i = 0; i < down; ++i) {
        const Bits* left = a.tiles + (i0 / kSide + 2 * i) * a.words + q * Parts * kTileWords;
        const Factors lefts = {left, left + a.words};
        for (std::int64_t j = 0; j < across; ++j) {
          const Bits* right = b.tiles + (j0 / kSide + 2 * j) * b.words + q * Parts * kTileWords;
          const Factors rights = {right, right + b.words};
          const ChainSums<Parts> sums(tiles, lefts, rights, min(kChain<Parts>, deep - q));
          double* total = totals + (i * across + j) * square;
          const double* before = q == 0 ? nullptr : total;
          if (q + kChain<Parts> >= deep) {
            const std::int64_t at = i0 + i * kSquare, col_at = j0 + j * kSquare;
            found[i * across + j] = round(sums, before, at, min(kSquare, i1 - at), col_at, min(kSquare, j1 - col_at));
            continue;
          }
          for (std::int64_t t = 0; t < 4; ++t) {
            sums.template write<kTileWords>(t, 0, before, total + t * kTileWords);
          }
        }
      }
    }
    const Range<Bits>* of_square = found;
    for (std::int64_t i = i0; i < i1; i += kSquare) {  // from here on the sums' memory is used by others
      for (std::int64_t j = j0; j < j1; j += kSquare) {
        const bool right = fits(a.ranges + i / kSide, b.ranges + j / kSide, *of_square++);
        (right ? call.finish : call.vectors)(row + i, min(kSquare, i1 - i), col + j, min(kSquare, j1 - j));
      }
    }
  }

  /// Writes a square of C, the sum of its last chain and those before; returns the range of its elements.
  Range<Bits> round(const ChainSums<Parts>& sums, const double* before, std::int64_t i, std::int64_t height,
                    std::int64_t j, std::int64_t width) const {
    Range<Words> range{~Words{}, Words{}};
    for (std::int64_t r = 0; r < height; ++r) {
      float* to = call.c + (row + i + r) * call.n + col + j;
      for (std::int64_t q = 0; q < width; q += kSide) {
        const std::int64_t tile = r / kSide * 2 + q / kSide, at = r % kSide * kSide, count = min(kSide, width - q);
        alignas(64) float x[kSide];
        sums.template write<kSide>(tile, at, before, x);
        if (count == kSide) {
          std::memcpy(to + q, x, sizeof x);
        } else {
          for (std::int64_t l = 0; l < count; ++l) to[q + l] = x[l];
          for (std::int64_t l = count; l < kSide; ++l) x[l] = x[0];
        }
        const Words size = magnitudes(load(x));
        extend(range, size, size);
      }
    }
    return over_lanes(range);
  }
};

/// Calls task(0) .. task(count - 1), on the pool unless the product is small.
void for_each(std::int64_t count, bool here, FunctionRef<void(std::int64_t)> task) {
  if (!here) return run_tasks(count, task);
  for (std::int64_t t = 0; t < count; ++t) task(t);
}

template <int Parts>
void multiply_parts(const MatrixProduct& call) {
  const std::int64_t deep = ceil_div(call.k, kDeep), words = deep * Parts * kTileWords;
  const std::int64_t band = max(kCols, kPacked / (deep * kDeep) / kCols * kCols);
  const auto strips_of = [](std::int64_t count) { return 2 * ceil_div(count, kSquare); };
  const std::int64_t most_a = strips_of(min(band, call.m)), most_b = strips_of(min(band, call.n));
  const std::int64_t bytes = 4 * words * (most_a + most_b);
  auto* memory = static_cast<char*>(
      scratch(Scratch::partial,
              static_cast<std::size_t>(bytes) + sizeof(Range<Bits>) * static_cast<std::size_t>(most_a + most_b)));
  auto* tiles = reinterpret_cast<Bits*>(memory);
  auto* ranges = reinterpret_cast<Range<Bits>*>(memory + bytes);
  const Strips a{tiles, ranges, words}, b{tiles + most_a * words, ranges + most_a, words};
  const bool here = call.m * call.n * call.k < kGrainWork;
  const auto tasks_of = [=](const Packing& packing) { return ceil_div(strips_of(packing.count), kStripsTogether); };
  const auto pack = [=](const Packing& packing, std::int64_t t) {
    const std::int64_t first = t * kStripsTogether;
    pack_strips<Parts>(packing, first, min(kStripsTogether, strips_of(packing.count) - first));
  };
  for (std::int64_t j0 = 0; j0 < call.n; j0 += band) {
    const std::int64_t cols = min(band, call.n - j0);
    const Packing right{call.b + j0 * call.b_col, call.b_col, call.b_row, cols, call.k, false, b};
    for (std::int64_t i0 = 0; i0 < call.m; i0 += band) {
      const std::int64_t rows = min(band, call.m - i0);
      const Packing left{call.a + i0 * call.a_row, call.a_row, call.a_col, rows, call.k, true, a};
      const std::int64_t of_right = i0 == 0 ? tasks_of(right) : 0;
      for_each(of_right + tasks_of(left), here,
               [&](std::int64_t t) { t < of_right ? pack(right, t) : pack(left, t - of_right); });
      const Band<Parts> part{call, i0, rows, j0, cols, a, b};
      const Division in(rows, cols, here);
      for_each(in.blocks, here, [&](std::int64_t t) {
        const std::int64_t i = t / in.across * in.rows, j = t % in.across * in.cols;
        part.compute(i, min(rows, i + in.rows), j, min(cols, j + in.cols));
      });
    }
  }
}

}  // namespace

/// Called through cpp/src/cpu_dispatch.cpp.
void multiply_matrices(const MatrixProduct& call) {
  if (call.parts == 3) return multiply_parts<3>(call);
  if (call.parts == 2) return multiply_parts<2>(call);
  multiply_parts<1>(call);
}

}  // namespace gdcore::GDCORE_ISA
