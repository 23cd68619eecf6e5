// Included before each source of the CUDA backend in a build with planted bugs (tests/mutation).
#pragma once

namespace gdcore::mutation {

/// Whether bug number n is active, by the environment variable GDCORE_MUTANT.
bool active(int n);

/// Does what atomicMin does, but not atomically.
template <class T>
T plain_min(T* at, T value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}

}  // namespace gdcore::mutation
