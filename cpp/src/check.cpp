// Checks of hyperparameters, exact and rounded to a model's dtype.
#include "gdcore/check.h"

#include <cmath>

namespace gdcore {

void check_positive(const char* kind, const char* name, double value, DType dtype) {
  check(value > 0.0 && std::isfinite(value), "[", kind, "] ", name, ": got ", value, "; expected a positive number");
  const double kept = rounded(value, dtype);
  check(kept > 0.0 && std::isfinite(kept), "[", kind, "] ", name, ": got ", value, ", which is ", kept, " in ",
        name_of(dtype), ", the model's dtype; expected a positive number in ", name_of(dtype));
}

void check_share(const char* kind, const char* name, double value, DType dtype) {
  check(value >= 0.0 && value < 1.0, "[", kind, "] ", name, ": got ", value, "; expected 0 <= ", name, " < 1");
  check(rounded(value, dtype) < 1.0, "[", kind, "] ", name, ": got ", value, ", which is 1 in ", name_of(dtype),
        ", the model's dtype; expected 0 <= ", name, " < 1 in ", name_of(dtype));
}

void check_representable(const char* kind, const char* name, double value, DType dtype) {
  const double kept = rounded(value, dtype);
  check(std::isfinite(kept) && (kept != 0.0 || value == 0.0), "[", kind, "] ", name, ": got ", value, ", which is ",
        kept, " in ", name_of(dtype), ", the model's dtype; expected a number that ", name_of(dtype), " can represent");
}

}  // namespace gdcore
