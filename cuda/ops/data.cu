// Reading data in device memory: gathers rows by index, converted to the model's type, and finds NaN and infinity.
// gather reads rows of the source and overwrites rows of `to`: 8 bytes per element from float32 to float32, and 8 per
// row if the order is a list. The search reads every element once.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

// Threads of a block, in groups of adjacent lanes, up to a warp, with a row each; packs of a thread in flight.
inline constexpr int kRowThreads = 128, kRowPacks = 4;

/// Returns the grid for `rows` rows of `cols` elements in packs of `pack`: x covers the rows, y their columns.
Shape row_shape(std::int64_t rows, std::int64_t cols, int pack) {
  const std::int64_t packs = ceil_div(cols, pack);
  unsigned lanes = 1;
  while (lanes < kWarp && lanes < packs) lanes *= 2;
  const unsigned rows_of_block = kRowThreads / lanes;
  const std::int64_t across = std::min<std::int64_t>(ceil_div(packs, lanes * kRowPacks), 65'535);
  return {dim3(static_cast<unsigned>(ceil_div(rows, rows_of_block)), static_cast<unsigned>(across)),
          dim3(lanes, rows_of_block)};
}

/// Returns the row of this thread's group.
__device__ __forceinline__ std::int64_t group_row() { return std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }

/// Calls `work` with the first element of each of the thread's turns in a row; a turn is kRowPacks packs per lane.
template <int PackSize, class Work>
__device__ __forceinline__ void for_each_turn(std::int64_t cols, const Work& work) {
  const std::int64_t turn = std::int64_t{blockDim.x} * (PackSize * kRowPacks);
  for (std::int64_t at = blockIdx.y * turn; at < cols; at += gridDim.y * turn) work(at);
}

/// Source elements for one pack of T, aligned to be read in one access.
template <class S, int N>
struct alignas(sizeof(S) * N < 16 ? sizeof(S) * N : 16) Read {
  S at[N];
};

template <class S, class T>
__device__ __forceinline__ Pack<T> load_converted(const S* from, const PackIndex& index) {
  Pack<T> pack;
  if (index.whole<T>()) {
    const auto read = *reinterpret_cast<const Read<S, kPack<T>>*>(from + index.first);
    unrolled<kPack<T>>([&](int i) { pack[i] = static_cast<T>(read.at[i]); });
  } else {
    unrolled<kPack<T>>([&](int i) { pack[i] = index.exists(i) ? static_cast<T>(from[index[i]]) : T(0); });
  }
  return pack;
}

struct GatherRows {
  const void* from;
  void* to;
  RowOrder order;
  std::int64_t first, count, cols, row_stride;
  const StepCounters* counters;
  bool wide;
};

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) gather_kernel(const __grid_constant__ GatherRows call) {
  const std::int64_t row = group_row();
  if (row >= call.count) return;
  const std::int64_t position = call.first + row + (call.counters != nullptr ? call.counters->first : 0);
  const S* from = static_cast<const S*>(call.from) + call.order(position) * call.row_stride;
  T* to = static_cast<T*>(call.to) + row * call.cols;
  const int lane = static_cast<int>(threadIdx.x), lanes = static_cast<int>(blockDim.x);
  for_each_turn<kPack<T>>(call.cols, [&](std::int64_t at) {
    PackIndex index[kRowPacks];
    Pack<T> pack[kRowPacks];
#pragma unroll
    for (int p = 0; p < kRowPacks; ++p) {
      index[p] = pack_index<T>(at + p * lanes * kPack<T>, call.cols, lane, call.wide);
      pack[p] = load_converted<S, T>(from, index[p]);
    }
#pragma unroll
    for (int p = 0; p < kRowPacks; ++p) store_pack(to, index[p], pack[p]);
  });
}

template <class S, class T>
void gather_rows(const Gather& call) {
  const Source& source = call.source;
  constexpr int kSize = kPack<T>;
  const bool wide = pack_aligned<T>(call.count, source.cols, static_cast<const T*>(call.to)) &&
                    reinterpret_cast<std::uintptr_t>(source.data) % alignof(Read<S, kSize>) == 0 &&
                    (source.row_stride % kSize == 0 || (call.count == 1 && source.rows == 1));
  const GatherRows rows{source.data, call.to,           call.order,    call.first, call.count,
                        source.cols, source.row_stride, call.counters, wide};
  launch(gather_kernel<S, T>, row_shape(call.count, source.cols, kSize), rows);
}

/// An array as rows: row r begins at r · row_stride and has the elements from r · cols on; the last row has the rest.
struct RowLayout {
  std::int64_t rows, cols, row_stride, size;
  bool wide;
};

/// Finds the smallest index of a value that is not finite; the minimum does not depend on the order of the atomics.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    nonfinite_kernel(const T* data, RowLayout layout, unsigned long long* found) {
  const std::int64_t row = group_row();
  if (row >= layout.rows) return;
  const T* from = data + row * layout.row_stride;
  const std::int64_t before = row * layout.cols;
  const std::int64_t cols = layout.size - before < layout.cols ? layout.size - before : layout.cols;
  const int lane = static_cast<int>(threadIdx.x), lanes = static_cast<int>(blockDim.x);
  std::int64_t least = layout.size;
  for_each_turn<kPack<T>>(cols, [&](std::int64_t at) {
    PackIndex index[kRowPacks];
    Pack<T> pack[kRowPacks];
#pragma unroll
    for (int p = 0; p < kRowPacks; ++p) {
      index[p] = pack_index<T>(at + p * lanes * kPack<T>, cols, lane, layout.wide);
      pack[p] = load_pack(from, index[p]);
    }
    unrolled<kRowPacks, kPack<T>>([&](int p, int i) {
      const T x = pack[p][i];
      const std::int64_t here = before + index[p][i];
      if (!(x - x == T(0)) && here < least) least = here;
    });
  });
  if (least < layout.size) atomicMin(found, static_cast<unsigned long long>(least));
}

/// Returns the device's address of the smallest index of a value that is not finite, all bits set if there is none.
template <class T>
const unsigned long long* find_nonfinite(const Source& source) {
  RowLayout layout{source.rows, source.cols, source.row_stride, source.rows * source.cols, false};
  if (source.row_stride == source.cols || source.rows == 1) {  // as rows that a warp reads in one turn
    layout.cols = layout.row_stride = kWarp * kRowPacks * kPack<T>;
    layout.rows = ceil_div(layout.size, layout.cols);
  }
  const T* data = static_cast<const T*>(source.data);
  layout.wide = pack_aligned<T>(layout.rows, layout.row_stride, data);
  auto* found = scratch_array<unsigned long long>(Scratch::partial, 1);
  check_cuda(cudaMemsetAsync(found, 0xff, sizeof *found, current_stream()), "cudaMemsetAsync");
  launch(nonfinite_kernel<T>, row_shape(layout.rows, layout.cols, kPack<T>), data, layout, found);
  return found;
}

}  // namespace

void CudaBackend::gather(const Gather& call) {
  with_type(call.source.type, [&]<class S>(S) {
    switch (call.type) {
      case GatherType::float32:
        return gather_rows<S, float>(call);
      case GatherType::float64:
        return gather_rows<S, double>(call);
      case GatherType::label:
        return gather_rows<S, std::int32_t>(call);
    }
  });
}

std::int64_t CudaBackend::first_nonfinite(const Source& source) {
  std::int64_t first = -1;  // all bits set
  if (source.type != SourceType::f32 && source.type != SourceType::f64) return first;
  const auto* found = source.type == SourceType::f32 ? find_nonfinite<float>(source) : find_nonfinite<double>(source);
  copy(&first, found, sizeof first, CopyKind::to_host);
  return first;
}

}  // namespace gdcore::cuda
