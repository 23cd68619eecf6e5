// Matrix units of a processor: instructions that multiply small matrices of bfloat16 and add in float32. The CPU
// backend computes products of float32 with them where they are faster. What implements them: cpp/cpu/matrix_units/.
#pragma once

#include <cstdint>

#include "gdcore/function_ref.h"
#include "gdcore/ops.h"

namespace gdcore {

/// The number of bfloat16 parts of a factor: three hold all of float32, two 16 bits, one 8.
constexpr int parts_of(Precision precision) {
  return precision == Precision::full ? 3 : precision == Precision::tf32 ? 2 : 1;
}

/// A block of C: its first row, rows, first column, columns.
using BlockFunction = FunctionRef<void(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>;

/// C (m x n, row stride n) = A (m x k) · B (k x n); element (i, p) of A is a[i * a_row + p * a_col], likewise B.
struct MatrixProduct {
  std::int64_t m, n, k;
  const float* a;
  std::int64_t a_row, a_col;
  const float* b;
  std::int64_t b_row, b_col;
  float* c;
  int parts;              // bfloat16 parts of each factor
  BlockFunction vectors;  // computes and finishes a block of C without matrix units
  BlockFunction finish;   // finishes a computed block of C
};

struct MatrixUnits {
  const char* name = nullptr;
  void (*multiply)(const MatrixProduct&) = nullptr;  // null: there are none
  int most_parts = 0;                                // with more parts, products without matrix units are faster
};

}  // namespace gdcore
