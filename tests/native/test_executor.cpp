// Plans in which operations read outputs of any earlier operations: forward, backward, along directions, and in
// prediction, against differences of the loss in double.
#include <functional>

#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

constexpr std::int64_t kRows = 7;

/// A network's layers with a custom plan that has skips.
struct Skipping {
  Layers list;
  Parameters parameters{DType::float64}, direction{DType::float64};
  Plan plan;
  Array<double> x{kRows, 6}, dy{kRows, 3};

  explicit Skipping(bool absorb)
      : list(layers(Dense(6, 6), ActivationLayer(Tanh{}), DropoutLayer(0.4), Dense(6, 6), ActivationLayer(GELU{}),
                    LayerNorm(6), Dense(6, 6), ActivationLayer(Softplus{}), Dense(6, 3))) {
    for (std::size_t i = 0; i < list.size(); ++i) list[i]->bind(static_cast<int>(i), 6, nullptr, parameters);
    direction.layout = parameters.layout;
    direction.state_layout = parameters.state_layout;
    for (Parameters* each : {&parameters, &direction}) {
      each->allocate(device());
      each->initialize(device(), each == &parameters ? 1 : 2);
    }
    plan = Plan::chain(list, 6, parameters, absorb);
    x.random(1);
    dy.random(2);
  }

  /// The index of the operation that covers layer `number`.
  int operation(int number) const {
    int found = -1;
    for (std::size_t i = 0; i < plan.operations.size(); ++i) {
      if (plan.operations[i].first <= number && number <= plan.operations[i].last) found = static_cast<int>(i);
    }
    return found;
  }
  void skip(int reader, int from) {
    plan.operations[static_cast<std::size_t>(operation(reader))].skip = from == kBatch ? kBatch : operation(from);
  }
};

using Mode = Executor::Mode;
constexpr StepContext kContext{.seed = 5, .step = 3};

/// Σ dy · y
double value_of(Executor& executor, const Skipping& of, Mode mode) {
  const View y = executor.forward(of.x.view(), mode, kContext);
  double sum = 0.0;
  for (std::int64_t i = 0; i < y.size(); ++i) sum += y.as<double>()[i] * of.dy[i];
  return sum;
}

std::vector<double> gradient_of(Executor& executor, const Skipping& of, Mode mode, View dx) {
  executor.forward(of.x.view(), mode, kContext);
  const View dy = executor.output_gradient();
  std::memcpy(dy.data, of.dy.data(), dy.bytes());
  executor.backward(dx);
  const auto* values = static_cast<const double*>(of.parameters.gradients.data());
  return {values, values + of.parameters.layout.size()};
}

/// The derivative of `value` with respect to *at.
double difference(double& at, const std::function<double()>& value) {
  constexpr double kStep = 1e-5;
  const double before = at;
  at = before + kStep;
  const double above = value();
  at = before - kStep;
  const double below = value();
  at = before;
  return (above - below) / (2.0 * kStep);
}

void check_close(double actual, double expected) {
  CHECK(actual == doctest::Approx(expected).epsilon(2e-7).scale(1.0));
}

/// With `directions`, also the derivatives along a direction, which absorbed activations do not have.
void check_derivatives(Skipping& of, Mode mode, bool directions) {
  Executor executor(of.plan, device(), of.parameters, Precision::full, directions);
  Array<double> dx(kRows, 6);
  const std::vector<double> gradient = gradient_of(executor, of, mode, dx.view());
  const auto value = [&] { return value_of(executor, of, mode); };
  double* values = static_cast<double*>(of.parameters.values.data());
  const auto* along = static_cast<const double*>(of.direction.values.data());
  double slope = 0.0;  // of the value along the direction
  for (const Entry& entry : of.parameters.layout.entries()) {
    for (std::int64_t i = entry.offset; i < entry.offset + entry.rows * entry.cols; ++i) {
      const double expected = difference(values[i], value);
      check_close(gradient[static_cast<std::size_t>(i)], expected);
      slope += expected * along[i];
    }
  }
  for (std::int64_t i = 0; i < dx.size(); ++i) check_close(dx[i], difference(of.x[i], value));
  if (!directions) return;
  // ẏ, and the derivatives along the direction of the gradients of dy · y; dy itself stays constant.
  executor.forward(of.x.view(), mode, kContext);
  const View y_dot = executor.tangent(of.direction);
  double sum = 0.0;
  for (std::int64_t i = 0; i < y_dot.size(); ++i) sum += y_dot.as<double>()[i] * of.dy[i];
  check_close(sum, slope);
  const View dy = executor.output_gradient(), dy_dot = executor.output_gradient_tangent();
  std::memcpy(dy.data, of.dy.data(), dy.bytes());
  std::memset(dy_dot.data, 0, dy_dot.bytes());
  executor.curvature(of.direction);
  const auto* found = static_cast<const double*>(of.direction.gradients.data());
  const std::vector<double> product(found, found + of.parameters.layout.size());
  const std::vector<double> start(values, values + of.parameters.layout.size());
  double t = 0.0;
  const auto gradients_at = [&](std::int64_t number) {
    for (std::size_t i = 0; i < start.size(); ++i) values[i] = start[i] + t * along[i];
    return gradient_of(executor, of, mode, {})[static_cast<std::size_t>(number)];
  };
  for (const Entry& entry : of.parameters.layout.entries()) {
    for (std::int64_t i = entry.offset; i < entry.offset + entry.rows * entry.cols; i += 5) {
      check_close(product[static_cast<std::size_t>(i)], difference(t, [&] { return gradients_at(i); }));
    }
  }
  std::copy(start.begin(), start.end(), values);
}

}  // namespace

TEST_CASE("an operation that reads two earlier outputs has the derivatives of their sum") {
  for (const bool absorb : {false, true}) {
    for (const Mode mode : {Mode::train, Mode::differentiate}) {
      CAPTURE(absorb);
      Skipping of(absorb);
      of.skip(3, 0);       // skips the dropout
      of.skip(6, 0);       // skips all operations between
      of.skip(5, kBatch);  // reads the inputs themselves
      of.skip(8, 7);       // adds its own input: twice that
      check_derivatives(of, mode, !absorb);
      if (few_shapes() && absorb) return;
    }
  }
}

TEST_CASE("predictions pass over dropout, and are those of the layers one by one") {
  Skipping of(false);
  of.skip(6, 2);
  of.skip(3, kBatch);
  Executor executor(of.plan, device(), of.parameters, Precision::full);
  const Bits predicted = bits_of(ConstView(executor.forward(of.x.view(), Mode::predict, kContext)));
  CHECK(executor.saved_rows() == 0);
  CHECK(bits_of(ConstView(executor.forward(of.x.view(), Mode::differentiate, kContext))) == predicted);
  CHECK(bits_of(ConstView(executor.forward(of.x.view(), Mode::train, kContext))) != predicted);
  CHECK(executor.saved_rows() == kRows);
}

TEST_CASE("what is frozen below a skip is left out, and what is not has its whole gradient") {
  Skipping of(true);
  of.skip(6, 0);
  Executor executor(of.plan, device(), of.parameters, Precision::full);
  const std::vector<double> whole = gradient_of(executor, of, Mode::train, {});
  Arena& layout = of.parameters.layout;
  for (int i = 0; i < std::ssize(layout.entries()); ++i) {
    const int layer = layout.entries()[static_cast<std::size_t>(i)].layer;
    layout.freeze(i, layer == 0 || layer == 5);
  }
  const std::vector<double> part = gradient_of(executor, of, Mode::train, {});
  for (const Entry& entry : of.parameters.layout.entries()) {
    for (std::int64_t i = entry.offset; !entry.frozen && i < entry.offset + entry.rows * entry.cols; ++i) {
      CHECK(part[static_cast<std::size_t>(i)] == whole[static_cast<std::size_t>(i)]);
    }
  }
}

TEST_CASE("plans that make no sense are refused") {
  const auto refused = [](const std::function<void(Plan&)>& spoil) {
    Skipping of(true);
    spoil(of.plan);
    CHECK_THROWS_AS(Executor(of.plan, device(), of.parameters, Precision::full), std::logic_error);
  };
  refused([](Plan& plan) { plan.operations[1].input = 1; });
  refused([](Plan& plan) { plan.operations[2].input = 0; });  // nothing reads operation 1
  refused([](Plan& plan) { plan.operations[1].skip = 2; });
  refused([](Plan& plan) { plan.operations[1].in = 5; });
  refused([](Plan& plan) { plan.operations.back().out = 5; });
  refused([](Plan& plan) { plan.operations.clear(); });
}
