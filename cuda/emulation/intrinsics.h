// CUDA's atomics, fences and small device functions for g++. Part of device_functions.h.
#pragma once

// ---- Atomics: relaxed, as in CUDA; real atomics, so that the race detector sees them as such. ----
template <class T>
T atomicExch(T* p, std::type_identity_t<T> value) {
  T old;
  __atomic_exchange(p, &value, &old, __ATOMIC_RELAXED);
  return old;
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  __atomic_compare_exchange(p, &compare, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return compare;
}

namespace gdcore::emulation {

template <class T, class Change>
T atomic_update(T* p, Change change) {
  T old, next;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    next = change(old);
  } while (!__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

}  // namespace gdcore::emulation

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return old | value; });
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return old & value; });
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

// ---- Loads and stores with a hint. ----
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

// ---- Bits. ----
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}
inline int __float_as_int(float x) { return gdcore::emulation::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return gdcore::emulation::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return gdcore::emulation::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return gdcore::emulation::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return gdcore::emulation::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return gdcore::emulation::same_bits<double>(x); }

// ---- Arithmetic. Results of CUDA's _rn functions are never part of a fused multiply-add. ----
namespace gdcore::emulation {

/// Returns x, opaque to the optimiser.
template <class T>
T rounded(T x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#else
  asm("" : "+w"(x));
#endif
  return x;
}

}  // namespace gdcore::emulation

inline float __fadd_rn(float a, float b) { return gdcore::emulation::rounded(a + b); }
inline float __fsub_rn(float a, float b) { return gdcore::emulation::rounded(a - b); }
inline float __fmul_rn(float a, float b) { return gdcore::emulation::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return gdcore::emulation::rounded(a / b); }
inline float __frcp_rn(float a) { return gdcore::emulation::rounded(1.0f / a); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return gdcore::emulation::rounded(a + b); }
inline double __dsub_rn(double a, double b) { return gdcore::emulation::rounded(a - b); }
inline double __dmul_rn(double a, double b) { return gdcore::emulation::rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return gdcore::emulation::rounded(a / b); }
inline double __drcp_rn(double a) { return gdcore::emulation::rounded(1.0 / a); }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }

#define GD_MIN_MAX(T)                                        \
  inline constexpr T min(T a, T b) { return b < a ? b : a; } \
  inline constexpr T max(T a, T b) { return a < b ? b : a; }
GD_MIN_MAX(int)
GD_MIN_MAX(unsigned)
GD_MIN_MAX(long)
GD_MIN_MAX(unsigned long)
GD_MIN_MAX(long long)
GD_MIN_MAX(unsigned long long)
#undef GD_MIN_MAX
// For floating-point values CUDA's min and max are fmin and fmax: NaN is ignored.
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
