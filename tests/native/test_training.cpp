// Training: same bits for any division, interruption or refusal of the work; no allocation after the first step.
#include <atomic>
#include <chrono>
#include <thread>

#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

// AddressSanitizer calls a hook on every allocation; a program without it lacks this function.
extern "C" __attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*,
                                                                                        std::size_t),
                                                                               void (*)(const volatile void*));

namespace {

const bool kCounts = __sanitizer_install_malloc_and_free_hooks != nullptr;
const bool kCountsSteps = kCounts && tested() == Device::cpu;  // the emulated GPU itself allocates

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};

void count_allocation(const volatile void*, std::size_t) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
void ignore_free(const volatile void*) {}

/// Counts the allocations of all threads while `work` runs.
template <class Work>
std::int64_t count_allocations(Work&& work) {
  static const int installed = __sanitizer_install_malloc_and_free_hooks(count_allocation, ignore_free);
  REQUIRE(installed > 0);
  allocations = 0;
  counting = true;
  work();
  counting = false;
  return allocations;
}

template <class T>
std::shared_ptr<Network> deep(std::int64_t in, std::int64_t out) {
  const auto width = static_cast<std::size_t>(in);
  return network(kDType<T>, Standardizer(in, std::vector<double>(width, 0.1), std::vector<double>(width, 0.7)),
                 Dense(in, 65), BatchNorm(65), ActivationLayer(GELU{}), DropoutLayer(0.3), Dense(65, 33), LayerNorm(33),
                 ActivationLayer(ReLU{}), Dense(33, out), ActivationLayer(Softplus{}), Dense(out, out));
}

}  // namespace

TEST_CASE("the counter of allocations counts" * doctest::skip(!kCounts)) {
  CHECK(count_allocations([] {
          auto* memory = new char[100];
          asm volatile("" : : "g"(memory) : "memory");  // otherwise the compiler removes both
          delete[] memory;
        }) == 1);
  CHECK(count_allocations([] {}) == 0);
}

TEST_CASE("after the first step nothing is allocated, in steps, runs and evaluations, for all smaller batches" *
          doctest::skip(!kCountsSteps)) {
  for (const OptimizerRule& rule : every_rule()) {
    const Threads guard(1);
    const Problem<double> problem(101, 9, 4);  // gathered: doubles into float32
    const auto net = deep<float>(9, 4);
    Trainer trainer(net, CrossEntropy{std::vector<double>{1, 2, 3, 4}, 0.1}, {rule, 0.1, false, {}, 1.0, {}});
    const Permutation permutation = Permutation::of(101, 1, 0);
    const RowOrder order{nullptr, &permutation};
    const StepRates lr = 0.01;
    LossSums sums;
    const auto epoch = [&] {
      trainer.run(problem.classes(), {order, 101, 33, 0, 4}, {&lr, 1}, 1e9, sums);  // 33, 33, 33 and 2 rows
      trainer.run(problem.classes(), {{}, 101, 32, 0, 4}, {&lr, 1}, 1e9, sums);
      trainer.evaluate(problem.classes(), {order, 101, 30, 0, 4}, nullptr);
    };
    epoch();
    CHECK(count_allocations(epoch) == 0);
  }
}

TEST_CASE("with workers, each grows its scratch memory a few times, and no step allocates" *
          doctest::skip(!kCountsSteps)) {
  const Threads guard(3);
  std::atomic<int> met{0};
  run_tasks(3, [&](std::int64_t) {  // all threads have started and made their first allocations
    ++met;
    while (met < 3) std::this_thread::yield();
  });
  const Problem<float> problem(300, 120, 30);
  const auto net = deep<float>(120, 30);
  Trainer trainer(net, MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}});
  trainer.step(problem.weighted(), 0.01);
  constexpr int kMost = 3 * 13;  // three kinds of scratch memory, 12 products and a norm
  CHECK(count_allocations([&] {
          for (int step = 0; step < 3 * kMost; ++step) trainer.step(problem.weighted(), 0.01);
        }) <= 2 * kMost);
}

TEST_CASE("training gives the same bits for all thread counts") {
  for (const bool labels : {true, false}) {
    std::vector<Snapshot> results;
    std::vector<double> losses;
    for (const int threads : {1, 2, 3, 7}) {
      const Threads guard(threads);
      const Problem<float> problem(350, 120, 30);
      Loss loss = CrossEntropy{};
      if (!labels) loss = BinaryCrossEntropy{};
      Trainer trainer(deep<float>(120, 30), loss, {Adam{}, 0.01, true, {}, 1.0, {}});
      LossSums sums;
      const StepRates lr = 0.01;
      const Permutation permutation = Permutation::of(350, 5, 0);
      const RowOrder order{nullptr, &permutation};
      trainer.run(labels ? problem.classes() : problem.weighted(), {order, 350, 100, 0, 4}, {&lr, 1}, 1e9, sums);
      results.emplace_back(trainer);
      losses.push_back(sums.loss);
    }
    for (std::size_t i = 1; i < results.size(); ++i) {
      CHECK(results[i] == results[0]);
      CHECK(losses[i] == losses[0]);
    }
  }
}

TEST_CASE("ragged batches: a run equals its steps, and a small batch after a large one a small batch alone") {
  const Problem<double> problem(50, 9, 4);
  const auto make = [] {
    return Trainer(deep<double>(9, 4), MeanSquaredError{}, {Momentum{}, 0.01, false, {}, {}, {}});
  };
  Trainer whole = make(), steps = make(), small = make();
  const std::vector<StepRates> lrs = {0.1, 0.05, 0.02, 0.01};
  LossSums sums, added;
  const std::int64_t next = whole.run(problem.weighted(), {nullptr, 50, 16, 0, 4}, lrs, 1e9, sums);
  CHECK(next == 4);
  CHECK(whole.steps() == 4);
  for (std::int64_t b = 0; b < 4; ++b) {
    Dataset batch = problem.weighted();
    batch.x.data = problem.x.data() + b * 16 * 9;
    batch.y.data = problem.y.data() + b * 16 * 4;
    batch.weights.data = problem.weights.data() + b * 16;
    batch.x.rows = batch.y.rows = batch.weights.rows = std::min<std::int64_t>(16, 50 - b * 16);
    const LossSums one = steps.step(batch, lrs[static_cast<std::size_t>(b)]);
    added.loss += one.loss;
    added.weight += one.weight;
  }
  CHECK(Snapshot(whole) == Snapshot(steps));
  CHECK(sums.loss == added.loss);
  CHECK(sums.weight == added.weight);
  // A workspace for a larger batch does not change the results of a smaller one.
  forward_in_training(small.network(), problem.x.view());
  LossSums ignored;
  small.run(problem.weighted(), {nullptr, 50, 16, 0, 4}, lrs, 1e9, ignored);
  CHECK(Snapshot(small) == Snapshot(whole));
  // No time left: returns after one batch.
  Trainer slow = make();
  CHECK(slow.run(problem.weighted(), {nullptr, 50, 16, 0, 4}, lrs, 0.0, ignored) == 1);
  CHECK(slow.run(problem.weighted(), {nullptr, 50, 16, 1, 4}, std::span(lrs).subspan(1), 1e9, ignored) == 4);
  CHECK(Snapshot(slow) == Snapshot(whole));
}

TEST_CASE("evaluation sums over all rows, hands out the predictions and trains nothing") {
  const Problem<double> problem(50, 9, 4);
  Trainer trainer(deep<double>(9, 4), MeanSquaredError{}, {SGD{}, {}, false, {}, {}, {}});
  trainer.step(problem.weighted(), 0.1);
  const Snapshot before(trainer);
  Array<double> outputs(50, 4), predicted(50, 4);
  const LossSums sums = trainer.evaluate(problem.weighted(), {nullptr, 50, 16, 0, 4}, outputs.data());
  trainer.network().predict(Problem<double>::source(problem.x), 50, predicted.data());
  CHECK(outputs.same_bits(predicted));
  double loss = 0.0, weight = 0.0;
  for (std::int64_t i = 0; i < 200; ++i) {
    const double d = outputs[i] - problem.y[i], w = problem.weights[i / 4];
    loss += w * d * d / 4.0;
    weight += w / 4.0;
  }
  CHECK(sums.loss == doctest::Approx(loss).epsilon(1e-12));
  CHECK(sums.weight == doctest::Approx(weight).epsilon(1e-12));
  CHECK(Snapshot(trainer) == before);
}

TEST_CASE("a step that is refused leaves everything as it was") {
  const auto net = deep<float>(9, 4);
  Trainer trainer(net, MeanSquaredError{}, {Adam{}, 0.1, false, {}, 1.0, {}});
  Trainer twin(deep<float>(9, 4), MeanSquaredError{}, {Adam{}, 0.1, false, {}, 1.0, {}});
  Problem<float> problem(33, 9, 4), bad(33, 9, 4);
  trainer.step(problem.regression(), 0.01);
  twin.step(problem.regression(), 0.01);
  const Snapshot before(trainer);
  bad.x[40] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(trainer.step(bad.regression(), 0.01), DivergenceError);
  CHECK(Snapshot(trainer) == before);
  for (const double lr : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(trainer.step(problem.regression(), lr), std::invalid_argument);
    CHECK_THROWS_AS(trainer.optimizer_step(lr), std::invalid_argument);
    CHECK(Snapshot(trainer) == before);
  }
  CHECK_THROWS_AS(trainer.set_steps(-1), std::invalid_argument);
  trainer.step(problem.regression(), 0.01);
  twin.step(problem.regression(), 0.01);
  CHECK(Snapshot(trainer) == Snapshot(twin));
}

TEST_CASE("an infinite gradient norm is refused before the running averages move") {
  const auto make = [] {
    return network(DType::float32, Dense(2, 3, true, Constant{1.0}), BatchNorm(3), Dense(3, 1, true, Constant{1.0}));
  };
  Trainer trainer(make(), MeanSquaredError{}, {SGD{}, {}, false, {}, 1.0, {}});
  Problem<float> problem(8, 2, 1);
  for (std::int64_t i = 0; i < 8; ++i)
    problem.y[i] = i % 2 == 0 ? 1e19f : -1e19f;  // squares stay within float32's range
  problem.x.random(1, 1e-30);                    // 1/σ is 316: dx of the norm exceeds it
  auto* gamma = trainer.network().parameters().value(2).as<float>();
  gamma[0] = gamma[1] = gamma[2] = 3e37f;
  const Snapshot before(trainer);
  CHECK_THROWS_AS(trainer.step(problem.regression(), 0.01), DivergenceError);
  CHECK(Snapshot(trainer) == before);
}

TEST_CASE("data and hyperparameters that do not fit are refused") {
  const auto net = deep<float>(9, 4);
  const Problem<float> problem(10, 9, 4), narrow(10, 8, 4);
  Problem<float> other(10, 9, 5);
  other.labels[7] = 4;
  const Loss mse = MeanSquaredError{}, ce = CrossEntropy{};
  CHECK_NOTHROW(check_data(problem.weighted(), *net, mse, true));
  CHECK_NOTHROW(check_data(problem.classes(), *net, ce, true));
  CHECK_THROWS_AS(check_data(narrow.regression(), *net, mse, true), std::invalid_argument);
  CHECK_THROWS_AS(check_data(other.regression(), *net, mse, true), std::invalid_argument);
  CHECK_THROWS_AS(check_data(other.classes(), *net, ce, true), std::invalid_argument);  // label 4 of 4 classes
  Dataset short_y = problem.regression();
  short_y.y.rows = 9;
  CHECK_THROWS_AS(check_data(short_y, *net, mse, true), std::invalid_argument);
  Problem<float> bad(10, 9, 4);
  bad.weights[9] = -1.0f;
  CHECK_THROWS_AS(check_data(bad.weighted(), *net, mse, true), std::invalid_argument);
  bad.weights[9] = 1.0f;
  bad.x[89] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(check_data(bad.weighted(), *net, mse, true), std::invalid_argument);
  CHECK_NOTHROW(check_data(bad.weighted(), *net, mse, false));
  CHECK_THROWS_AS(check_loss(CrossEntropy{}, 1), std::invalid_argument);
  CHECK_THROWS_AS(check_loss(CrossEntropy{std::vector<double>{1, 2}, 0.0}, 3), std::invalid_argument);
  CHECK_THROWS_AS(check_loss(CrossEntropy{{}, 1.0}, 3), std::invalid_argument);
  CHECK_THROWS_AS(check_optimizer({Momentum{1.0}, {}, false, {}, {}, {}}, DType::float32), std::invalid_argument);
  CHECK_THROWS_AS(check_optimizer({SGD{}, {}, false, {}, 0.0, {}}, DType::float32), std::invalid_argument);
  CHECK_THROWS_AS(Trainer(net, mse, {SGD{}, std::vector<double>{0.1, 0.2}, false, {}, {}, {}}), std::invalid_argument);
  using Named = std::vector<std::pair<std::string, double>>;
  CHECK_THROWS_AS(Trainer(net, mse, {SGD{}, Named{{"layers.99", 0.1}}, false, {}, {}, {}}), std::invalid_argument);
}
