// Elementary functions of the activations and losses, for host and device. In float32 they are polynomials that a
// compiler can vectorise (largest relative errors of the fits before rounding: exp 2e-9, tanh 4e-9, log1p 4e-9, erfcx
// 5e-8); in float64 they call the standard library. Fits: Chebyshev, reweighted towards equal error. Error bounds below
// are for float32 (test_math.cpp); a rounding is 2^-24.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#define GD_FORMULA __host__ __device__ __forceinline__
#else
// Always inlined, so that no copy compiled for one instruction set can be linked into another's code.
#define GD_FORMULA inline __attribute__((always_inline))
#endif

namespace gdcore::math {

/// e^x = 2^n (1 + rest) with |rest| < 0.42. Polynomials here and below are sums of short chains, which a processor
/// computes at the same time.
struct ReducedExp {
  float shifted, rest;
  /// 2^(n + more), if that is a normal number.
  GD_FORMULA float power(int more = 0) const {
    const std::uint32_t one = 0x3f800000u + (static_cast<std::uint32_t>(more) << 23);
    return std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + one);
  }
};
GD_FORMULA ReducedExp reduced_exp(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const float shifted = x * kLog2e + kRound, n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low, q = r * r;
  const float low = 0.166664198f * r + 0.499999911f, high = 0.00837482233f * r + 0.0416682251f;
  return {shifted, ((0.00138368341f * q + high) * q + low) * q + r};
}

/// e^x for x <= 0 or NaN, which stays NaN: relative error at most 3 roundings from -87.3 on; 0 below (no subnormals).
GD_FORMULA float exp_nonpositive(float x) {
  const ReducedExp e = reduced_exp(x);
  return x < -87.3f ? 0.0f : (1.0f + e.rest) * e.power();
}
GD_FORMULA double exp_nonpositive(double x) { return ::exp(x); }

/// e^x for any x: relative error at most 3 roundings; 0 below -87.3, infinity beyond the largest float; NaN stays NaN.
GD_FORMULA float exp(float x) {
  const ReducedExp e = reduced_exp(x);
  const int half = x > 0.0f ? -1 : 0;  // 2^n itself overflows where e^x does not yet
  const float value = (1.0f + e.rest) * e.power(half) * (x > 0.0f ? 2.0f : 1.0f);
  return x < -87.3f ? 0.0f : (x > 88.7228394f ? std::numeric_limits<float>::infinity() : value);
}
GD_FORMULA double exp(double x) { return ::exp(x); }

/// e^x - 1 for x <= 0: relative error at most 4 roundings; NaN stays NaN.
GD_FORMULA float expm1_nonpositive(float x) {
  const ReducedExp e = reduced_exp(x);
  const float power = e.power();
  return x < -30.0f ? -1.0f : power * e.rest + (power - 1.0f);
}
GD_FORMULA double expm1_nonpositive(double x) { return ::expm1(x); }

/// factor · e^x for x <= 0, accurate also where e^x alone is below the smallest normal number: relative error at most 4
/// roundings. 0 below -103 in float32, for a finite factor.
GD_FORMULA float times_exp(float factor, float x) {
  const ReducedExp e = reduced_exp(x);
  return x < -103.0f ? 0.0f * factor : (factor * 0x1p-24f) * ((1.0f + e.rest) * e.power(24));
}
GD_FORMULA double times_exp(double factor, double x) { return factor * ::exp(x); }

/// e^(a - b) for a <= b, accurate also where a - b is not exact in float32.
GD_FORMULA float exp_difference(float a, float b) {
  const float d = a - b, back = d - a;
  const float rest = (a - (d - back)) - (b + back);  // Knuth's two-sum
  const float e = exp_nonpositive(d);
  return rest == rest ? e + e * rest : e;  // the rounding error is NaN where a or b is infinite
}
GD_FORMULA double exp_difference(double a, double b) { return ::exp(a - b); }

/// log(1 + u) for 0 <= u <= 1, as 2 atanh(u / (2 + u)): relative error at most 4 roundings.
GD_FORMULA float log1p_unit(float u) {
  const float s = u / (2.0f + u), q = s * s;
  const float low = 0.200124547f * q + 0.333331585f, high = 0.140891626f * q + 0.139803022f;
  return 2.0f * (s + s * q * (high * (q * q) + low));
}
GD_FORMULA double log1p_unit(double u) { return ::log1p(u); }

/// tanh(x): relative error at most 4 roundings, odd, within [-1, 1], any x; NaN stays NaN.
GD_FORMULA float tanh(float x) {
  const float size = x < 0.0f ? -x : x, q = x * x;
  const float low = 0.133311272f * q - 0.333332598f, high = 0.0205909833f * q - 0.0537210666f, q2 = q * q;
  const float small = x + x * q * ((-0.00565998489f * q2 + high) * q2 + low);
  const float e = exp_nonpositive(-2.0f * size);
  const float large = 1.0f - 2.0f * e / (1.0f + e);
  return size < 0.625f ? small : (x < 0.0f ? -large : large);
}
GD_FORMULA double tanh(double x) { return ::tanh(x); }

/// 1 / (1 + e^-x): relative error at most 4 roundings for x >= -87; saturates at 0 and 1; NaN stays NaN.
template <class T>
GD_FORMULA T sigmoid(T x) {
  const T e = exp_nonpositive(x < T(0) ? x : -x);  // e^-|x| does not overflow
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

/// The Gaussian distribution function Φ(x): 1/2 + x P(x²) near 0, erfc(|x| / √2) / 2 in the tails; `density` receives
/// exp(-x² / 2). Absolute error at most 4 roundings, relative error at most 1.5e-6 for x > -5; NaN stays NaN.
GD_FORMULA float gaussian_cdf(float x, float& density) {
  const float size = x < 0.0f ? -x : x, q = x * x, q2 = q * q;
  density = exp_nonpositive(-0.5f * q);
  const float near0 = 9.97324102e-3f * q - 0.0664903373f, near1 = 1.14356386e-4f * q - 1.18648843e-3f;
  const float near2 = 4.11555703e-7f * q - 8.71830161e-6f;
  const float near = ((near2 * q2 + near1) * q2 + near0) * q + 0.398942292f;
  const float t = 1.0f / (1.0f + 0.353553391f * size), t2 = t * t;  // 1 / (1 + z / 2), z = |x| / √2
  const float far0 = 0.121551804f * t + 0.141187668f, far1 = -0.01331369205f * t + 0.101343781f;
  const float far2 = -0.2436011435f * t + 0.139034897f, far3 = -0.02953460815f * t + 0.142288089f;
  const float far = ((far3 * t2 + far2) * (t2 * t2) + (far1 * t2 + far0)) * t + 0.141043201f;
  const float tail = density * t * far;
  const float outer = x < 0.0f ? tail : 1.0f - tail;
  return size < 1.5f ? 0.5f + x * near : outer;
}
GD_FORMULA double gaussian_cdf(double x, double& density) {
  density = ::exp(-0.5 * x * x);
  return 0.5 * ::erfc(-x * 0.70710678118654752440);
}

/// a b less the nearest whole number, in [-1/2, 1/2]: the part of a phase in turns that sine and cosine depend on. In
/// float32 it is exact but for one rounding, whatever the size of a b; NaN where a or b is not finite, or a b
/// overflows.
GD_FORMULA float fraction_of_product(float a, float b) {
#if defined(__FMA__) || defined(__CUDA_ARCH__) || defined(__ARM_FEATURE_FMA)
  const float rest = ::fmaf(a, b, -::rintf(a * b));
  return rest - ::rintf(rest);
#else
  const double product = static_cast<double>(a) * static_cast<double>(b);  // exact
  return static_cast<float>(product - ::rint(product));
#endif
}
GD_FORMULA double fraction_of_product(double a, double b) {
  const double product = a * b;
  return product - ::rint(product);
}

/// sin(2π t) for |t| <= 1/4: absolute error at most 4 roundings.
GD_FORMULA float sine_of_turns(float t) {
  const float q = t * t;
  return t * ((((39.7109184f * q - 76.5749893f) * q + 81.6022339f) * q - 41.3416786f) * q + 6.28318548f);
}

/// sin(2π t) and cos(2π t): absolute errors at most 4 roundings where |t| <= 1, the size of t's own rounding beyond.
GD_FORMULA void sine_cosine_of_turns(float t, float& sine, float& cosine) {
  const float near = t - ::rintf(t), size = near < 0.0f ? -near : near;
  const float other = 0.5f - size;  // sin(2π size) = sin(2π other)
  const float folded = size > 0.25f ? (near < 0.0f ? -other : other) : near;
  sine = sine_of_turns(folded);
  cosine = sine_of_turns(0.25f - size);
}
GD_FORMULA void sine_cosine_of_turns(double t, double& sine, double& cosine) {
  const double angle = 6.28318530717958647693 * (t - ::rint(t));
  sine = ::sin(angle);
  cosine = ::cos(angle);
}

/// The cosine alone: the same bits.
GD_FORMULA float cosine_of_turns(float t) {
  const float near = t - ::rintf(t);
  return sine_of_turns(0.25f - (near < 0.0f ? -near : near));
}
GD_FORMULA double cosine_of_turns(double t) { return ::cos(6.28318530717958647693 * (t - ::rint(t))); }

}  // namespace gdcore::math
