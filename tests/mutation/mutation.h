// Included in front of every source of the CUDA backend in which tests/mutation planted bugs.
#pragma once

namespace gdcore::mutation {

/// Whether bug number n is turned on, by the environment variable GDCORE_MUTANT.
bool active(int n);

}  // namespace gdcore::mutation
