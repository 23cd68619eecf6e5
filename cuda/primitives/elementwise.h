// Launcher for y_i = f(a_i, b_i, ...) over arrays of one type and length. Packs of 16 bytes, about four in flight per
// thread, so that few threads saturate the memory. A thread finishes all reads before its writes, so the result may
// overwrite an argument.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "backend/stream.h"
#include "gdcore/tensor.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

inline constexpr int kElementwiseThreads = 256;

template <class T, int Inputs>
struct ElementwiseArrays {
  T* to;
  const T* from[Inputs];
  std::int64_t size, of_block;  // elements of the array and of a block; of_block: a multiple of the threads' packs
  bool wide;
};

template <int Packs, class T, int Inputs, class F>
__global__ void __launch_bounds__(kElementwiseThreads)
    elementwise_kernel(const __grid_constant__ ElementwiseArrays<T, Inputs> arrays, const __grid_constant__ F f) {
  constexpr int kStride = kElementwiseThreads * kPack<T>;
  const std::int64_t begin = blockIdx.x * arrays.of_block;
  const std::int64_t end = begin + arrays.of_block < arrays.size ? begin + arrays.of_block : arrays.size;
  const int thread = static_cast<int>(threadIdx.x);
  PackIndex index[Packs];
  Pack<T> x[Packs][Inputs];
#pragma unroll
  for (int p = 0; p < Packs; ++p) {
    index[p] = pack_index<T>(begin + p * kStride, end, thread, arrays.wide);
    if (index[p].empty()) continue;
#pragma unroll
    for (int k = 0; k < Inputs; ++k) x[p][k] = load_pack(arrays.from[k], index[p]);
  }
#pragma unroll
  for (int p = 0; p < Packs; ++p) {
    if (index[p].empty()) continue;
    Pack<T> y;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      y[i] = [&]<int... K>(std::integer_sequence<int, K...>) {
        return f(x[p][K][i]...);
      }(std::make_integer_sequence<int, Inputs>{});
    }
    store_pack(arrays.to, index[p], y);
  }
}

/// to[i] = f(from[i]...) for i < size; `f` is copied to the device and called there.
template <class T, class F, class... In>
void elementwise(std::int64_t size, const F& f, T* to, const In*... from) {
  if (size == 0) return;
  constexpr int kInputs = sizeof...(In), kPacks = kInputs < 4 ? 4 / kInputs : 1;
  constexpr std::int64_t kStride = kElementwiseThreads * kPack<T>;
  // Small arrays: fewer packs per thread, to use all multiprocessors.
  const std::int64_t packs = std::clamp<std::int64_t>(size / (kStride * 2 * multiprocessors()), 1, kPacks);
  const ElementwiseArrays<T, kInputs> arrays{
      to, {from...}, size, packs * kStride, pack_aligned<T>(1, size, static_cast<const T*>(to), from...)};
  launch(elementwise_kernel<kPacks, T, kInputs, F>,
         {static_cast<unsigned>(ceil_div(size, arrays.of_block)), kElementwiseThreads}, arrays, f);
}

}  // namespace gdcore::cuda
