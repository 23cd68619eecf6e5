// Sums over the threads of a warp or a block, in an order that depends on the number of threads alone. A thread sums a
// short run of terms in T; these sums are added in double.
#pragma once

#include "backend/runtime.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kRun = 32;  // terms of a sum in T

/// Division of a row: a group of `across` threads with `packs` packs each; 0 packs: the row does not fit.
struct RowPlan {
  int threads, across, packs;
};

/// Sums K values over groups of `lanes` adjacent lanes (a power of two); every lane receives the sums.
template <int K, class V>
__device__ __forceinline__ void warp_sums(V (&value)[K], int lanes = kWarp) {
#pragma unroll
  for (int far = kWarp / 2; far > 0; far /= 2) {
    if (far >= lanes) continue;
#pragma unroll
    for (int k = 0; k < K; ++k) value[k] += __shfl_xor_sync(kAllLanes, value[k], far);
  }
}

/// Sums K values over groups of `threads` adjacent threads of a block: a power of two up to a warp, or whole warps, the
/// same number in every group. All threads of the block must call it and receive their group's sums. `shared` has K
/// values per warp and may be reused after the next barrier.
template <int K, class V>
__device__ __forceinline__ void group_sums(V (&value)[K], int threads, V* shared) {
  warp_sums(value, threads);
  if (threads <= kWarp) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = threads / kWarp, first = warp / warps * warps;
  __syncthreads();  // all reads of `shared` are complete
  if (threadIdx.x % kWarp == 0) {
#pragma unroll
    for (int k = 0; k < K; ++k) shared[warp * K + k] = value[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < K; ++k) value[k] = V(0);
  for (int w = first; w < first + warps; ++w) {
#pragma unroll
    for (int k = 0; k < K; ++k) value[k] += shared[w * K + k];
  }
}

/// Joins the rows of a matrix (depth, width) in shared memory into its first row, by halving: join(i, j) adds element j
/// to element i. All threads of the block must call it; a barrier before and after.
template <class Join>
__device__ __forceinline__ void fold(int depth, int width, const Join& join) {
  __syncthreads();
  while (depth > 1) {
    const int half = (depth + 1) / 2;
    for (int i = static_cast<int>(threadIdx.x); i < (depth - half) * width; i += static_cast<int>(blockDim.x)) {
      join(i, i + half * width);
    }
    __syncthreads();
    depth = half;
  }
}

/// The same for sums in K matrices, `apart` values from one to the next.
template <int K>
__device__ __forceinline__ void fold_rows(double* sums, int apart, int depth, int width) {
  fold(depth, width, [=](int i, int j) {
#pragma unroll
    for (int k = 0; k < K; ++k) sums[k * apart + i] += sums[k * apart + j];
  });
}

/// Returns the sum of a pack's elements.
template <class T>
__device__ __forceinline__ T pack_sum(const Pack<T>& pack) {
  if constexpr (kPack<T> == 4) {
    return (pack[0] + pack[1]) + (pack[2] + pack[3]);
  } else {
    return pack[0] + pack[1];
  }
}

/// Computes the sums that visit(index, sums) adds over [0, n), by a block: in T over at most kRun packs, then in
/// double.
template <class T, int K, class Visit>
__device__ __forceinline__ void range_sums(std::int64_t n, bool wide, double (&total)[K], double* shared,
                                           const Visit& visit) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const std::int64_t step = static_cast<std::int64_t>(threads) * kPack<T>;
#pragma unroll
  for (int k = 0; k < K; ++k) total[k] = 0.0;
  for (std::int64_t run = 0; run < n; run += kRun * step) {
    Pack<T> sums[K] = {};
    for (std::int64_t c = run; c < n && c < run + kRun * step; c += step) {
      visit(pack_index<T>(c, n, thread, wide), sums);
    }
#pragma unroll
    for (int k = 0; k < K; ++k) total[k] += static_cast<double>(pack_sum(sums[k]));
  }
  group_sums(total, threads, shared);
}

}  // namespace gdcore::cuda
