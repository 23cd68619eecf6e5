// Holds on a network's arrays by a thread that copies or writes them: holds wait for computations, computations wait
// for holds, a thread never waits for itself, and an interrupted wait leaves no state behind.
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "gdcore/check.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// Stands for the bindings: a lock that one thread owns at a time and releases while it waits or computes.
struct Interpreter {
  std::mutex mutex;

  template <class Work>
  void run_blocking(const Work& work) {
    struct Again {
      std::mutex& mutex;
      ~Again() { mutex.lock(); }
    };
    mutex.unlock();
    const Again again{mutex};
    work();
  }
  template <class Work>
  void compute(Network& net, const Work& work) {
    const std::lock_guard lock(mutex);
    while (net.has_other_holder()) run_blocking([&] { net.wait_for_holders(); });
    const Network::Use use(net);
    run_blocking(work);
  }
  bool begin_hold(Network& net) {
    const std::lock_guard lock(mutex);
    return net.begin_hold([&](const std::function<void()>& wait) { run_blocking(wait); });
  }
  void end_hold(Network& net) {
    const std::lock_guard lock(mutex);
    net.end_hold();
  }
};

std::shared_ptr<Network> small() { return network(DType::float32, Dense(5, 7), ActivationLayer(ReLU{}), Dense(7, 2)); }

bool later(const std::atomic<bool>& flag) {
  for (int turn = 0; turn < 2000 && !flag; ++turn) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return flag;
}

/// Whether `flag` stays false for as long as a waiting thread needs to react.
bool stays_false(const std::atomic<bool>& flag) {
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  return !flag;
}

}  // namespace

TEST_CASE("holds: who copies beside training sees whole steps, and training goes on") {
  if (tested() != Device::cpu) return;
  const Problem<float> problem(48, 5, 2);
  const auto trained = small(), alone = small();
  Trainer trainer(trained, MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}}),
      reference(alone, MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}});
  Interpreter interpreter;
  std::atomic<int> holds{0};
  std::thread other([&] {
    while (holds < 20) interpreter.compute(*trained, [&] { trainer.step(problem.regression(), 0.01); });
  });
  for (; holds < 20; ++holds) {
    REQUIRE(interpreter.begin_hold(*trained));
    const Bits first = bits_of(trained->parameters().values);
    const std::int64_t steps = trainer.steps();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    CHECK(bits_of(trained->parameters().values) == first);
    CHECK(trainer.steps() == steps);
    interpreter.end_hold(*trained);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  other.join();
  CHECK(trainer.steps() > 0);
  while (reference.steps() < trainer.steps()) reference.step(problem.regression(), 0.01);
  CHECK(bits_of(trained->parameters().values) == bits_of(alone->parameters().values));
}

TEST_CASE("holds: a hold waits for a computation, a computation for a hold") {
  const auto net = small();
  Interpreter interpreter;
  std::atomic<bool> computing{false}, may_end{false}, held{false}, may_release{false}, computed{false};
  std::thread first([&] {
    interpreter.compute(*net, [&] {
      computing = true;
      later(may_end);
    });
  });
  REQUIRE(later(computing));
  std::thread holder([&] {
    CHECK(interpreter.begin_hold(*net));
    held = true;
    later(may_release);
    interpreter.end_hold(*net);
  });
  CHECK(stays_false(held));
  may_end = true;
  REQUIRE(later(held));
  first.join();
  std::thread second([&] { interpreter.compute(*net, [&] { computed = true; }); });
  CHECK(stays_false(computed));
  may_release = true;
  CHECK(later(computed));
  holder.join();
  second.join();
}

TEST_CASE("holds: a thread does not wait for itself") {
  const auto net = small();
  Interpreter interpreter;
  REQUIRE(interpreter.begin_hold(*net));
  REQUIRE(interpreter.begin_hold(*net));  // nested
  bool computed = false;
  interpreter.compute(*net, [&] { computed = true; });  // the holding thread may compute
  CHECK(computed);
  interpreter.end_hold(*net);
  std::thread other([&] {
    const std::lock_guard lock(interpreter.mutex);
    CHECK(net->has_other_holder());  // the first hold is still there
    CHECK_THROWS_AS(Network::Use{*net}, std::runtime_error);
  });
  other.join();
  interpreter.end_hold(*net);
  // Inside a computation of the same thread, begin_hold() does not wait and holds nothing.
  interpreter.compute(*net, [&] { CHECK_FALSE(interpreter.begin_hold(*net)); });
  std::thread last([&] { interpreter.compute(*net, [] {}); });
  last.join();
}

TEST_CASE("holds: who is interrupted while waiting leaves nothing behind") {
  struct Interrupted {};
  const auto net = small();
  Interpreter interpreter;
  std::atomic<bool> busy{false}, may_end{false};
  const auto interrupted = [&](const auto& wait) {
    bool thrown = false;
    try {
      const InterruptScope scope([] { throw Interrupted(); });
      wait();
    } catch (const Interrupted&) {
      thrown = true;
    }
    CHECK(thrown);
  };
  std::thread computing([&] {
    interpreter.compute(*net, [&] {
      busy = true;
      later(may_end);
    });
  });
  REQUIRE(later(busy));
  interrupted([&] { interpreter.begin_hold(*net); });
  may_end = true;
  computing.join();
  std::thread free([&] {
    const std::lock_guard lock(interpreter.mutex);
    CHECK_FALSE(net->has_other_holder());
  });
  free.join();
  busy = may_end = false;
  std::thread holding([&] {
    CHECK(interpreter.begin_hold(*net));
    busy = true;
    later(may_end);
    interpreter.end_hold(*net);
  });
  REQUIRE(later(busy));
  interrupted([&] { interpreter.compute(*net, [] {}); });
  may_end = true;
  holding.join();
  const auto start = std::chrono::steady_clock::now();
  CHECK(interpreter.begin_hold(*net));  // does not wait for the interrupted thread, which would take a second
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(500));
  interpreter.end_hold(*net);
}
