// cuBLASLt on the CPU, for tests: its functions in plain loops, with the library's checks of arguments.
#pragma once

#include <atomic>

#include "matmul/cublaslt.h"

namespace gdcore::emulation {

const cuda::CublasLt& cublaslt();

/// There is no algorithm for products whose depth is a multiple of this, so that every test run uses the backend's own
/// kernel; nor, as an additional test case, for float64 with a bias.
inline constexpr std::int64_t kUnknownDepth = 67;

/// Counts of calls.
struct CublasLtCalls {
  std::atomic<int> heuristics{0}, products{0}, products_with_bias{0};
};
CublasLtCalls& cublaslt_calls();

}  // namespace gdcore::emulation
