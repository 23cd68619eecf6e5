// The device keywords and functions of CUDA that gdcore uses, for g++: both compilers take the same kernel source.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "emulation/scheduler.h"

// Kernels are neither cloned nor merged, and have a symbol even if unused: the launch log identifies them by address.
#define __global__ __attribute__((noipa, used))
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define GD_SHARED(T, name, N) \
  struct GdShared_##name {};  \
  auto& name = gdcore::emulation::shared<GdShared_##name, T, N>()
#define GD_DYN_SHARED(T, name) T* name = static_cast<T*>(gdcore::emulation::dynamic_shared())

namespace gdcore::emulation {

// Not instrumented: the guard of the static variable is not an access of the kernel.
template <class Tag, class T, std::size_t N>
__attribute__((no_sanitize("thread"), noinline)) auto shared() -> T (&)[N] {
  static_assert(std::is_trivially_copyable_v<T>, "nothing constructs shared memory");
  static const int id = new_shared_array();
  return *static_cast<T(*)[N]>(shared_array(id, sizeof(T[N])));
}

template <class T>
T shuffle(unsigned mask, T value, int source, Site site) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "shuffles move at most 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = wait_warp(WarpOp::shuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T, class Change>
T atomic_update(T* p, Change change) {
  T old, next;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    next = change(old);
  } while (!__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

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

// ---- Barriers and warps. The last argument is the source position of the call. ----
#define GD_SITE gdcore::emulation::Site site = {__builtin_FILE(), __builtin_LINE()}

inline void __syncthreads(GD_SITE) { gdcore::emulation::wait_block(site); }
inline void __syncwarp(unsigned mask = ~0u, GD_SITE) {
  gdcore::emulation::wait_warp(gdcore::emulation::WarpOp::sync, mask, 0, 0, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, GD_SITE) {
  return gdcore::emulation::shuffle(mask, value, gdcore::emulation::lane() ^ lane_mask, site);
}

#undef GD_SITE

// ---- Atomics: relaxed, as in CUDA; real atomics, so that the race detector sees them as such. ----
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  return gdcore::emulation::atomic_update(p, [value](T old) { return value < old ? value : old; });
}

// ---- Bits and arithmetic. Results of CUDA's _rn functions are never part of a fused multiply-add. ----
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __fmul_rn(float a, float b) { return gdcore::emulation::rounded(a * b); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dmul_rn(double a, double b) { return gdcore::emulation::rounded(a * b); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
