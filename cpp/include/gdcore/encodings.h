// Formulas of the encodings of columns, for host and device: bins of numbers, codes of categories, waves.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gdcore/column_ops.h"
#include "gdcore/math.h"

namespace gdcore {

/// One bin of a piecewise-linear encoding; `low` and `high` say whether the output is limited there. NaN stays NaN.
template <class T>
struct Bin {
  T start, width;
  bool low, high;

  GD_FORMULA T value(T x) const {
    const T t = (x - start) / width;
    if (low && t < T(0)) return T(0);
    return high && t > T(1) ? T(1) : t;
  }
  GD_FORMULA T slope(T x) const {
    const T t = (x - start) / width;
    return (low && t < T(0)) || (high && t >= T(1)) ? T(0) : T(1) / width;
  }
};

/// Bin j of a column with `bins` bins; `at` is the number of its first over all columns.
template <class T>
GD_FORMULA Bin<T> bin_of(const T* start, const T* width, std::int64_t at, std::int64_t j, std::int64_t bins,
                         bool clip) {
  return {start[at + j], width[at + j], clip || j > 0, clip || j + 1 < bins};
}

/// The code that x stands for, or -1 where it is no whole number from 0 to size - 1.
template <class T>
GD_FORMULA std::int64_t code_of(T x, std::int64_t size) {
  if (!(x >= T(0) && x < static_cast<T>(size))) return -1;
  const auto code = static_cast<std::int64_t>(x);
  return static_cast<T>(code) == x ? code : -1;
}

/// A number with its derivative along a direction.
template <class T>
struct Dual {
  T value, dot;
};
template <class T>
GD_FORMULA Dual<T> operator+(Dual<T> a, Dual<T> b) {
  return {a.value + b.value, a.dot + b.dot};
}
template <class T>
GD_FORMULA Dual<T> operator-(Dual<T> a, Dual<T> b) {
  return {a.value - b.value, a.dot - b.dot};
}
template <class T>
GD_FORMULA Dual<T> operator*(Dual<T> a, Dual<T> b) {
  return {a.value * b.value, a.dot * b.value + a.value * b.dot};
}

/// The number or the derivative that a pass with or without a direction computes.
GD_FORMULA float result(float a) { return a; }
GD_FORMULA double result(double a) { return a; }
template <class T>
GD_FORMULA T result(Dual<T> a) {
  return a.dot;
}
GD_FORMULA float value_of(float a) { return a; }
GD_FORMULA double value_of(double a) { return a; }
template <class T>
GD_FORMULA T value_of(Dual<T> a) {
  return a.value;
}

/// A constant as a number without or with a derivative, which is 0.
template <class N, class T>
GD_FORMULA N constant(T a) {
  if constexpr (std::is_same_v<N, T>) {
    return a;
  } else {
    return {a, T(0)};
  }
}

// Periodic embedding of a column (Gorishniy et al. 2022; with phases and x itself: Holzmüller et al. 2024):
// h_f = cos(2π w_f x + b_f) and, with sines, h_(F + f) = sin(2π w_f x + b_f); outputs [x], r(Σ_f W_df h_f + c_d) with r
// the identity or ReLU.
inline constexpr double kTwoPi = 6.28318530717958647693;

/// The phase 2π w x + b in turns.
template <class T>
GD_FORMULA T turns(T w, T x, T b) {
  return math::fraction_of_product(w, x) + b * T(1.0 / kTwoPi);
}

/// Sine and cosine of 2π w x + b. The product is reduced to a fraction of a turn before it is rounded.
template <class T>
GD_FORMULA void wave(T w, T x, T b, T& sine, T& cosine) {
  math::sine_cosine_of_turns(turns(w, x, b), sine, cosine);
}
template <class T>
GD_FORMULA void wave(Dual<T> w, Dual<T> x, Dual<T> b, Dual<T>& sine, Dual<T>& cosine) {
  wave(w.value, x.value, b.value, sine.value, cosine.value);
  const T turn = T(kTwoPi) * (w.dot * x.value + w.value * x.dot) + b.dot;
  sine.dot = cosine.value * turn;
  cosine.dot = -sine.value * turn;
}

/// An array, with its derivative along a direction where N carries one; null pointers are zeros.
template <class N, class T>
struct Values {
  const T* value = nullptr;
  const T* dot = nullptr;

  GD_FORMULA N operator[](std::int64_t i) const {
    const T own = value != nullptr ? value[i] : T(0);
    if constexpr (std::is_same_v<N, T>) {
      return own;
    } else {
      return {own, dot != nullptr ? dot[i] : T(0)};
    }
  }
};

/// The parameters of a periodic embedding.
template <class N, class T>
struct PeriodicNumbers {
  Values<N, T> frequency, phase, weight, bias;

  PeriodicNumbers(const PeriodicWeights& of, const PeriodicDirection* along)
      : frequency{of.frequency.as<T>()}, phase{of.phase.as<T>()}, weight{of.weight.as<T>()}, bias{of.bias.as<T>()} {
    if (along == nullptr) return;
    frequency.dot = along->weights.frequency.as<T>();
    phase.dot = along->weights.phase.as<T>();
    weight.dot = along->weights.weight.as<T>();
    bias.dot = along->weights.bias.as<T>();
  }
};

/// The input of a periodic embedding's pass.
template <class N, class T, class Call>
Values<N, T> inputs_of(const Call& call) {
  return {call.x.template as<T>(), call.direction != nullptr ? call.direction->x_dot.template as<T>() : nullptr};
}

/// The gradient of a periodic embedding's outputs.
template <class N, class T>
struct PeriodicGradients {
  Values<N, T> dy;
  const T* y;
  std::int64_t cols;

  explicit PeriodicGradients(const PeriodicBackward& call)
      : dy{call.dy.as<T>()}, y(call.y.as<T>()), cols(call.dy.cols) {
    if (call.direction != nullptr) dy.dot = call.direction->dy_dot.as<T>();
  }
  /// Before the ReLU: 0 where it cut the output off.
  GD_FORMULA N at(std::int64_t row, std::int64_t column, bool relu) const {
    const std::int64_t i = row * cols + column;
    return relu && !(y[i] > T(0)) ? constant<N>(T(0)) : dy[i];
  }
};

}  // namespace gdcore
