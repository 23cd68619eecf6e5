// Dropout: y = x m / (1 - p). Element i is kept if word i % 4 of Philox block i / 4 is at least p 2^32. No mask is
// saved: the backward pass generates the same mask again. 8 bytes per element in float32.
#include "cpu_backend.h"
#include "gdcore/random.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

inline constexpr std::int64_t kBlocks = 16;  // generated together, one per vector lane

template <class T>
void drop(const Dropout& call, std::int64_t begin, std::int64_t end) {
  const Philox random{call.seed, call.stream};
  const auto least = static_cast<std::uint32_t>(call.p * 0x1p32);
  const T scale = static_cast<T>(1.0 / (1.0 - call.p));
  const T* x = call.x.as<T>();
  T* y = call.y.as<T>();
  std::uint32_t word[kBlocks * 4];
  for (std::int64_t i = begin; i < end; i += kBlocks * 4) {
#pragma omp simd
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      const Philox::Block drawn = random.block(static_cast<std::uint64_t>(i / 4 + b));
      word[4 * b] = drawn.word[0];
      word[4 * b + 1] = drawn.word[1];
      word[4 * b + 2] = drawn.word[2];
      word[4 * b + 3] = drawn.word[3];
    }
    const std::int64_t count = min(kBlocks * 4, end - i);
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) y[i + j] = word[j] >= least ? x[i + j] * scale : T(0);
  }
}

}  // namespace

void CpuBackend::dropout(const Dropout& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    parallel_for(call.x.size(), 16, kBlocks * 4,
                 [&](std::int64_t begin, std::int64_t end) { drop<T>(call, begin, end); });
  });
}

}  // namespace gdcore::GDCORE_ISA
