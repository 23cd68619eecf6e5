// cuBLASLt on the CPU, for tests: its functions in plain loops, as strict as the library is with what it is handed.
#pragma once

#include <atomic>

#include "matmul/cublaslt.h"

namespace gdcore::emulation {

const cuda::CublasLt& cublaslt();

/// No algorithm is known for products whose depth is a multiple of this, so that every test run comes to the backend's
/// own kernel; nor, as a harder case, for float64 with a bias.
inline constexpr std::int64_t kUnknownDepth = 67;

/// What was asked of it.
struct CublasLtCalls {
  std::atomic<int> heuristics{0}, products{0}, products_with_bias{0};
};
CublasLtCalls& cublaslt_calls();

}  // namespace gdcore::emulation
