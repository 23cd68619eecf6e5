// Products on matrix units, in their plain C++ version, against double loops: accuracy with each number of parts, and
// which blocks go back to vectors. Then dense layers in training steps, which use the units of the instruction set.
#include <array>

#include "gdcore/matrix_units.h"
#include "support.h"

namespace gdcore::amx_emulated {
void multiply_matrices(const MatrixProduct&);
}

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// A (m x k), B (k x n) and what became of C: `right` holds the exact sums, `size` those of the terms' magnitudes.
struct Case {
  std::int64_t m, n, k;
  Array<float> a, b, c;
  std::vector<double> right, size;
  std::vector<int> finished, returned;  // calls for each element of C

  Case(std::int64_t m_, std::int64_t n_, std::int64_t k_)
      : m(m_),
        n(n_),
        k(k_),
        a(m, k, 1),
        b(k, n, 1),
        c(m, n, 1),
        right(static_cast<std::size_t>(m * n)),
        size(right.size()),
        finished(right.size()),
        returned(right.size()) {
    a.random(1);
    b.random(2);
  }

  /// Multiplies; A and B are stored transposed if asked. Exact sums replace what the units return.
  void multiply(int parts, bool a_across = false, bool b_along = false) {
    Array<float> at(k, m, 1), bt(n, k, 1);
    for (std::int64_t i = 0; i < m * k; ++i) at[i % k * m + i / k] = a[i];
    for (std::int64_t i = 0; i < k * n; ++i) bt[i % n * k + i / n] = b[i];
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0.0, most = 0.0;
        for (std::int64_t p = 0; p < k; ++p) {
          const double term = static_cast<double>(a(i, p)) * static_cast<double>(b(p, j));
          sum += term;
          most += std::abs(term);
        }
        right[static_cast<std::size_t>(i * n + j)] = sum;
        size[static_cast<std::size_t>(i * n + j)] = most;
      }
    }
    c.poison();
    std::ranges::fill(finished, 0);
    std::ranges::fill(returned, 0);
    const auto count = [&](std::vector<int>& of) {
      return [&](std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t cols) {
        for (std::int64_t e = 0; e < rows * cols; ++e) {
          const std::int64_t at_c = (i + e / cols) * n + j + e % cols;
          ++of[static_cast<std::size_t>(at_c)];
          if (&of == &returned) c[at_c] = static_cast<float>(right[static_cast<std::size_t>(at_c)]);
        }
      };
    };
    const auto vectors = count(returned), finish = count(finished);
    amx_emulated::multiply_matrices({m, n, k, a_across ? at.data() : a.data(), a_across ? 1 : k, a_across ? m : 1,
                                     b_along ? bt.data() : b.data(), b_along ? 1 : n, b_along ? k : 1, c.data(), parts,
                                     vectors, finish});
  }

  /// The largest error of C, relative to the summed terms; infinite unless each element was finished or returned once.
  double error() const {
    double worst = 0.0;
    for (std::size_t i = 0; i < right.size(); ++i) {
      const double got = static_cast<double>(c[static_cast<std::int64_t>(i)]);
      const bool once = finished[i] + returned[i] == 1 && std::isfinite(got);
      worst = std::max(worst, once ? std::abs(got - right[i]) / (size[i] + 1e-300) : HUGE_VAL);
    }
    return worst;
  }
};

constexpr double kFull = 1.5e-7;  // of the summed terms, with three parts

}  // namespace

TEST_CASE("matrix units: every layout and ragged shape, to the accuracy of the parts") {
  const std::int64_t shapes[][3] = {{1, 1, 1},      {16, 16, 32},   {31, 33, 31},   {65, 97, 33},
                                    {130, 259, 64}, {257, 40, 300}, {40, 257, 129}, {33, 64, 4200}};
  for (const auto& [m, n, k] : shapes) {
    Case c(m, n, k);
    for (const bool a_across : {false, true}) {
      for (const bool b_along : {false, true}) {
        CAPTURE(k);
        c.multiply(3, a_across, b_along);
        CHECK(c.error() <= kFull);
        CHECK(std::ranges::count(c.returned, 0) == m * n);
      }
    }
    c.multiply(2);
    CHECK(c.error() <= 0x1p-15);
    CHECK(c.error() >= 0x1p-24);  // but 16 bits of each factor, not 24
    c.multiply(1, true, true);
    CHECK(c.error() <= 0x1p-7);
    CHECK(c.error() >= 0x1p-16);
  }
  for (const auto& [m, n] : {std::array<std::int64_t, 2>{260, 3}, {3, 260}}) {  // packed in two parts
    Case c(m, n, 8192);
    c.multiply(1);
    CHECK(c.error() <= 0x1p-7);
  }
}

TEST_CASE("matrix units: mantissas between and beside the numbers of each part") {
  // Equal terms, whose errors add up; ties of the first and of the second part, one bit beside them, all bits set.
  const float mantissas[] = {
      1.0f + 0x1p-7f - 0x1p-23f, 1.0f + 0x1p-8f,  1.0f + 0x1p-8f + 0x1p-23f,           1.0f + 0x1p-16f,
      1.0f + 0x1p-8f - 0x1p-16f, 2.0f - 0x1p-23f, 1.0f + 0x1p-9f + 0x1p-17f + 0x1p-23f};
  for (const float x : mantissas) {
    for (const float y : mantissas) {
      CAPTURE(x);
      CAPTURE(y);
      Case c(8, 8, 300);
      c.a.fill(static_cast<double>(x));
      c.b.fill(static_cast<double>(y));
      c.multiply(3);
      CHECK(c.error() <= kFull);
    }
  }
  Case near(32, 32, 4096);  // all bits of the mantissas are random, all terms of one size and sign
  near.a.random(3, 0.5, 1.5);
  near.b.random(4, 0.5, 1.5);
  near.multiply(3);
  CHECK(near.error() <= kFull);
}

TEST_CASE("matrix units: what they cannot compute goes back to vectors, and nothing else") {
  const float infinity = std::numeric_limits<float>::infinity();
  struct Planted {
    float value;
    bool returned;
  };
  // The largest number that does not round to infinity in bfloat16 is the one before 0x1.ffp127.
  for (const Planted& planted : {Planted{0x1p-149f, true}, Planted{-0x1p-103f, true}, Planted{0x1p-102f, false},
                                 Planted{-0.0f, false}, Planted{0x1.fefffep60f, false}, Planted{0x1.ffp127f, true},
                                 Planted{-infinity, true}, Planted{__builtin_bit_cast(float, 0x7fffffffu), true}}) {
    for (const bool left : {true, false}) {
      CAPTURE(planted.value);
      Case c(100, 110, 70);
      (left ? c.a[40 * 70 + 69] : c.b[3 * 110 + 40]) = planted.value;
      c.multiply(3);
      for (std::size_t i = 0; i < c.right.size(); ++i) {
        const std::size_t at = left ? i / 110 : i % 110;
        CHECK(c.returned[i] == (planted.returned && at >= 32 && at < 64 ? 1 : 0));
        CHECK(c.finished[i] == 1 - c.returned[i]);
      }
      if (std::abs(planted.value) < 0x1p100f) CHECK(c.error() <= kFull);
    }
  }
}

TEST_CASE("matrix units: small products are not lost, and sums that overflow are returned") {
  for (const double scale : {0x1p-20, 0x1p-40, 0x1p-60}) {
    CAPTURE(scale);
    Case c(40, 40, 70);
    c.a.random(5, scale);
    c.b.random(6, scale);
    for (std::int64_t p = 0; p < 70; ++p) c.a[p] = 0.0f;  // a sum of zero: all its terms are
    c.multiply(3);
    CHECK(c.error() <= kFull);
    CHECK(c.finished[41] == (scale > 0x1p-30 ? 1 : 0));
  }
  Case large(40, 40, 70);
  large.a.random(5, 0x1p63, 0x1p65);
  large.b.random(6, 0x1p58, 0x1p60);
  large.multiply(3);
  CHECK(std::ranges::count(large.returned, 0) == 0);
}

TEST_CASE("dense layers in training steps: the same to rounding as in prediction, whatever the numbers are") {
  const std::int64_t rows = 150, out = 140, in = 130;
  const bool units = cpu().description().starts_with("amx");
  const std::array errors = {3e-6, units ? 1e-4 : 3e-6, units || cpu().description() == "avx512" ? 2e-2 : 3e-6};
  for (const float planted : {1.0f, 0x1p-149f, 3.4e38f, HUGE_VALF, NAN}) {
    for (const Precision precision : {Precision::full, Precision::tf32, Precision::bfloat16}) {
      CAPTURE(planted);
      Array<float> x(rows, in), weight(out, in), bias(1, out), dy(rows, out);
      x.random(1);
      weight.random(2);
      bias.random(3);
      dy.random(4);
      x[70 * in + 3] = planted;
      dy[90 * out + 5] = planted;
      const auto run = [&](bool training) {
        std::vector<Array<float>> to;
        for (const auto& [r, c] : {std::array{rows, out}, {rows, out}, {rows, in}, {out, in}}) to.emplace_back(r, c, 1);
        Array<float> gradient = dy.copy(), dbias(1, out);
        cpu().dense_forward({x.view(), weight.view(), bias.view(), GELU{}, to[0].view(), to[1].view(),
                             training ? precision : Precision::full, training});
        cpu().dense_backward({x.view(),
                              weight.view(),
                              Identity{},
                              {},
                              gradient.view(),
                              to[2].view(),
                              to[3].view(),
                              dbias.view(),
                              training ? precision : Precision::full,
                              training});
        return to;
      };
      const auto usual = run(false), trained = run(true);
      bool same = true;
      for (std::size_t t = 0; t < usual.size(); ++t) {
        same = same && usual[t].same_bits(trained[t]);
        for (std::int64_t i = 0; i < usual[t].size(); ++i) {
          const double before = static_cast<double>(usual[t][i]), after = static_cast<double>(trained[t][i]);
          if (!std::isfinite(before)) {
            CHECK(!std::isfinite(after));
          } else if (std::abs(before) < 1e6) {
            CHECK(std::abs(after - before) <= 20 * errors[static_cast<std::size_t>(precision)]);
          }
        }
      }
      if (units) CHECK(!same);
      CHECK(same_for_all_threads([&] { return run(true); }));
    }
  }
}
