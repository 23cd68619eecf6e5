// Losses on logits (N, K) with their gradient, in one pass; formulas: loss.h, numerics as in cpp/cpu/loss.cpp.
// The losses of loss_elements.h are elementwise (elementwise_kernel). Cross-entropy has a tile of rows in
// shared memory, read and written in packs for rows of any length, with a group of lanes per row (tile_kernel), or
// beyond kTileCols classes a block per row (row_kernel).
// Gradients are divided by Σ s W. If that is not N, weight_kernel sums it first; every block then adds its partial
// sums. Losses are summed in double: by a thread, a block, and finish_kernel over the blocks; the order depends on the
// shape alone. For a small batch one block does all of this in one launch.
// Elements moved per logit: 2 with labels, 3 with targets (logits and targets read, gradient written); cross-entropy
// reads targets once more for Σ s W. Outputs are overwritten; nothing is saved.
#include <algorithm>
#include <variant>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "ops/loss_pass.h"

namespace gdcore::cuda {

namespace {

// Blocks for which a multiprocessor must have registers. Without this number (0) the compiler spills some on Turing, to
// have more blocks than the loads in flight need.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr int kLossBlocks = 1;
#else
inline constexpr int kLossBlocks = 0;
#endif

/// `loss_scale`, `slope_scale`: factors of an element's loss in its row's loss (1 / K or 1) and of its slope.
template <class T, class Formula>
__global__ void __launch_bounds__(kLossThreads, kLossBlocks)
    elementwise_kernel(const Losses<T> p, const Formula formula, double loss_scale, double slope_scale, bool wide) {
  const double weight = weight_of(p);
  const double slope_factor = slope_scale * inverse_of(weight);
  const T whole = static_cast<T>(slope_factor);
  const std::int64_t size = p.rows * p.cols, chunk = std::int64_t{blockDim.x} * kLossPacks * kPack<T>;
  double sum = 0.0;
  for (std::int64_t begin = blockIdx.x * chunk; begin < size; begin += gridDim.x * chunk) {
    const ChunkIndex chunk_index(begin, p.cols);
    Pack<T> y[kLossPacks], t[kLossPacks];
#pragma unroll
    for (int j = 0; j < kLossPacks; ++j) {
      const PackIndex index = pack_index_of_turn<T>(begin, size, j, wide);
      y[j] = load_pack(p.logits, index);
      if constexpr (Formula::shares) {
        t[j] = pack_of<T>([&](int i) { return index.exists(i) ? p.targets[index[i] / p.element.repeat] : T(0); });
      } else {
        t[j] = load_pack(p.targets, index);
      }
    }
#pragma unroll
    for (int j = 0; j < kLossPacks; ++j) {
      const PackIndex index = pack_index_of_turn<T>(begin, size, j, wide);
      T losses = T(0);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        if (!index.exists(i)) continue;
        const int at = static_cast<int>(index[i] - begin);
        OutputFactors<T> by;
        if constexpr (Formula::by_output) by = p.factors(chunk_index.col(at));
        const T s = p.weights != nullptr ? p.weights[chunk_index.row(at)] : T(1);
        const T loss = formula.loss(y[j][i], t[j][i], by);
        losses += p.weights == nullptr ? loss : (s != T(0) ? s * loss : T(0));
        const T scale = p.weights == nullptr ? whole : static_cast<T>(static_cast<double>(s) * slope_factor);
        y[j][i] = scale * formula.slope(y[j][i], t[j][i], by);
      }
      sum += static_cast<double>(losses);
      if (p.grad != nullptr) store_pack(p.grad, p.for_grad(index), y[j]);
    }
  }
  end_of_block(p, loss_scale * sum, weight);
}

struct Tiling {
  int group;  // lanes that share a row
  int rows;   // rows of a tile
  std::int64_t tiles;
  int room;   // elements of shared memory for a tile of one matrix
  bool wide;  // every tile is aligned to 16 bytes
};

/// Returns the index of element e of a tile: after 128 bytes one element is skipped, so that lanes that read a column
/// use different banks.
template <class T>
__host__ __device__ __forceinline__ int padded_index(int e) {
  return e + e / (128 / static_cast<int>(sizeof(T)));
}

template <class T>
__device__ void load_tile(const T* from, int size, T* tile, bool wide) {
#pragma unroll 4
  for (int begin = 0; begin < size; begin += static_cast<int>(blockDim.x) * kPack<T>) {
    const PackIndex index = pack_index<T>(begin, size, static_cast<int>(threadIdx.x), wide);
    const Pack<T> pack = load_pack(from, index);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      if (index.exists(i)) tile[padded_index<T>(static_cast<int>(index[i]))] = pack[i];
    }
  }
}

template <class T>
__device__ void store_tile(T* to, int size, const T* tile, bool wide) {
#pragma unroll 4
  for (int begin = 0; begin < size; begin += static_cast<int>(blockDim.x) * kPack<T>) {
    const PackIndex index = pack_index<T>(begin, size, static_cast<int>(threadIdx.x), wide);
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      if (index.exists(i)) pack[i] = tile[padded_index<T>(static_cast<int>(index[i]))];
    }
    store_pack(to, index, pack);
  }
}

template <class T>
__global__ void __launch_bounds__(kLossThreads) tile_kernel(const Losses<T> p, const Tiling tiling) {
  GD_DYN_SHARED(T, z);
  T* targets = p.targets != nullptr ? z + tiling.room : nullptr;
  const double weight = weight_of(p), inverse = inverse_of(weight);
  double sum = 0.0;
  for (std::int64_t tile = blockIdx.x; tile < tiling.tiles; tile += gridDim.x) {
    const std::int64_t first = tile * tiling.rows, begin = first * p.cols;
    const int size = static_cast<int>((p.rows - first < tiling.rows ? p.rows - first : tiling.rows) * p.cols);
    load_tile(p.logits + begin, size, z, tiling.wide);
    if (targets != nullptr) load_tile(p.targets + begin, size, targets, tiling.wide);
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) / tiling.group, begin_of_row = row * static_cast<int>(p.cols);
    const bool exists = first + row < p.rows;
    const auto index_of = [=](int c) { return padded_index<T>(begin_of_row + c); };
    const RowGroup group{static_cast<int>(threadIdx.x) % tiling.group, tiling.group};
    sum += shared_row(p, Row<T>(p, exists ? first + row : 0), group, exists ? static_cast<int>(p.cols) : 0,
                      SharedRow<T>{z, targets, inverse}, index_of);
    __syncthreads();
    if (p.grad != nullptr) store_tile(p.grad + begin, size, z, tiling.wide);
    __syncthreads();  // before the next tile
  }
  end_of_block(p, sum, weight);
}

/// One block per row of any length, read three times (from the caches if it fits).
template <class T>
__global__ void __launch_bounds__(kLossThreads) row_kernel(const Losses<T> p, bool wide) {
  const double weight = weight_of(p), inverse = inverse_of(weight);
  const std::int64_t step = std::int64_t{blockDim.x} * kPack<T>;
  double sum = 0.0;
  for (std::int64_t n = blockIdx.x; n < p.rows; n += gridDim.x) {
    const T* z = p.logits + n * p.cols;
    const T* targets = p.targets != nullptr ? p.targets + n * p.cols : nullptr;
    const Row<T> row(p, n);
    const auto targets_at = [&](const PackIndex& index) {
      if (!row.plain && targets != nullptr) return load_pack(targets, index);
      return pack_of<T>([&](int i) { return row.target(index[i]); });
    };
    T top = -std::numeric_limits<T>::infinity();
#pragma unroll 4
    for (std::int64_t begin = 0; begin < p.cols; begin += step) {
      const Pack<T> pack = load_pack(z, pack_index<T>(begin, p.cols, static_cast<int>(threadIdx.x), wide), top);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) top = pack[i] > top ? pack[i] : top;
    }
    top = block_max(top);
    RowSums<T> sums;
    for (std::int64_t begin = 0; begin < p.cols; begin += step) {
      const PackIndex index = pack_index<T>(begin, p.cols, static_cast<int>(threadIdx.x), wide);
      const Pack<T> pack = load_pack(z, index), t = targets_at(index);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        if (!index.exists(i)) continue;
        sums.add(p, row, math::exp_difference(pack[i], top), top - pack[i], t[i], index[i]);
      }
    }
    sums.tops = block_sum(sums.tops);
    sums.rest = block_sum(sums.rest);
    if (!row.plain) {
      sums.total = block_sum(sums.total);
      sums.away = block_sum(sums.away);
    }
    sums.complete(p, row, row.plain ? top - z[row.label] : T(0));
    if (threadIdx.x == 0) sum += sums.loss(row);
    if (p.grad == nullptr) continue;
    const RowGradient<T> gradient(row, sums, inverse);
    for (std::int64_t begin = 0; begin < p.cols; begin += step) {
      const PackIndex index = pack_index<T>(begin, p.cols, static_cast<int>(threadIdx.x), wide);
      Pack<T> pack = load_pack(z, index);
      const Pack<T> t = targets_at(index);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        if (!index.exists(i)) continue;
        pack[i] = gradient.at(p, row, math::exp_difference(pack[i], top), t[i], index[i]);
      }
      store_pack(p.grad + n * p.cols, p.for_grad(index), pack);
    }
  }
  end_of_block(p, sum, weight);
}

template <class T>
__global__ void __launch_bounds__(kLossThreads) weight_kernel(const Losses<T> p) {
  const double sum = block_sum(weights_of_thread(p));
  if (threadIdx.x == 0) p.partial_weights[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kLossThreads) finish_kernel(const Losses<T> p, int blocks) {
  const double weight = weight_of(p);
  double loss = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += static_cast<int>(blockDim.x))
    loss += p.partial_losses[i];
  loss = block_sum(loss);
  if (threadIdx.x == 0) write_sums(p, loss, weight);
}

constexpr std::int64_t kSmall = 8192;                  // most elements of a batch for one block
constexpr std::int64_t kMostBlocks = 8192;             // most blocks; finish_kernel adds their sums
constexpr std::int64_t kTileCols = 1024;               // most classes for a group of lanes
constexpr std::size_t kTileBytes = (48 << 10) - 1024;  // the rest is for sums over the block

template <class T>
Tiling tiling_of(const Losses<T>& p, bool small, int& threads) {
  const std::size_t matrices = p.targets != nullptr ? 2 : 1;
  Tiling tiling{1, 0, 0, 0, false};
  threads = small ? kLossThreads : kLossThreads / 2;
  const auto bytes = [&] {
    tiling.rows = static_cast<int>(std::min<std::int64_t>(threads / tiling.group, p.rows));
    tiling.room =
        static_cast<int>(round_up(static_cast<std::size_t>(padded_index<T>(tiling.rows * static_cast<int>(p.cols))) + 1,
                                  static_cast<std::size_t>(kPack<T>)));
    return matrices * static_cast<std::size_t>(tiling.room) * sizeof(T);
  };
  // A small batch is spread over all threads; otherwise a lane has up to 16 columns, for few shuffles.
  const auto divides = [&] {
    return small ? tiling.group < p.cols && p.rows * tiling.group * 2 <= threads : tiling.group * 16 < p.cols;
  };
  while (tiling.group < kWarp && (divides() || bytes() > kTileBytes)) tiling.group *= 2;
  while (bytes() > kTileBytes) threads /= 2;
  threads = static_cast<int>(round_up(static_cast<std::size_t>(tiling.rows * tiling.group), kWarp));
  tiling.tiles = ceil_div(p.rows, tiling.rows);
  tiling.wide = pack_aligned<T>(1, p.cols, p.logits, p.targets, p.grad) &&
                (tiling.tiles == 1 || tiling.rows * p.cols % kPack<T> == 0);
  return tiling;
}

/// Returns the number of blocks for `wanted` pieces of work; a small batch has one block, without finish_kernel.
unsigned grid_of(std::int64_t wanted, bool small) {
  return static_cast<unsigned>(small ? 1 : std::min(wanted, kMostBlocks));
}

// ---- Each kind of loss starts its kernel and returns its grid. ----

template <class T, class Formula>
unsigned start(const Formula& formula, const Losses<T>& p, bool small) {
  const unsigned threads = small ? kLossThreads : kLossThreads / 2,
                 grid = grid_of(ceil_div(p.rows * p.cols, threads * kLossPacks * kPack<T>), small);
  const double share = Formula::mean ? static_cast<double>(p.cols) : 1.0;
  launch(elementwise_kernel<T, Formula>, {grid, threads}, p, formula, 1.0 / share, Formula::factor / share,
         pack_aligned<T>(1, p.cols, p.logits, Formula::shares ? nullptr : p.targets));
  return grid;
}

template <class T>
unsigned start_classes(const Losses<T>& p, bool small) {
  if (p.cols > kTileCols) {
    const unsigned grid = grid_of(p.rows, small);
    launch(row_kernel<T>, {grid, kLossThreads}, p, pack_aligned<T>(p.rows, p.cols, p.logits, p.targets));
    return grid;
  }
  int threads = 0;
  const Tiling tiling = tiling_of(p, small, threads);
  const unsigned grid = grid_of(tiling.tiles, small);
  const std::size_t bytes = (p.targets != nullptr ? 2 : 1) * static_cast<std::size_t>(tiling.room) * sizeof(T);
  launch(tile_kernel<T>, {grid, static_cast<unsigned>(threads), bytes}, p, tiling);
  return grid;
}

template <class T>
void run(const LossPass& call) {
  Losses<T> p = losses_of<T>(call);
  const auto start_kernel = [&](bool small) {
    if (p.element.kind == ElementKind::none) return start_classes(p, small);
    unsigned grid = 0;
    with_element<T>(p.element, [&](const auto& formula) { grid = start(formula, p, small); });
    return grid;
  };
  if (p.rows * p.cols <= kSmall) {
    start_kernel(true);
    return;
  }
  p.partial_losses = scratch_array<double>(Scratch::partial, kMostBlocks + kWeightBlocks);
  p.partial_weights = p.partial_losses + kMostBlocks;
  if (p.weighing != Weighing::rows) {
    const std::int64_t terms = p.weighing == Weighing::by_row ? p.rows : p.rows * p.cols;
    p.weight_blocks = static_cast<int>(std::min<std::int64_t>(ceil_div(terms, kLossChunk), kWeightBlocks));
    launch(weight_kernel<T>, {static_cast<unsigned>(p.weight_blocks), kLossThreads}, p);
  }
  const auto blocks = static_cast<int>(start_kernel(false));
  launch(finish_kernel<T>, {1, kLossThreads}, p, blocks);
}

}  // namespace

void CudaBackend::loss(const LossPass& call) {
  with_type(call.logits.dtype, [&]<class T>(T) { run<T>(call); });
}

}  // namespace gdcore::cuda
