// Derivatives along a direction: each kernel against central differences of the kernel that it differentiates, at
// awkward shapes in exactly sized buffers; whole networks by the symmetry of the Hessian.
#include "gdcore/curvature.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

constexpr double kStep = 1e-5;

/// The largest |got - (up - down) / 2h|, in units of 1e-6 of the largest value (or of 1).
double off(const Array<double>& got, const Array<double>& up, const Array<double>& down) {
  double most = 1.0, worst = 0.0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double expected = (up[i] - down[i]) / (2.0 * kStep), error = std::abs(got[i] - expected);
    most = std::max(most, std::abs(expected));
    worst = error <= worst ? worst : (std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
  }
  return worst / (1e-6 * most);
}

Array<double> moved(const Array<double>& from, const Array<double>& along, double step) {
  Array<double> to = from.copy();
  for (std::int64_t i = 0; i < to.size(); ++i) to[i] += step * along[i];
  return to;
}

/// Whether two results agree to `tolerance` of the largest value (or of 1).
template <class T, class U>
bool close(const Array<T>& got, const Array<U>& expected, double tolerance) {
  double most = 1.0, worst = 0.0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const auto a = static_cast<double>(got[i]), b = static_cast<double>(expected[i]);
    if (!std::isfinite(a)) return false;
    most = std::max(most, std::abs(b));
    worst = std::max(worst, std::abs(a - b));
  }
  return worst <= tolerance * most;
}

/// A norm with all inputs of its derivatives; "constants" is batch norm when predicting. At shift 1 every other array
/// is aligned only to an element.
struct NormCase {
  NormOver over;
  std::int64_t rows, cols, groups;
  Array<double> x, gamma, beta, dy, x_dot, gamma_dot, beta_dot, dy_dot, mean, rstd;

  NormCase(NormOver over_, std::int64_t rows_, std::int64_t cols_, std::int64_t shift)
      : over(over_),
        rows(rows_),
        cols(cols_),
        groups(over == NormOver::rows ? rows : cols),
        x(rows, cols, shift),
        gamma(1, cols),
        beta(1, cols),
        dy(rows, cols, shift),
        x_dot(rows, cols),
        gamma_dot(1, cols, shift),
        beta_dot(1, cols),
        dy_dot(rows, cols),
        mean(1, groups),
        rstd(1, groups) {
    std::uint64_t stream = 1;
    for (Array<double>* a : {&x, &gamma, &beta, &dy, &x_dot, &gamma_dot, &beta_dot, &dy_dot, &mean, &rstd}) {
      a->random(stream++);
    }
  }
  struct Results {
    Array<double> y, dx, dgamma, dbeta;
  };
  /// Forward and backward with the existing kernels at x + step ẋ and so on; sets mean and rstd for that point.
  Results at(double step) {
    Results r{Array<double>(rows, cols), Array<double>(rows, cols), Array<double>(1, cols), Array<double>(1, cols)};
    Array<double> x1 = moved(x, x_dot, step), gamma1 = moved(gamma, gamma_dot, step),
                  beta1 = moved(beta, beta_dot, step), dy1 = moved(dy, dy_dot, step), variance(1, groups);
    if (over == NormOver::rows) {
      device().layer_norm_forward(
          {x1.view(), gamma1.view(), beta1.view(), 0.5, Identity{}, r.y.view(), mean.view(), rstd.view(), View{}});
    } else if (over == NormOver::columns) {
      device().batch_norm_forward({x1.view(), gamma1.view(), beta1.view(), 0.5, Identity{}, r.y.view(), mean.view(),
                                   rstd.view(), variance.view(), View{}});
    } else {
      for (std::int64_t i = 0; i < x.size(); ++i) {
        const std::int64_t c = i % cols;
        r.y[i] = (x1[i] - mean[c]) * rstd[c] * gamma1[c] + beta1[c];
      }
    }
    const NormBackward call{x1.view(),
                            gamma1.view(),
                            mean.view(),
                            rstd.view(),
                            Identity{},
                            ConstView{},
                            dy1.view(),
                            r.dx.view(),
                            r.dgamma.view(),
                            r.dbeta.view(),
                            over == NormOver::constants};
    over == NormOver::rows ? device().layer_norm_backward(call) : device().batch_norm_backward(call);
    return r;
  }
};

void check_norm(NormOver over, std::int64_t rows, std::int64_t cols, std::int64_t shift) {
  NormCase c(over, rows, cols, shift);
  const auto up = c.at(kStep), down = c.at(-kStep), here = c.at(0.0);
  Array<double> y_dot(rows, cols, shift), dx(rows, cols), dx_dot(rows, cols, shift), dgamma_dot(1, cols),
      dbeta_dot(1, cols, shift), spare(rows, cols);
  device().norm_tangent({over, c.x.view(), c.gamma.view(), c.mean.view(), c.rstd.view(), c.x_dot.view(),
                         c.gamma_dot.view(), c.beta_dot.view(), y_dot.view()});
  device().norm_curvature({over, c.x.view(), c.gamma.view(), c.mean.view(), c.rstd.view(), c.x_dot.view(),
                           c.gamma_dot.view(), c.dy.view(), c.dy_dot.view(), dx.view(), dx_dot.view(),
                           dgamma_dot.view(), dbeta_dot.view(), spare.view()});
  INFO("over ", static_cast<int>(over), ", ", rows, " x ", cols);
  CHECK(off(y_dot, up.y, down.y) <= 1.0);
  CHECK(off(dx_dot, up.dx, down.dx) <= 1.0);
  CHECK(off(dgamma_dot, up.dgamma, down.dgamma) <= 1.0);
  CHECK(off(dbeta_dot, up.dbeta, down.dbeta) <= 1.0);
  for (std::int64_t i = 0; i < dx.size(); ++i) CHECK(dx[i] == doctest::Approx(here.dx[i]).epsilon(1e-9));
}

/// Tangent and curvature of a case in T.
template <class T>
struct Directions {
  std::vector<Array<T>> in;  // x, γ, mean, rstd, ẋ, γ̇, β̇, dy, dẏ
  Array<T> y_dot, dx, dx_dot, dgamma_dot, dbeta_dot;

  explicit Directions(const NormCase& c)
      : y_dot(c.rows, c.cols), dx(c.rows, c.cols), dx_dot(c.rows, c.cols), dgamma_dot(1, c.cols), dbeta_dot(1, c.cols) {
    for (const Array<double>* from :
         {&c.x, &c.gamma, &c.mean, &c.rstd, &c.x_dot, &c.gamma_dot, &c.beta_dot, &c.dy, &c.dy_dot}) {
      Array<T>& to = in.emplace_back(from->rows(), from->cols());
      for (std::int64_t i = 0; i < to.size(); ++i) to[i] = static_cast<T>(static_cast<float>((*from)[i]));
    }
  }
  /// `absent`: inputs passed as null, one bit each.
  void run(NormOver over, unsigned absent = 0) {
    const auto view = [&](std::size_t i) { return (absent >> i & 1u) != 0 ? ConstView{} : ConstView(in[i].view()); };
    Array<T> spare(y_dot.rows(), y_dot.cols());
    device().norm_tangent({over, view(0), view(1), view(2), view(3), view(4), view(5), view(6), y_dot.view()});
    device().norm_curvature({over, view(0), view(1), view(2), view(3), view(4), view(5), view(7), view(8), dx.view(),
                             dx_dot.view(), dgamma_dot.view(), dbeta_dot.view(), spare.view()});
  }
  template <class U>
  bool close_to(const Directions<U>& other, double tolerance) const {
    return close(y_dot, other.y_dot, tolerance) && close(dx, other.dx, tolerance) &&
           close(dx_dot, other.dx_dot, tolerance) && close(dgamma_dot, other.dgamma_dot, tolerance) &&
           close(dbeta_dot, other.dbeta_dot, tolerance);
  }
};

constexpr NormOver kOver[] = {NormOver::rows, NormOver::columns, NormOver::constants};

double dot(const Array<double>& a, const Array<double>& b) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

template <class... Kinds>
void check_symmetry(const Loss& loss, bool labels, bool training, std::int64_t rows, Kinds... kinds) {
  const auto net = network(DType::float64, std::move(kinds)...);
  const Problem<double> problem(rows, net->in_features(), net->out_features());
  Curvature curvature(net, loss, labels ? problem.classes() : problem.weighted(), training);
  const std::int64_t n = curvature.parameters();
  Array<double> u(1, n), v(1, n), hu(1, n), hv(1, n), g(1, n), up(1, n), down(1, n), w(1, n);
  u.random(1);
  v.random(2);
  w.random(3, 0.5);
  const Bits before = bits_of(net->parameters().values);
  curvature.product(w.view(), u.view(), hu.view());
  curvature.product(w.view(), v.view(), hv.view());
  curvature.gradient(w.view(), g.view());
  curvature.gradient(moved(w, u, kStep).view(), up.view());
  curvature.gradient(moved(w, u, -kStep).view(), down.view());
  CHECK(dot(v, hu) == doctest::Approx(dot(u, hv)).epsilon(1e-9));
  CHECK(off(hu, up, down) <= 10.0);
  const double e_up = curvature.loss(moved(w, u, kStep).view()), e_down = curvature.loss(moved(w, u, -kStep).view());
  CHECK(dot(g, u) == doctest::Approx((e_up - e_down) / (2.0 * kStep)).epsilon(1e-6));
  CHECK(bits_of(net->parameters().values) == before);
}

}  // namespace

TEST_CASE("norms along a direction, forward and back") {
  for (const std::int64_t cols : awkward_widths()) {
    for (const std::int64_t rows : awkward_rows()) {
      for (const NormOver over : kOver) check_norm(over, rows, cols, (rows + cols) % 2);
    }
  }
  for (const NormOver over : kOver) check_norm(over, 2500, 12, 0);  // split into several parts
}

TEST_CASE("norms along a direction: float32 agrees with float64") {
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {33, 7}, {100, 64}, {3, 1030}, {2500, 12}}) {
    for (const NormOver over : kOver) {
      const NormCase c(over, rows, cols, 0);
      Directions<float> single(c);
      Directions<double> twice(c);
      single.run(over);
      twice.run(over);
      INFO("over ", static_cast<int>(over), ", ", rows, " x ", cols);
      CHECK(single.close_to(twice, 2e-6));
    }
  }
}

TEST_CASE("norms along a direction: null gamma is ones, null directions are zeros") {
  for (const std::int64_t rows : {33, 2500}) {
    for (const NormOver over : kOver) {
      const NormCase c(over, rows, 12, 0);
      for (const unsigned i : {1u, 4u, 5u, 6u}) {  // γ, ẋ, γ̇, β̇
        Directions<double> given(c), absent(c);
        given.in[i].fill(i == 1 ? 1.0 : 0.0);
        given.run(over);
        absent.run(over, 1u << i);
        INFO("over ", static_cast<int>(over), ", ", rows, " rows, input ", i);
        CHECK(absent.close_to(given, 1e-13));
        if (i != 4) {
          Directions<double> full(c);
          full.run(over);
          CHECK(!full.close_to(given, 1e-3));  // the input has an effect
        }
      }
    }
  }
}

TEST_CASE("second derivatives of the activations") {
  for (const Activation& f : all_activations()) {
    for (const std::int64_t n : awkward_widths()) {
      Array<double> a(1, n, 1), a_dot(1, n), dy(1, n), dy_dot(1, n, 1), got(1, n), y(1, n), up(1, n), down(1, n);
      a.random(1);
      a_dot.random(2);
      dy.random(3);
      dy_dot.random(4);
      for (std::int64_t i = 0; i < n; ++i) {
        a[i] += a[i] < 0.0 ? -0.01 : 0.01;  // away from the kink
        y[i] = exact_value(f, a[i]);
        const auto slope = [&](double h) { return exact_slope(f, a[i] + h * a_dot[i]) * (dy[i] + h * dy_dot[i]); };
        up[i] = slope(kStep);
        down[i] = slope(-kStep);
      }
      const ConstView saved = saves_input(f) ? a.view() : y.view();
      device().activation_curvature(f, saved, a_dot.view(), dy.view(), dy_dot.view(), got.view());
      INFO(name_of(f), " of ", n);
      CHECK(off(got, up, down) <= 1.0);
    }
  }
}

TEST_CASE("the Hessian of whole networks is symmetric and is the derivative of the gradient") {
  for (const std::int64_t rows : {2, 3, 33, 100}) {
    for (const bool training : {true, false}) {
      check_symmetry(CrossEntropy{}, true, training, rows, Dense(5, 7), BatchNorm(7), ActivationLayer(GELU{}),
                     Dense(7, 3));
      check_symmetry(MeanSquaredError{}, false, training, rows, Dense(3, 33), LayerNorm(33), ActivationLayer(Tanh{}),
                     DropoutLayer(0.4), Dense(33, 2), ActivationLayer(Sigmoid{}));
      check_symmetry(BinaryCrossEntropy{{{2.0}}}, false, training, rows, Dense(4, 6, false),
                     ActivationLayer(Softplus{}), BatchNorm(6, 0.9, 1e-2, Spread::variance, false), Dense(6, 1));
      check_symmetry(CrossEntropy{{{0.5, 2.0, 1.0}}, 0.1}, true, training, rows, LayerNorm(5), Dense(5, 3));
      check_symmetry(CrossEntropy{std::nullopt, 0.0, 2.0}, true, training, rows, Scale(5), Dense(5, 7),
                     ActivationLayer(Mish{}), Scale(7), ActivationLayer(SiLU{}), Dense(7, 3));
      check_symmetry(Poisson{}, false, training, rows, Dense(4, 33), Scale(33), ActivationLayer(Tanh{}), Dense(33, 2));
    }
  }
}

TEST_CASE("to += scale x") {
  for (const std::int64_t n : awkward_widths()) {
    Array<double> to(1, n, 1), x(1, n);
    to.random(1);
    x.random(2);
    const Array<double> before = to.copy();
    device().add(to.view(), x.view(), -0.25);
    for (std::int64_t i = 0; i < n; ++i) CHECK(to[i] == before[i] - 0.25 * x[i]);
  }
}
