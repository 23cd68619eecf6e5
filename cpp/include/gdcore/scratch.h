// Scratch memory of the calling thread: grows to the largest request and is kept, so that steps allocate nothing.
#pragma once

#include <cstddef>

namespace gdcore {

/// Uses of scratch memory that may overlap in one thread.
enum class Scratch : int { pack_a, pack_b, partial, count };

/// Returns at least `bytes`, aligned to kAlignment, not initialised, valid until the next call with the same use.
/// Computations inside a signal handler have their own memory, as the interrupted computation still uses its own.
void* scratch(Scratch use, std::size_t bytes);

}  // namespace gdcore
