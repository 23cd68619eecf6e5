// Scratch memory of the calling thread: grows to the largest request and is kept, so that steps allocate nothing.
#pragma once

#include <cstddef>

namespace gdcore {

/// Uses that may be alive at the same time in one thread.
enum class Scratch : int { pack_a, pack_b, partial, count };

/// At least `bytes`, aligned to kAlignment, not initialised; valid until the next call with the same use. A signal
/// handler's computations have a set of their own, for the interrupted one goes on with its.
void* scratch(Scratch use, std::size_t bytes);

}  // namespace gdcore
