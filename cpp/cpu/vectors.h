// Vectors of the instruction set, as types of the compiler: one source for all widths. And the masked access to a part
// of a vector, at the end of a row.
#pragma once

#include <cstdint>
#include <cstring>

#include "loops.h"

namespace gdcore::GDCORE_ISA {

template <class T>
struct Tile {
  typedef T vector __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(GDCORE_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int lanes = GDCORE_VECTOR_BYTES / sizeof(T);
  static constexpr int vectors = 2;
  static constexpr int cols = lanes * vectors;
  // Rows of a tile. Where the sums of a tile are chains of 16 or 32 terms, the totals of the chains must stay in
  // registers too: that allows half as many rows. With 16 registers it is always better.
  static constexpr int rows = GDCORE_VECTOR_BYTES == 64 ? 12 : 4;
  static constexpr int chained_rows = GDCORE_VECTOR_BYTES == 64 ? 6 : 4;
  static constexpr int narrow_rows = GDCORE_VECTOR_BYTES == 64 ? 12 : 8;  // of a tile of one vector
};

template <class T>
GD_INLINE typename Tile<T>::vector load(const T* from) {
  return *reinterpret_cast<const typename Tile<T>::unaligned*>(from);
}

template <class T>
GD_INLINE void store(T* to, typename Tile<T>::vector value) {
  *reinterpret_cast<typename Tile<T>::unaligned*>(to) = value;
}

/// The first lanes of a vector. The others are neither read nor written in memory; loaded, they are 0.
template <class T>
class FirstLanes {
 public:
  using vector = typename Tile<T>::vector;

#if defined(__AVX512F__)
  GD_INLINE explicit FirstLanes(std::int64_t count) : mask_((1u << count) - 1) {}
  GD_INLINE vector load(const float* from) const { return (vector)_mm512_maskz_loadu_ps(mask_, from); }
  GD_INLINE vector load(const double* from) const { return (vector)_mm512_maskz_loadu_pd(mask_, from); }
  GD_INLINE void store(float* to, vector value) const { _mm512_mask_storeu_ps(to, mask_, (__m512)value); }
  GD_INLINE void store(double* to, vector value) const { _mm512_mask_storeu_pd(to, mask_, (__m512d)value); }

 private:
  unsigned mask_;
#elif defined(__AVX2__)
  GD_INLINE explicit FirstLanes(std::int64_t count)
      : bytes_(static_cast<int>(count * static_cast<std::int64_t>(sizeof(T)))),
        mask_(_mm256_cmpgt_epi32(_mm256_set1_epi32(bytes_), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28))) {}
  GD_INLINE vector load(const float* from) const { return (vector)_mm256_maskload_ps(from, mask_); }
  GD_INLINE vector load(const double* from) const { return (vector)_mm256_maskload_pd(from, mask_); }
  GD_INLINE void store(T* to, vector value) const {  // a masked store takes tens of cycles on AMD's processors
    const auto whole = (__m256i)value;
    if (bytes_ == 32) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), whole);
    auto part = _mm256_castsi256_si128(whole);
    char* at = reinterpret_cast<char*>(to);
    if ((bytes_ & 16) != 0) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at), part);
      part = _mm256_extracti128_si256(whole, 1);
      at += 16;
    }
    if ((bytes_ & 8) != 0) {
      _mm_storeu_si64(at, part);
      part = _mm_unpackhi_epi64(part, part);
      at += 8;
    }
    if ((bytes_ & 4) != 0) _mm_storeu_si32(at, part);
  }

 private:
  int bytes_;
  __m256i mask_;
#else
  GD_INLINE explicit FirstLanes(std::int64_t count) : count_(count) {}
  GD_INLINE vector load(const T* from) const {
    vector value{};
    for (int i = 0; i < Tile<T>::lanes - 1; ++i) {
      if (i < count_) value[i] = from[i];
    }
    return count_ == Tile<T>::lanes ? gdcore::GDCORE_ISA::load(from) : value;
  }
  GD_INLINE void store(T* to, vector value) const {
    for (int i = 0; i < Tile<T>::lanes; ++i) {
      if (i < count_) to[i] = value[i];
    }
  }

 private:
  std::int64_t count_;
#endif
};

}  // namespace gdcore::GDCORE_ISA
