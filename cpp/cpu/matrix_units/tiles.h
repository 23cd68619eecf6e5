// Tile registers of 16 rows of 64 bytes: those of AMX, and the same for other processors, with the dot products of
// AVX512-BF16 or in plain C++, by what the compiler targets.
// A tile has 16 x 32 factors in bfloat16 or 16 x 16 sums in float32. The factors of the left operand are in rows, those
// of the right one in pairs: row q has the terms 2q and 2q + 1 of column 0, then of column 1.
#pragma once

#include <cstdint>
#include <cstring>

#include "../loops.h"

namespace gdcore::GDCORE_ISA {

inline constexpr std::int64_t kTileWords = 256;  // 32-bit words of a tile

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
  template <int Tile>
  GD_INLINE void zero() {
    std::memset(sums_[Tile], 0, sizeof sums_[Tile]);
  }
  /// Reads the tile where it is used.
  template <int Tile>
  GD_INLINE void load(const std::uint32_t* from) {
    factors_[Tile] = from;
  }
  template <int Tile>
  GD_INLINE void store(float* to) const {
    std::memcpy(to, sums_[Tile], sizeof sums_[Tile]);
  }
  template <int Sums, int Left, int Right>
  GD_INLINE void multiply() {
    multiply(sums_[Sums], factors_[Left], factors_[Right]);
  }

 private:
#ifdef __AVX512BF16__
  static void multiply(float* sums, const std::uint32_t* left, const std::uint32_t* right) {
    constexpr int kRows = 8;
    for (int i = 0; i < 16; i += kRows) {
      __m512 sum[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r] = _mm512_load_ps(sums + (i + r) * 16);
      for (int q = 0; q < 16; ++q) {
        const auto row = reinterpret_cast<__m512bh>(_mm512_load_si512(right + q * 16));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512i pair = _mm512_set1_epi32(static_cast<int>(left[(i + r) * 16 + q]));
          sum[r] = _mm512_dpbf16_ps(sum[r], row, reinterpret_cast<__m512bh>(pair));
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) _mm512_store_ps(sums + (i + r) * 16, sum[r]);
    }
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
  const std::uint32_t* factors_[8];
};

#endif

}  // namespace gdcore::GDCORE_ISA
