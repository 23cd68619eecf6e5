// Promise: a user-defined loss trains as the built-in loss with its formula does, with weights of rows, on every
// device; its function receives its documented arguments and nothing else.
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

constexpr std::int64_t kRows = 37, kIn = 5, kOut = 3;

template <class T>
void squares(const CustomLossCall& call) {
  const T *y = call.outputs.as<T>(), *t = call.targets.as<T>();
  const auto width = static_cast<double>(kOut);
  for (std::int64_t n = 0; n < call.outputs.rows; ++n) {
    double sum = 0.0;
    for (std::int64_t i = n * kOut; i < (n + 1) * kOut; ++i) {
      const double error = static_cast<double>(y[i]) - static_cast<double>(t[i]);
      sum += error * error;
      if (call.gradient) call.gradient.as<T>()[i] = static_cast<T>(2.0 * error / width);
    }
    call.losses[n] = sum / width;
  }
}

CustomLoss custom(std::function<void(const CustomLossCall&)> function, bool labels = false) {
  return {labels, std::make_shared<const std::function<void(const CustomLossCall&)>>(std::move(function))};
}

template <class T>
Trainer trainer_of(AnyLoss loss) {
  auto net = network(kDType<T>, Dense(kIn, 7), ActivationLayer(Tanh{}), Dense(7, kOut));
  return Trainer(std::move(net), std::move(loss), {Adam{}, 0.01, false, {}, {}, {}});
}

template <class T>
void check_as_built_in(bool weighted) {
  CAPTURE(sizeof(T));
  CAPTURE(weighted);
  const Problem<T> problem(kRows, kIn, kOut);
  const Dataset data = weighted ? problem.weighted() : problem.regression();
  Trainer own = trainer_of<T>(custom(&squares<T>)), known = trainer_of<T>(AnyLoss{});  // MeanSquaredError
  LossSums sums[2];
  int turn = 0;
  for (Trainer* trainer : {&own, &known}) {
    for (int epoch = 0; epoch < 3; ++epoch) {
      BatchRange range{{}, kRows, 8, 0, 0};
      range.last = range.batches(false);
      const StepRates lr = 0.01;
      trainer->run(data, range, {&lr, 1}, INFINITY, sums[turn]);
    }
    sums[turn] = trainer->evaluate(data, {{}, kRows, 16, 0, 0}, nullptr);
    ++turn;
  }
  const double tolerance = 1e5 * kEps<T>;
  CHECK(own.steps() == known.steps());
  CHECK(std::abs(sums[0].loss - sums[1].loss) <= tolerance * sums[1].loss);
  CHECK(std::abs(sums[0].weight - sums[1].weight) <= tolerance * sums[1].weight);
}

}  // namespace

TEST_CASE("a custom loss trains as the built-in one with its formula") {
  for (const bool weighted : {false, true}) {
    check_as_built_in<float>(weighted);
    check_as_built_in<double>(weighted);
  }
}

TEST_CASE("its function gets class numbers where it takes them, and its errors come through") {
  const Problem<float> problem(kRows, kIn, kOut);
  std::vector<std::int32_t> seen;
  Trainer trainer = trainer_of<float>(custom(
      [&seen](const CustomLossCall& call) {
        CHECK(!call.targets);
        CHECK(!call.direction);
        seen.assign(call.labels, call.labels + call.outputs.rows);
        for (std::int64_t n = 0; n < call.outputs.rows; ++n) call.losses[n] = 1.0;
        for (std::int64_t i = 0; i < call.gradient.size(); ++i) call.gradient.as<float>()[i] = 0.0F;
      },
      true));
  const double loss = trainer.step(problem.classes(), 0.1).mean();
  CHECK(loss == 1.0);
  CHECK(seen == problem.labels);

  Trainer broken = trainer_of<float>(custom([](const CustomLossCall&) { throw std::domain_error("of my own"); }));
  const Snapshot before(broken);
  CHECK_THROWS_AS(broken.step(problem.regression(), 0.1), std::domain_error);
  CHECK(Snapshot(broken) == before);
}

TEST_CASE("a custom loss that is not finite stops the step before anything has changed") {
  const Problem<double> problem(kRows, kIn, kOut);
  Trainer trainer = trainer_of<double>(custom([](const CustomLossCall& call) {
    squares<double>(call);
    call.losses[3] = INFINITY;
  }));
  const Snapshot before(trainer);
  CHECK_THROWS_AS(trainer.step(problem.regression(), 0.1), DivergenceError);
  CHECK(Snapshot(trainer) == before);
}
