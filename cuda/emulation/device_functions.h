// CUDA's device keywords and functions for g++: both compilers take the same kernel source.
#pragma once

#include <math.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "emulation/scheduler.h"

// Kernels are neither cloned nor merged, and have a symbol even if unused: the launch log identifies them by address.
#define __global__ __attribute__((noipa, used))
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define GD_SHARED(T, name, N) \
  struct GdShared_##name {};  \
  auto& name = gdcore::emulation::shared<GdShared_##name, T, N>()
#define GD_DYN_SHARED(T, name) T* name = static_cast<T*>(gdcore::emulation::dynamic_shared())

inline constexpr int warpSize = 32;

// Aligned as on a GPU, so that UBSan's alignment check is the GPU's misaligned-address fault.
struct alignas(8) float2 {
  float x, y;
};
struct float3 {
  float x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) longlong2 {
  long long x, y;
};
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }

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

template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace gdcore::emulation

// ---- Barriers and warps. The last argument is the source position of the call. ----
#define GD_SITE gdcore::emulation::Site site = {__builtin_FILE(), __builtin_LINE()}

inline void __syncthreads(GD_SITE) { gdcore::emulation::wait_block(gdcore::emulation::BlockOp::sync, false, site); }
inline int __syncthreads_or(int p, GD_SITE) {
  return gdcore::emulation::wait_block(gdcore::emulation::BlockOp::any, p != 0, site);
}
inline int __syncthreads_and(int p, GD_SITE) {
  return gdcore::emulation::wait_block(gdcore::emulation::BlockOp::all, p != 0, site);
}
inline int __syncthreads_count(int p, GD_SITE) {
  return gdcore::emulation::wait_block(gdcore::emulation::BlockOp::count, p != 0, site);
}

inline void __syncwarp(unsigned mask = ~0u, GD_SITE) {
  gdcore::emulation::wait_warp(gdcore::emulation::WarpOp::sync, mask, 0, 0, site);
}
inline unsigned __ballot_sync(unsigned mask, int p, GD_SITE) {
  return static_cast<unsigned>(gdcore::emulation::wait_warp(gdcore::emulation::WarpOp::ballot, mask, p != 0, 0, site));
}
inline int __any_sync(unsigned mask, int p, GD_SITE) { return __ballot_sync(mask, p, site) != 0; }
inline int __all_sync(unsigned mask, int p, GD_SITE) { return __ballot_sync(mask, p == 0, site) == 0; }

// A lane that would read outside its group of `width` keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, GD_SITE) {
  const int lane = gdcore::emulation::lane();
  return gdcore::emulation::shuffle(mask, value, (lane & ~(width - 1)) + (source & (width - 1)), site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, GD_SITE) {
  const int lane = gdcore::emulation::lane(), source = lane ^ lane_mask;
  return gdcore::emulation::shuffle(mask, value, source < (lane & ~(width - 1)) + width ? source : lane, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GD_SITE) {
  const int lane = gdcore::emulation::lane(), by = static_cast<int>(delta);
  return gdcore::emulation::shuffle(mask, value, (lane & (width - 1)) + by < width ? lane + by : lane, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GD_SITE) {
  const int lane = gdcore::emulation::lane(), by = static_cast<int>(delta);
  return gdcore::emulation::shuffle(mask, value, (lane & (width - 1)) >= by ? lane - by : lane, site);
}

#undef GD_SITE

#include "emulation/intrinsics.h"
