// Matrix products by cuBLASLt or, if it has no algorithm, by our own kernel (matmul_kernel.cu).
#pragma once

#include <cstdint>
#include <string>

#include "backend/runtime.h"
#include "gdcore/backend.h"

namespace gdcore::cuda {

/// A row-major factor; `transposed`: the product uses its transpose.
struct Factor {
  const void* data;
  bool transposed = false;
  std::int64_t stride = 0;  // elements between rows; 0: the number of columns
};

/// c (m, n) = a (m, k) · b (k, n), shapes after transposition; c is overwritten and must not overlap an input.
struct Matmul {
  std::int64_t m, n, k;  // none is 0
  Factor a, b;
  void* c;
  DType dtype;
  Precision precision = Precision::full;
  const void* bias = nullptr;     // (1, n), added to every row, or null
  bool bfloat16_factors = false;  // a and b are bfloat16 in memory, the rest float32
};

/// Opens the library. Throws DeviceError if products are not available; the message says what to install.
void open_products();
/// Describes how products are computed, for messages: "cuBLASLt 13.1.0 (its file)", or our own kernel.
std::string products_description();

/// Starts the product; returns whether the bias has been added. Otherwise the caller must add it: cuBLASLt has no
/// algorithm that adds it, or would fault at its alignment. False if there is no bias.
bool matmul(const Matmul& call);

/// Returns the same product with factors rounded to bfloat16, in scratch memory that the next call reuses.
Matmul in_bfloat16(const Matmul& call);

/// Computes the product with our own kernel, without rounding of factors for any precision. Factors must be contiguous;
/// adds the bias.
void own_matmul(const Matmul& call);

}  // namespace gdcore::cuda
