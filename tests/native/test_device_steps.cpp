// Steps that a device runs without the host: same bits as steps driven by the host, in any grouping; failed steps
// change nothing; outdated recordings are never used; data copied in windows. Skipped on the CPU, which records
// nothing.
#include "gdcore/check.h"
#include "gdcore/device_steps.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

const bool kRecords = tested() == Device::cuda;

template <class T>
std::shared_ptr<Network> deep(std::int64_t in, std::int64_t out) {
  return network(kDType<T>, Dense(in, 33), BatchNorm(33), ActivationLayer(GELU{}), DropoutLayer(0.3), Dense(33, 17),
                 LayerNorm(17), ActivationLayer(ReLU{}), Dense(17, out));
}

std::vector<std::int64_t> shuffled(std::int64_t rows, std::uint64_t epoch) {
  const Permutation permutation = Permutation::of(rows, 5, epoch);
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  fill_order({nullptr, &permutation}, 0, rows, order.data());
  return order;
}

/// An epoch with nothing recorded: the host calls each operation.
LossSums by_hand(Network& net, Trainer& trainer, const Loss& loss, const Dataset& data, const BatchRange& range,
                 std::span<const StepRates> rates) {
  Criterion criterion(loss, net);
  BatchReader reader;
  LossSums total;
  for (std::int64_t b = range.first; b < range.last; ++b) {
    const Batch batch = reader.read(net, data, range.order, range.first_row(b), range.rows_of(b));
    const StepRates& own = rates[static_cast<std::size_t>(b)];
    const View logits = forward_in_training(net, batch.x, own);
    const LossSums sums = criterion.apply(batch, logits, net.executor().output_gradient());
    net.executor().backward({});
    net.executor().commit();
    trainer.optimizer_step(own);
    net.executor().forget();
    total.loss += sums.loss;
    total.weight += sums.weight;
  }
  return total;
}

template <class T>
void same_as_by_hand(const OptimizerRule& rule, bool labels, std::optional<double> clip) {
  const Problem<T> problem(150, 9, 4);
  Loss loss = MeanSquaredError{};
  if (labels) loss = CrossEntropy{};
  const Dataset data = labels ? problem.classes() : problem.weighted();
  const Optimizer optimizer{rule, 0.01, false, {}, clip, 0.5};
  Trainer recorded(deep<T>(9, 4), loss, optimizer), hand(deep<T>(9, 4), loss, optimizer);
  std::vector<StepRates> lrs;
  for (int b = 0; b < 38; ++b) lrs.push_back(varied_rates(0.01 / (1 + b), b));
  for (Trainer* each : {&recorded, &hand}) each->begin_average(0.9, labels ? 1 : 3, 0);
  const Permutation permutation = Permutation::of(150, 5, 0);
  // 37 whole batches: a recording of 32 steps, single ones, 2 rows
  const BatchRange range{{nullptr, &permutation}, 150, 4, 0, 38};
  LossSums sums;
  CHECK(recorded.run(data, range, lrs, 1e9, sums) == 38);
  const LossSums expected = by_hand(hand.network(), hand, loss, data, range, lrs);
  CHECK(recorded.steps() == 38);
  CHECK(Snapshot(recorded) == Snapshot(hand));
  for (Trainer* each : {&recorded, &hand}) each->average()->swap();
  CHECK(Snapshot(recorded) == Snapshot(hand));  // of the averages
  CHECK(sums.loss == expected.loss);
  CHECK(sums.weight == expected.weight);
}

/// The dataset with a row count that fits on no device; only the rows that exist may be read.
Dataset without_room(Dataset data) {
  data.x.rows = data.y.rows = data.weights.rows = std::int64_t{1} << 40;
  return data;
}

/// State after an epoch.
template <class Left>
struct TrainedOf {
  Left left;
  double loss, weight;
  bool operator==(const TrainedOf&) const = default;
};
using Trained = TrainedOf<Snapshot>;

/// An epoch of 150 rows in batches of 4. With `cut`, the time limit ends each call as early as possible.
Trained epoch_of(std::shared_ptr<Network> net, const Dataset& data, const RowOrder& order, bool cut,
                 std::int64_t window_bytes = kWindowBytes) {
  constexpr std::int64_t kRows = 150, kBatch = 4, kBatches = 38;
  Trainer trainer(std::move(net), MeanSquaredError{}, {Adam{}, 0.01, false, {}, {}, {}}, window_bytes);
  std::vector<StepRates> lrs;
  for (std::int64_t b = 0; b < kBatches; ++b) lrs.push_back(varied_rates(0.02 / static_cast<double>(1 + b), b));
  LossSums sums;
  std::int64_t next = 0, calls = 0;
  for (; next < kBatches; ++calls) {
    const auto rates = std::span(lrs).subspan(static_cast<std::size_t>(next));
    const std::int64_t before = next;
    next = trainer.run(data, {order, kRows, kBatch, next, kBatches}, rates, cut ? 0.0 : 1e9, sums);
    REQUIRE(next > before);
    CHECK(trainer.steps() == next);
  }
  CHECK((cut ? calls > 2 : calls == 1));
  return {Snapshot(trainer), sums.loss, sums.weight};
}

}  // namespace

TEST_CASE("recorded steps have the bits of steps that the host drives" * doctest::skip(!kRecords)) {
  for (const OptimizerRule& rule : every_rule()) same_as_by_hand<float>(rule, true, {});
  same_as_by_hand<double>(Adam{}, true, {});
  same_as_by_hand<double>(Momentum{}, false, {});
  same_as_by_hand<float>(SGD{}, false, {});
}

TEST_CASE("clipping by the norm in recorded steps agrees with the host's" * doctest::skip(!kRecords)) {
  same_as_by_hand<float>(SGD{}, true, 0.1);
  same_as_by_hand<double>(Adam{}, false, 0.1);
}

TEST_CASE("slices of time do not show" * doctest::skip(!kRecords)) {
  const Problem<float> problem(150, 9, 4);
  const auto order = shuffled(150, 1);
  const StepRates lr = 0.01;
  Trainer whole(deep<float>(9, 4), CrossEntropy{}, {Adam{}, {}, false, {}, {}, {}}),
      slices(deep<float>(9, 4), CrossEntropy{}, {Adam{}, {}, false, {}, {}, {}});
  LossSums sums, added;
  whole.run(problem.classes(), {order.data(), 150, 2, 0, 75}, {&lr, 1}, 1e9, sums);
  std::int64_t next = 0;
  int calls = 0;
  for (; next < 75; ++calls)
    next = slices.run(problem.classes(), {order.data(), 150, 2, next, 75}, {&lr, 1}, 0.0, added);
  CHECK(calls > 2);
  CHECK(Snapshot(whole) == Snapshot(slices));
  CHECK(sums.loss == added.loss);
}

TEST_CASE("a loss that is not finite stops the steps behind it, and the host says why" * doctest::skip(!kRecords)) {
  Problem<float> problem(80, 9, 4), good(80, 9, 4);
  for (std::int64_t c = 0; c < 9; ++c) problem.x[21 * 9 + c] = std::numeric_limits<float>::infinity();
  const StepRates lr = 0.01;
  const Optimizer optimizer{Adam{}, {}, false, {}, {}, {}};
  Trainer trainer(deep<float>(9, 4), CrossEntropy{}, optimizer), twin(deep<float>(9, 4), CrossEntropy{}, optimizer);
  LossSums sums, expected;
  std::string message;
  try {
    trainer.run(problem.classes(), {nullptr, 80, 2, 0, 40}, {&lr, 1}, 1e9, sums);
  } catch (const DivergenceError& error) {
    message = error.what();
  }
  CHECK(message.find("at step 10") != std::string::npos);
  CHECK(message.find("layers.0") != std::string::npos);
  CHECK(trainer.steps() == 10);
  twin.run(good.classes(), {nullptr, 80, 2, 0, 10}, {&lr, 1}, 1e9, expected);
  CHECK(Snapshot(trainer) == Snapshot(twin));
  CHECK(sums.loss == expected.loss);
  trainer.run(good.classes(), {nullptr, 80, 2, 10, 40}, {&lr, 1}, 1e9, sums);
  twin.run(good.classes(), {nullptr, 80, 2, 10, 40}, {&lr, 1}, 1e9, expected);
  CHECK(Snapshot(trainer) == Snapshot(twin));
}

TEST_CASE("recordings that are out of date are not used" * doctest::skip(!kRecords)) {
  const Problem<float> problem(64, 9, 4), large(400, 9, 4);
  const StepRates lr = 0.05;
  const Optimizer optimizer{Momentum{}, {}, false, {}, {}, {}};
  const auto net = deep<float>(9, 4), other = deep<float>(9, 4);
  Trainer trainer(net, CrossEntropy{}, optimizer), fresh(other, CrossEntropy{}, optimizer);
  LossSums sums;
  const auto epoch = [&](Trainer& of) { of.run(problem.classes(), {nullptr, 64, 16, 0, 4}, {&lr, 1}, 1e9, sums); };
  epoch(trainer);
  epoch(fresh);
  forward_in_training(*net, large.x.view());  // moves the workspace
  net->set_frozen("layers.0", true);
  other->set_frozen("layers.0", true);
  const Bits before = bits_of(net->parameters().value(0));
  epoch(trainer);
  epoch(fresh);
  CHECK(bits_of(net->parameters().value(0)) == before);
  net->initialize(7);  // other dropout masks
  other->initialize(7);
  epoch(trainer);
  epoch(fresh);
  CHECK(bits_of(net->parameters().values) == bits_of(other->parameters().values));
}

TEST_CASE("rows that are sent as they are needed train as rows that lie on the device" * doctest::skip(!kRecords)) {
  Problem<double> problem(50, 9, 4);  // doubles for a float32 model; every second row of a matrix
  Dataset data = problem.weighted();
  data.x.rows = data.y.rows = data.weights.rows = 25;
  data.x.row_stride = 18;
  data.y.row_stride = 8;
  data.weights.row_stride = 2;
  const auto order = shuffled(25, 2);
  const BatchRange range{order.data(), 25, 7, 0, 4};
  const StepRates lr = 0.01;
  std::vector<TrainedOf<Bits>> results;
  for (const bool sent : {false, true}) {
    const auto net = deep<float>(9, 4);
    TrainingStep step(net, MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}});
    DeviceSteps steps(step);
    StepCounters counters;
    const Dataset& here = sent ? data : resident(data, *net);
    std::int64_t next = 0;  // one batch per call: all calls use the same window
    for (BatchRange rest = range; next < 4; rest.first = next) {
      next = steps.run(here, rest, {&lr, 1}, 0.0, counters);
      CHECK(next == rest.first + 1);
    }
    CHECK(counters.step == 4);
    results.push_back({bits_of(net->parameters().values), counters.sums.loss, counters.sums.weight});
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("neither windows of rows that are sent nor the clock show, in any order" * doctest::skip(!kRecords)) {
  const Problem<float> problem(150, 9, 4);
  const auto order = shuffled(150, 4);
  const Permutation permutation = Permutation::of(150, 5, 4), other = Permutation::of(150, 5, 6);
  const Dataset data = problem.weighted(), sent = without_room(data);
  constexpr std::int64_t kRowBytes = (9 + 4 + 1) * sizeof(float);
  const auto make = [](bool fused) {  // a fused step reads the window itself
    return fused ? network(DType::float32, Dense(9, 12), ActivationLayer(Tanh{}), Dense(12, 4))
                 : network(DType::float32, Dense(9, 5), BatchNorm(5), DropoutLayer(0.3), Dense(5, 4));
  };
  for (const bool fused : {false, true}) {
    int turn = 0;
    const Trained listed = epoch_of(make(fused), data, order.data(), false);
    CHECK(epoch_of(make(fused), data, {nullptr, &permutation}, false) == listed);
    for (const RowOrder& rows_in_order :
         {RowOrder{}, RowOrder{order.data()}, RowOrder{nullptr, &permutation}, RowOrder{order.data(), &other}}) {
      if (few_shapes() && (turn++ % 2 == 0) == fused) continue;  // two orders for each
      const Trained expected = epoch_of(make(fused), data, rows_in_order, false);
      CHECK(epoch_of(make(fused), data, rows_in_order, true) == expected);
      // Batches per window: a recording of many steps and a single step; a few; one, although the limit is below that.
      for (const std::int64_t batches : {33, 5, 0}) {
        const std::int64_t rows = batches * 4 + 3;
        for (const bool cut : {false, true}) {
          if (few_shapes() && cut != (batches == 5)) continue;
          CAPTURE(fused);
          CAPTURE(batches);
          CAPTURE(cut);
          CHECK(epoch_of(make(fused), sent, rows_in_order, cut, rows * kRowBytes) == expected);
        }
      }
    }
  }
  CHECK(data.on_device != nullptr);
  CHECK(sent.on_device == nullptr);
}

TEST_CASE("a call that does not go on where the clock cut the last one" * doctest::skip(!kRecords)) {
  const Problem<float> problem(150, 9, 4);
  const auto first = shuffled(150, 4), second = shuffled(150, 5);
  const StepRates lr = 0.01;
  const Dataset data = problem.weighted();
  const auto run = [&](const Dataset& from, bool cut) {
    Trainer trainer(deep<float>(9, 4), MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}});
    LossSums sums;
    // A time limit acts as a range that ends at the same batch: after the first recording of 32 steps.
    CHECK(trainer.run(from, {first.data(), 150, 4, 0, cut ? 38 : 32}, {&lr, 1}, cut ? 0.0 : 1e9, sums) == 32);
    trainer.run(from, {second.data(), 150, 4, 32, 36}, {&lr, 1}, 1e9, sums);
    return Trained{Snapshot(trainer), sums.loss, sums.weight};
  };
  const Trained expected = run(data, false);
  CHECK(run(data, true) == expected);
  CHECK(run(without_room(problem.weighted()), true) == expected);
}

TEST_CASE("a single row that is left over belongs to the batch before" * doctest::skip(!kRecords)) {
  const Problem<float> problem(149, 9, 4);  // 36 batches of 4, one of 5
  const Permutation permutation = Permutation::of(149, 5, 0);
  BatchRange range{{nullptr, &permutation}, 149, 4, 0, 37};
  range.joins = true;
  const Optimizer optimizer{Adam{}, {}, false, {}, {}, {}};
  const std::vector<StepRates> lrs(37, 0.01);
  Trainer hand(deep<float>(9, 4), MeanSquaredError{}, optimizer);
  const LossSums expected = by_hand(hand.network(), hand, MeanSquaredError{}, problem.weighted(), range, lrs);
  for (const Dataset& data : {problem.weighted(), without_room(problem.weighted())}) {
    Trainer trainer(deep<float>(9, 4), MeanSquaredError{}, optimizer, 400);
    LossSums sums;
    CHECK(trainer.run(data, range, lrs, 1e9, sums) == 37);
    CHECK(Snapshot(trainer) == Snapshot(hand));
    CHECK(sums.loss == expected.loss);
    CHECK(sums.weight == expected.weight);
  }
}

TEST_CASE("rows that are listed anew at the same address are seen" * doctest::skip(!kRecords)) {
  const Problem<float> problem(60, 9, 4);
  const StepRates lr = 0.01;
  const Optimizer optimizer{SGD{}, {}, false, {}, {}, {}};
  Trainer trainer(deep<float>(9, 4), MeanSquaredError{}, optimizer),
      other(deep<float>(9, 4), MeanSquaredError{}, optimizer);
  auto rows = shuffled(60, 1);
  const auto first = rows, second = shuffled(60, 2);
  LossSums sums, expected;
  trainer.run(problem.weighted(), {rows.data(), 60, 10, 0, 6}, {&lr, 1}, 1e9, sums);
  rows = second;
  trainer.run(problem.weighted(), {rows.data(), 60, 10, 0, 6}, {&lr, 1}, 1e9, sums);
  other.run(problem.weighted(), {first.data(), 60, 10, 0, 6}, {&lr, 1}, 1e9, expected);
  other.run(problem.weighted(), {second.data(), 60, 10, 0, 6}, {&lr, 1}, 1e9, expected);
  CHECK(Snapshot(trainer) == Snapshot(other));
  CHECK(sums.loss == expected.loss);
}

TEST_CASE("indices that are no rows are refused before anything is sent" * doctest::skip(!kRecords)) {
  const Problem<float> problem(20, 9, 4);
  auto order = shuffled(20, 3);
  order[13] = 20;
  Trainer trainer(deep<float>(9, 4), CrossEntropy{}, {SGD{}, {}, false, {}, {}, {}});
  const Snapshot before(trainer);
  const StepRates lr = 0.01;
  LossSums sums;
  CHECK_THROWS_AS(trainer.run(problem.classes(), {order.data(), 20, 5, 0, 4}, {&lr, 1}, 1e9, sums),
                  std::invalid_argument);
  CHECK(Snapshot(trainer) == before);
}
