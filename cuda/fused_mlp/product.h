// Products of matrices in shared memory by all warps of a block, as a fused MLP step needs them (tile.h): in three
// forms, y = x Wᵀ, dx = g W and dW = gᵀ x, and of three kinds of numbers, float32 by fused multiply-adds and two kinds
// on tensor cores. Matrices are float32 in memory whatever the kind; factors are rounded as they are read, but weights,
// which have been through prepared() before.
#pragma once

#include "primitives/tensor_cores.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kFusedThreads = 256, kFusedWarps = kFusedThreads / kWarp;

/// Floats from one row of a matrix of `width` columns to the next. A multiple of 4, of which every row is an odd number
/// of 16 bytes further into the banks. What lies behind the columns is zero, up to a multiple of 8.
__host__ __device__ constexpr int stride_of(int width) { return (width + 7) / 8 * 8 + 4; }

struct SharedMatrix {
  const float* at;
  int stride;
};

/// Of C = A B: C is (rows, cols).
struct Extent {
  int rows, cols, depth;

  __device__ __forceinline__ bool has(int row, int col) const { return row < rows && col < cols; }
};

// A patch is what a warp computes of C = A B at a time: kHeight rows from i0 and kWidth columns from j0. A is
// (rows, depth), `transposed` (depth, rows); B is (depth, cols), `transposed` (cols, depth). accumulate() adds up,
// hand_out() calls store(row, col, value) for every element of the lane that exists. visit() calls visitor(row, col)
// for the same ones, from a short loop: for long code, of which hand_out() would make a copy for each element.

inline constexpr int kPatchWidth = 32;

/// In float32: a lane has kRows x 4 elements, its columns kStep apart, and reads four numbers at a time.
template <bool kTransposedA, bool kTransposedB>
class LanePatch {
  static_assert(!kTransposedA || !kTransposedB, "the three forms that a dense layer needs");
  static constexpr int kRows = kTransposedA ? 4 : 2;
  static constexpr int kStep = kTransposedB ? 8 : 1;  // so that the lanes' rows of B lie in different banks

 public:
  static constexpr int kHeight = 4 * kRows;

  __device__ __forceinline__ LanePatch(int row, int col, const Extent& extent) : extent_(extent) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    i0_ = row + lane / 8 * kRows;
    j0_ = col + lane % 8 * (kTransposedB ? 1 : 4);
  }

  __device__ __forceinline__ void accumulate(const SharedMatrix& a, const SharedMatrix& b) {
    if (!extent_.has(i0_, j0_)) return;
    if constexpr (kTransposedA) {
#pragma unroll 4
      for (int k = 0; k < extent_.depth; ++k) {
        const Four x = load_four(a.at + k * a.stride + i0_), y = load_four(b.at + k * b.stride + j0_);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) c_[i][j] += x[i] * y[j];
        }
      }
    } else {
#pragma unroll 2
      for (int k = 0; k < extent_.depth; k += 4) add_four(a, b, k);
    }
  }

  template <class Store>
  __device__ __forceinline__ void hand_out(const Store& store) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = i0_ + i, col = j0_ + j * kStep;
        if (extent_.has(row, col)) store(row, col, c_[i][j]);
      }
    }
  }

  template <class Visitor>
  __device__ __forceinline__ void visit(const Visitor& visitor) const {
#pragma unroll 4
    for (int e = 0; e < kRows * 4; ++e) {
      const int row = i0_ + e / 4, col = j0_ + e % 4 * kStep;
      if (extent_.has(row, col)) visitor(row, col);
    }
  }

 private:
  using Four = Pack<float>;
  __device__ static __forceinline__ Four load_four(const float* from) { return *reinterpret_cast<const Four*>(from); }

  /// Four terms of every element.
  __device__ __forceinline__ void add_four(const SharedMatrix& a, const SharedMatrix& b, int k) {
    Four x[kRows], y[4];
#pragma unroll
    for (int i = 0; i < kRows; ++i) x[i] = load_four(a.at + (i0_ + i) * a.stride + k);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int col = j0_ + j * kStep < extent_.cols ? j0_ + j * kStep : j0_;  // any that exists
      y[j] = load_four(kTransposedB ? b.at + col * b.stride + k : b.at + (k + j) * b.stride + j0_);
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int q = 0; q < 4; ++q) c_[i][j] += x[i][q] * (kTransposedB ? y[j][q] : y[q][j]);
      }
    }
  }

  Extent extent_;
  int i0_, j0_;
  float c_[kRows][4] = {};
};

/// On tensor cores: Numbers' kind of factors, sums in float32. Reads B's rows and columns up to a multiple of 8, and
/// A's depth too, so that they have to be zero there; A's rows are read where they exist.
template <class Numbers, bool kTransposedA, bool kTransposedB>
class TensorPatch {
  static constexpr int kAcross = kPatchWidth / 8;
  // A lane's two terms of eight: from 4 rows or columns of the matrix that lie in different banks.
  static constexpr int kApart = kTransposedB ? 1 : 2, kSecond = kTransposedB ? 4 : 1;
  static constexpr bool kPreparedB = !kTransposedA;  // weights

 public:
  static constexpr int kHeight = 16;

  __device__ __forceinline__ TensorPatch(int row, int col, const Extent& extent)
      : extent_(extent), i0_(row), j0_(col) {}

  __device__ __forceinline__ void accumulate(const SharedMatrix& a, const SharedMatrix& b) {
    switch ((extent_.cols - j0_ + 7) / 8) {
      case 1:
        return add<1>(a, b);
      case 2:
        return add<2>(a, b);
      case 3:
        return add<3>(a, b);
      default:
        return add<kAcross>(a, b);
    }
  }

  template <class Store>
  __device__ __forceinline__ void hand_out(const Store& store) const {
#pragma unroll
    for (int j = 0; j < kAcross; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = row_at(i), col = col_at(j, i);
        if (extent_.has(row, col)) store(row, col, c_[j].at[i]);
      }
    }
  }

  template <class Visitor>
  __device__ __forceinline__ void visit(const Visitor& visitor) const {
#pragma unroll 4
    for (int e = 0; e < 4 * kAcross; ++e) {
      const int row = row_at(e % 4), col = col_at(e / 4, e % 4);
      if (extent_.has(row, col)) visitor(row, col);
    }
  }

 private:
  __device__ static __forceinline__ int group() { return static_cast<int>(threadIdx.x) % kWarp / 4; }
  __device__ static __forceinline__ int thread_in_group() { return static_cast<int>(threadIdx.x) % 4; }
  /// Where the lane's element i of a tensor core's C lies.
  __device__ __forceinline__ int row_at(int i) const { return i0_ + group() + i / 2 * 8; }
  __device__ __forceinline__ int col_at(int j, int i) const { return j0_ + 8 * j + 2 * thread_in_group() + i % 2; }

  /// `kWide` times 8 columns. All is read before the first multiplication waits for it.
  template <int kWide>
  __device__ __forceinline__ void add(const SharedMatrix& a, const SharedMatrix& b) {
    const float* rows[2] = {row_of(a, i0_ + group()), row_of(a, i0_ + group() + 8)};
    const float* col = b.at + (j0_ + group()) * (kTransposedB ? b.stride : 1);
#pragma unroll 2
    for (int k = 0; k < extent_.depth; k += 4 * Numbers::kTerms) {
      float x[2][Numbers::kTerms], y[kWide][Numbers::kTerms];
#pragma unroll
      for (int i = 0; i < 2; ++i) terms(rows[i], kTransposedA ? a.stride : 1, k, x[i]);
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        terms(col + 8 * j * (kTransposedB ? b.stride : 1), kTransposedB ? 1 : b.stride, k, y[j]);
      }
      const auto left = Numbers::left(x);
#pragma unroll
      for (int j = 0; j < kWide; ++j) Numbers::multiply(left, Numbers::template right<kPreparedB>(y[j]), c_[j]);
    }
  }

  __device__ __forceinline__ const float* row_of(const SharedMatrix& a, int row) const {
    const int there = row < extent_.rows ? row : extent_.rows - 1;
    return a.at + (kTransposedA ? there : there * a.stride);
  }

  /// The lane's terms from k on of a sum over numbers that lie `step` apart.
  __device__ __forceinline__ void terms(const float* from, int step, int k, float (&x)[Numbers::kTerms]) const {
#pragma unroll
    for (int q = 0; q < Numbers::kTerms; ++q) {
      const int eight = k + q / 2 * 8;
      const bool exists = q < 2 || eight < extent_.depth;
      x[q] = exists ? from[(eight + thread_in_group() * kApart + q % 2 * kSecond) * step] : 0.0f;
    }
  }

  Extent extent_;
  int i0_, j0_;
  Accumulator c_[kAcross];
};

/// Whole float32 factors, as a kind of numbers.
struct Float32 {
  __device__ static __forceinline__ float prepared(float x) { return x; }
};

/// The patches of a kind of numbers.
template <class Numbers, bool kTransposedA, bool kTransposedB>
struct PatchOf {
  using Type = TensorPatch<Numbers, kTransposedA, kTransposedB>;
};
template <bool kTransposedA, bool kTransposedB>
struct PatchOf<Float32, kTransposedA, kTransposedB> {
  using Type = LanePatch<kTransposedA, kTransposedB>;
};

/// C = A B: calls finish(patch) with every patch. Each element of C is one lane's.
template <class Numbers, bool kTransposedA, bool kTransposedB, class Finish>
__device__ __forceinline__ void product(const SharedMatrix& a, const SharedMatrix& b, const Extent& extent,
                                        const Finish& finish) {
  using Patch = typename PatchOf<Numbers, kTransposedA, kTransposedB>::Type;
  const int across = (extent.cols + kPatchWidth - 1) / kPatchWidth;
  const int patches = (extent.rows + Patch::kHeight - 1) / Patch::kHeight * across;
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < patches; i += kFusedWarps) {
    Patch patch(i / across * Patch::kHeight, i % across * kPatchWidth, extent);
    patch.accumulate(a, b);
    finish(patch);
  }
}

}  // namespace gdcore::cuda
