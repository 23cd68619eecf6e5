// Rounds a factor of a product (matmul.cpp) to bfloat16: 6 bytes per element. Rows are aligned to 16 bytes, so that
// tensor cores accept any width; elements behind a row are zero.
#include <cstdint>

#include "backend/stream.h"
#include "matmul/matmul.h"
#include "primitives/tensor_cores.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

constexpr int kRoundingThreads = 256;
constexpr int kEight = 8;  // elements of a thread: 16 bytes of bfloat16

__global__ void __launch_bounds__(kRoundingThreads)
    round_kernel(const float* from, Pack<std::uint32_t>* to, std::int64_t rows, std::int64_t cols, bool wide) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kRoundingThreads + threadIdx.x;
  const std::int64_t eights = ceil_div(cols, kEight), row = i / eights, col = i % eights * kEight;
  if (row >= rows) return;
  Pack<float> x[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    PackIndex index = pack_index<float>(col, cols, half, wide);
    index.first += row * cols;
    x[half] = load_pack(from, index);
  }
  to[i] = {{Bfloat16::round(x[0][0], x[0][1]), Bfloat16::round(x[0][2], x[0][3]), Bfloat16::round(x[1][0], x[1][1]),
            Bfloat16::round(x[1][2], x[1][3])}};
}

Factor rounded(const Factor& factor, std::int64_t rows, std::int64_t cols, Scratch use) {
  const std::int64_t eights = ceil_div(cols, kEight), packs = rows * eights;
  const auto* from = static_cast<const float*>(factor.data);
  auto* to = scratch_array<Pack<std::uint32_t>>(use, packs);
  launch(round_kernel, {static_cast<unsigned>(ceil_div(packs, kRoundingThreads)), kRoundingThreads}, from, to, rows,
         cols, pack_aligned<float>(rows, cols, from));
  return {to, factor.transposed, eights * kEight};
}

}  // namespace

Matmul in_bfloat16(const Matmul& call) {
  Matmul product = call;
  const std::int64_t m = call.m, n = call.n, k = call.k;
  product.a = rounded(call.a, call.a.transposed ? k : m, call.a.transposed ? m : k, Scratch::factor_a);
  product.b = rounded(call.b, call.b.transposed ? n : k, call.b.transposed ? k : n, Scratch::factor_b);
  product.bfloat16_factors = true;
  return product;
}

}  // namespace gdcore::cuda
