// Per-thread resources on the device: a stream, and scratch memory for the launches of one operation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/runtime.h"

namespace gdcore::cuda {

/// Uses of scratch memory that may be alive at the same time.
enum class Scratch : int { partial, second, product, factor_a, factor_b, count };

/// Returns at least `bytes` of device memory, aligned to kAlignment, not initialised. It belongs to the calling thread,
/// or to the graph that the thread is recording. Valid until the next call with the same use, in stream order.
void* scratch(Scratch use, std::size_t bytes);
/// The same for `count` elements.
template <class T>
T* scratch_array(Scratch use, std::int64_t count) {
  return static_cast<T*>(scratch(use, static_cast<std::size_t>(count) * sizeof(T)));
}

/// Returns the number of multiprocessors. Grid sizes may depend on it; the order of additions must not.
int multiprocessors();

}  // namespace gdcore::cuda
