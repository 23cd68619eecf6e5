// Interruption at any point of a training step: nothing has changed, and the next step runs as without interruption.
#include <chrono>
#include <thread>

#include "gdcore/check.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

const bool kRecords = tested() != Device::cpu;  // recorded steps bypass layers with tripwires

struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

/// The call of a Tripwire to interrupt, and the number of calls so far.
struct Strike {
  int at = 0, calls = 0;
  bool by_poll = false;    // the poll throws, inside the pool, instead of the layer itself
  bool in_commit = false;  // poll while the running averages move
  bool armed = false;      // the next poll throws
};

/// Passes data through unchanged; interrupts at the chosen call.
struct Tripwire final : LayerOf<Tripwire> {
  std::shared_ptr<Strike> plan;

  explicit Tripwire(std::shared_ptr<Strike> plan_) : plan(std::move(plan_)) {}
  std::string kind() const override { return "Tripwire"; }
  void commit(const LayerCall&) const override {
    if (plan->in_commit) poll_now();
  }

 protected:
  void forward_impl(const LayerCall& call) const override {
    strike();
    call.backend.copy(call.y.data, call.x.data, call.y.bytes(), CopyKind::within);
  }
  void backward_impl(const LayerCall& call) const override {
    strike();
    if (call.dx) call.backend.copy(call.dx.data, call.dy.data, call.dx.bytes(), CopyKind::within);
  }

 private:
  void poll_now() const {
    plan->armed = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(21));
    run_tasks(3, [](std::int64_t) {});
    poll_interrupt();
  }
  void strike() const {
    if (++plan->calls != plan->at) return;
    if (!plan->by_poll) throw Interrupted();
    poll_now();
  }
};

/// Has a parameter, so that backward reaches it last; arms the interruption there, right before the update.
struct Bottom final : LayerOf<Bottom> {
  std::shared_ptr<Strike> plan;

  explicit Bottom(std::shared_ptr<Strike> plan_) : plan(std::move(plan_)) {}
  std::string kind() const override { return "Bottom"; }
  void bind(int, std::int64_t, const Activation*, Parameters& parameters) override {
    parameters.layout.add({.name = "bottom", .rows = 1, .cols = 1});
  }

 protected:
  void forward_impl(const LayerCall& call) const override {
    call.backend.copy(call.y.data, call.x.data, call.y.bytes(), CopyKind::within);
  }
  void backward_impl(const LayerCall&) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(21));
    plan->armed = true;
  }
};

template <class T>
Trainer make(const OptimizerRule& rule, const std::shared_ptr<Strike>& plan) {
  return Trainer(network(kDType<T>, Tripwire(plan), Dense(9, 33), BatchNorm(33), ActivationLayer(GELU{}),
                         Tripwire(plan), DropoutLayer(0.3), Dense(33, 17), LayerNorm(17), ActivationLayer(Tanh{}),
                         Tripwire(plan), Dense(17, 4), Tripwire(plan)),
                 MeanSquaredError{}, {rule, 0.01, true, {}, 1.0, 0.5});
}

/// Interrupts the third step at its n-th opportunity for n = 1, 2, ...; returns the number of interruptions.
template <class T>
int interrupt_everywhere(const OptimizerRule& rule, bool by_poll) {
  const Problem<T> problem(31, 9, 4);
  const auto plan = std::make_shared<Strike>(), undisturbed = std::make_shared<Strike>();
  Trainer trainer = make<T>(rule, plan), twin = make<T>(rule, undisturbed);
  for (int step = 0; step < 2; ++step) {
    trainer.step(problem.weighted(), 0.05);
    twin.step(problem.weighted(), 0.05);
  }
  const Snapshot before(trainer);
  CHECK(before == Snapshot(twin));
  int interruptions = 0;
  for (int n = 1;; ++n) {
    *plan = {.at = n, .by_poll = by_poll};
    bool stopped = false;
    try {
      const InterruptScope scope([&] {
        if (plan->armed) throw Interrupted();
      });
      trainer.step(problem.weighted(), 0.05);
    } catch (const Interrupted&) {
      stopped = true;
    }
    if (!stopped) break;
    ++interruptions;
    REQUIRE(Snapshot(trainer) == before);
  }
  twin.step(problem.weighted(), 0.05);
  CHECK(Snapshot(trainer) == Snapshot(twin));
  *plan = {};
  trainer.step(problem.weighted(), 0.05);
  twin.step(problem.weighted(), 0.05);
  CHECK(Snapshot(trainer) == Snapshot(twin));
  return interruptions;
}

}  // namespace

TEST_CASE("a step interrupted at any layer, forward or backward, has changed nothing" * doctest::skip(kRecords)) {
  for (const OptimizerRule& rule : every_rule()) {
    CAPTURE(rule.index());
    // Four tripwires forward and three backward: the lowest is not reached, as its dx is not requested.
    CHECK(interrupt_everywhere<float>(rule, false) == 7);
    CHECK(interrupt_everywhere<double>(rule, false) == 7);
  }
}

TEST_CASE("the same when the poll throws from within the pool" * doctest::skip(kRecords)) {
  for (const int threads : {1, 3}) {
    const Threads guard(threads);
    CHECK(interrupt_everywhere<float>(Adam{}, true) == 7);
  }
}

TEST_CASE("a snapshot notices the smallest change") {
  const auto plan = std::make_shared<Strike>();
  Trainer trainer = make<float>(Adam{}, plan);
  const Snapshot before(trainer);
  auto* weight = static_cast<float*>(trainer.network().parameters().values.data());
  const float kept = *weight;
  *weight = std::nextafter(kept, 10.0f);
  CHECK_FALSE(Snapshot(trainer) == before);
  *weight = kept;
  CHECK(Snapshot(trainer) == before);
  trainer.set_steps(1);
  CHECK_FALSE(Snapshot(trainer) == before);
}

TEST_CASE("the update at a step's end is not interrupted" * doctest::skip(kRecords)) {
  const Problem<float> problem(31, 9, 4);
  const auto plan = std::make_shared<Strike>(), undisturbed = std::make_shared<Strike>();
  Trainer trainer = make<float>(Momentum{}, plan), twin = make<float>(Momentum{}, undisturbed);
  plan->in_commit = true;
  {
    const InterruptScope scope([&] {
      if (plan->armed) throw Interrupted();
    });
    CHECK_NOTHROW(trainer.step(problem.weighted(), 0.05));
    CHECK(plan->armed);
    CHECK_THROWS_AS(poll_interrupt(), Interrupted);  // thrown as soon as the step is complete
  }
  twin.step(problem.weighted(), 0.05);
  CHECK(Snapshot(trainer) == Snapshot(twin));
  // The running averages of a single forward pass are not interrupted either.
  plan->armed = false;
  const InterruptScope scope([&] {
    if (plan->armed) throw Interrupted();
  });
  CHECK_NOTHROW(trainer.network().forward(problem.x.view(), true));
  CHECK(plan->armed);
}

TEST_CASE("the optimiser's pass over many parameters is not interrupted half-way" * doctest::skip(kRecords)) {
  const Threads guard(3);  // several tasks, between which the caller would poll
  const Problem<float> problem(5, 300, 400);
  const auto plan = std::make_shared<Strike>(), undisturbed = std::make_shared<Strike>();
  const auto build = [](const std::shared_ptr<Strike>& wire) {
    return Trainer(network(DType::float32, Bottom(wire), Dense(300, 400)), MeanSquaredError{},
                   {Adam{}, {}, false, {}, {}, {}});
  };
  Trainer trainer = build(plan), twin = build(undisturbed);
  {
    const InterruptScope scope([&] {
      if (plan->armed) throw Interrupted();
    });
    CHECK_NOTHROW(trainer.step(problem.regression(), 0.05));
    CHECK(plan->armed);
    std::this_thread::sleep_for(std::chrono::milliseconds(21));
    CHECK_NOTHROW(trainer.optimizer_step(0.05));
  }
  twin.step(problem.regression(), 0.05);
  twin.optimizer_step(0.05);
  CHECK(Snapshot(trainer) == Snapshot(twin));
}

TEST_CASE("a long step with real polls, interrupted at each of them in turn" * doctest::skip(kRecords)) {
  const Problem<float> problem(400, 500, 40);
  const auto build = [] {
    return Trainer(network(DType::float32, Dense(500, 500), BatchNorm(500), ActivationLayer(ReLU{}), Dense(500, 500),
                           ActivationLayer(GELU{}), Dense(500, 40)),
                   MeanSquaredError{}, {Adam{}, {}, false, {}, 1.0, {}});
  };
  for (const int threads : {1, 3}) {
    const Threads guard(threads);
    Trainer trainer = build(), twin = build();
    trainer.step(problem.regression(), 0.01);
    twin.step(problem.regression(), 0.01);
    const Snapshot before(trainer);
    int interruptions = 0;
    for (int n = 1; n <= 8; ++n) {
      int polls = 0;
      try {
        const InterruptScope scope([&] {
          if (++polls == n) throw Interrupted();
        });
        trainer.step(problem.regression(), 0.01);
        break;
      } catch (const Interrupted&) {
        ++interruptions;
        REQUIRE(Snapshot(trainer) == before);
      }
    }
    if (Snapshot(trainer) == before) trainer.step(problem.regression(), 0.01);
    twin.step(problem.regression(), 0.01);
    CHECK(Snapshot(trainer) == Snapshot(twin));
    MESSAGE("interrupted " << interruptions << " times with " << threads << " threads");
  }
}

TEST_CASE("a row order interrupted in its computation is computed again" * doctest::skip(kRecords)) {
  const Problem<float> problem(31, 9, 4);
  const auto plan = std::make_shared<Strike>(), undisturbed = std::make_shared<Strike>();
  Trainer trainer = make<float>(SGD{}, plan), twin = make<float>(SGD{}, undisturbed);
  const Permutation permutation = Permutation::of(31, 5, 0);
  const BatchRange range{{nullptr, &permutation}, 31, 8, 0, 4};
  const StepRates lr = 0.01;
  LossSums sums, expected;
  {
    const InterruptScope scope([] { throw Interrupted(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(21));
    CHECK_THROWS_AS(trainer.run(problem.weighted(), range, {&lr, 1}, 1e9, sums), Interrupted);
  }
  CHECK(trainer.steps() == 0);  // interrupted before the first step, by the poll of fill_order
  CHECK(trainer.run(problem.weighted(), range, {&lr, 1}, 1e9, sums) == 4);
  twin.run(problem.weighted(), range, {&lr, 1}, 1e9, expected);
  CHECK(Snapshot(trainer) == Snapshot(twin));
  CHECK(sums.loss == expected.loss);
}

TEST_CASE("runs, evaluations and predictions stop when asked") {
  const Problem<float> problem(31, 9, 4);
  const auto plan = std::make_shared<Strike>();
  Trainer trainer = make<float>(SGD{}, plan);
  const StepRates lr = 0.01;
  LossSums sums;
  const InterruptScope scope([] { throw Interrupted(); });
  CHECK_THROWS_AS(([&] {
                    while (true) trainer.run(problem.weighted(), {nullptr, 31, 8, 0, 4}, {&lr, 1}, 1e9, sums);
                  }()),
                  Interrupted);
  const std::int64_t steps = trainer.steps();
  std::this_thread::sleep_for(std::chrono::milliseconds(21));
  CHECK_THROWS_AS(trainer.evaluate(problem.weighted(), {nullptr, 31, 8, 0, 4}, nullptr), Interrupted);
  std::this_thread::sleep_for(std::chrono::milliseconds(21));
  Array<float> outputs(31, 4);
  CHECK_THROWS_AS(trainer.network().predict(Problem<float>::source(problem.x), 8, outputs.data()), Interrupted);
  CHECK(trainer.steps() == steps);
}
