// Products and sums with explicit rounding. A compiler may fuse a product with an addition, and may decide differently
// in each instantiation; a layer must give the same bits with and without a fused activation.
#pragma once

#include "backend/runtime.h"

namespace gdcore::cuda {

/// a b + c, rounded once.
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

/// a b, rounded, never fused with an addition.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

}  // namespace gdcore::cuda
