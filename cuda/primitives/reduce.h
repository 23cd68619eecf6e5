// Sums over the threads of a warp or a block, in an order that depends on the number of threads alone. What a thread
// brings was summed in T over a short run of terms; the sums are joined as doubles.
#pragma once

#include "backend/runtime.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kRun = 32;  // terms of a sum in T

/// How threads share a row: `across` of them, a group, with `packs` packs each; 0 packs: the row does not fit.
struct RowPlan {
  int threads, across, packs;
};

/// Of K values each, over groups of `lanes` neighbouring lanes (a power of two); every lane receives the sums.
template <int K, class V>
__device__ __forceinline__ void warp_sums(V (&value)[K], int lanes = kWarp) {
#pragma unroll
  for (int far = kWarp / 2; far > 0; far /= 2) {
    if (far >= lanes) continue;
#pragma unroll
    for (int k = 0; k < K; ++k) value[k] += __shfl_xor_sync(kAllLanes, value[k], far);
  }
}

/// Over groups of `threads` neighbouring threads of a block: a power of two up to a warp, or whole warps, as many in
/// every group. All threads of the block take part and receive their group's sums; `shared` has room for K values of
/// every warp and is free again at the next barrier.
template <int K, class V>
__device__ __forceinline__ void group_sums(V (&value)[K], int threads, V* shared) {
  warp_sums(value, threads);
  if (threads <= kWarp) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = threads / kWarp, first = warp / warps * warps;
  __syncthreads();  // what is in `shared` has been read
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

/// Adds the rows of K matrices of `depth` x `width` in shared memory, `apart` numbers from one to the next, into their
/// first rows: halves upon halves. All threads of the block take part; a barrier before and after.
template <int K>
__device__ __forceinline__ void fold_rows(double* sums, int apart, int depth, int width) {
  __syncthreads();
  while (depth > 1) {
    const int half = (depth + 1) / 2;
    for (int i = static_cast<int>(threadIdx.x); i < (depth - half) * width; i += static_cast<int>(blockDim.x)) {
#pragma unroll
      for (int k = 0; k < K; ++k) sums[k * apart + i] += sums[k * apart + i + half * width];
    }
    __syncthreads();
    depth = half;
  }
}

/// The sum of a pack's elements.
template <class T>
__device__ __forceinline__ T pack_sum(const Pack<T>& pack) {
  if constexpr (kPack<T> == 4) {
    return (pack[0] + pack[1]) + (pack[2] + pack[3]);
  } else {
    return pack[0] + pack[1];
  }
}

/// The sums of visit(index, sums) over [0, n), by a block: in T over at most kRun packs, then in double.
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
