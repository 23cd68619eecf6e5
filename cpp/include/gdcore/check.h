// Validation at the front of every public call. Messages begin with the operation: "[dense] x has 3 columns, ...".
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace gdcore {

/// A device was asked for that is missing, or a driver or library it needs is.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The loss became NaN or infinite; the parameters are those before the refused step.
struct DivergenceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An argument of the wrong kind (Python: TypeError), where std::invalid_argument is a wrong value (ValueError).
struct TypeMismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws Error with the parts put together. The text is made only when the check fails.
template <class Error = std::invalid_argument, class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    throw Error(join(parts...));
  }
}

}  // namespace gdcore
