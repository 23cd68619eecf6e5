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

/// a σ(a) (Elfwing, Uchibe & Doya 2018).
struct SiLU {
  static constexpr const char* name = "SiLU";
  static constexpr bool saves_input = true;
  template <class T>
  GD_FORMULA T value(T given) const {
    const T a = above_tail(given);
    const T e = math::exp_nonpositive(a < T(0) ? a : -a);
    return (a < T(0) ? math::times_exp(a, a) : a) / (T(1) + e);
  }
  template <class T>
  GD_FORMULA T slope(T given) const {  // σ (1 + a (1 - σ))
    const T a = within_tails(given), size = a < T(0) ? -a : a;
    const T e = math::exp_nonpositive(-size), less = e / (T(1) + e), more = T(1) / (T(1) + e);
    const T rest = T(1) + a * (a < T(0) ? more : less);
    return (a < T(0) ? math::times_exp(rest, -size) : rest) / (T(1) + e);
  }
  template <class T>
  GD_FORMULA T curvature(T given) const {  // σ (1 - σ) (2 + a (1 - 2σ)), an even function
    const T a = within_tails(given), low = a < T(0) ? a : -a;
    const T e = math::exp_nonpositive(low), below = (T(1) - e) / (T(1) + e);  // 1 - 2σ(low)
    return math::times_exp(T(2) + low * below, low) / ((T(1) + e) * (T(1) + e));
  }
  /// Values beyond these bounds have the limit's result: a product with infinity would be NaN.
  template <class T>
  static GD_FORMULA T above_tail(T a) {
    constexpr T kTail = sizeof(T) == sizeof(float) ? T(104) : T(746);
    return a < -kTail ? -kTail : a;
  }
  template <class T>
  static GD_FORMULA T within_tails(T a) {
    return -above_tail(-above_tail(a));
  }
  bool operator==(const SiLU&) const = default;
};

/// a tanh(softplus(a)) (Misra 2020), as rational functions of u = e^-|a|: one exponential, no cancellation in the
/// tails.
struct Mish {
  static constexpr const char* name = "Mish";
  static constexpr bool saves_input = true;
  template <class T>
  GD_FORMULA T value(T given) const {
    const T a = SiLU::above_tail(given);
    const T u = math::exp_nonpositive(a < T(0) ? a : -a);
    const T below = math::times_exp(a, a < T(0) ? a : T(0)) * (u + T(2)) / (u * (u + T(2)) + T(2));
    const T above = a * (T(1) + T(2) * u) / (T(1) + T(2) * u * (T(1) + u));
    return a < T(0) ? below : above;
  }
  template <class T>
  GD_FORMULA T slope(T given) const {
    const T a = SiLU::within_tails(given), low = a < T(0) ? a : -a;
    const T u = math::exp_nonpositive(low);
    // Below 0: u ((u + 2) D + 4a (1 + u)) / D², D = u² + 2u + 2.
    // Above: ((1 + 2u) E + 4a u² (1 + u)) / E², E = 1 + 2u + 2u².
    const T d = u * (u + T(2)) + T(2), e = T(1) + T(2) * u * (T(1) + u), lift = T(4) * a * (T(1) + u);
    const T below = math::times_exp((u + T(2)) * d + lift, low) / (d * d);
    return a < T(0) ? below : ((T(1) + T(2) * u) * e + lift * u * u) / (e * e);
  }
  template <class T>
  GD_FORMULA T curvature(T given) const {
    const T a = SiLU::within_tails(given), low = a < T(0) ? a : -a;
    const T u = math::exp_nonpositive(low);
    // Below 0: 4u (2 (1 + u) D + a (2 + 2u - 3u² - 2u³)) / D³.
    // Above: 4u² (2 (1 + u) E + a (2u³ + 2u² - 3u - 2)) / E³.
    const T d = u * (u + T(2)) + T(2), e = T(1) + T(2) * u * (T(1) + u);
    const T below = T(2) * (T(1) + u) * d + a * (T(2) + u * (T(2) - u * (T(3) + T(2) * u)));
    const T above = T(2) * (T(1) + u) * e + a * (u * (u * (T(2) * u + T(2)) - T(3)) - T(2));
    const T bottom = a < T(0) ? d : e, top = T(4) * math::times_exp(a < T(0) ? below : above * u, low);
    return top / (bottom * bottom * bottom);
  }
  bool operator==(const Mish&) const = default;
};

/// a where a > 0, else α (e^a - 1) (Clevert et al. 2016), α > 0. The output determines the slope.
struct ELU {
  static constexpr const char* name = "ELU";
  static constexpr bool saves_input = false;
  double alpha = 1.0;
  template <class T>
  GD_FORMULA T value(T a) const {
    return a > T(0) ? a : T(alpha) * math::expm1_nonpositive(a > T(0) ? T(0) : a);
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return y > T(0) ? T(1) : y + T(alpha);
  }
  template <class T>
  GD_FORMULA T curvature(T y) const {
    return y < T(0) ? y + T(alpha) : T(0);
  }
  bool operator==(const ELU&) const = default;
};

/// λ a where a > 0, else λ α (e^a - 1) (Klambauer et al. 2017), with the fixed point of mean 0 and variance 1.
struct SELU {
  static constexpr const char* name = "SELU";
  static constexpr bool saves_input = false;
  static constexpr double kScale = 1.0507009873554804934193349852946;
  static constexpr double kDepth = kScale * 1.6732632423543772848170429916717;  // λ α
  template <class T>
  GD_FORMULA T value(T a) const {
    return a > T(0) ? T(kScale) * a : T(kDepth) * math::expm1_nonpositive(a > T(0) ? T(0) : a);
  }
  template <class T>
  GD_FORMULA T slope(T y) const {
    return y > T(0) ? T(kScale) : y + T(kDepth);
  }
  template <class T>
  GD_FORMULA T curvature(T y) const {
    return y < T(0) ? y + T(kDepth) : T(0);
  }
  bool operator==(const SELU&) const = default;
};

using Activation =
    std::variant<Identity, ReLU, LeakyReLU, Tanh, Sigmoid, GELU, GELUTanh, Softplus, SiLU, Mish, ELU, SELU>;

inline const char* name_of(const Activation& activation) {
  return std::visit([](const auto& function) { return function.name; }, activation);
}

/// Whether backward needs the pre-activation instead of the output.
inline bool saves_input(const Activation& activation) {
  return std::visit([](const auto& function) { return function.saves_input; }, activation);
}

}  // namespace gdcore
