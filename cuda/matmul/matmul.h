// Products of matrices, by cuBLASLt or, where it has no algorithm, by a kernel of our own (matmul_kernel.cu).
#pragma once

#include <cstdint>
#include <string>

#include "backend/runtime.h"
#include "gdcore/backend.h"

namespace gdcore::cuda {

/// A factor: row-major; `transposed`: the product takes its transpose.
struct Factor {
  const void* data;
  bool transposed = false;
  std::int64_t stride = 0;  // numbers from one row to the next; 0: as many as there are columns
};

/// c (m, n) = a (m, k) · b (k, n), each as the product takes it; c is overwritten and lies apart from all else.
struct Matmul {
  std::int64_t m, n, k;  // none is 0
  Factor a, b;
  void* c;
  DType dtype;
  Precision precision = Precision::full;
  const void* bias = nullptr;     // (1, n), to be added to every row, or null
  bool bfloat16_factors = false;  // a and b are bfloat16 in memory, the rest float32
};

/// Throws DeviceError, saying what to install, where products cannot be had.
void open_products();
/// Who computes them, for people: "cuBLASLt 13.1.0 (its file)", or our own kernel.
std::string products_description();

/// Asks for the product; whether the bias is in it. If not (cuBLASLt has no algorithm that adds it, or would fault at
/// where it lies), it is left to the caller. False where there is no bias.
bool matmul(const Matmul& call);

/// The same product of factors rounded to bfloat16, in scratch memory that the next call of this uses again.
Matmul in_bfloat16(const Matmul& call);

/// The same by our own kernel, in full whatever the precision, of contiguous factors; adds the bias.
void own_matmul(const Matmul& call);

}  // namespace gdcore::cuda
