// Dropout's mask: y = x m / (1 - p), where element i is kept if word i % 4 of Philox block i / 4 is at least p 2^32.
#pragma once

#include <cstdint>

#include "backend/runtime.h"
#include "gdcore/random.h"

namespace gdcore::cuda {

/// What becomes of an element, for one dropout rate.
struct KeptShare {
  std::uint32_t least;  // smallest random word of a kept element
  double scale;         // factor of kept elements

  __device__ static KeptShare of(double p) { return {static_cast<std::uint32_t>(p * 0x1p32), 1.0 / (1.0 - p)}; }
  template <class T>
  __device__ __forceinline__ T apply(T x, std::uint32_t drawn) const {
    return drawn >= least ? x * static_cast<T>(scale) : T(0);
  }
};

struct DropoutMask {
  double p;  // before the step's factor; 0: no dropout
  std::uint64_t seed, stream;

  /// Returns the generator of a step.
  __device__ Philox random(std::int64_t step) const {
    return {seed, stream ^ (static_cast<std::uint64_t>(step) << 12)};
  }
};

}  // namespace gdcore::cuda
