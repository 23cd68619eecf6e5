// Packs: 16 bytes of adjacent elements, the unit in which threads read and write an array. If the array is aligned to
// 16 bytes a pack is one access; otherwise, and at the end of the array, each element is one access. The elements of a
// thread, and so the order of additions, do not depend on the alignment. Kernels use packs and their PackIndex, and are
// written once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/runtime.h"

namespace gdcore::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
// Blocks that fill a GPU, two per multiprocessor of an H100: a constant, so that sums are split alike on every device.
inline constexpr std::int64_t kBlocks = 264;

template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));  // elements of a pack

/// Elements in registers; the index must be a constant of an unrolled loop.
template <class T>
struct alignas(16) Pack {
  static constexpr int size = kPack<T>;
  T at[size];
  __host__ __device__ T& operator[](int i) { return at[i]; }
  __host__ __device__ const T& operator[](int i) const { return at[i]; }
};

/// Calls visit(i) for i < N, in an unrolled loop.
template <int N, class Visit>
__device__ __forceinline__ void unrolled(const Visit& visit) {
#pragma unroll
  for (int i = 0; i < N; ++i) visit(i);
}
/// Calls visit(i, k) for i < N and k < M.
template <int N, int M, class Visit>
__device__ __forceinline__ void unrolled(const Visit& visit) {
  unrolled<N>([&](int i) { unrolled<M>([&](int k) { visit(i, k); }); });
}

/// Returns the pack of value(0), value(1), ...
template <class T, class Value>
__device__ __forceinline__ Pack<T> pack_of(const Value& value) {
  Pack<T> pack;
  unrolled<kPack<T>>([&](int i) { pack[i] = value(i); });
  return pack;
}

__host__ __device__ inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Whether packs can be read in one access from all these arrays (null is allowed) and, for matrices (rows, cols) with
/// more than one row, from the beginning of every row.
template <class T, class... P>
bool pack_aligned(std::int64_t rows, std::int64_t cols, const P*... data) {
  const bool rows_fit = rows == 1 || cols % kPack<T> == 0;
  return rows_fit && ((reinterpret_cast<std::uintptr_t>(data) % sizeof(Pack<T>) == 0) && ...);
}

/// The indices of a pack's elements in an array.
struct PackIndex {
  std::int64_t first;  // index of element 0
  int step;            // index difference of elements: 1 except for unaligned columns (column_sums.h)
  int left;            // elements of the array from the first one on, capped; 0 or less past its end
  bool wide;           // the elements are adjacent and aligned to 16 bytes: one access

  __device__ std::int64_t operator[](int i) const { return first + i * step; }
  __device__ bool exists(int i) const { return i * step < left; }
  __device__ bool empty() const { return left <= 0; }
  template <class T>
  __device__ bool whole() const {
    return wide && left >= kPack<T>;
  }
};

/// Returns pack `thread` of those from `begin`, a multiple of kPack, in an array of `size` elements; `wide`: result of
/// pack_aligned.
template <class T>
__device__ __forceinline__ PackIndex pack_index(std::int64_t begin, std::int64_t size, int thread, bool wide) {
  const std::int64_t first = begin + thread * kPack<T>, left = size - first;
  constexpr int kEnough = 1 << 20;
  return {first, 1, left > kEnough ? kEnough : (left < 0 ? 0 : static_cast<int>(left)), wide};
}

/// Loads a pack of the array at `from`; elements that do not exist are `otherwise`.
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* from, const PackIndex& index, T otherwise = T(0)) {
  if (index.whole<T>()) return *reinterpret_cast<const Pack<T>*>(from + index.first);
  return pack_of<T>([&](int i) { return index.exists(i) ? from[index[i]] : otherwise; });
}

/// Loads a pack of an array that may be null: then all elements are `otherwise`.
template <class T>
__device__ __forceinline__ Pack<T> load_or(const T* from, const PackIndex& index, T otherwise) {
  return from != nullptr ? load_pack(from, index, otherwise) : pack_of<T>([=](int) { return otherwise; });
}

template <class T>
__device__ __forceinline__ void store_pack(T* to, const PackIndex& index, const Pack<T>& pack) {
  if (index.whole<T>()) {
    *reinterpret_cast<Pack<T>*>(to + index.first) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i) {
    if (index.exists(i)) to[index[i]] = pack[i];
  }
}

}  // namespace gdcore::cuda
