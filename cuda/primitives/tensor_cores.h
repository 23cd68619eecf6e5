// Tensor cores: C (16, 8) += A (16, depth) B (depth, 8) by the lanes of a warp, with float32 sums. Lane 4 g + t holds
//   A: a quarter of the terms of rows g and g + 8;
//   B: the same terms of column g;
//   C: rows g and g + 8, columns 2 t and 2 t + 1.
// The caller chooses which terms belong to a lane, the same for A and B; the sum is valid for any choice. Instruction:
// PTX's mma.sync (m16n8k8 for TF32, m16n8k16 for bfloat16), on devices that have it (on_tensor_cores in device.h).
#pragma once

#include "backend/runtime.h"

#ifdef GDCORE_EMULATED
#include "emulation/tensor_cores.h"
#endif

namespace gdcore::cuda {

/// A lane's elements of C: row g, then row g + 8.
struct Accumulator {
  float at[4] = {};
};

/// Factors with 10 bits of mantissa: float32 rounded by 13 bits.
struct Tf32 {
  static constexpr int kTerms = 2;  // terms of a lane

  struct Left {
    unsigned bits[4];
  };
  struct Right {
    unsigned bits[2];
  };
  __device__ static __forceinline__ unsigned round(float x) {
#if defined(GDCORE_EMULATED)
    return emulation::rounded_to_tf32(x);
#elif __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#else
    __trap();
    return 0;
#endif
  }
  __device__ static __forceinline__ Left left(const float (&x)[2][kTerms]) {
    return {{round(x[0][0]), round(x[1][0]), round(x[0][1]), round(x[1][1])}};
  }
  /// kPrepared: `x` has been rounded by prepared().
  template <bool kPrepared>
  __device__ static __forceinline__ Right right(const float (&x)[kTerms]) {
    if constexpr (kPrepared) return {{__float_as_uint(x[0]), __float_as_uint(x[1])}};
    return {{round(x[0]), round(x[1])}};
  }
  /// Rounds once in advance, for a factor that is read more often than written.
  __device__ static __forceinline__ float prepared(float x) { return __uint_as_float(round(x)); }

  __device__ static __forceinline__ void multiply(const Left& a, const Right& b, Accumulator& c) {
#if defined(GDCORE_EMULATED)
    emulation::multiply_on_tensor_cores(a.bits, b.bits, c.at, false);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
        : "r"(a.bits[0]), "r"(a.bits[1]), "r"(a.bits[2]), "r"(a.bits[3]), "r"(b.bits[0]), "r"(b.bits[1]));
#else
    __trap();
#endif
  }
};

/// Factors with 7 bits of mantissa, two in a register.
struct Bfloat16 {
  static constexpr int kTerms = 4;

  using Left = Tf32::Left;
  using Right = Tf32::Right;
  __device__ static __forceinline__ unsigned round(float low, float high) {
#if defined(GDCORE_EMULATED)
    return emulation::rounded_to_bfloat16(low) | emulation::rounded_to_bfloat16(high) << 16;
#elif __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    __trap();
    return 0;
#endif
  }
  __device__ static __forceinline__ Left left(const float (&x)[2][kTerms]) {
    return {{round(x[0][0], x[0][1]), round(x[1][0], x[1][1]), round(x[0][2], x[0][3]), round(x[1][2], x[1][3])}};
  }
  template <bool kPrepared>
  __device__ static __forceinline__ Right right(const float (&x)[kTerms]) {
    return {{round(x[0], x[1]), round(x[2], x[3])}};
  }
  __device__ static __forceinline__ float prepared(float x) { return x; }

  __device__ static __forceinline__ void multiply(const Left& a, const Right& b, Accumulator& c) {
#if defined(GDCORE_EMULATED)
    emulation::multiply_on_tensor_cores(a.bits, b.bits, c.at, true);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
        : "r"(a.bits[0]), "r"(a.bits[1]), "r"(a.bits[2]), "r"(a.bits[3]), "r"(b.bits[0]), "r"(b.bits[1]));
#else
    __trap();
#endif
  }
};

}  // namespace gdcore::cuda
