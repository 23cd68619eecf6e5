// c = a b (+ bias), a (m, k), b (k, n), each optionally stored transposed: for products that cuBLASLt has no algorithm
// for, and with GDCORE_CUDA_PRODUCTS=own for all. A block computes a tile of 64 x 64, a thread 4 x 4 elements of it.
// The factors pass through shared memory in slices of depth 16; the next slice is loaded while one is used. c is
// overwritten. Sums: in T over 32 terms, then in double. A deep product of few tiles is split along its depth into
// pieces, whose sums (pieces, m, n) a second kernel adds; the split depends on the shape alone. Bytes: each factor is
// read once for every 64 rows (columns) of c, from the second-level cache after the first time.
#include <algorithm>
#include <type_traits>

#include "backend/stream.h"
#include "gdcore/tensor.h"
#include "matmul/matmul.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kOwn = 4;  // kOwn: rows and columns of a thread
constexpr int kPitch = kTile + 4;                                 // row stride of a slice: aligned, few bank conflicts
constexpr int kSlice = kDepth * kPitch;
constexpr int kChain = 32;  // terms of a sum in T, a multiple of kDepth
constexpr std::int64_t kLeastPiece = 256, kMostPiece = 1 << 30;

/// A factor as `outer` rows of a or columns of b along the product's depth.
template <class T>
struct Strips {
  const T* data;
  std::int64_t outer, outer_step, depth_step;
};

/// Loads a thread's four elements of each slice of a factor; adjacent threads read adjacent memory. The elements are of
/// four rows if rows are contiguous, else of four depths of one row.
template <class T>
class Reader {
 public:
  __device__ Reader(const Strips<T>& strips, std::int64_t first_row, std::int64_t first_depth) {
    const int thread = static_cast<int>(threadIdx.x);
    const bool along = strips.depth_step == 1;
    row_ = along ? thread / kDepth : thread % kTile;
    depth_ = along ? thread % kDepth : thread / kTile;
    row_step_ = along ? kThreads / kDepth : 0;
    depth_step_ = along ? 0 : kThreads / kTile;
    step_ = row_step_ * strips.outer_step + depth_step_ * strips.depth_step;
    advance_ = kDepth * strips.depth_step;
    next_ = strips.data + (first_row + row_) * strips.outer_step + (first_depth + depth_) * strips.depth_step;
    rows_ = static_cast<int>(strips.outer - first_row < kTile ? strips.outer - first_row : kTile);
  }
  /// Loads the elements of the next slice, of at most `depth` terms; zero beyond the factor.
  __device__ void load(int depth) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool exists = row_ + i * row_step_ < rows_ && depth_ + i * depth_step_ < depth;
      numbers_[i] = exists ? next_[i * step_] : T(0);
    }
    next_ += advance_;
  }
  __device__ void store(T* slice) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) slice[(depth_ + i * depth_step_) * kPitch + row_ + i * row_step_] = numbers_[i];
  }

 private:
  const T* next_;
  std::int64_t step_, advance_;
  int row_, depth_, row_step_, depth_step_, rows_;
  T numbers_[4];
};

template <class T>
struct Product {
  std::int64_t m, n, k, tiles_across, piece;  // piece: its depth
  Strips<T> a, b;
  T* c;
  const T* bias;
  double* partial;  // null if there is one piece
  bool wide;        // rows of c are aligned to 16 bytes
};

template <class T>
__device__ __forceinline__ void read_four(const T* from, T (&numbers)[kOwn]) {
#pragma unroll
  for (int i = 0; i < kOwn; i += kPack<T>) {
    const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from + i);
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) numbers[i + j] = pack[j];
  }
}

/// Adds the products of one slice of each factor to a thread's sums.
template <class T>
__device__ __forceinline__ void multiply_slices(const T* slice_a, const T* slice_b, T (&sums)[kOwn][kOwn]) {
  const int top = static_cast<int>(threadIdx.x) / 16 * kOwn, left = static_cast<int>(threadIdx.x) % 16 * kOwn;
#pragma unroll 4  // a full unroll would need too many registers
  for (int p = 0; p < kDepth; ++p) {
    T a[kOwn], b[kOwn];
    read_four(slice_a + p * kPitch + top, a);
    read_four(slice_b + p * kPitch + left, b);
    unrolled<kOwn, kOwn>([&](int i, int j) { sums[i][j] += a[i] * b[j]; });
  }
}

/// Adds the sums in T to the totals and resets them.
template <class T>
__device__ __forceinline__ void end_chains(T (&chain)[kOwn][kOwn], double (&total)[kOwn][kOwn]) {
  unrolled<kOwn, kOwn>([&](int i, int j) {
    total[i][j] += static_cast<double>(chain[i][j]);
    chain[i][j] = T(0);
  });
}

template <class T>
__device__ __forceinline__ void store_sums(const Product<T>& product, std::int64_t row, std::int64_t col,
                                           const double (&total)[kOwn][kOwn]) {
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    if (row + i >= product.m) continue;
    if (product.partial != nullptr) {
      double* to = product.partial + (static_cast<std::int64_t>(blockIdx.y) * product.m + row + i) * product.n + col;
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        if (col + j < product.n) to[j] = total[i][j];
      }
      continue;
    }
#pragma unroll
    for (int j = 0; j < kOwn; j += kPack<T>) {
      const std::int64_t left = product.n - col - j;
      const int exist = static_cast<int>(std::min<std::int64_t>(left, kOwn));
      const PackIndex index{(row + i) * product.n + col + j, 1, exist, product.wide};
      Pack<T> pack;
#pragma unroll
      for (int e = 0; e < kPack<T>; ++e) {
        pack[e] = static_cast<T>(total[i][j + e]);
        if (product.bias != nullptr && e < exist) pack[e] += product.bias[col + j + e];
      }
      store_pack(product.c, index, pack);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2) matmul_kernel(const __grid_constant__ Product<T> product) {
  // Two slices of each factor: one is written while the other is read, so one barrier per slice is enough.
  GD_SHARED(Pack<T>, slices, 4 * kSlice / kPack<T>);
  const std::int64_t tile = blockIdx.x;
  const std::int64_t first_row = tile / product.tiles_across * kTile, first_col = tile % product.tiles_across * kTile;
  const std::int64_t begin = blockIdx.y * product.piece, left = product.k - begin;
  int depth = static_cast<int>(left < product.piece ? left : product.piece);
  Reader<T> a(product.a, first_row, begin), b(product.b, first_col, begin);
  double total[kOwn][kOwn] = {};
  T chain[kOwn][kOwn] = {};
  a.load(depth);
  b.load(depth);
  for (int slice = 0; depth > 0; ++slice, depth -= kDepth) {
    T* slice_a = reinterpret_cast<T*>(slices) + slice % 2 * kSlice;
    T* slice_b = slice_a + 2 * kSlice;
    a.store(slice_a);
    b.store(slice_b);
    __syncthreads();
    a.load(depth - kDepth);
    b.load(depth - kDepth);
    if constexpr (std::is_same_v<T, double>) {
      multiply_slices(slice_a, slice_b, total);
    } else {
      multiply_slices(slice_a, slice_b, chain);
      if ((slice + 1) % (kChain / kDepth) == 0 || depth <= kDepth) end_chains(chain, total);
    }
  }
  const int thread = static_cast<int>(threadIdx.x);
  store_sums(product, first_row + thread / 16 * kOwn, first_col + thread % 16 * kOwn, total);
}

/// Adds the sums of the pieces, one element of c per thread.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_products_kernel(const __grid_constant__ Product<T> product, std::int64_t pieces) {
  const std::int64_t size = product.m * product.n, at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size) return;
  double total = 0.0;
#pragma unroll 4
  for (std::int64_t piece = 0; piece < pieces; ++piece) total += product.partial[piece * size + at];
  auto value = static_cast<T>(total);
  if (product.bias != nullptr) value += product.bias[at % product.n];
  product.c[at] = value;
}

template <class T>
void multiply(const Matmul& call) {
  const std::int64_t m = call.m, n = call.n, k = call.k;
  const std::int64_t tiles_across = ceil_div(n, kTile), tiles = ceil_div(m, kTile) * tiles_across;
  const std::int64_t most =
      std::clamp<std::int64_t>(kBlocks / tiles, ceil_div(k, kMostPiece), ceil_div(k, kLeastPiece));
  const std::int64_t piece = ceil_div(ceil_div(k, most), kChain) * kChain, pieces = ceil_div(k, piece);
  auto* c = static_cast<T*>(call.c);
  Product<T> product{m,
                     n,
                     k,
                     tiles_across,
                     piece,
                     {static_cast<const T*>(call.a.data), m, call.a.transposed ? 1 : k, call.a.transposed ? m : 1},
                     {static_cast<const T*>(call.b.data), n, call.b.transposed ? k : 1, call.b.transposed ? 1 : n},
                     c,
                     static_cast<const T*>(call.bias),
                     nullptr,
                     pack_aligned<T>(m, n, c)};
  if (pieces > 1) product.partial = scratch_array<double>(Scratch::product, pieces * m * n);
  launch(matmul_kernel<T>, {dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(pieces)), kThreads}, product);
  if (pieces == 1) return;
  launch(join_products_kernel<T>, {static_cast<unsigned>(ceil_div(m * n, kThreads)), kThreads}, product, pieces);
}

}  // namespace

void own_matmul(const Matmul& call) {
  with_type(call.dtype, [&]<class T>(T) { multiply<T>(call); });
}

}  // namespace gdcore::cuda
