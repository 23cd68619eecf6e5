// Argument checks at the start of every public call. Messages begin with the operation: "[dense] x has 3 columns, ...".
#pragma once

#include <charconv>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "gdcore/tensor.h"

namespace gdcore {

/// The requested device, its driver or a library that it needs is missing.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The loss became NaN or infinite. The parameters are those before the failed step.
struct DivergenceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An argument of the wrong kind (Python: TypeError); std::invalid_argument is a wrong value (ValueError).
struct TypeMismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Writes a part of a message. Floating-point numbers have enough digits to be unique: a beta just below 1 must not be
/// shown as 1.
template <class Part>
void put(std::ostream& text, const Part& part) {
  if constexpr (std::is_floating_point_v<Part>) {
    char digits[32];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, part);
    text << (std::isnan(part) ? "nan" : std::string(digits, end));
  } else {
    text << part;
  }
}

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (put(text, parts), ...);
  return text.str();
}

/// Throws Error with the joined parts. The text is built only when the check fails.
template <class Error = std::invalid_argument, class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    throw Error(join(parts...));
  }
}

/// Checks of a layer's or optimiser's hyperparameters, both exact and rounded to the model's `dtype`: a positive
/// number; 0 <= value < 1; a number that rounds neither to 0 nor to infinity. They throw std::invalid_argument.
void check_positive(const char* kind, const char* name, double value, DType dtype);
void check_share(const char* kind, const char* name, double value, DType dtype);
void check_representable(const char* kind, const char* name, double value, DType dtype);

}  // namespace gdcore
