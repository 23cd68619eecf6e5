// Small kernels for the tests of the emulation: sound ones, and ones with a defect each. Written as gdcore's own are.
#pragma once

#include "backend/runtime.h"

namespace gdcore::emulation_tests {

// ---- Sound ones. ----
/// sum[b] = the sum of x[b * 256 .. b * 256 + 255].
void block_sums(const float* x, float* sums, int blocks);
/// y (cols, rows) = the transpose of x (rows, cols), by tiles in dynamic shared memory.
void transpose(const float* x, float* y, int rows, int cols);
/// y += a x
void add_scaled(float a, const float* x, float* y, int n);
/// counts[values[i]] += 1, by atomics.
void histogram(const int* values, int* counts, int n);
/// Neighbours exchange through shared memory within a warp, ordered by __syncwarp alone: y[i] = x[i ^ 1].
void exchange(const int* x, int* y, int n);
/// What each of the 32 lanes gets of the warp operations, 32 numbers an operation, kWarpResults of them.
inline constexpr int kWarpResults = 9;
void warp_operations(int* results);
/// Barriers that return something: or, and, count of (thread < limit).
void voting_barriers(int limit, int* results);
/// Shuffles among the lanes that have not returned: sum of lane numbers below 16.
void half_warp(int* result);
/// result[0] += 1 in each thread; twins: equal code, but two kernels.
void count_one(int* result);
void count_two(int* result);
const void* address_of_count_one();
const void* address_of_count_two();
/// x[i] = value, by double2 where the address allows.
void fill_pairs(double* x, double value, int pairs);
/// Bits and numbers of the small device functions.
void intrinsics(double* results);
/// Adds 1 to x[0], far behind the first blocks.
void touch_last_block(unsigned blocks, int* x);

// ---- Defects. ----
void missing_barrier(float* y);
void divergent_barrier();
void barrier_after_exit();
void deadlock();
void shuffle_from_absent_lane(int* y);
void lane_outside_mask();
void divergent_warp();
void uninitialised_shared(float* y);
void stale_shared(float* y);  // initialised by another block only
void shared_write_write(float* y);
void shared_read_write(float* y);
void warp_without_sync(int* y);
void global_write_write(float* y);
void global_read_write(float* y);
void blocks_write_the_same(float* y);
void blocks_read_and_write(float* y);
void atomic_and_plain(int* y);
void misaligned(float* y);
// These write the first n elements: of y, of a static array of 33, and of a dynamic array of `room`.
void write_global(float* y, int n);
void write_static_shared(float* y, int n);
void write_dynamic_shared(float* y, int room, int n);
void too_much_static_shared(float* y);
void throws();

}  // namespace gdcore::emulation_tests
