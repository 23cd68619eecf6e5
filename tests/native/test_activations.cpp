// Activations through the backend, forward and backward, into other arrays and in place.
#include <variant>

#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

template <class T>
void check_shape(const Activation& f, std::int64_t rows, std::int64_t cols, std::int64_t shift,
                 std::int64_t other_shift) {
  Array<T> x(rows, cols, shift), y(rows, cols, shift), dy(rows, cols, other_shift), dx(rows, cols, shift);
  x.random(1, 4.0);
  dy.random(2);
  device().activation_forward(f, x.view(), y.view());
  const Array<T>& saved = saves_input(f) ? x : y;
  device().activation_backward(f, saved.view(), dy.view(), dx.view());
  Worst<T> forward(8.0), backward(12.0);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double a = static_cast<double>(x[i]), d = static_cast<double>(dy[i]);
    // The tails of GELU are small differences of large terms.
    forward.add(y[i], exact_value(f, a), std::abs(exact_value(f, a)) + 0.1 + std::abs(a));
    backward.add(dx[i], d * exact_slope(f, a), d * (1.0 + std::abs(a)));
  }
  CHECK(forward.value() <= 1.0);
  CHECK(backward.value() <= 1.0);

  Array<T> in_place = x.copy();
  device().activation_forward(f, in_place.view(), in_place.view());
  CHECK(in_place.same_bits(y));
  Array<T> gradient = dy.copy();
  device().activation_backward(f, saved.view(), gradient.view(), gradient.view());
  CHECK(std::memcmp(gradient.data(), dx.data(), dx.bytes()) == 0);
}

template <class T>
void check_threads(const Activation& f) {
  CHECK(same_for_all_threads([&] {
    Array<T> x(333, 301);
    x.random(3, 4.0);
    std::vector<Array<T>> out;
    Array<T>& y = out.emplace_back(333, 301);
    device().activation_forward(f, x.view(), y.view());
    const Array<T> saved = saves_input(f) ? x.copy() : y.copy();
    Array<T>& dx = out.emplace_back(333, 301);
    device().activation_backward(f, saved.view(), x.view(), dx.view());
    return out;
  }));
}

}  // namespace

TEST_CASE("activations agree with plain loops at every shape") {
  for (const Activation& f : all_activations()) {
    CAPTURE(std::string(name_of(f)));
    for (const std::int64_t cols : awkward_widths()) {
      for (const std::int64_t rows : awkward_rows()) {
        CAPTURE(cols);
        CAPTURE(rows);
        const std::int64_t shift = (rows + cols) % 2;
        check_shape<float>(f, rows, cols, shift, 1 - shift);
        check_shape<double>(f, rows, cols, 1 - shift, 1 - shift);
        if (rows < 3) check_shape<float>(f, rows, cols, 0, 0);
      }
    }
    check_shape<float>(f, 1, 40'003, 0, 0);
    check_shape<double>(f, 1, 20'001, 0, 0);
  }
}

TEST_CASE("the derivative of an activation's backward along a direction agrees with differences of slopes") {
  const auto look = [](const Activation& f, std::int64_t n, std::int64_t shift) {
    Array<double> x(1, n, shift), y(1, n, shift), x_dot(1, n), dy(1, n, shift), dy_dot(1, n), dx_dot(1, n, shift);
    x.random(1, 4.0);
    x_dot.random(2);
    dy.random(3);
    dy_dot.random(4);
    device().activation_forward(f, x.view(), y.view());
    const Array<double>& saved = saves_input(f) ? x : y;
    device().activation_curvature(f, saved.view(), x_dot.view(), dy.view(), dy_dot.view(), dx_dot.view());
    double worst = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      constexpr double kStep = 1e-5;
      const double bend = (exact_slope(f, x[i] + kStep) - exact_slope(f, x[i] - kStep)) / (2.0 * kStep);
      if (std::abs(x[i]) < 2.0 * kStep) continue;  // a kink
      worst = std::max(worst, std::abs(dx_dot[i] - (dy_dot[i] * exact_slope(f, x[i]) + dy[i] * bend * x_dot[i])));
    }
    CHECK(worst < 1e-8);
  };
  for (const Activation& f : all_activations()) {
    CAPTURE(std::string(name_of(f)));
    for (const std::int64_t n : {1, 2, 31, 1000, 9001}) {
      look(f, n, 0);
      look(f, n, 1);
    }
  }
}

TEST_CASE("activations do not depend on the number of threads") {
  for (const Activation& f : all_activations()) {
    CAPTURE(std::string(name_of(f)));
    check_threads<float>(f);
    check_threads<double>(f);
  }
}

TEST_CASE("the slope of ReLU at zero is zero, and of LeakyReLU the small one") {
  Array<float> y(1, 3), dy(1, 3), dx(1, 3);
  y[0] = 0.0f;
  y[1] = -0.0f;
  y[2] = 1.0f;
  dy.fill(2.0);
  device().activation_backward(ReLU{}, y.view(), dy.view(), dx.view());
  CHECK(dx[0] == 0.0f);
  CHECK(dx[1] == 0.0f);
  CHECK(dx[2] == 2.0f);
  device().activation_backward(LeakyReLU{0.25}, y.view(), dy.view(), dx.view());
  CHECK(dx[0] == 0.5f);
  CHECK(dx[2] == 2.0f);
}
