// Activation functions: one struct each, written once for host and device.
//
// value(a) is the output for the pre-activation a. slope(saved) is the first derivative, curvature(saved) the second,
// which is 0 at a kink. `saved` is the pre-activation where `saves_input` is true, else the output. To add an
// activation: a struct here and an entry in the variant.
#pragma once

#include <variant>

#include "gdcore/math.h"

namespace gdcore {

struct Identity {
  static constexpr const char* name = "Identity";
  static constexpr bool saves_input = false;
  template <class T>
  GD_FORMULA T value(T a) const {
    return a;
  }
  template <class T>
  GD_FORMULA T slope(T) const {
    return T(1);
  }
  template <class T>
  GD_FORMULA T curvature(T) const {
    return T(0);
  }
  bool operator==(const Identity&) const = default;
};

/// max(a, 0); the slope at 0 is 0. NaN stays NaN.
struct ReLU {
  static constexpr const char* name = "ReLU";
  static constexpr bool saves_input = false;
  template <class T>
  GD_FORMULA T value(T a) const {
    return a < T(0) ? T(0) : a;
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return y > T(0) ? T(1) : T(0);
  }
  template <class T>
  GD_FORMULA T curvature(T) const {
    return T(0);
  }
  bool operator==(const ReLU&) const = default;
};

struct LeakyReLU {
  static constexpr const char* name = "LeakyReLU";
  static constexpr bool saves_input = false;  // the output has the sign of the input, as negative_slope >= 0
  double negative_slope = 0.01;
  template <class T>
  GD_FORMULA T value(T a) const {
    return a < T(0) ? T(negative_slope) * a : a;
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return y > T(0) ? T(1) : T(negative_slope);
  }
  template <class T>
  GD_FORMULA T curvature(T) const {
    return T(0);
  }
  bool operator==(const LeakyReLU&) const = default;
};

struct Tanh {
  static constexpr const char* name = "Tanh";
  static constexpr bool saves_input = false;
  template <class T>
  GD_FORMULA T value(T a) const {
    return math::tanh(a);
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return (T(1) - y) * (T(1) + y);
  }
  template <class T>
  GD_FORMULA T curvature(T y) const {
    return T(-2) * y * slope(y);
  }
  bool operator==(const Tanh&) const = default;
};

struct Sigmoid {
  static constexpr const char* name = "Sigmoid";
  static constexpr bool saves_input = false;
  template <class T>
  GD_FORMULA T value(T a) const {
    return math::sigmoid(a);
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return y * (T(1) - y);
  }
  template <class T>
  GD_FORMULA T curvature(T y) const {
    return slope(y) * (T(1) - T(2) * y);
  }
  bool operator==(const Sigmoid&) const = default;
};

/// a Φ(a) (Hendrycks & Gimpel 2016).
struct GELU {
  static constexpr const char* name = "GELU";
  static constexpr bool saves_input = true;
  template <class T>
  static constexpr T kPeak = T(0.39894228040143267794);  // 1 / √(2π)
  template <class T>
  GD_FORMULA T value(T a) const {
    T density;
    return a * math::gaussian_cdf(a, density);
  }
  template <class T>
  GD_FORMULA T slope(T a) const {
    T density;
    const T cdf = math::gaussian_cdf(a, density);
    return cdf + a * density * kPeak<T>;
  }
  template <class T>
  GD_FORMULA T curvature(T a) const {
    T density;
    math::gaussian_cdf(a, density);
    return density > T(0) ? density * kPeak<T> * (T(2) - a * a) : T(0);  // a² may overflow for large |a|
  }
  bool operator==(const GELU&) const = default;
};

/// a (1 + tanh(√(2/π) (a + 0.044715 a³))) / 2, the approximation from the same paper.
struct GELUTanh {
  static constexpr const char* name = "GELU";
  static constexpr bool saves_input = true;
  template <class T>
  static GD_FORMULA T inner(T a) {
    return T(0.79788456080286535588) * a * (T(1) + T(0.044715) * a * a);
  }
  template <class T>
  static GD_FORMULA T inner_slope(T a) {
    return T(0.79788456080286535588) * (T(1) + T(0.134145) * a * a);
  }
  template <class T>
  static GD_FORMULA T clamp(T a) {  // for |a| > 30 the slope is 0 or 1, and a² would overflow
    return a > T(30) ? T(30) : (a < T(-30) ? T(-30) : a);
  }
  template <class T>
  GD_FORMULA T value(T a) const {
    return T(0.5) * a * (T(1) + math::tanh(inner(a)));
  }
  template <class T>
  GD_FORMULA T slope(T given) const {
    const T a = clamp(given);
    const T t = math::tanh(inner(a));
    return T(0.5) * (T(1) + t) + T(0.5) * a * (T(1) - t) * (T(1) + t) * inner_slope(a);
  }
  template <class T>
  GD_FORMULA T curvature(T given) const {
    const T a = clamp(given);
    const T t = math::tanh(inner(a)), square = (T(1) - t) * (T(1) + t), u = inner_slope(a);
    const T inner_curvature = T(0.79788456080286535588) * T(0.26829) * a;
    return square * (u + T(0.5) * a * (inner_curvature - T(2) * t * u * u));
  }
  bool operator==(const GELUTanh&) const = default;
};

/// log(1 + e^a), without overflow.
struct Softplus {
  static constexpr const char* name = "Softplus";
  static constexpr bool saves_input = true;
  template <class T>
  GD_FORMULA T value(T a) const {
    const T size = a < T(0) ? -a : a;
    return (a < T(0) ? T(0) : a) + math::log1p_unit(math::exp_nonpositive(-size));
  }
  template <class T>
  GD_FORMULA T slope(T a) const {
    return math::sigmoid(a);
  }
  template <class T>
  GD_FORMULA T curvature(T a) const {
    const T p = math::sigmoid(a);
    return p * (T(1) - p);
  }
  bool operator==(const Softplus&) const = default;
};

using Activation = std::variant<Identity, ReLU, LeakyReLU, Tanh, Sigmoid, GELU, GELUTanh, Softplus>;

inline const char* name_of(const Activation& activation) {
  return std::visit([](const auto& function) { return function.name; }, activation);
}

/// Whether backward needs the pre-activation instead of the output.
inline bool saves_input(const Activation& activation) {
  return std::visit([](const auto& function) { return function.saves_input; }, activation);
}

}  // namespace gdcore
