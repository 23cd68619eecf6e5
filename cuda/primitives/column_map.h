// A map over the elements of a matrix with constants per column: scaling by a norm layer, forward and backward. Threads
// follow a ColumnPlan as for sums, but in reverse order: the rows that a sum read last are read first, from the
// second-level cache. A Map has
//   Columns columns(plan, thread): the constants of the thread's columns, read once;
//   Values load(index): the input packs; several rows are in flight;
//   void store(columns, values, index): writes the outputs, which may overwrite the inputs.
#pragma once

#include <cstdint>

#include "primitives/column_sums.h"

namespace gdcore::cuda {

/// Maps the elements of one thread's turns.
template <class T, class Map>
__device__ __forceinline__ void map_columns(const ColumnPlan& plan, const ColumnThread<T>& thread, const Map& map) {
  constexpr int kAtOnce = 4;
  const auto columns = map.columns(plan, thread);
  for (int stop = thread.turns; stop > 0; stop -= kAtOnce) {
    typename Map::Values values[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (stop - u > 0) values[u] = map.load(thread.index(stop - 1 - u));
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (stop - u > 0) map.store(columns, values[u], thread.index(stop - 1 - u));
    }
  }
}

template <class T, class Map>
__global__ void __launch_bounds__(kColumnThreads) map_columns_kernel(ColumnPlan plan, bool wide, Map map) {
  map_columns(plan, ColumnThread<T>(plan, wide), map);
}

/// Returns the plan for a map that follows no sum: a few turns per block.
inline ColumnPlan map_plan(std::int64_t rows, std::int64_t cols, int pack) {
  ColumnPlan plan = whole_plan(rows, cols, pack);
  constexpr std::int64_t kTurns = 4, kMostPieces = 65535;  // kMostPieces: limit of a grid in y
  const std::int64_t turns = ceil_div(rows, plan.tile_rows), pieces = ceil_div(turns, kTurns);
  plan.piece = ceil_div(turns, pieces < kMostPieces ? pieces : kMostPieces) * plan.tile_rows;
  plan.pieces = ceil_div(rows, plan.piece);
  return plan;
}

template <class T, class Map>
void launch_map(const ColumnPlan& plan, bool aligned, const Map& map) {
  launch(map_columns_kernel<T, Map>, {grid_of(plan), kColumnThreads}, plan, aligned, map);
}

}  // namespace gdcore::cuda
