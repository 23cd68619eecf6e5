// Multiply-adds without memory access, and passes over memory with little arithmetic. Like the kernels of cpp/cpu this
// file is compiled several times and must not use inline functions of the standard library.
#include "limit_kernels.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace gdcore::bench::GDCORE_ISA {

namespace {

template <class T>
struct Vector {
  typedef T type __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
  static constexpr int lanes = GDCORE_VECTOR_BYTES / sizeof(T);
};
using Floats = Vector<float>::type;
inline constexpr int kLanes = Vector<float>::lanes;

// Two units with five cycles of latency need ten chains; 16 registers are enough for twelve chains and two factors.
inline constexpr int kChains = 12, kUnroll = 16;

template <class T>
double multiply_add(std::int64_t rounds) {
  using V = typename Vector<T>::type;
  V sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = V{} + T(c + 1);
  V factor = V{} + T(0.5), term = V{} + T(1);   // every chain tends to 2: neither denormal nor infinite
  asm volatile("" : "+m"(factor), "+m"(term));  // hides the values from the optimiser
  const V a = factor, b = term;
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int u = 0; u < kUnroll; ++u) {
      for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * a + b;
    }
  }
  double total = 0.0;
  for (int c = 0; c < kChains; ++c) {
    for (int lane = 0; lane < Vector<T>::lanes; ++lane) total += static_cast<double>(sum[c][lane]);
  }
  return total;
}

template <class T>
constexpr std::int64_t flop() {
  return std::int64_t{2} * kUnroll * kChains * Vector<T>::lanes;
}

inline const Floats* vectors(const float* x) { return reinterpret_cast<const Floats*>(x); }
inline Floats* vectors(float* x) { return reinterpret_cast<Floats*>(x); }

/// Stores without reading the cache line first, if the instruction set has such a store.
inline void store_past(Floats* to, Floats value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(to), value);
#elif defined(__AVX__)
  _mm256_stream_ps(reinterpret_cast<float*>(to), value);
#elif defined(__SSE2__)
  _mm_stream_ps(reinterpret_cast<float*>(to), value);
#else
  *to = value;
#endif
}
inline void fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// Reads `Streams` ranges at the same time, to use more prefetchers.
template <int Streams>
void read(const float* a, std::int64_t n) {
  constexpr int kAtOnce = 8 / Streams;
  const Floats* from = vectors(a);
  const std::int64_t each = n / kLanes / Streams;
  Floats sum[8];
  for (int u = 0; u < 8; ++u) sum[u] = Floats{};
  for (std::int64_t i = 0; i < each; i += kAtOnce) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) sum[u] += from[u / kAtOnce * each + i + u % kAtOnce];
  }
  for (int u = 1; u < 8; ++u) sum[0] += sum[u];
  asm volatile("" : : "m"(sum[0]));  // keeps the sum from being optimised away
}

template <bool Past>
void copy(float* to, const float* a, std::int64_t n) {
  Floats* out = vectors(to);
  const Floats* from = vectors(a);
  for (std::int64_t i = 0; i < n / kLanes; i += 4) {
    asm volatile("" ::: "memory");  // otherwise the loop would become a call of memcpy
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const Floats value = from[i + u];
      if constexpr (Past) {
        store_past(out + i + u, value);
      } else {
        out[i + u] = value;
      }
    }
  }
  if constexpr (Past) fence();
}

template <bool Past>
void triad(float* to, const float* a, const float* b, std::int64_t n) {
  Floats* out = vectors(to);
  const Floats *first = vectors(a), *second = vectors(b);
  for (std::int64_t i = 0; i < n / kLanes; i += 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const Floats value = first[i + u] + 3.0f * second[i + u];
      if constexpr (Past) {
        store_past(out + i + u, value);
      } else {
        out[i + u] = value;
      }
    }
  }
  if constexpr (Past) fence();
}

void update(float* a, const float* b, std::int64_t n) {
  Floats* out = vectors(a);
  const Floats* term = vectors(b);
  for (std::int64_t i = 0; i < n / kLanes; i += 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) out[i + u] = out[i + u] * 0.5f + term[i + u];
  }
}

void update_three(float* a, float* b, float* c, const float* d, std::int64_t n) {
  Floats *first = vectors(a), *second = vectors(b), *third = vectors(c);
  const Floats* term = vectors(d);
  for (std::int64_t i = 0; i < n / kLanes; i += 2) {
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      first[i + u] = first[i + u] * 0.5f + term[i + u];
      second[i + u] = second[i + u] * 0.25f + term[i + u];
      third[i + u] = third[i + u] * 0.75f + term[i + u];
    }
  }
}

}  // namespace

LimitKernels limit_kernels() {
  return {.fma32 = multiply_add<float>,
          .fma64 = multiply_add<double>,
          .fma32_flop = flop<float>(),
          .fma64_flop = flop<double>(),
          .read = read<1>,
          .read_four = read<4>,
          .copy = copy<false>,
          .copy_past = copy<true>,
          .triad = triad<false>,
          .triad_past = triad<true>,
          .update = update,
          .update_three = update_three};
}

}  // namespace gdcore::bench::GDCORE_ISA
