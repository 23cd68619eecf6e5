// Batch norm (groups are columns) and layer norm (groups are rows) against double loops, at every shape.
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

using Wide = long double;  // double sums that results are compared with need more precision than double

template <class T>
struct Case {
  bool batch;  // batch norm, else layer norm
  bool affine;
  Activation f;
  double eps = 1e-3;
  std::int64_t rows, cols, groups, count;
  Array<T> x, gamma, beta, y, pre, mean, rstd, variance, dy, dx, dgamma, dbeta;

  /// `shift` 0 or 1: every other array is aligned only to an element; 2: all are aligned.
  Case(bool batch_, bool affine_, const Activation& f_, std::int64_t rows_, std::int64_t cols_, std::int64_t shift)
      : Case(batch_, affine_, f_, rows_, cols_, shift % 2, shift == 2 ? 0 : 1 - shift) {}
  Case(bool batch_, bool affine_, const Activation& f_, std::int64_t rows_, std::int64_t cols_, std::int64_t shift,
       std::int64_t other)
      : batch(batch_),
        affine(affine_),
        f(f_),
        rows(rows_),
        cols(cols_),
        groups(batch ? cols : rows),
        count(batch ? rows : cols),
        x(rows, cols, shift),
        gamma(1, cols, other),
        beta(1, cols, shift),
        y(rows, cols, other),
        pre(rows, cols, shift),
        mean(1, groups, shift),
        rstd(1, groups, shift),
        variance(1, groups, other),
        dy(rows, cols, shift),
        dx(rows, cols, other),
        dgamma(1, cols, shift),
        dbeta(1, cols, other) {
    x.random(1, 2.0, 0.5);
    gamma.random(2);
    beta.random(3);
    dy.random(4);
  }
  std::int64_t at(std::int64_t g, std::int64_t i) const { return batch ? i * cols + g : g * cols + i; }
  double gamma_of(std::int64_t c) const { return affine ? static_cast<double>(gamma[c]) : 1.0; }
  double beta_of(std::int64_t c) const { return affine ? static_cast<double>(beta[c]) : 0.0; }

  void forward() {
    const ConstView g = affine ? ConstView(gamma.view()) : ConstView{},
                    b = affine ? ConstView(beta.view()) : ConstView{};
    const View kept = saves_input(f) ? pre.view() : View{};
    if (batch) {
      device().batch_norm_forward({x.view(), g, b, eps, f, y.view(), mean.view(), rstd.view(), variance.view(), kept});
    } else {
      device().layer_norm_forward({x.view(), g, b, eps, f, y.view(), mean.view(), rstd.view(), kept});
    }
  }
  void backward(bool with_dx = true) {
    const ConstView saved = f.index() == 0 ? ConstView{} : saves_input(f) ? ConstView(pre.view()) : ConstView(y.view());
    const View dg = affine ? dgamma.view() : View{}, db = affine ? dbeta.view() : View{};
    const NormBackward call{x.view(),    affine ? ConstView(gamma.view()) : ConstView{},
                            mean.view(), rstd.view(),
                            f,           saved,
                            dy.view(),   with_dx ? dx.view() : View{},
                            dg,          db};
    batch ? device().batch_norm_backward(call) : device().layer_norm_backward(call);
  }
};

template <class T>
void check_forward(const Case<T>& c) {
  const double sums = chain(c.count);
  Worst<T> mean(2.0 + sums), variance(4.0 + sums), rstd(4.0 + sums), value(8.0 + sums);
  for (std::int64_t g = 0; g < c.groups; ++g) {
    Wide sum = 0.0, squares = 0.0;
    double size = 0.0;
    const double n = static_cast<double>(c.count);
    for (std::int64_t i = 0; i < c.count; ++i) {
      sum += static_cast<double>(c.x[c.at(g, i)]);
      size += std::abs(static_cast<double>(c.x[c.at(g, i)]));
    }
    const double m = static_cast<double>(sum / n);
    for (std::int64_t i = 0; i < c.count; ++i) {
      const Wide d = static_cast<Wide>(c.x[c.at(g, i)]) - sum / n;
      squares += d * d;
    }
    const double v = static_cast<double>(squares / n), r = 1.0 / std::sqrt(v + c.eps);
    mean.add(c.mean[g], m, size / n);
    if (c.batch) variance.add(c.variance[g], v, v + kEps<T> * size * size / n / n);
    rstd.add(c.rstd[g], r, r);
    for (std::int64_t i = 0; i < c.count; ++i) {
      const std::int64_t at = c.at(g, i), col = at % c.cols;
      const double x = static_cast<double>(c.x[at]), a = c.gamma_of(col) * (x - m) * r + c.beta_of(col);
      const double scale = std::abs(c.gamma_of(col)) * r * (std::abs(x) + size / n) + std::abs(c.beta_of(col)) + 0.1;
      value.add(c.y[at], exact_value(c.f, a), scale + std::abs(exact_value(c.f, a)));
      if (saves_input(c.f)) value.add(c.pre[at], a, scale);
    }
  }
  CHECK(mean.value() <= 1.0);
  CHECK(variance.value() <= 1.0);
  CHECK(rstd.value() <= 1.0);
  CHECK(value.value() <= 1.0);
}

template <class T>
void check_backward(const Case<T>& c) {  // uses the dy that backward overwrote: dout f'
  Worst<T> input(8.0 + chain(c.count)), parameter(8.0 + chain(c.rows));
  std::vector<Wide> dg(static_cast<std::size_t>(c.cols)), dg_size(dg), db(dg), db_size(dg);
  for (std::int64_t g = 0; g < c.groups; ++g) {
    const double m = static_cast<double>(c.mean[g]), r = static_cast<double>(c.rstd[g]),
                 n = static_cast<double>(c.count);
    Wide s1 = 0.0, s2 = 0.0, z1 = 0.0, z2 = 0.0;
    const auto normalised = [&](std::int64_t at) { return (static_cast<double>(c.x[at]) - m) * r; };
    // In layer norm, gamma is inside the means of a group; in batch norm it is constant over the group.
    for (std::int64_t i = 0; i < c.count; ++i) {
      const std::int64_t at = c.at(g, i), col = at % c.cols;
      const double plain = static_cast<double>(c.dy[at]), d = plain * c.gamma_of(col), a = normalised(at);
      s1 += d / n;
      s2 += d * a / n;
      z1 += std::abs(d) / n;
      z2 += std::abs(d * a) / n;
      const auto k = static_cast<std::size_t>(col);
      dg[k] += plain * a;
      db[k] += plain;
      dg_size[k] += std::abs(plain) * (std::abs(a) + r * std::abs(m));
      db_size[k] += std::abs(plain);
    }
    for (std::int64_t i = 0; i < c.count; ++i) {
      const std::int64_t at = c.at(g, i);
      const double d = static_cast<double>(c.dy[at]) * c.gamma_of(at % c.cols), a = normalised(at);
      input.add(c.dx[at], r * (d - s1 - a * s2), r * (std::abs(d) + z1 + (std::abs(a) + 0.1) * z2));
    }
  }
  for (std::int64_t k = 0; c.affine && k < c.cols; ++k) {
    parameter.add(c.dgamma[k], dg[static_cast<std::size_t>(k)], dg_size[static_cast<std::size_t>(k)]);
    parameter.add(c.dbeta[k], db[static_cast<std::size_t>(k)], db_size[static_cast<std::size_t>(k)]);
  }
  CHECK(input.value() <= 1.0);
  CHECK(parameter.value() <= 1.0);
}

template <class T>
void check_slopes(const Case<T>& c, const Array<T>& dout) {
  Worst<T> slope(16.0);
  for (std::int64_t i = 0; i < c.x.size(); ++i) {
    const std::int64_t g = c.batch ? i % c.cols : i / c.cols, col = i % c.cols;
    const double m = static_cast<double>(c.mean[g]), r = static_cast<double>(c.rstd[g]);
    const double x = static_cast<double>(c.x[i]), a = c.gamma_of(col) * (x - m) * r + c.beta_of(col);
    if (std::abs(a) < 1e-4) continue;  // the kink of ReLU
    const double size = 1.0 + std::abs(a) + std::abs(c.gamma_of(col)) * r * (std::abs(x) + std::abs(m));
    slope.add(c.dy[i], static_cast<double>(dout[i]) * exact_slope(c.f, a), static_cast<double>(dout[i]) * size);
  }
  CHECK(slope.value() <= 1.0);
}

template <class T>
void check_case(bool batch, std::size_t turn, std::int64_t rows, std::int64_t cols) {
  const std::vector<Activation> activations = all_activations();
  const auto shift = static_cast<std::int64_t>(turn % 5 % 3);
  Case<T> c(batch, turn % 3 != 0, activations[turn % 8], rows, cols, shift);
  CAPTURE(sizeof(T));
  CAPTURE(batch);
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(std::string(name_of(c.f)));
  c.forward();
  check_forward(c);
  const Array<T> dout = c.dy.copy();
  c.backward();
  check_slopes(c, dout);
  check_backward(c);

  Case<T> again(batch, c.affine, c.f, rows, cols, shift);
  again.forward();
  again.backward(false);  // without dx the other gradients are the same
  CHECK(std::isnan(again.dx[0]));
  if (c.affine) {
    CHECK(again.dgamma.same_bits(c.dgamma));
    CHECK(again.dbeta.same_bits(c.dbeta));
  }
}

}  // namespace

TEST_CASE("both norms agree with double loops at every shape") {
  std::size_t turn = 0;
  for (const std::int64_t cols : awkward_widths()) {
    for (const std::int64_t rows : awkward_rows()) {
      for (const bool batch : {false, true}) {
        check_case<float>(batch, turn, rows, cols);
        check_case<double>(batch, turn + 5, rows, cols);
        ++turn;
      }
    }
  }
}

TEST_CASE("norms of many rows: sums do not lose digits, in pieces or not") {
  for (const bool batch : {false, true}) {
    check_case<float>(batch, 1, 4099, 33);
    check_case<float>(batch, 2, 67, 2500);
    check_case<double>(batch, 4, 4099, 33);
    check_case<float>(batch, 7, 4500, 20);
    check_case<float>(batch, 8, 2100, 300);
    check_case<double>(batch, 13, 2300, 261);
  }
}

TEST_CASE("layer norm of long rows: by a warp, by a block, and longer than a block holds") {
  std::size_t turn = 1;
  for (const std::int64_t cols : {260, 520, 1030, 2052, 3001, 4096, 4100, 8200, 16385}) {
    check_case<float>(false, turn, 3, cols);
    check_case<double>(false, turn + 6, 2, cols);
    ++turn;
  }
  check_case<float>(false, 9, 3, 2000);  // the only case with ReLU and two packs per thread
  // On a GPU 512 threads have more than 32 packs each here, the terms of a sum in T: 65,536 floats, 32,768 doubles.
  check_case<float>(false, 4, 2, 68000);
  check_case<double>(false, 5, 1, 35001);
}

TEST_CASE("norms: gradients that nobody wants are skipped") {
  for (const bool batch : {false, true}) {
    for (const std::int64_t rows : {3, 700}) {
      Case<float> all(batch, true, Tanh{}, rows, 40, 2);
      all.forward();
      all.backward();
      for (int left_out = 0; left_out < 4; ++left_out) {
        CAPTURE(batch);
        CAPTURE(rows);
        CAPTURE(left_out);
        Case<float> c(batch, true, Tanh{}, rows, 40, 2);
        c.forward();
        const bool no_gamma = left_out % 2 == 0, no_beta = left_out < 2, no_dx = left_out == 3;
        const NormBackward call{c.x.view(),
                                c.gamma.view(),
                                c.mean.view(),
                                c.rstd.view(),
                                c.f,
                                c.y.view(),
                                c.dy.view(),
                                no_dx ? View{} : c.dx.view(),
                                no_gamma ? View{} : c.dgamma.view(),
                                no_beta ? View{} : c.dbeta.view()};
        batch ? device().batch_norm_backward(call) : device().layer_norm_backward(call);
        CHECK(c.dy.same_bits(all.dy));
        CHECK((no_dx ? std::isnan(c.dx[0]) : c.dx.same_bits(all.dx)));
        CHECK((no_gamma ? std::isnan(c.dgamma[0]) : c.dgamma.same_bits(all.dgamma)));
        CHECK((no_beta ? std::isnan(c.dbeta[0]) : c.dbeta.same_bits(all.dbeta)));
      }
    }
  }
}

TEST_CASE("layer norm: a constant row is zero, whatever its length") {
  for (const std::int64_t cols : {1, 7, 100, 1000, 3000, 17000}) {
    Array<float> x(2, cols), y(2, cols), mean(1, 2), rstd(1, 2);
    for (std::int64_t i = 0; i < x.size(); ++i) x[i] = i < cols ? 7.7f : -1e-3f;
    device().layer_norm_forward({x.view(), {}, {}, 1e-12, Identity{}, y.view(), mean.view(), rstd.view(), {}});
    CAPTURE(cols);
    CHECK(mean[0] == 7.7f);
    CHECK(mean[1] == -1e-3f);
    for (std::int64_t i = 0; i < y.size(); ++i) CHECK(y[i] == 0.0f);
  }
}

TEST_CASE("norms: what is not a number stays in its row or column") {
  for (const bool batch : {false, true}) {
    for (const std::int64_t rows : {5, 5000}) {
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        CAPTURE(batch);
        CAPTURE(rows);
        CAPTURE(bad);
        Case<float> c(batch, true, ReLU{}, rows, 12, 2);
        c.x[(rows - 2) * 12 + 3] = bad;
        c.forward();
        c.backward();
        for (std::int64_t i = 0; i < c.x.size(); ++i) {
          const bool hit = batch ? i % 12 == 3 : i / 12 == rows - 2;
          CHECK(std::isnan(c.y[i]) == hit);
          CHECK(std::isnan(c.dx[i]) == hit);
        }
        for (std::int64_t col = 0; col < 12; ++col) CHECK(std::isnan(c.dgamma[col]) == (!batch || col == 3));
      }
    }
  }
}

TEST_CASE("norms do not depend on the number of threads") {
  const std::vector<Activation> activations = all_activations();
  std::size_t turn = 0;
  for (const bool batch : {false, true}) {
    for (const auto& [rows, cols] :
         {std::pair<std::int64_t, std::int64_t>{333, 301}, {3001, 47}, {65, 1500}, {7, 20000}}) {
      const Activation f = activations[turn++ % 8];
      CAPTURE(batch);
      CAPTURE(cols);
      CAPTURE(std::string(name_of(f)));
      const auto run = [&]<class T>(T) {
        Case<T> c(batch, true, f, rows, cols, 0);
        c.forward();
        c.backward();
        std::vector<Array<T>> results;
        for (Array<T>* a : {&c.y, &c.mean, &c.rstd, &c.dy, &c.dx, &c.dgamma, &c.dbeta})
          results.push_back(std::move(*a));
        return results;
      };
      CHECK(same_for_all_threads([&] { return run(float{}); }));
      CHECK(same_for_all_threads([&] { return run(double{}); }));
    }
  }
}

TEST_CASE("batch norm: mean and variance are exact on exact inputs, whatever the offset") {
  for (const std::int64_t rows : {1000, 24000}) {
    CAPTURE(rows);
    Array<float> x(rows, 3), y(rows, 3), mean(1, 3), rstd(1, 3), variance(1, 3);
    for (std::int64_t r = 0; r < rows; ++r) {
      x[3 * r] = 65536.0f + static_cast<float>(r % 2);  // variance 1/4 on top of a large mean
      x[3 * r + 1] = 7.7f;                              // constant
      x[3 * r + 2] = r % 4 < 2 ? -3.0f : 5.0f;          // mean 1, variance 16
    }
    device().batch_norm_forward(
        {x.view(), {}, {}, 1e-12, Identity{}, y.view(), mean.view(), rstd.view(), variance.view(), {}});
    CHECK(mean[0] == 65536.5f);
    CHECK(variance[0] == 0.25f);
    CHECK(mean[1] == 7.7f);
    CHECK(variance[1] == 0.0f);
    CHECK(y[1] == 0.0f);
    CHECK(y[3 * rows - 2] == 0.0f);
    CHECK(mean[2] == 1.0f);
    CHECK(variance[2] == 16.0f);
  }
}

TEST_CASE("batch norm: rows in an order, whose mean moves far from that of the rows before") {
  constexpr std::int64_t kRows = 5003, kCols = 3;
  Array<float> x(kRows, kCols), y(kRows, kCols), mean(1, kCols), rstd(1, kCols), variance(1, kCols);
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto noise = static_cast<float>(r * 7 % 11) * 1e-3f;
    x[kCols * r] = static_cast<float>(r) + noise;       // a ramp
    x[kCols * r + 1] = (r < 64 ? 0.0f : 1e4f) + noise;  // after the first 64 rows
    x[kCols * r + 2] = (r < 4990 ? 1e4f : -1e6f) + noise;
  }
  device().batch_norm_forward(
      {x.view(), {}, {}, 1e-12, Identity{}, y.view(), mean.view(), rstd.view(), variance.view(), {}});
  for (std::int64_t c = 0; c < kCols; ++c) {
    CAPTURE(c);
    double sum = 0.0, squares = 0.0;
    for (std::int64_t r = 0; r < kRows; ++r) sum += static_cast<double>(x[kCols * r + c]);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const double d = static_cast<double>(x[kCols * r + c]) - sum / kRows;
      squares += d * d;
    }
    CHECK(std::abs(static_cast<double>(mean[c]) - sum / kRows) <=
          1e-7 * (std::sqrt(squares / kRows) + std::abs(sum / kRows)));
    CHECK(std::abs(static_cast<double>(variance[c]) - squares / kRows) <= 5e-7 * squares / kRows);
  }
}

TEST_CASE("column affine: both kinds of spread, with and without mean, gamma and beta, at every shape") {
  std::size_t turn = 0;
  const std::vector<Activation> activations = all_activations();
  const auto look = [&]<class T>(T, std::int64_t rows, std::int64_t cols) {
    const auto shift = static_cast<std::int64_t>(turn % 2), other = static_cast<std::int64_t>(turn % 3 == 0);
    Array<T> x(rows, cols, shift), mean(1, cols, 1 - shift), spread(1, cols, shift), gamma(1, cols), beta(1, cols, 1),
        y(rows, cols, other);
    x.random(1);
    mean.random(2);
    spread.random(3, 0.5, 1.0);
    gamma.random(4);
    beta.random(5);
    const bool with_mean = turn % 3 != 0, with_gamma = turn % 4 < 2, with_beta = turn % 5 < 3;
    const Spread kind = turn % 7 < 3 ? Spread::std : Spread::variance;
    const Activation f = activations[turn % 8];
    const auto given = [](bool wanted, Array<T>& a) { return wanted ? ConstView(a.view()) : ConstView{}; };
    device().column_affine({x.view(), given(with_mean, mean), spread.view(), given(with_gamma, gamma),
                            given(with_beta, beta), kind, 1e-3, f, y.view()});
    Worst<T> worst(12.0);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const std::int64_t c = i % cols;
      const double s = static_cast<double>(spread[c]), m = with_mean ? static_cast<double>(mean[c]) : 0.0;
      const double r = 1.0 / std::sqrt((kind == Spread::std ? s * s : s) + 1e-3), v = static_cast<double>(x[i]);
      const double g = with_gamma ? static_cast<double>(gamma[c]) : 1.0,
                   b = with_beta ? static_cast<double>(beta[c]) : 0.0;
      const double size = std::abs(g) * r * (std::abs(v) + std::abs(m)) + std::abs(b) + 0.5;
      worst.add(y[i], exact_value(f, g * (v - m) * r + b), size);
    }
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(std::string(name_of(f)));
    CHECK(worst.value() <= 1.0);
    ++turn;
  };
  for (const std::int64_t cols : awkward_widths()) {
    for (const std::int64_t rows : awkward_rows()) {
      look(float{}, rows, cols);
      look(double{}, rows, cols);
    }
  }
  look(float{}, 2000, 257);
}
