// Tensor cores for g++: the conversions, and mma.sync as a warp operation of all lanes.
#pragma once

#include <bit>
#include <cstdint>

#include "emulation/scheduler.h"

namespace gdcore::emulation {

/// A lane's operands of mma.sync, in PTX's register order for m16n8k8 (TF32) and m16n8k16 (bfloat16).
struct Fragments {
  const unsigned *a, *b;  // 4 and 2 registers
  float* c;               // 4 sums, added to
  bool bfloat16;
};

inline void multiply_on_tensor_cores(const unsigned (&a)[4], const unsigned (&b)[2], float (&c)[4], bool bfloat16,
                                     Site site = {__builtin_FILE(), __builtin_LINE()}) {
  const Fragments fragments{a, b, c, bfloat16};
  wait_warp(WarpOp::multiply, ~0u, reinterpret_cast<std::uintptr_t>(&fragments), 0, site);
}

/// Rounds off the lowest `dropped` bits of x; `up` decides ties. Keeps NaN and infinity.
inline unsigned without_low_bits(float x, int dropped, unsigned up) {
  const auto bits = std::bit_cast<unsigned>(x);
  if (x != x) return 0x7fffffffu >> dropped << dropped;
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + up) >> dropped << dropped;
}

/// cvt.rna: ties away from zero.
inline unsigned rounded_to_tf32(float x) { return without_low_bits(x, 13, 1u << 12); }

/// cvt.rn: ties to even; the upper 16 bits.
inline unsigned rounded_to_bfloat16(float x) {
  return without_low_bits(x, 16, 0x7fffu + (std::bit_cast<unsigned>(x) >> 16 & 1u)) >> 16;
}

}  // namespace gdcore::emulation
