// Products and sums whose rounding is written down. A compiler may fuse a product with the sum that takes it, and
// chooses anew in every instantiation; a layer must give the same bits with an activation absorbed and without.
#pragma once

#include "backend/runtime.h"

namespace gdcore::cuda {

/// a b + c, rounded once.
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

/// a b, rounded before anything is added to it.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

}  // namespace gdcore::cuda
