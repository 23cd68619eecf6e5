// Small kernels for the tests of the emulation, in gdcore's style: correct ones, and ones with one defect each.
#pragma once

#include "backend/runtime.h"

namespace gdcore::emulation_tests {

// ---- Correct kernels. ----
/// sum[b] = the sum of x[b * 256 .. b * 256 + 255].
void block_sums(const float* x, float* sums, int blocks);
/// y (cols, rows) = the transpose of x (rows, cols), by tiles in dynamic shared memory.
void transpose(const float* x, float* y, int rows, int cols);
/// y += a x
void add_scaled(float a, const float* x, float* y, int n);
/// counts[values[i]] += 1, with atomics.
void histogram(const int* values, int* counts, int n);
/// Neighbours exchange through shared memory within a warp, ordered by __syncwarp alone: y[i] = x[i ^ 1].
void exchange(const int* x, int* y, int n);
/// The results of three shuffles in the 32 lanes.
void shuffles(int* results);
/// Shuffles among the lanes that have not returned: the sum of lane numbers below 16.
void half_warp(int* result);
/// result[0] += 1 in each thread. The two kernels have equal code but are two kernels.
void count_one(int* result);
void count_two(int* result);
const void* address_of_count_one();
const void* address_of_count_two();
/// x[i] = value, in pairs where the address allows it.
void fill_pairs(double* x, double value, int pairs);
/// Bits and values of the small device functions.
void intrinsics(double* results);
/// Adds 1 to x[0] in the last block.
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
void stale_shared(float* y);  // initialised only by another block
void shared_write_write(float* y);
void shared_read_write(float* y);
void warp_without_sync(int* y);
void global_write_write(float* y);
void global_read_write(float* y);
void blocks_write_the_same(float* y);
void blocks_read_and_write(float* y);
void atomic_and_plain(int* y);
void misaligned(float* y);
// These kernels write the first n elements of y, of a static array of 33, and of a dynamic array of `room`.
void write_global(float* y, int n);
void write_static_shared(float* y, int n);
void write_dynamic_shared(float* y, int room, int n);
void too_much_static_shared(float* y);
void throws();

}  // namespace gdcore::emulation_tests
