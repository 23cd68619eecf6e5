// Dropout: y = x m / (1 - p) (dropout_mask.h). No mask is saved: the backward pass generates the same mask again. y is
// overwritten and may be x. 8 bytes per element in float32.
#include <cstdint>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "ops/dropout_mask.h"
#include "primitives/vectors.h"

namespace gdcore::cuda {

namespace {

inline constexpr int kDropoutThreads = 256, kAtOnce = 2;  // Philox blocks of a thread

/// A thread has the four elements of a Philox block: the generator is the larger part of the work.
template <class T>
__global__ void __launch_bounds__(kDropoutThreads)
    dropout_kernel(const T* x, T* y, std::int64_t size, bool wide, DropoutMask mask, const StepCounters* counters,
                   const StepRates* schedule) {
  GD_SHARED(KeptShare, shared, 1);
  constexpr int kPacks = 4 / kPack<T>;  // packs of a Philox block
  const Philox random = mask.random(counters != nullptr ? counters->step : 0);
  if (threadIdx.x == 0)
    *shared = KeptShare::of(schedule != nullptr ? mask.p * schedule[counters->batch].dropout : mask.p);
  const std::int64_t block = std::int64_t{blockIdx.x} * (kDropoutThreads * kAtOnce) + threadIdx.x;
  PackIndex index[kAtOnce][kPacks];
  Pack<T> pack[kAtOnce][kPacks];
  unrolled<kAtOnce, kPacks>([&](int b, int p) {
    const std::int64_t first = (block + b * kDropoutThreads) * 4;
    index[b][p] = pack_index<T>(first, size, p, wide);
    pack[b][p] = load_pack(x, index[b][p]);
  });
  __syncthreads();
  const KeptShare share = *shared;
#pragma unroll
  for (int b = 0; b < kAtOnce; ++b) {
    if (index[b][0].empty()) return;
    const Philox::Block drawn = random.block(static_cast<std::uint64_t>(block + b * kDropoutThreads));
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        pack[b][p][i] = share.apply(pack[b][p][i], drawn.word[p * kPack<T> + i]);
      }
      store_pack(y, index[b][p], pack[b][p]);
    }
  }
}

}  // namespace

void CudaBackend::dropout(const Dropout& call) {
  const DropoutMask mask{call.p, call.seed, call.stream};
  with_type(call.x.dtype, [&]<class T>(T) {
    const std::int64_t size = call.x.size(), blocks = ceil_div(size, 4 * kDropoutThreads * kAtOnce);
    const T* x = call.x.as<T>();
    T* y = call.y.as<T>();
    launch(dropout_kernel<T>, {static_cast<unsigned>(blocks), kDropoutThreads}, x, y, size,
           pack_aligned<T>(1, size, x, y), mask, call.counters, call.schedule);
  });
}

}  // namespace gdcore::cuda
