// See kernels.h.
#include <stdexcept>

#include "kernels.h"

namespace gdcore::emulation_tests {

using cuda::launch;

namespace {

constexpr unsigned kAll = 0xffffffffu;

__device__ float warp_sum(float v) {
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(kAll, v, offset);
  return v;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) block_sums_kernel(const float* __restrict__ x, float* __restrict__ sums) {
  GD_SHARED(float, parts, kThreads / 32);
  const float v = warp_sum(x[blockIdx.x * kThreads + threadIdx.x]);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const float total = warp_sum(threadIdx.x < kThreads / 32 ? parts[threadIdx.x] : 0.0f);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

__global__ void transpose_kernel(const float* __restrict__ x, float* __restrict__ y, int rows, int cols) {
  GD_DYN_SHARED(float, tile);  // 16 x 17
  const int row = static_cast<int>(blockIdx.y * 16 + threadIdx.y),
            col = static_cast<int>(blockIdx.x * 16 + threadIdx.x);
  if (row < rows && col < cols) tile[threadIdx.y * 17 + threadIdx.x] = x[row * cols + col];
  __syncthreads();
  const int to_row = static_cast<int>(blockIdx.x * 16 + threadIdx.y);
  const int to_col = static_cast<int>(blockIdx.y * 16 + threadIdx.x);
  if (to_row < cols && to_col < rows) y[to_row * rows + to_col] = tile[threadIdx.x * 17 + threadIdx.y];
}

__global__ void add_scaled_kernel(float a, const float* __restrict__ x, float* __restrict__ y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += a * x[i];
}

__global__ void histogram_kernel(const int* values, int* counts, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) atomicAdd(&counts[values[i]], 1);
}

__global__ void exchange_kernel(const int* x, int* y, int n) {
  GD_SHARED(int, own, 64);
  const int i = static_cast<int>(blockIdx.x * 64 + threadIdx.x);
  own[threadIdx.x] = i < n ? x[i] : 0;
  __syncwarp();
  if (i < n) y[i] = own[threadIdx.x ^ 1u];
}

__global__ void shuffles_kernel(int* results) {
  const int lane = static_cast<int>(threadIdx.x);
  results[lane] = __shfl_xor_sync(kAll, lane, 5);
  results[32 + lane] = static_cast<int>(__shfl_xor_sync(kAll, lane * 1.5, 1) * 2.0);
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;  // two groups at the same time
  results[64 + lane] = __shfl_xor_sync(half, lane, 1);
}

__global__ void half_warp_kernel(int* result) {
  if (threadIdx.x >= 16) return;
  int v = static_cast<int>(threadIdx.x);
  for (int offset = 8; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffu, v, offset);
  if (threadIdx.x == 0) *result = v;
}

__global__ void count_one_kernel(int* result) { atomicAdd(result, 1); }
__global__ void count_two_kernel(int* result) { atomicAdd(result, 1); }

struct alignas(16) Pair {
  double x, y;
};

__global__ void fill_pairs_kernel(double* x, double value, int pairs) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < pairs) reinterpret_cast<Pair*>(x)[i] = {value, value};
}

__global__ void intrinsics_kernel(double* r) {
  r[0] = __float_as_uint(1.0f);
  r[1] = __uint_as_float(0x40400000u);
  // (1 + 2^-12)^2 needs 25 bits: with fused multiply-add, its rounding error would remain.
  const float a = 1.0f + 0x1p-12f;
  r[2] = __fmul_rn(a, a) - __fmul_rn(a, a);
  r[3] = __fmaf_rn(a, a, -(a * a));
  const double b = 1.0 + 0x1p-27;
  r[4] = __dmul_rn(b, b) - __dmul_rn(b, b);
  r[5] = __fma_rn(b, b, -(b * b));
}

__global__ void touch_last_block_kernel(int* x) {
  if (blockIdx.x == gridDim.x - 1) *x += 1;
}

// ---- Defects. ----

__global__ void missing_barrier_kernel(float* y) {
  GD_SHARED(float, s, 64);
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  y[threadIdx.x] = s[63 - threadIdx.x];
}

__global__ void divergent_barrier_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void barrier_after_exit_kernel() {
  if (threadIdx.x >= 32) return;
  __syncthreads();
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();  // waits for all lanes
  } else {
    __syncthreads();
  }
}

__global__ void shuffle_from_absent_lane_kernel(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 16);
}

__global__ void lane_outside_mask_kernel() { __syncwarp(0xffffu); }

__global__ void divergent_warp_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __syncwarp();
  }
}

__global__ void uninitialised_shared_kernel(float* y) {
  GD_SHARED(float, s, 64);
  if (threadIdx.x < 32) s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void stale_shared_kernel(float* y) {
  GD_SHARED(float, s, 32);
  if (blockIdx.x == 0) s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_write_write_kernel(float* y) {
  GD_SHARED(float, s, 1);
  s[0] = static_cast<float>(threadIdx.x);
  __syncthreads();
  if (threadIdx.x == 0) y[0] = s[0];
}

__global__ void shared_read_write_kernel(float* y) {
  GD_SHARED(float, s, 64);
  s[threadIdx.x] = 1.0f;
  __syncthreads();
  const float next = s[(threadIdx.x + 1) % 64];
  s[threadIdx.x] = next;  // the barrier before this line is missing
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void warp_without_sync_kernel(int* y) {  // warps do not run in lockstep
  GD_SHARED(int, s, 32);
  s[threadIdx.x] = static_cast<int>(threadIdx.x);
  y[threadIdx.x] = __shfl_xor_sync(kAll, s[threadIdx.x ^ 1u], 0);  // a shuffle does not order memory either
}

__global__ void global_write_write_kernel(float* y) { y[0] = static_cast<float>(threadIdx.x); }

__global__ void global_read_write_kernel(float* y) {
  const float next = y[(threadIdx.x + 1) % 64];
  y[threadIdx.x] = next;
}

__global__ void blocks_write_the_same_kernel(float* y) {
  if (threadIdx.x == 0) y[0] = 1.0f;
}

__global__ void blocks_read_and_write_kernel(float* y) {
  __syncthreads();  // does not order memory between blocks
  if (threadIdx.x == 0) y[blockIdx.x] = y[(blockIdx.x + 1) % gridDim.x];
}

__global__ void atomic_and_plain_kernel(int* y) {
  if (threadIdx.x == 0) {
    y[0] += 1;
  } else {
    atomicAdd(y, 1);
  }
}

__global__ void misaligned_kernel(float* y) { reinterpret_cast<Pair*>(y + 1)[threadIdx.x] = {1.0, 2.0}; }

__global__ void write_global_kernel(float* y, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) y[i] = 1.0f;
}

__global__ void write_static_shared_kernel(float* y, int n) {
  GD_SHARED(float, s, 33);
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) s[i] = 1.0f;
  y[i] = s[0];
}

__global__ void write_dynamic_shared_kernel(float* y, int n) {
  GD_DYN_SHARED(float, s);
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) s[i] = 1.0f;
  y[i] = s[0];
}

__global__ void too_much_static_shared_kernel(float* y) {
  GD_SHARED(float, a, 8192);
  GD_SHARED(float, b, 8192);
  a[threadIdx.x] = b[threadIdx.x] = 1.0f;
  y[threadIdx.x] = a[threadIdx.x];
}

__global__ void throws_kernel() {
  if (threadIdx.x == 3) throw std::runtime_error("on purpose");
  __syncthreads();
}

unsigned blocks_for(int n, int threads) { return static_cast<unsigned>((n + threads - 1) / threads); }

}  // namespace

void block_sums(const float* x, float* sums, int blocks) {
  launch(block_sums_kernel<256>, {static_cast<unsigned>(blocks), 256}, x, sums);
}
void transpose(const float* x, float* y, int rows, int cols) {
  launch(transpose_kernel, {dim3(blocks_for(cols, 16), blocks_for(rows, 16)), dim3(16, 16), 16 * 17 * sizeof(float)}, x,
         y, rows, cols);
}
void add_scaled(float a, const float* x, float* y, int n) {
  launch(add_scaled_kernel, {blocks_for(n, 128), 128}, a, x, y, n);
}
void histogram(const int* values, int* counts, int n) {
  launch(histogram_kernel, {blocks_for(n, 64), 64}, values, counts, n);
}
void exchange(const int* x, int* y, int n) { launch(exchange_kernel, {blocks_for(n, 64), 64}, x, y, n); }
void shuffles(int* results) { launch(shuffles_kernel, {1, 32}, results); }
void half_warp(int* result) { launch(half_warp_kernel, {1, 32}, result); }
void count_one(int* result) { launch(count_one_kernel, {2, 5}, result); }
void count_two(int* result) { launch(count_two_kernel, {2, 5}, result); }
const void* address_of_count_one() { return reinterpret_cast<const void*>(count_one_kernel); }
const void* address_of_count_two() { return reinterpret_cast<const void*>(count_two_kernel); }
void fill_pairs(double* x, double value, int pairs) {
  launch(fill_pairs_kernel, {blocks_for(pairs, 32), 32}, x, value, pairs);
}
void intrinsics(double* results) { launch(intrinsics_kernel, {1, 1}, results); }
void touch_last_block(unsigned blocks, int* x) { launch(touch_last_block_kernel, {blocks, 1}, x); }

void missing_barrier(float* y) { launch(missing_barrier_kernel, {1, 64}, y); }
void divergent_barrier() { launch(divergent_barrier_kernel, {1, 64}); }
void barrier_after_exit() { launch(barrier_after_exit_kernel, {1, 64}); }
void deadlock() { launch(deadlock_kernel, {1, 32}); }
void shuffle_from_absent_lane(int* y) { launch(shuffle_from_absent_lane_kernel, {1, 32}, y); }
void lane_outside_mask() { launch(lane_outside_mask_kernel, {1, 32}); }
void divergent_warp() { launch(divergent_warp_kernel, {1, 32}); }
void uninitialised_shared(float* y) { launch(uninitialised_shared_kernel, {1, 64}, y); }
void stale_shared(float* y) { launch(stale_shared_kernel, {2, 32}, y); }
void shared_write_write(float* y) { launch(shared_write_write_kernel, {1, 64}, y); }
void shared_read_write(float* y) { launch(shared_read_write_kernel, {1, 64}, y); }
void warp_without_sync(int* y) { launch(warp_without_sync_kernel, {1, 32}, y); }
void global_write_write(float* y) { launch(global_write_write_kernel, {1, 64}, y); }
void global_read_write(float* y) { launch(global_read_write_kernel, {1, 64}, y); }
void blocks_write_the_same(float* y) { launch(blocks_write_the_same_kernel, {3, 32}, y); }
void blocks_read_and_write(float* y) { launch(blocks_read_and_write_kernel, {3, 32}, y); }
void atomic_and_plain(int* y) { launch(atomic_and_plain_kernel, {1, 64}, y); }
void misaligned(float* y) { launch(misaligned_kernel, {1, 1}, y); }
void write_global(float* y, int n) { launch(write_global_kernel, {1, 64}, y, n); }
void write_static_shared(float* y, int n) { launch(write_static_shared_kernel, {1, 64}, y, n); }
void write_dynamic_shared(float* y, int room, int n) {
  launch(write_dynamic_shared_kernel, {1, 64, room * sizeof(float)}, y, n);
}
void too_much_static_shared(float* y) { launch(too_much_static_shared_kernel, {1, 32}, y); }
void throws() { launch(throws_kernel, {1, 32}); }

}  // namespace gdcore::emulation_tests
