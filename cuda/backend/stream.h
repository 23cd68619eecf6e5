// What belongs to a thread that uses the device: its stream, and scratch memory for the launches of one operation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/runtime.h"

namespace gdcore::cuda {

/// Uses of scratch memory that may be alive at the same time.
enum class Scratch : int { partial, second, product, factor_a, factor_b, count };

/// At least `bytes` of device memory, aligned to kAlignment, not initialised: the calling thread's, or the graph's that
/// it is recording. Valid until the next call with the same use, and in stream order after that.
void* scratch(Scratch use, std::size_t bytes);

/// Multiprocessors of the device; the sizes of grids follow from it, never what is added to what.
int multiprocessors();

}  // namespace gdcore::cuda
