// Included in front of every source of the CUDA backend in which tests/mutation planted bugs.
#pragma once

namespace gdcore::mutation {

/// Whether bug number n is turned on, by the environment variable GDCORE_MUTANT.
bool active(int n);

/// What atomicMin does, but not in one go.
template <class T>
T plain_min(T* at, T value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}

}  // namespace gdcore::mutation
