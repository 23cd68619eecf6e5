// Elementary functions of the activations and losses, for host and device. In float32 they are polynomials that a
// compiler can vectorise (largest relative errors of the fits before rounding: exp 2e-9, tanh 4e-9, log1p 4e-9, erfcx
// 5e-8); in float64 they call the standard library. Fits: Chebyshev, reweighted towards equal error. Error bounds below
// are for float32 (test_math.cpp); a rounding is 2^-24.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define GD_FORMULA __host__ __device__ __forceinline__
#else
// Always inlined, so that no copy compiled for one instruction set can be linked into another's code.
#define GD_FORMULA inline __attribute__((always_inline))
#endif

namespace gdcore::math {

/// e^x: relative error at most 3 roundings on [-87.3, 88.72]; infinity above, 0 below (no subnormals); NaN stays NaN.
GD_FORMULA float exp(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const float clamped = x > 88.8f ? 88.8f : (x < -87.3f ? -87.3f : x);
  const float shifted = clamped * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 0.00138368341f;
  p = p * r + 0.00837482233f;
  p = p * r + 0.0416682251f;
  p = p * r + 0.166664198f;
  p = p * r + 0.499999911f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n as two factors: 2^128 is not a float.
  const std::int32_t whole = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const std::int32_t half = whole >> 1;
  const float low = std::bit_cast<float>((half + 127) << 23), high = std::bit_cast<float>((whole - half + 127) << 23);
  const float result = (p * low) * high;
  return x < -87.3f ? 0.0f : (x != x ? x : result);
}
GD_FORMULA double exp(double x) { return ::exp(x); }

/// e^(a - b), accurate also where a - b is not exact in float32.
GD_FORMULA float exp_difference(float a, float b) {
  const float d = a - b, back = d - a;
  const float rest = (a - (d - back)) - (b + back);  // Knuth's two-sum
  const float e = exp(d);
  return rest == rest ? e + e * rest : e;  // the rounding error is NaN where a or b is infinite
}
GD_FORMULA double exp_difference(double a, double b) { return exp(a - b); }

/// log(1 + u) for 0 <= u <= 1, as 2 atanh(u / (2 + u)): relative error at most 4 roundings.
GD_FORMULA float log1p_unit(float u) {
  const float s = u / (2.0f + u), q = s * s;
  float p = 0.140891626f;
  p = p * q + 0.139803022f;
  p = p * q + 0.200124547f;
  p = p * q + 0.333331585f;
  p = p * q + 1.0f;
  return 2.0f * s * p;
}
GD_FORMULA double log1p_unit(double u) { return ::log1p(u); }

/// tanh(x): relative error at most 4 roundings, odd, within [-1, 1], any x; NaN stays NaN.
GD_FORMULA float tanh(float x) {
  const float size = x < 0.0f ? -x : x, q = x * x;
  float p = -0.00565998489f;
  p = p * q + 0.0205909833f;
  p = p * q - 0.0537210666f;
  p = p * q + 0.133311272f;
  p = p * q - 0.333332598f;
  p = p * q + 1.0f;
  const float large = 1.0f - 2.0f / (exp(2.0f * size) + 1.0f);
  return size < 0.625f ? x * p : (x < 0.0f ? -large : large);
}
GD_FORMULA double tanh(double x) { return ::tanh(x); }

/// 1 / (1 + e^-x): relative error at most 4 roundings for x >= -87; saturates at 0 and 1; NaN stays NaN.
template <class T>
GD_FORMULA T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

/// The Gaussian distribution function Φ(x): 1/2 + x P(x²) near 0, erfc(|x| / √2) / 2 in the tails; `density` receives
/// exp(-x² / 2). Absolute error at most 4 roundings, relative error at most 1.5e-6 for x > -5; NaN stays NaN.
GD_FORMULA float gaussian_cdf(float x, float& density) {
  const float size = x < 0.0f ? -x : x, q = x * x;
  density = exp(-0.5f * q);
  float near = 4.11555703e-7f;
  near = near * q - 8.71830161e-6f;
  near = near * q + 1.14356386e-4f;
  near = near * q - 1.18648843e-3f;
  near = near * q + 9.97324102e-3f;
  near = near * q - 0.0664903373f;
  near = near * q + 0.398942292f;
  const float t = 1.0f / (1.0f + 0.353553391f * size);  // 1 / (1 + z / 2), z = |x| / √2
  float far = -0.0590692163f;
  far = far * t + 0.284576178f;
  far = far * t - 0.487202287f;
  far = far * t + 0.278069794f;
  far = far * t - 0.0266273841f;
  far = far * t + 0.202687562f;
  far = far * t + 0.243103608f;
  far = far * t + 0.282375336f;
  far = far * t + 0.282086402f;
  const float tail = 0.5f * density * t * far;
  const float outer = x < 0.0f ? tail : 1.0f - tail;
  return size < 1.5f ? 0.5f + x * near : (x == x ? outer : x);
}
GD_FORMULA double gaussian_cdf(double x, double& density) {
  density = ::exp(-0.5 * x * x);
  return 0.5 * ::erfc(-x * 0.70710678118654752440);
}

}  // namespace gdcore::math
