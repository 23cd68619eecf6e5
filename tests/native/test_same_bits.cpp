// Results must not depend, in any bit, on the addresses of arrays, on the other rows of a batch, or on whether a layer
// absorbs the activation that follows it.
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// Runs `work`, which places its arrays `shift` elements past an alignment and returns results, at shifts 0 and 1.
template <class Work>
void check_shifts(const Work& work) {
  const auto aligned = work(0), shifted = work(1);
  REQUIRE(aligned.size() == shifted.size());
  for (std::size_t i = 0; i < aligned.size(); ++i) {
    CAPTURE(i);
    CHECK(aligned[i].same_bits(shifted[i]));
  }
}

template <class T>
std::vector<Array<T>> list(std::initializer_list<Array<T>*> arrays) {
  std::vector<Array<T>> results;
  for (Array<T>* a : arrays) results.push_back(std::move(*a));
  return results;
}

/// A norm forward and backward, with its activation absorbed or as a separate operation.
template <class T>
struct Norm {
  Array<T> x, gamma, beta, y, pre, mean, rstd, variance, dy, dx, dgamma, dbeta;

  Norm(bool batch, const Activation& f, std::int64_t rows, std::int64_t cols, std::int64_t shift, bool absorbed)
      : x(rows, cols, shift),
        gamma(1, cols, shift),
        beta(1, cols, shift),
        y(rows, cols, shift),
        pre(rows, cols, shift),
        mean(1, batch ? cols : rows, shift),
        rstd(1, batch ? cols : rows, shift),
        variance(1, cols, shift),
        dy(rows, cols, shift),
        dx(rows, cols, shift),
        dgamma(1, cols, shift),
        dbeta(1, cols, shift) {
    x.random(1, 2.0, 0.5);
    gamma.random(2);
    beta.random(3);
    dy.random(4);
    const bool keep = saves_input(f);
    const Activation inner = absorbed ? f : Activation(Identity{});
    const View out = absorbed ? y.view() : pre.view(), kept = absorbed && keep ? pre.view() : View{};
    if (batch) {
      device().batch_norm_forward(
          {x.view(), gamma.view(), beta.view(), 1e-3, inner, out, mean.view(), rstd.view(), variance.view(), kept});
    } else {
      device().layer_norm_forward(
          {x.view(), gamma.view(), beta.view(), 1e-3, inner, out, mean.view(), rstd.view(), kept});
    }
    const ConstView saved = keep ? ConstView(pre.view()) : ConstView(y.view());
    if (!absorbed) {
      device().activation_forward(f, pre.view(), y.view());
      device().activation_backward(f, saved, dy.view(), dy.view());
    }
    const NormBackward call{
        x.view(),  gamma.view(), mean.view(),   rstd.view(), inner, inner.index() == 0 ? ConstView{} : saved,
        dy.view(), dx.view(),    dgamma.view(), dbeta.view()};
    batch ? device().batch_norm_backward(call) : device().layer_norm_backward(call);
  }
  std::vector<Array<T>> results() { return list({&y, &mean, &rstd, &dy, &dx, &dgamma, &dbeta}); }
};

/// Widths and heights for every path of the kernels: few rows, several parts, a block per row, more than a block holds.
struct Size {
  bool batch;
  std::int64_t rows, cols;
};
std::vector<Size> norm_sizes() {
  return {{true, 2, 1},     {true, 37, 6},    {true, 33, 129},   {true, 2500, 12}, {true, 150, 1030}, {false, 3, 1},
          {false, 37, 6},   {false, 33, 31},  {false, 200, 64},  {false, 5, 129},  {false, 3, 1001},  {false, 2, 2052},
          {false, 2, 4095}, {false, 2, 4099}, {false, 1, 16387}, {false, 1, 5}};
}

}  // namespace

TEST_CASE("an absorbed activation gives the bits of a separate one, forward and back, in both norms") {
  const auto look = [&]<class T>(T, const Size& size, const Activation& f) {
    Norm<T> together(size.batch, f, size.rows, size.cols, 0, true),
        apart(size.batch, f, size.rows, size.cols, 0, false);
    const auto mine = together.results(), theirs = apart.results();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      CAPTURE(size.batch);
      CAPTURE(size.rows);
      CAPTURE(size.cols);
      CAPTURE(std::string(name_of(f)));
      CAPTURE(sizeof(T));
      CAPTURE(i);
      CHECK(mine[i].same_bits(theirs[i]));
    }
  };
  for (const Size& size : norm_sizes()) {
    const bool large = size.rows * size.cols > 5000;
    for (const Activation& f : all_activations()) {
      if (large && f.index() != 1 && f.index() != 3 && f.index() != 5) continue;
      look(float{}, size, f);
      look(double{}, size, f);
    }
  }
}

TEST_CASE("a row's layer norm has the bits of the row alone") {
  const auto look = [&]<class T>(T, std::int64_t cols, const Activation& f) {
    constexpr std::int64_t kRows = 5;
    Array<T> x(kRows, cols), gamma(1, cols), beta(1, cols), y(kRows, cols), mean(1, kRows), rstd(1, kRows),
        dy(kRows, cols), dx(kRows, cols), alone(1, cols), mean1(1, 1), rstd1(1, 1), dy1(1, cols), dx1(1, cols);
    x.random(1, 2.0, 0.5);
    gamma.random(2);
    beta.random(3);
    dy.random(4);
    const Array<T> given = dy.copy();
    const auto run = [&](ConstView in, View out, View m, View r, View d, View din) {
      device().layer_norm_forward({in, gamma.view(), beta.view(), 1e-3, f, out, m, r, {}});
      device().layer_norm_backward(
          {in, gamma.view(), m, r, f, f.index() == 0 ? ConstView{} : ConstView(out), d, din, {}, {}});
    };
    run(x.view(), y.view(), mean.view(), rstd.view(), dy.view(), dx.view());
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t c = 0; c < cols; ++c) dy1[c] = given[row * cols + c];
      const ConstView in{x.data() + row * cols, 1, cols, kDType<T>};
      run(in, alone.view(), mean1.view(), rstd1.view(), dy1.view(), dx1.view());
      CAPTURE(cols);
      CAPTURE(row);
      CHECK(mean1[0] == mean[row]);
      CHECK(rstd1[0] == rstd[row]);
      CHECK(std::memcmp(alone.data(), y.data() + row * cols, alone.bytes()) == 0);
      CHECK(std::memcmp(dx1.data(), dx.data() + row * cols, dx1.bytes()) == 0);
    }
  };
  for (const std::int64_t cols : {1, 3, 6, 31, 33, 64, 129, 1001, 1030, 2051, 4098, 16387}) {
    look(float{}, cols, Tanh{});
    look(double{}, cols, Identity{});
  }
}

TEST_CASE("where the arrays of a norm lie changes no bit") {
  for (const Size& size : norm_sizes()) {
    CAPTURE(size.batch);
    CAPTURE(size.rows);
    CAPTURE(size.cols);
    const auto look = [&]<class T>(T, const Activation& f) {
      check_shifts(
          [&](std::int64_t shift) { return Norm<T>(size.batch, f, size.rows, size.cols, shift, true).results(); });
    };
    look(float{}, ReLU{});
    look(float{}, GELU{});
    look(double{}, Identity{});
  }
}

TEST_CASE("where the arrays of a norm along a direction lie changes no bit") {
  const auto look = [&]<class T>(T, NormOver over, std::int64_t rows, std::int64_t cols) {
    INFO("over ", static_cast<int>(over), ", ", rows, " x ", cols);
    check_shifts([&](std::int64_t shift) {
      const std::int64_t groups = over == NormOver::rows ? rows : cols;
      Array<T> x(rows, cols, shift), x_dot(rows, cols, shift), dy(rows, cols, shift), dy_dot(rows, cols, shift),
          gamma(1, cols, shift), gamma_dot(1, cols, shift), beta_dot(1, cols, shift), mean(1, groups, shift),
          rstd(1, groups, shift), y_dot(rows, cols, shift), dx(rows, cols, shift), dx_dot(rows, cols, shift),
          dgamma_dot(1, cols, shift), dbeta_dot(1, cols, shift), spare(rows, cols, shift);
      std::uint64_t stream = 1;
      for (Array<T>* a : {&x, &x_dot, &dy, &dy_dot, &gamma, &gamma_dot, &beta_dot, &mean, &rstd}) a->random(stream++);
      device().norm_tangent({over, x.view(), gamma.view(), mean.view(), rstd.view(), x_dot.view(), gamma_dot.view(),
                             beta_dot.view(), y_dot.view()});
      device().norm_curvature({over, x.view(), gamma.view(), mean.view(), rstd.view(), x_dot.view(), gamma_dot.view(),
                               dy.view(), dy_dot.view(), dx.view(), dx_dot.view(), dgamma_dot.view(), dbeta_dot.view(),
                               spare.view()});
      return list({&y_dot, &dx, &dx_dot, &dgamma_dot, &dbeta_dot});
    });
  };
  for (const NormOver over : {NormOver::rows, NormOver::columns, NormOver::constants}) {
    look(float{}, over, 37, 6);
    look(float{}, over, 33, 64);
    look(float{}, over, 2500, 12);
    look(float{}, over, 3, 1030);
    look(double{}, over, 33, 64);
  }
}

TEST_CASE("where arrays lie changes no bit of what is done to every element") {
  const auto look = [&]<class T>(T, std::int64_t n) {
    CAPTURE(n);
    for (const Activation& f : all_activations()) {
      CAPTURE(std::string(name_of(f)));
      check_shifts([&](std::int64_t shift) {
        Array<T> a(1, n, shift), a_dot(1, n, shift), dy(1, n, shift), y(1, n, shift), dx(1, n, shift),
            dx_dot(1, n, shift);
        a.random(1);
        a_dot.random(2);
        dy.random(3);
        device().activation_forward(f, a.view(), y.view());
        const ConstView saved = saves_input(f) ? a.view() : y.view();
        device().activation_backward(f, saved, dy.view(), dx.view());
        device().activation_curvature(f, saved, a_dot.view(), dy.view(), a.view(), dx_dot.view());
        return list({&y, &dx, &dx_dot});
      });
    }
    check_shifts([&](std::int64_t shift) {
      Array<T> x(1, n, shift), y(1, n, shift), average(1, n, shift), to(1, n, shift);
      x.random(1, 0.5, 0.5);
      average.random(2);
      to.random(3);
      device().dropout({x.view(), y.view(), 0.3, 7, 9});
      device().lerp({average.view(), x.view(), 0.9, true});
      device().add(to.view(), x.view(), -0.3);
      return list({&y, &average, &to});
    });
  };
  for (const std::int64_t n : {1, 6, 33, 1030, 5003}) {
    look(float{}, n);
    look(double{}, n);
  }
}

TEST_CASE("where arrays lie changes no bit of a loss or of an optimiser's step") {
  const auto loss = [&]<class T>(T, const Loss& of, std::int64_t rows, std::int64_t cols) {
    INFO("loss ", of.index(), ", ", rows, " x ", cols);
    check_shifts([&](std::int64_t shift) {
      Array<T> logits(rows, cols, shift), targets(rows, cols, shift), grad(rows, cols, shift), weights(1, rows, shift);
      logits.random(1, 4.0);
      targets.random(2, 0.5, 0.5);
      weights.random(3, 0.5, 0.6);
      LossSums sums;
      device().loss({of, logits.view(), targets.view(), nullptr, weights.view(), {}, grad.view(), &sums});
      std::vector<Array<T>> results = list({&grad});
      results.emplace_back(1, 1).fill(sums.loss);
      results.emplace_back(1, 1).fill(sums.weight);
      return results;
    });
  };
  const auto step = [&]<class T>(T, const OptimizerRule& rule, std::int64_t n) {
    INFO("rule ", rule.index(), ", ", n);
    check_shifts([&](std::int64_t shift) {
      Array<T> w(1, n, shift), g(1, n, shift), s(1, n, shift), r(1, n, shift);
      w.random(1);
      g.random(2);
      s.random(3, 0.25, 0.5);
      r.random(4, 0.25, 0.5);
      const Segment segments[] = {{0, n / 3, 1.0, 0.1}, {n / 3, n - n / 3, 0.5, 0.0}};
      OptimizerPass pass{rule, w.view(), g.view(), {}, segments, 0.05, 3, 0.75, 0.6};
      if (state_count(rule) > 0) pass.states[0] = s.view();
      if (state_count(rule) > 1) pass.states[1] = r.view();
      device().optimizer_step(pass);
      std::vector<Array<T>> results = list({&w, &s, &r});
      results.emplace_back(1, 1).fill(device().sum_of_squares(g.view()));
      return results;
    });
  };
  for (const Loss& of : {Loss(MeanSquaredError{}), Loss(CrossEntropy{}), Loss(BinaryCrossEntropy{})}) {
    for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{37, 6}, {700, 12}, {33, 64}, {3, 1030}}) {
      loss(float{}, of, rows, cols);
      loss(double{}, of, rows, cols);
    }
  }
  for (const OptimizerRule& rule : {OptimizerRule(SGD{}), OptimizerRule(Momentum{0.9, true}), OptimizerRule(Adam{})}) {
    for (const std::int64_t n : {5, 33, 5003}) {
      step(float{}, rule, n);
      step(double{}, rule, n);
    }
  }
}
