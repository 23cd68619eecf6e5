// A network of a stack ends with the bits of the same network trained alone on the device.
#include "gdcore/trainer_stack.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

struct Member {
  std::uint64_t seed = 0;
  double lr = 1e-2, decay = 0.0;
};

using Build = std::shared_ptr<Network> (*)(std::uint64_t seed);

struct Case {
  const char* name;
  Build build;
  Loss loss;
  bool weighted = false;
};

template <class... Kinds>
std::shared_ptr<Network> seeded(std::uint64_t seed, Kinds... kinds) {
  return std::make_shared<Network>(layers(std::move(kinds)...), DType::float32, tested(), seed);
}

std::shared_ptr<Network> plain(std::uint64_t seed) {
  return seeded(seed, Dense(5, 12), ActivationLayer(ReLU{}), Dense(12, 3));
}
std::shared_ptr<Network> dropping(std::uint64_t seed) {
  return seeded(seed, Standardizer(5, {0.1, -0.2, 0.0, 0.3, 0.1}, {1.5, 0.5, 2.0, 1.0, 1.0}), Dense(5, 33),
                ActivationLayer(GELU{}), DropoutLayer(0.25), Dense(33, 9, false), ActivationLayer(Tanh{}), Dense(9, 3));
}

std::vector<Case> cases() {
  return {{"plain", plain, CrossEntropy{}},
          {"regression", plain, MeanSquaredError{}, true},
          {"dropout", dropping, CrossEntropy{{{0.5, 2.0, 1.0}}, 0.05}, true},
          {"binary", dropping, BinaryCrossEntropy{}}};
}

/// The trainers of some networks, and the epochs that each has trained.
struct Run {
  const Case& kind;
  std::vector<std::unique_ptr<Trainer>> trainers{};
  std::vector<Member> members{};

  void add(const Member& member, const OptimizerRule& rule) {
    Optimizer optimizer{
        .rule = rule, .weight_decay = member.decay, .lr_factors = {}, .clip_norm = {}, .clip_value = {}};
    trainers.push_back(std::make_unique<Trainer>(kind.build(member.seed), kind.loss, std::move(optimizer)));
    members.push_back(member);
  }
  std::vector<Trainer*> all() const {
    std::vector<Trainer*> list;
    for (const auto& each : trainers) list.push_back(each.get());
    return list;
  }
};

struct Size {
  std::int64_t rows, batch;
};
constexpr Size kThreeBatches{75, 32};  // of 32, 32 and 11 rows
constexpr Size kManyBlocks{170, 170};  // 11 blocks of rows

Permutation order_of(const Member& member, std::int64_t rows, int epoch) {
  return Permutation::of(rows, member.seed, static_cast<std::uint64_t>(epoch));
}

BatchRange epoch_of(const Permutation* shuffle, const std::vector<std::int64_t>& rows, std::int64_t batch) {
  BatchRange range{{rows.data(), shuffle}, std::ssize(rows), batch, 0, 0, true};
  range.last = range.batches(false);
  return range;
}

/// Rates that differ from batch to batch and from network to network.
std::vector<StepRates> rates_of(const Member& member, std::int64_t batches) {
  std::vector<StepRates> rates;
  for (std::int64_t b = 0; b < batches; ++b) {
    rates.push_back(
        varied_rates(member.lr / (1.0 + 0.1 * static_cast<double>(b)), b + static_cast<std::int64_t>(member.seed)));
  }
  return rates;
}

struct Result {
  LossSums training, measured;
  bool operator==(const Result& other) const {
    return training.loss == other.training.loss && training.weight == other.training.weight &&
           measured.loss == other.measured.loss && measured.weight == other.measured.weight;
  }
};

/// Everything that training changed, gradients included.
std::vector<Bits> bits_of(Trainer& trainer) {
  const Parameters& p = std::as_const(trainer.network()).parameters();
  std::vector<Bits> bits{testing::bits_of(p.values), testing::bits_of(p.gradients)};
  for (const View& state : trainer.states()) bits.push_back(testing::bits_of(state));
  return bits;
}

/// Trains the networks alone; those that have `epochs_of` fewer epochs end earlier.
std::vector<std::vector<Result>> alone(Run& run, const Dataset& data, const std::vector<std::int64_t>& rows,
                                       const std::vector<int>& epochs_of, std::int64_t batch) {
  std::vector<std::vector<Result>> results;
  for (std::size_t i = 0; i < run.trainers.size(); ++i) {
    Trainer& trainer = *run.trainers[i];
    results.emplace_back();
    for (int epoch = 0; epoch < epochs_of[i]; ++epoch) {
      const Permutation shuffle = order_of(run.members[i], std::ssize(rows), epoch);
      const BatchRange range = epoch_of(&shuffle, rows, batch);
      Result result;
      try {
        trainer.run(data, range, rates_of(run.members[i], range.last), INFINITY, result.training);
      } catch (const DivergenceError&) {
        break;
      }
      result.measured = trainer.evaluate(data, {{}, data.x.rows, 1024, 0, 0}, nullptr);
      results.back().push_back(result);
    }
  }
  return results;
}

/// Trains them in a stack; returns the results of complete epochs.
std::vector<std::vector<Result>> together(Run& run, const Dataset& data, const std::vector<std::int64_t>& rows,
                                          const std::vector<int>& epochs_of, std::int64_t batch, std::int64_t at_once) {
  TrainerStack stack(run.all(), at_once);
  const std::size_t count = run.trainers.size();
  std::vector<std::uint8_t> active(count, 1);
  std::vector<LossSums> sums(count), measured(count);
  std::vector<std::vector<Result>> results(count);
  for (int epoch = 0; epoch < *std::ranges::max_element(epochs_of); ++epoch) {
    std::vector<Permutation> shuffles;
    std::vector<StepRates> rates;
    for (const Member& member : run.members) shuffles.push_back(order_of(member, std::ssize(rows), epoch));
    const BatchRange range = epoch_of(shuffles.data(), rows, batch);
    for (const Member& member : run.members) {
      for (const StepRates& each : rates_of(member, range.last)) rates.push_back(each);
    }
    REQUIRE(stack.trains(data, range));
    for (std::size_t i = 0; i < count; ++i) active[i] = active[i] != 0 && epoch < epochs_of[i];
    const std::vector<std::int64_t> before = stack.steps();
    stack.run(data, range, rates, active, sums);
    const std::vector<std::int64_t> after = stack.steps();
    for (std::size_t i = 0; i < count; ++i) active[i] = active[i] != 0 && after[i] - before[i] == range.last;
    stack.evaluate(data, {{}, data.x.rows, 1024, 0, 0}, active, measured, nullptr);
    for (std::size_t i = 0; i < count; ++i) {
      if (active[i] != 0) results[i].push_back({sums[i], measured[i]});
    }
  }
  for (std::size_t i = 0; i < count; ++i) stack.give_back(static_cast<std::int64_t>(i), false);
  return results;
}

void check_same(const Case& kind, const OptimizerRule& rule, const std::vector<Member>& members,
                const std::vector<int>& epochs_of, std::int64_t at_once, const Size& size = kThreeBatches) {
  INFO(std::string(kind.name), ", rule ", rule.index(), ", ", members.size(), " networks, ", at_once, " at once");
  const Problem<float> problem(size.rows + 20, 5, 3);
  Dataset data = std::holds_alternative<CrossEntropy>(kind.loss) ? problem.classes() : problem.regression();
  if (kind.weighted) data.weights = problem.weighted().weights;
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < size.rows; ++i) rows.push_back((i * 7 + 3) % (size.rows + 20));
  Run one{kind}, other{kind};
  for (const Member& member : members) {
    one.add(member, rule);
    other.add(member, rule);
    CHECK(TrainerStack::alike(*one.trainers[0], *other.trainers.back()));
  }
  const auto expected = alone(one, data, rows, epochs_of, size.batch);
  const auto got = together(other, data, rows, epochs_of, size.batch, at_once);
  for (std::size_t i = 0; i < members.size(); ++i) {
    INFO("network ", i);
    CHECK(got[i] == expected[i]);
    CHECK(other.trainers[i]->steps() == one.trainers[i]->steps());
    CHECK(bits_of(*other.trainers[i]) == bits_of(*one.trainers[i]));
  }
}

}  // namespace

TEST_CASE("networks of a stack have the bits of networks alone") {
  if (device().recorder() == nullptr) return;
  const std::vector<Member> members = {
      {1, 1e-2, 0.0}, {2, 3e-2, 1e-2}, {3, 1e-2, 1e-3}, {4, 1e-3, 0.0}, {5, 2e-2, 0.0}};
  const std::vector<int> epochs_of = {2, 1, 2, 0, 2};
  std::size_t turn = 0;
  for (const Case& kind : cases()) {
    for (const std::int64_t at_once : {0, 2}) {
      const OptimizerRule rule = every_rule()[turn++ % 5];
      if (few_shapes() && at_once != static_cast<std::int64_t>(turn / 2 % 2 * 2)) continue;
      check_same(kind, rule, members, epochs_of, at_once);
    }
  }
  check_same(cases()[0], Adam{}, {{7, 1e-2, 0.0}}, {1}, 0);
  check_same(cases()[2], Momentum{}, members, {1, 1, 1, 1, 0}, 0, kManyBlocks);
}

TEST_CASE("a network of a stack that diverges stays as before that step, and the others go on") {
  if (device().recorder() == nullptr) return;
  check_same(cases()[1], SGD{}, {{1, 1e-2, 0.0}, {2, 1e25, 0.0}, {3, 1e-2, 0.0}}, {2, 2, 2}, 0);
}

TEST_CASE("a stack keeps the best weights and gives them back") {
  if (device().recorder() == nullptr) return;
  const Case kind = cases()[0];
  constexpr std::int64_t kRows = 75;
  const Problem<float> problem(kRows, 5, 3);
  Run run{kind};
  for (std::uint64_t seed = 1; seed <= 3; ++seed) run.add({seed}, SGD{});
  TrainerStack stack(run.all());
  std::vector<Bits> epochs[3];
  const std::vector<std::uint8_t> active(3, 1), better[] = {{1, 1, 0}, {0, 1, 0}, {0, 0, 0}};
  std::vector<LossSums> sums(3);
  std::vector<std::int64_t> rows(kRows);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
  BatchRange range = epoch_of(nullptr, rows, 32);
  for (const auto& marks : better) {
    stack.run(problem.classes(), range, std::vector<StepRates>(3, 0.1), active, sums);
    stack.keep(marks);
    for (std::size_t i = 0; i < 3; ++i) {
      stack.give_back(static_cast<std::int64_t>(i), false);
      epochs[i].push_back(bits_of(*run.trainers[i])[0]);
    }
  }
  for (std::size_t i = 0; i < 3; ++i) stack.give_back(static_cast<std::int64_t>(i), true);
  CHECK(bits_of(*run.trainers[0])[0] == epochs[0][0]);
  CHECK(bits_of(*run.trainers[1])[0] == epochs[1][1]);
  CHECK(bits_of(*run.trainers[2])[0] == epochs[2][2]);  // never kept: the last
  CHECK(epochs[0][0] != epochs[0][1]);
}

TEST_CASE("a stack measures rows as its networks do, with their outputs") {
  if (device().recorder() == nullptr) return;
  for (const Case& kind : cases()) {
    INFO(std::string(kind.name));
    const std::int64_t n = few_shapes() ? 70 : 200;
    const Problem<float> problem(n, 5, 3);
    Dataset data = std::holds_alternative<CrossEntropy>(kind.loss) ? problem.classes() : problem.regression();
    if (kind.weighted) data.weights = problem.weighted().weights;
    std::vector<std::int64_t> rows;
    for (std::int64_t i = n - 1; i >= 0; i -= 2) rows.push_back(i);
    const BatchRange range{rows.data(), std::ssize(rows), 1024, 0, 0};
    Run run{kind};
    for (std::uint64_t seed = 1; seed <= 2; ++seed) run.add({seed}, SGD{});
    TrainerStack stack(run.all());
    REQUIRE(stack.measures(data, range));
    std::vector<LossSums> sums(2);
    Array<float> outputs(2 * std::ssize(rows), 3), own(std::ssize(rows), 3), exact(n, 3);
    stack.evaluate(data, range, std::vector<std::uint8_t>(2, 1), sums, outputs.data());
    for (std::size_t i = 0; i < 2; ++i) {
      Trainer& trainer = *run.trainers[i];
      const LossSums alone = trainer.evaluate(data, range, own.data());
      CHECK(alone.loss == sums[i].loss);
      CHECK(alone.weight == sums[i].weight);
      CHECK(std::memcmp(own.data(), outputs.data() + static_cast<std::ptrdiff_t>(i) * own.size(), own.bytes()) == 0);
      trainer.network().predict(data.x, 1024, exact.data());
      double worst = 0.0;
      for (std::int64_t r = 0; r < own.rows(); ++r) {
        for (std::int64_t c = 0; c < 3; ++c) {
          worst = std::max(worst, std::abs(static_cast<double>(own(r, c)) -
                                           static_cast<double>(exact(rows[static_cast<std::size_t>(r)], c))));
        }
      }
      CHECK(worst < 1e-5);
    }
    stack.evaluate(data, range, std::vector<std::uint8_t>{0, 1}, sums, nullptr);
    CHECK(sums[0].weight == 0.0);
    CHECK(sums[1].weight > 0.0);
  }
}

TEST_CASE("trainers that are not alike are no stack") {
  if (device().recorder() == nullptr) return;
  const Case kind = cases()[0];
  const auto trainer = [&](const std::shared_ptr<Network>& net, const Loss& loss, const OptimizerRule& rule) {
    Optimizer optimizer{.rule = rule, .weight_decay = {}, .lr_factors = {}, .clip_norm = {}, .clip_value = {}};
    return Trainer(net, loss, std::move(optimizer));
  };
  Trainer base = trainer(plain(1), CrossEntropy{}, Adam{});
  const auto alike = [&](Trainer other) { return TrainerStack::alike(base, other); };
  CHECK(alike(trainer(plain(2), CrossEntropy{}, Adam{})));
  CHECK_FALSE(TrainerStack::alike(base, base));
  CHECK_FALSE(alike(trainer(plain(2), MeanSquaredError{}, Adam{})));
  CHECK_FALSE(alike(trainer(plain(2), CrossEntropy{std::nullopt, 0.1}, Adam{})));
  CHECK_FALSE(alike(trainer(plain(2), CrossEntropy{}, Adam{.betas = {0.8, 0.99}})));
  CHECK_FALSE(alike(trainer(plain(2), CrossEntropy{}, SGD{})));
  CHECK_FALSE(alike(trainer(dropping(2), CrossEntropy{}, Adam{})));
  CHECK_FALSE(alike(trainer(seeded(2, Dense(5, 12), ActivationLayer(Tanh{}), Dense(12, 3)), CrossEntropy{}, Adam{})));
  const auto frozen = plain(2);
  frozen->set_frozen("layers.0", true);
  CHECK_FALSE(alike(trainer(frozen, CrossEntropy{}, Adam{})));
}
