// A square of 32 x 32 sums in four tile registers of 16 rows of 64 bytes: those of AMX, and the same for other
// processors, with the dot products of AVX512-BF16 or in plain C++, by what the compiler targets.
// A tile has 16 x 32 factors in bfloat16 or 16 x 16 sums in float32. The factors of the left operand are in rows, those
// of the right one in pairs: row q has the terms 2q and 2q + 1 of column 0, then of column 1.
#pragma once

#include <cstdint>
#include <cstring>

#include "../loops.h"

namespace gdcore::GDCORE_ISA {

inline constexpr std::int64_t kTileWords = 256;  // 32-bit words of a tile

using Factors = const std::uint32_t* [2];  // tiles of 32 rows of A, or of 32 columns of B

// class Tiles: zero() sets the sums to zero, store() writes them, tile after tile; add() adds the products of `depth`
// pairs of tiles along k, `step` words from one to the next.

#ifdef __AMX_BF16__

/// The configuration of tiles belongs to the thread; it is released, as it makes context switches slower. The
/// compiler's own intrinsics take literal numbers of tiles only.
class Tiles {
 public:
  Tiles() {
    alignas(64) struct {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const shapes;
    asm volatile("ldtilecfg %0" ::"m"(shapes));
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  GD_INLINE void zero() {
    zero<0>();
    zero<1>();
    zero<2>();
    zero<3>();
  }
  GD_INLINE void add(const Factors& left, const Factors& right, std::int64_t depth, std::int64_t step) {
    for (std::int64_t at = 0; at < depth * step; at += step) {
      load<4>(left[0] + at);
      load<6>(right[0] + at);
      load<7>(right[1] + at);
      multiply<0, 4, 6>();
      multiply<1, 4, 7>();
      load<5>(left[1] + at);
      multiply<2, 5, 6>();
      multiply<3, 5, 7>();
    }
  }
  GD_INLINE void store(float (*sums)[kTileWords]) const {
    store<0>(sums[0]);
    store<1>(sums[1]);
    store<2>(sums[2]);
    store<3>(sums[3]);
  }

 private:
  template <int Tile>
  GD_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
  }
  template <int Tile>
  GD_INLINE void load(const std::uint32_t* from) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(std::int64_t{64}), "i"(Tile) : "memory");
  }
  template <int Tile>
  GD_INLINE void store(float* to) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(std::int64_t{64}), "i"(Tile) : "memory");
  }
  /// sums += left · right
  template <int Sums, int Left, int Right>
  GD_INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(Left), "i"(Right));
  }
};

#else

class Tiles {
 public:
  GD_INLINE void zero() { std::memset(sums_, 0, sizeof sums_); }
  GD_INLINE void add(const Factors& left, const Factors& right, std::int64_t depth, std::int64_t step) {
#ifdef __AVX512BF16__
    for (int row = 0; row < 32; row += kRows) {
      const int tile = row / 16, at = row % 16 * 16;
      add_rows(sums_[2 * tile] + at, left[tile] + at, right, depth, step);
    }
#else
    for (std::int64_t at = 0; at < depth * step; at += step) {
      for (int t = 0; t < 4; ++t) multiply(sums_[t], left[t / 2] + at, right[t % 2] + at);
    }
#endif
  }
  GD_INLINE void store(float (*sums)[kTileWords]) const { std::memcpy(sums, sums_, sizeof sums_); }

 private:
#ifdef __AVX512BF16__
  static constexpr int kRows = 8;

  /// Adds to kRows rows of two tiles of sums, one behind the other; their sums stay in registers.
  static void add_rows(float* sums, const std::uint32_t* left, const Factors& right, std::int64_t depth,
                       std::int64_t step) {
    __m512 sum[kRows][2];
#pragma GCC unroll 16
    for (int i = 0; i < 2 * kRows; ++i) sum[i / 2][i % 2] = _mm512_load_ps(sums + i % 2 * kTileWords + i / 2 * 16);
    for (std::int64_t at = 0; at < depth * step; at += step) {
      for (int q = 0; q < 16; ++q) {
        const auto pairs = [&](int tile) __attribute__((always_inline)) {
          return reinterpret_cast<__m512bh>(_mm512_load_si512(right[tile] + at + q * 16));
        };
        const __m512bh first = pairs(0), second = pairs(1);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(left[at + r * 16 + q])));
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], first, pair);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], second, pair);
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 2 * kRows; ++i) _mm512_store_ps(sums + i % 2 * kTileWords + i / 2 * 16, sum[i / 2][i % 2]);
  }
#else
  /// Subnormal factors and sums are zero, as in the hardware.
  static float flushed(float x) { return __builtin_fabsf(x) < 0x1p-126f ? 0.0f : x; }
  static float low(std::uint32_t pair) { return flushed(__builtin_bit_cast(float, pair << 16)); }
  static float high(std::uint32_t pair) { return flushed(__builtin_bit_cast(float, pair & 0xffff0000u)); }

  /// Adds the 16 products of the even terms, those of the odd ones, then both to the sum (Intel's description of
  /// TDPBF16PS). A product of two bfloat16 numbers is exact in float32.
  __attribute__((noinline)) static void multiply(float* sums, const std::uint32_t* left, const std::uint32_t* right) {
    for (int i = 0; i < 16; ++i) {
      float even[16] = {}, odd[16] = {};
      for (int q = 0; q < 16; ++q) {
        const float even_factor = low(left[i * 16 + q]), odd_factor = high(left[i * 16 + q]);
#pragma omp simd
        for (int j = 0; j < 16; ++j) {
          even[j] = flushed(even[j] + even_factor * low(right[q * 16 + j]));
          odd[j] = flushed(odd[j] + odd_factor * high(right[q * 16 + j]));
        }
      }
      float* sum = sums + i * 16;
#pragma omp simd
      for (int j = 0; j < 16; ++j) sum[j] = flushed(sum[j] + flushed(even[j] + odd[j]));
    }
  }
#endif

  alignas(64) float sums_[4][kTileWords];
};

#endif

}  // namespace gdcore::GDCORE_ISA
