// math.h in float32 against the standard library in double, over dense grids; bounds in roundings (2^-24).
#include "gdcore/math.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

/// Calls work with every `stride`-th float between two bounds of one sign, by bit pattern: equally dense at all scales.
template <class Work>
void over_bits(float low, float high, std::uint32_t stride, const Work& work) {
  const std::uint32_t first = std::bit_cast<std::uint32_t>(low), last = std::bit_cast<std::uint32_t>(high);
  for (std::uint64_t bits = first; bits <= last; bits += stride) {
    work(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
}

/// Both signs of every magnitude, from subnormals to `largest`, and a linear grid.
template <class Work>
void over_line(float largest, const Work& work) {
  over_bits(0.0f, largest, 20011, [&](float x) {
    work(x);
    work(-x);
  });
  for (int i = -200'000; i <= 200'000; ++i) work(static_cast<float>(i) * largest / 200'000.0f);
}

}  // namespace

TEST_CASE("exp_nonpositive: 3 roundings relative to the value, zero below -87.3") {
  Worst<float> worst(3.0);
  over_line(88.72f, [&](float x) {
    const double exact = std::exp(static_cast<double>(x));
    if (x <= 0.0f && x >= -87.3f) worst.add(math::exp_nonpositive(x), exact, exact);
    if (x < -87.31f) worst.add(math::exp_nonpositive(x), 0.0, 0.0);
  });
  CHECK(worst.value() <= 1.0);
  CHECK(math::exp_nonpositive(0.0f) == 1.0f);
  CHECK(math::exp_nonpositive(-std::numeric_limits<float>::denorm_min()) == 1.0f);
  CHECK(math::exp_nonpositive(-kInf) == 0.0f);
  CHECK(math::exp_nonpositive(-std::numeric_limits<float>::max()) == 0.0f);
  CHECK(math::exp_nonpositive(-1e4f) == 0.0f);
  CHECK(std::isnan(math::exp_nonpositive(kNan)));
  CHECK(std::isnan(math::exp_nonpositive(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("tanh: 4 roundings relative to the value, odd, within [-1, 1]") {
  Worst<float> worst(4.0);
  bool odd = true, bounded = true;
  over_line(20.0f, [&](float x) {
    const float y = math::tanh(x);
    const double exact = std::tanh(static_cast<double>(x));
    worst.add(y, exact, exact);
    odd = odd && math::tanh(-x) == -y;
    bounded = bounded && y >= -1.0f && y <= 1.0f;
  });
  CHECK(worst.value() <= 1.0);
  CHECK(odd);
  CHECK(bounded);
  CHECK(math::tanh(kInf) == 1.0f);
  CHECK(math::tanh(-kInf) == -1.0f);
  CHECK(math::tanh(1e4f) == 1.0f);
  CHECK(math::tanh(-1e4f) == -1.0f);
  CHECK(std::isnan(math::tanh(kNan)));
}

TEST_CASE("sigmoid: 4 roundings relative to the value above -87, saturates, keeps NaN") {
  Worst<float> worst(4.0);
  over_line(87.0f, [&](float x) {
    const double exact = 1.0 / (1.0 + std::exp(-static_cast<double>(x)));
    worst.add(math::sigmoid(x), exact, exact);
  });
  CHECK(worst.value() <= 1.0);
  CHECK(math::sigmoid(1e4f) == 1.0f);
  CHECK(math::sigmoid(-1e4f) == 0.0f);
  CHECK(math::sigmoid(kInf) == 1.0f);
  CHECK(math::sigmoid(-kInf) == 0.0f);
  CHECK(std::isnan(math::sigmoid(kNan)));
  CHECK(math::sigmoid(-1e4) == 0.0);
  CHECK(math::sigmoid(1e4) == 1.0);
}

TEST_CASE("log1p_unit: 4 roundings relative to the value on [0, 1]") {
  Worst<float> worst(4.0);
  const auto look = [&](float u) {
    const double exact = std::log1p(static_cast<double>(u));
    worst.add(math::log1p_unit(u), exact, exact);
  };
  over_bits(0.0f, 1.0f, 2003, look);
  for (int i = 0; i <= 1'000'000; ++i) look(static_cast<float>(i) / 1e6f);
  CHECK(worst.value() <= 1.0);
  CHECK(math::log1p_unit(0.0f) == 0.0f);
  CHECK(std::isnan(math::log1p_unit(kNan)));
}

TEST_CASE("gaussian_cdf: within 1.5e-6 of the value to -5, which exp(-x²/2) spreads further out, 4 roundings of 1") {
  Worst<float> absolute(4.0), relative(1.5e-6 / kEps<float>), density_error(1.0);
  over_line(13.0f, [&](float x) {
    float density;
    const float cdf = math::gaussian_cdf(x, density);
    const double wide = static_cast<double>(x), exact = 0.5 * std::erfc(-wide / std::sqrt(2.0));
    absolute.add(cdf, exact, 1.0);
    if (x > -5.0f) relative.add(cdf, exact, exact);
    // The argument x²/2 is rounded to float: its error adds to that of exp.
    density_error.add(density, std::exp(-0.5 * wide * wide), (4.0 + wide * wide) * std::exp(-0.5 * wide * wide));
  });
  CHECK(absolute.value() <= 1.0);
  CHECK(relative.value() <= 1.0);
  CHECK(density_error.value() <= 1.0);
  for (const float far : {1e4f, kInf}) {
    float density = kNan;
    CHECK(math::gaussian_cdf(far, density) == 1.0f);
    CHECK(density == 0.0f);
    CHECK(math::gaussian_cdf(-far, density) == 0.0f);
    CHECK(density == 0.0f);
  }
  float density;
  CHECK(std::isnan(math::gaussian_cdf(kNan, density)));
}

TEST_CASE("waves: 4 roundings of 1 within a turn, the same cosine alone, and phases reduced exactly") {
  Worst<float> sine_error(4.0), cosine_error(4.0);
  bool same = true;
  over_line(1.0f, [&](float t) {
    float sine, cosine;
    math::sine_cosine_of_turns(t, sine, cosine);
    sine_error.add(sine, std::sin(2.0 * M_PI * static_cast<double>(t)), 1.0);
    cosine_error.add(cosine, std::cos(2.0 * M_PI * static_cast<double>(t)), 1.0);
    same = same && cosine == math::cosine_of_turns(t);
  });
  CHECK(same);
  CHECK(sine_error.value() <= 1.0);
  CHECK(cosine_error.value() <= 1.0);
  Worst<float> fraction(1.0);
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const auto a = static_cast<float>(noise(1, i) * std::pow(10.0, 18.0 * noise(2, i)));
    const auto b = static_cast<float>(noise(3, i) * std::pow(10.0, 18.0 * noise(4, i)));
    const double product = static_cast<double>(a) * static_cast<double>(b);  // exact
    fraction.add(math::fraction_of_product(a, b), product - std::rint(product), 0.5);
  }
  CHECK(fraction.value() <= 1.0);
  CHECK(std::isnan(math::fraction_of_product(kNan, 1.0f)));
  CHECK(std::isnan(math::fraction_of_product(kInf, 1.0f)));
}

TEST_CASE("activations at the ends of the line are limits, not NaN, where a product does not forbid it") {
  const auto value = [](const Activation& f, float x) {
    return std::visit([x](const auto& g) { return g.value(x); }, f);
  };
  for (const Activation& f : all_activations()) {
    CAPTURE(std::string(name_of(f)));
    CHECK(std::isnan(value(f, kNan)));
    for (const float x : {1e4f, 87.0f, 89.0f, 200.0f}) {
      CHECK(static_cast<double>(value(f, x)) == doctest::Approx(exact_value(f, static_cast<double>(x))).epsilon(1e-6));
      CHECK(std::abs(static_cast<double>(value(f, -x)) - exact_value(f, static_cast<double>(-x))) < 1e-30 + 1e-4);
    }
  }
  CHECK(value(Softplus{}, kInf) == kInf);
  CHECK(value(Softplus{}, -kInf) == 0.0f);
  CHECK(value(Softplus{}, -80.0f) == doctest::Approx(std::exp(-80.0)).epsilon(1e-5).scale(0.0));
}
