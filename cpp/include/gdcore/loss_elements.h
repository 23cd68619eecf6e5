// Losses that are sums over the elements of a row, for host and device: one struct each, with an element's loss and its
// first and second derivative with respect to the output y, for the target t. To add such a loss: a struct here, a
// value of ElementKind, and a line in `element_of` and in `with_element`. Cross-entropy, which couples the classes of a
// row, is not among them.
//
// The loss of a row is the mean over its elements where `mean` is true, else their sum; its gradient is `slope` times
// `factor`, and the second derivative `curvature` times `factor`. `by_output`: whether the formula reads its
// OutputFactors; `shares`: whether successive outputs may share a target.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <variant>

#include "gdcore/loss.h"
#include "gdcore/math.h"

namespace gdcore {

/// Numbers of one output: factors of the terms of yes and no, or a quantile's level τ and 1 - τ.
template <class T>
struct OutputFactors {
  T first = T(1), second = T(1);
};

/// (y - t)²
template <class T>
struct SquaredError {
  static constexpr bool mean = true;
  static constexpr double factor = 2.0;
  static constexpr bool by_output = false, shares = false;
  GD_FORMULA T loss(T y, T t, OutputFactors<T>) const { return (y - t) * (y - t); }
  GD_FORMULA T slope(T y, T t, OutputFactors<T>) const { return y - t; }
  GD_FORMULA T curvature(T, T, OutputFactors<T>) const { return T(1); }
};

/// |y - t|; at 0 the slope is 0. The second derivative is 0, also at 0, where there is none.
template <class T>
struct AbsoluteError {
  static constexpr bool mean = true;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = false, shares = false;
  GD_FORMULA T loss(T y, T t, OutputFactors<T>) const { return y < t ? t - y : y - t; }
  GD_FORMULA T slope(T y, T t, OutputFactors<T>) const { return y > t ? T(1) : (y < t ? T(-1) : T(0)); }
  GD_FORMULA T curvature(T, T, OutputFactors<T>) const { return T(0); }
};

/// (y - t)² / 2 where |y - t| <= δ, else δ (|y - t| - δ/2) (Huber 1964). The second derivative jumps at δ.
template <class T>
struct HuberError {
  static constexpr bool mean = true;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = false, shares = false;
  T delta;
  GD_FORMULA T loss(T y, T t, OutputFactors<T>) const {
    const T size = y < t ? t - y : y - t, inner = size > delta ? delta : size;
    return inner * (size - T(0.5) * inner);
  }
  GD_FORMULA T slope(T y, T t, OutputFactors<T>) const {
    const T d = y - t;
    return d > delta ? delta : (d < -delta ? -delta : d);
  }
  GD_FORMULA T curvature(T y, T t, OutputFactors<T>) const {
    const T d = y - t;
    return d > delta || d < -delta ? T(0) : T(1);
  }
};

/// τ (t - y) where y < t, else (1 - τ) (y - t): the pinball loss of level τ (Koenker & Bassett 1978); at 0 the slope is
/// 0. The second derivative is 0, also at 0, where there is none.
template <class T>
struct QuantileError {
  static constexpr bool mean = true;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = true, shares = true;
  GD_FORMULA T loss(T y, T t, OutputFactors<T> level) const {
    return y < t ? level.first * (t - y) : level.second * (y - t);
  }
  GD_FORMULA T slope(T y, T t, OutputFactors<T> level) const {
    return y > t ? level.second : (y < t ? -level.first : T(0));
  }
  GD_FORMULA T curvature(T, T, OutputFactors<T>) const { return T(0); }
};

/// e^y - t y: Poisson's negative log-likelihood of a count t with mean e^y, without the term log t!. Where
/// the loss overflows, derivatives are the largest number, not ∞: times the weight 0 of a row that is 0.
template <class T>
struct PoissonError {
  static constexpr bool mean = true;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = false, shares = false;
  GD_FORMULA T loss(T y, T t, OutputFactors<T>) const { return math::exp(y) - t * y; }
  GD_FORMULA T slope(T y, T t, OutputFactors<T>) const { return finite_exp(y) - t; }
  GD_FORMULA T curvature(T y, T, OutputFactors<T>) const { return finite_exp(y); }

 private:
  static GD_FORMULA T finite_exp(T y) {
    constexpr T most = std::numeric_limits<T>::max();
    const T e = math::exp(y);
    return e > most ? most : e;
  }
};

/// -ω t log p - ν (1 - t) log(1 - p), p = sigmoid(y), with ω and ν the factors of yes and no. With
/// softplus(-y) = softplus(y) - y this is (ω t + ν (1 - t)) softplus(-|y|) + |y| (ν (1 - t) or ω t): nothing overflows.
template <class T>
struct BinaryError {
  static constexpr bool mean = false;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = true, shares = false;
  GD_FORMULA T loss(T y, T t, OutputFactors<T> by) const {
    const T yes = by.first * t, no = by.second * (T(1) - t), size = y < T(0) ? -y : y;
    const T rest = math::log1p_unit(math::exp_nonpositive(-size));
    return (yes + no) * rest + (y < T(0) ? yes : no) * size;
  }
  GD_FORMULA T slope(T y, T t, OutputFactors<T> by) const {
    const T p = math::sigmoid(y);
    return by.second * (T(1) - t) * p - by.first * t * (T(1) - p);
  }
  GD_FORMULA T curvature(T y, T t, OutputFactors<T> by) const {
    const T p = math::sigmoid(y);
    return (by.first * t + by.second * (T(1) - t)) * p * (T(1) - p);
  }
};

/// -ω t (1 - p)^γ log p - ν (1 - t) p^γ log(1 - p): focal loss (Lin et al. 2017). With a = softplus(-y) = -log p and
/// b = softplus(y) = -log(1 - p): ω t e^(-γb) a + ν (1 - t) e^(-γa) b.
template <class T>
struct FocalError {
  static constexpr bool mean = false;
  static constexpr double factor = 1.0;
  static constexpr bool by_output = true, shares = false;
  T gamma;
  GD_FORMULA T loss(T y, T t, OutputFactors<T> by) const {
    const Parts at(y);
    return by.first * t * power(at.b) * at.a + by.second * (T(1) - t) * power(at.a) * at.b;
  }
  GD_FORMULA T slope(T y, T t, OutputFactors<T> by) const {
    const Parts at(y);
    return by.second * (T(1) - t) * power(at.a) * (gamma * at.q * at.b + at.p) -
           by.first * t * power(at.b) * (gamma * at.p * at.a + at.q);
  }
  GD_FORMULA T curvature(T y, T t, OutputFactors<T> by) const {
    const Parts at(y);
    return by.first * t * power(at.b) * bend(at.p, at.q, at.a) +
           by.second * (T(1) - t) * power(at.a) * bend(at.q, at.p, at.b);
  }

 private:
  struct Parts {
    T a, b, p, q;
    GD_FORMULA explicit Parts(T y) {
      const T size = y < T(0) ? -y : y, e = math::exp_nonpositive(-size);
      const T rest = math::log1p_unit(e), more = T(1) / (T(1) + e), less = e / (T(1) + e);
      a = rest + (y < T(0) ? size : T(0));
      b = rest + (y < T(0) ? T(0) : size);
      p = y < T(0) ? less : more;
      q = y < T(0) ? more : less;
    }
  };
  GD_FORMULA T power(T x) const { return math::exp_nonpositive(-gamma * x); }
  /// The second derivative of e^(-γb) a, divided by e^(-γb).
  GD_FORMULA T bend(T p, T q, T a) const {
    return gamma * p * (gamma * p * a + q) + p * q * (T(1) + gamma - gamma * a);
  }
};

enum class ElementKind : std::uint8_t { none, squares, absolute, huber, quantile, poisson, binary, focal };

/// An elementwise loss as plain data: which it is, and its argument. `repeat` successive outputs share a target.
struct Element {
  ElementKind kind = ElementKind::none;
  double argument = 0.0;
  std::int64_t repeat = 1;
};

GD_FORMULA Element element_of(const MeanSquaredError&) { return {ElementKind::squares}; }
GD_FORMULA Element element_of(const CrossEntropy&) { return {}; }
GD_FORMULA Element element_of(const BinaryCrossEntropy& loss) {
  return {loss.gamma > 0.0 ? ElementKind::focal : ElementKind::binary, loss.gamma};
}
GD_FORMULA Element element_of(const Huber& loss) { return {ElementKind::huber, loss.delta}; }
GD_FORMULA Element element_of(const MeanAbsoluteError&) { return {ElementKind::absolute}; }
GD_FORMULA Element element_of(const Quantile& loss) {
  return {ElementKind::quantile, 0.0, static_cast<std::int64_t>(loss.levels.size())};
}
GD_FORMULA Element element_of(const Poisson&) { return {ElementKind::poisson}; }
/// Static: a copy compiled for one instruction set must not be linked into another's code.
static inline Element element_of(const Loss& loss) {
  return std::visit([](const auto& kind) { return element_of(kind); }, loss);
}

/// Calls `work` with the struct of an elementwise loss; not for ElementKind::none.
template <class T, class Work>
constexpr void with_element(const Element& element, Work&& work) {
  const T argument = static_cast<T>(element.argument);
  switch (element.kind) {
    case ElementKind::none:
      return;
    case ElementKind::squares:
      return work(SquaredError<T>{});
    case ElementKind::absolute:
      return work(AbsoluteError<T>{});
    case ElementKind::huber:
      return work(HuberError<T>{argument});
    case ElementKind::quantile:
      return work(QuantileError<T>{});
    case ElementKind::poisson:
      return work(PoissonError<T>{});
    case ElementKind::binary:
      return work(BinaryError<T>{});
    case ElementKind::focal:
      return work(FocalError<T>{argument});
  }
}

/// Focal loss of a class with probability p: its loss is (1 - p)^γ times that of cross-entropy, its gradient g(p) times
/// that gradient, with g = (1 - p)^γ (1 - γ p log p / (1 - p)); `bend` is p dg/dp.
struct Focal {
  double loss = 1.0, slope = 1.0, bend = 0.0;
};
/// `rest` is 1 - p, which the caller computes without cancellation. At p = 1 all factors are 0.
GD_FORMULA Focal focal_of(double log_p, double rest, double gamma) {
  if (rest <= 0.0) return {0.0, 0.0, 0.0};
  const double power = ::pow(rest, gamma), p = ::exp(log_p), ratio = p * log_p / rest;
  return {power, power * (1.0 - gamma * ratio), gamma * p * power / rest * ((gamma - 1.0) * ratio - (log_p + 2.0))};
}

}  // namespace gdcore
