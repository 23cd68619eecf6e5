// Products of matrices in shared memory by all warps of a block, for a fused MLP step (tile.h). Three forms, y = x Wᵀ,
// dx = g W and dW = gᵀ x, and three kinds of factors: float32 with fused multiply-adds, and TF32 and bfloat16 on tensor
// cores. Matrices are float32 in memory for all kinds. Factors are rounded when they are read; weights are rounded in
// advance, by prepared().
#pragma once

#include "primitives/tensor_cores.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kFusedThreads = 256, kFusedWarps = kFusedThreads / kWarp;

/// Returns the row stride in floats of a matrix of `width` columns: an odd multiple of 16 bytes, so that adjacent rows
/// use different banks. Elements behind the columns are zero, up to a multiple of 8.
__host__ __device__ constexpr int stride_of(int width) { return (width + 7) / 8 * 8 + 4; }

struct SharedMatrix {
  const float* at;
  int stride;
};

/// Sizes of C = A B: C is (rows, cols).
struct Extent {
  int rows, cols, depth;

  __device__ __forceinline__ bool has(int row, int col) const { return row < rows && col < cols; }
};

// A patch is the part of C = A B that a warp computes at a time: kHeight rows from i0 and kPatchWidth columns from j0.
// A is (rows, depth), `transposed` (depth, rows); B is (depth, cols), `transposed` (cols, depth). accumulate() computes
// the sums. hand_out() calls store(row, col, value) for every existing element of the lane, unrolled. visit() calls
// visitor(row, col) for the same elements in a short loop, for long code.

inline constexpr int kPatchWidth = 32;

/// A patch in float32: a lane has kRows x 4 elements, with columns kStep apart, and reads four values at a time.
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
        unrolled<kRows, 4>([&](int i, int j) { c_[i][j] += x[i] * y[j]; });
      }
    } else {
#pragma unroll 2
      for (int k = 0; k < extent_.depth; k += 4) add_four(a, b, k);
    }
  }

  template <class Store>
  __device__ __forceinline__ void hand_out(const Store& store) const {
    unrolled<kRows, 4>([&](int i, int j) {
      const int row = i0_ + i, col = j0_ + j * kStep;
      if (extent_.has(row, col)) store(row, col, c_[i][j]);
    });
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

  /// Adds four terms to every element.
  __device__ __forceinline__ void add_four(const SharedMatrix& a, const SharedMatrix& b, int k) {
    Four x[kRows], y[4];
#pragma unroll
    for (int i = 0; i < kRows; ++i) x[i] = load_four(a.at + (i0_ + i) * a.stride + k);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int col = j0_ + j * kStep < extent_.cols ? j0_ + j * kStep : j0_;  // any existing column
      y[j] = load_four(kTransposedB ? b.at + col * b.stride + k : b.at + (k + j) * b.stride + j0_);
    }
    unrolled<kRows, 4>(
        [&](int i, int j) { unrolled<4>([&](int q) { c_[i][j] += x[i][q] * (kTransposedB ? y[j][q] : y[q][j]); }); });
  }

  Extent extent_;
  int i0_, j0_;
  float c_[kRows][4] = {};
};

/// A patch on tensor cores: factors of the type Numbers, sums in float32. Reads rows and columns of B, and the depth of
/// A, up to a multiple of 8: these must be zero there. Reads only existing rows of A.
template <class Numbers, bool kTransposedA, bool kTransposedB>
class TensorPatch {
  static constexpr int kAcross = kPatchWidth / 8;
  // Offsets of a lane's two of eight terms, chosen so that the lanes of a warp read different banks.
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
    unrolled<kAcross, 4>([&](int j, int i) {
      const int row = row_at(i), col = col_at(j, i);
      if (extent_.has(row, col)) store(row, col, c_[j].at[i]);
    });
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
  /// Row and column of the lane's element i of a tensor core's C.
  __device__ __forceinline__ int row_at(int i) const { return i0_ + group() + i / 2 * 8; }
  __device__ __forceinline__ int col_at(int j, int i) const { return j0_ + 8 * j + 2 * thread_in_group() + i % 2; }

  /// Computes kWide times 8 columns. All reads are issued before the first multiplication.
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

  /// Reads the lane's terms from k on of a sum; consecutive terms are `step` apart in memory.
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

/// Unrounded float32 factors.
struct Float32 {
  __device__ static __forceinline__ float prepared(float x) { return x; }
};

/// Selects the patch class for a type of factors.
template <class Numbers, bool kTransposedA, bool kTransposedB>
struct PatchOf {
  using Type = TensorPatch<Numbers, kTransposedA, kTransposedB>;
};
template <bool kTransposedA, bool kTransposedB>
struct PatchOf<Float32, kTransposedA, kTransposedB> {
  using Type = LanePatch<kTransposedA, kTransposedB>;
};

/// C = A B: calls finish(patch) for every patch. Each element of C belongs to one lane.
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
