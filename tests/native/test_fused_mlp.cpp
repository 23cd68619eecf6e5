// Fused MLP steps of two launches against the CPU's separate operations.
#include "fused_mlp.h"
#include "gdcore/batch.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

constexpr Precision kPrecisions[] = {Precision::full, Precision::tf32, Precision::bfloat16};

struct Case {
  const char* name;
  std::shared_ptr<Network> net;
  Loss loss;
  bool weighted = false, soft = false;  // rows have weights; cross-entropy has soft targets
};

template <class... Kinds>
std::shared_ptr<Network> on_cpu(Kinds... kinds) {
  return std::make_shared<Network>(layers(std::move(kinds)...), DType::float32, Device::cpu, 42);
}

std::vector<Case> plans() {
  std::vector<Case> list;
  list.push_back({"one layer", on_cpu(Dense(3, 1)), MeanSquaredError{}});
  list.push_back({"small",
                  on_cpu(Dense(2, 16), ActivationLayer(ReLU{}), Dense(16, 16), ActivationLayer(Tanh{}), Dense(16, 1)),
                  MeanSquaredError{}});
  list.push_back({"last activation",
                  on_cpu(Dense(5, 7, false), ActivationLayer(Softplus{}), Dense(7, 3), ActivationLayer(GELU{})),
                  MeanSquaredError{}});
  list.push_back(
      {"last sigmoid",
       on_cpu(Dense(5, 33), ActivationLayer(LeakyReLU{0.1}), Dense(33, 4, false), ActivationLayer(Sigmoid{})),
       MeanSquaredError{}});
  list.push_back(
      {"classes",
       on_cpu(Dense(33, 65), ActivationLayer(GELUTanh{}), Dense(65, 64), ActivationLayer(ReLU{}), Dense(64, 10)),
       CrossEntropy{}});
  list.push_back(
      {"smooth", on_cpu(Dense(12, 20), ActivationLayer(Sigmoid{}), Dense(20, 33)), CrossEntropy{std::nullopt, 0.1}});
  list.push_back(
      {"binary", on_cpu(Dense(9, 31), ActivationLayer(GELU{}), Dense(31, 2)), BinaryCrossEntropy{{{2.0, 0.5}}}, true});
  list.push_back({"widest",
                  on_cpu(Dense(128, 128), ActivationLayer(ReLU{}), Dense(128, 128), ActivationLayer(GELU{}),
                         Dense(128, 128), ActivationLayer(ReLU{}), Dense(128, 127)),
                  CrossEntropy{}});
  list.push_back(
      {"deepest",
       on_cpu(Dense(4, 8), ActivationLayer(Tanh{}), Dense(8, 8), ActivationLayer(Tanh{}), Dense(8, 8),
              ActivationLayer(Tanh{}), Dense(8, 8), ActivationLayer(Tanh{}), Dense(8, 8), ActivationLayer(Tanh{}),
              Dense(8, 8), ActivationLayer(Tanh{}), Dense(8, 8), ActivationLayer(Tanh{}), Dense(8, 8),
              ActivationLayer(Tanh{}), Dense(8, 8), ActivationLayer(Tanh{}), Dense(8, 2)),
       BinaryCrossEntropy{}});
  list.push_back(
      {"standardised",
       on_cpu(Standardizer(3, {0.1, -0.2, 0.0}, {1.5, 0.5, 2.0}), Dense(3, 20), ActivationLayer(Tanh{}), Dense(20, 2)),
       MeanSquaredError{}, true});
  list.push_back({"dropout",
                  on_cpu(Dense(6, 33), ActivationLayer(Sigmoid{}), DropoutLayer(0.25), Dense(33, 9),
                         ActivationLayer(ReLU{}), DropoutLayer(0.5), Dense(9, 3), DropoutLayer(0.1)),
                  MeanSquaredError{}});
  list.push_back({"weights of classes and rows", on_cpu(Dense(7, 12), ActivationLayer(GELU{}), Dense(12, 5)),
                  CrossEntropy{{{0.5, 2.0, 1.0, 0.0, 1.5}}, 0.05}, true});
  list.push_back({"shares of classes", on_cpu(Dense(7, 12), ActivationLayer(Tanh{}), DropoutLayer(0.0), Dense(12, 5)),
                  CrossEntropy{{{0.5, 2.0, 1.0, 0.0, 1.5}}}, false, true});
  list.push_back({"weighted shares", on_cpu(Dense(7, 12), ActivationLayer(Tanh{}), Dense(12, 5)),
                  CrossEntropy{std::nullopt, 0.1}, true, true});
  const auto net = [](const Activation& f, std::int64_t out) {
    return on_cpu(Dense(9, 16), ActivationLayer(f), Dense(16, out));
  };
  list.push_back({"counts", net(SiLU{}, 2), Poisson{}, true});
  list.push_back({"robust", net(Mish{}, 2), Huber{0.3}});
  list.push_back({"medians", net(SELU{}, 2), MeanAbsoluteError{}});
  list.push_back({"quantiles", net(ELU{0.7}, 6), Quantile{{0.1, 0.5, 0.9}}, true});
  list.push_back({"focal", net(ReLU{}, 5), CrossEntropy{{{0.5, 2.0, 1.0, 0.0, 1.5}}, 0.0, 2.0}});
  list.push_back({"focal binary", net(SiLU{}, 2), BinaryCrossEntropy{std::nullopt, {{0.5, 2.0, 1.5, 1.0}}, 2.0}, true});
  return list;
}

/// The largest error of a product, relative to the summed magnitudes of its terms.
double tolerance(Precision precision) {
  return precision == Precision::full ? 1e-6 : precision == Precision::tf32 ? 1e-3 : 8e-3;
}

void check_steps(Case plan, const OptimizerRule& rule, std::int64_t rows, int steps, Precision precision) {
  INFO(std::string(plan.name), " ", rows, " rows, rule ", rule.index(), ", precision ", static_cast<int>(precision));
  Network& net = *plan.net;
  const std::int64_t n = rows + 37;
  Problem<float> problem(n, net.in_features(), net.out_features());
  for (std::int64_t i = 4; i < n; i += 11) problem.weights[i] = 0.0f;
  Dataset data =
      std::holds_alternative<CrossEntropy>(plan.loss) && !plan.soft ? problem.classes() : problem.regression();
  if (plan.weighted) data.weights = problem.weighted().weights;
  if (const auto* quantile = std::get_if<Quantile>(&plan.loss)) data.y.cols /= std::ssize(quantile->levels);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < steps * rows; ++i) order.push_back((i * 7 + 3) % n);
  FusedMlp fused(net, plan.loss), again(net, plan.loss);
  for (int s = 0; s < steps; ++s) {
    fused.rates.push_back(varied_rates(2e-3 / (1.0 + s), s + 4));
    fused.rates.back().average = s == 0 ? 1.0 : s % 3 == 2 ? 0.0 : 0.3;
  }
  again.rates = fused.rates;
  fused.precision = again.precision = precision;
  Array<float> state0 = fused.state0.copy(), state1 = fused.state1.copy();
  Criterion criterion(plan.loss, net);
  BatchReader reader;
  double total = 0.0;
  for (int s = 0; s < steps; ++s) {
    const Batch batch = reader.read(net, data, order.data(), s * rows, rows);
    net.set_steps(s);
    const StepRates& rates = fused.rates[static_cast<std::size_t>(s)];
    const View logits = forward_in_training(net, batch.x, rates);
    const LossSums sums = criterion.apply(batch, logits, net.executor().output_gradient());
    net.executor().backward({});
    OptimizerPass p = fused.pass(rule);
    p.parameters = net.parameters().layout.flat(net.parameters().values);
    p.gradients = net.parameters().layout.flat(net.parameters().gradients);
    p.states[0] = state0.view();
    p.states[1] = state1.view();
    p.counters = nullptr;
    p.rates = rates;
    p.average = {};
    const Array<float> before = fused.average.copy();
    p.step = s + 1;
    cpu().optimizer_step(p);
    for (FusedMlp* run : {&fused, &again}) {
      REQUIRE(run->step(rule, data, order.data(), rows));
      CHECK(run->sums.loss == doctest::Approx(sums.loss).epsilon((rule.index() > 1 ? 100 : 10) * tolerance(precision)));
      CHECK(std::abs(run->sums.weight - sums.weight) <= (plan.weighted || plan.soft ? 1e-12 : 0.0) * sums.weight);
      CHECK(run->counters.step == s + 1);
      CHECK(run->counters.batch == s + 1);
      CHECK(run->counters.first == (s + 1) * rows);
    }
    total += fused.sums.loss;
    check_average(net, fused, before, rates.average);
    if (s == 0) {  // before rounding errors grow
      double worst = 0.0, most = 0.0, apart = 0.0, size = 0.0;
      const float* g = static_cast<const float*>(net.parameters().gradients.data());
      for (const auto& e : net.parameters().layout.entries()) {
        for (std::int64_t i = e.offset; i < e.offset + e.rows * e.cols; ++i) {
          const double difference = static_cast<double>(fused.gradients[i]) - static_cast<double>(g[i]);
          worst = std::max(worst, std::abs(difference));
          most = std::max(most, static_cast<double>(std::abs(g[i])));
          apart += difference * difference;
          size += static_cast<double>(g[i]) * static_cast<double>(g[i]);
        }
      }
      // Where factors are rounded, a ReLU or the sign of an error may switch.
      bool jumps = plan.loss.index() == 4 || plan.loss.index() == 5;  // absolute errors and quantiles
      for (const Operation& each : fused.plan.operations) jumps |= std::holds_alternative<ReLU>(each.activation);
      const double part = jumps && precision != Precision::full ? 0.1 : 6.0 * tolerance(precision);
      CHECK(std::sqrt(apart) <= part * std::sqrt(size));
      if (precision == Precision::full) CHECK(worst <= 2e-6 * most);
    }
  }
  CHECK(fused.counters.sums.loss == doctest::Approx(total));
  CHECK(fused.counters.stop == Stop::none);
  CHECK(fused.parameters.same_bits(again.parameters));
  CHECK(fused.average.same_bits(again.average));
  CHECK(fused.counters.sums.loss == again.counters.sums.loss);
}

}  // namespace

TEST_CASE("fused MLP steps are those of their operations") {
  if (device().recorder() == nullptr) return;
  constexpr std::int64_t kRows[] = {1, 15, 16, 33, 100};
  const std::vector<Case> all = plans();
  std::size_t turn = 0;
  for (std::size_t r = 0; r < std::size(kRows); ++r) {
    for (std::size_t p = 0; p < all.size(); ++p) {
      for (const Precision precision : kPrecisions) {
        const OptimizerRule rule = every_rule()[turn % 5];
        // A step of the widest network costs as much as those of all others: once per precision. With few shapes, each
        // network has each precision once, all row counts occur in turn, and the widest network occurs once.
        const bool widest = std::string(all[p].name) == "widest";
        const std::size_t kind = static_cast<std::size_t>(precision);
        ++turn;
        if (widest ? r != 3 || (few_shapes() && kind != 1) : few_shapes() && r != (p + 2 * kind) % 5) continue;
        const bool long_run = r == 3 && precision == Precision::full && !widest && !few_shapes();
        Case fresh = all[p];
        fresh.net->initialize(7);
        check_steps(fresh, rule, kRows[r], long_run ? 20 : widest && few_shapes() ? 1 : 3, precision);
      }
    }
  }
  check_steps(all[1], Adam{}, 2100, 2, Precision::full);  // tiles of 32 rows
  check_steps(all[1], SGD{}, 17000, 1, Precision::full);  // tiles of 128 rows, several per block
  check_steps(all[1], SGD{}, 8200, 2, Precision::tf32);
}

// Small integers, which every number format holds exactly: nothing is rounded, so any order of sums gives the same
// bits.
TEST_CASE("tensor cores compute what whole numbers ask for") {
  if (device().recorder() == nullptr) return;
  const auto net = on_cpu(Dense(24, 40), ActivationLayer(ReLU{}), Dense(40, 33), ActivationLayer(ReLU{}), Dense(33, 8));
  const auto& entries = net->parameters().layout.entries();
  float* values = static_cast<float*>(net->parameters().values.data());
  for (const auto& entry : entries) {
    for (std::int64_t i = 0; i < entry.rows * entry.cols; ++i) {
      const std::int64_t row = i / entry.cols, col = i % entry.cols;
      const bool chosen = entry.rows == 1 || col == (5 * row + 1) % entry.cols || col == (7 * row + 4) % entry.cols;
      values[entry.offset + i] = chosen ? (i % 3 == 0 ? -1.0f : 1.0f) : 0.0f;
    }
  }
  const Loss loss = MeanSquaredError{};
  for (const std::int64_t rows : {16, 64, 2048}) {  // powers of two, as the outputs: means are exact
    Array<float> x(rows, 24), y(rows, 8);
    for (std::int64_t i = 0; i < rows * 24; ++i) x[i] = static_cast<float>(i * i % 5 - 2);
    for (std::int64_t i = 0; i < rows * 8; ++i) y[i] = static_cast<float>(i % 3 - 1);
    const Dataset data{Problem<float>::source(x), Problem<float>::source(y), {}, false};
    const OptimizerRule rule = SGD{};
    FusedMlp full(*net, loss);
    full.rates = {0.125};
    REQUIRE(full.step(rule, data, nullptr, rows));
    for (const auto& e : entries) {
      CHECK(std::memcmp(full.parameters.data() + e.offset, values + e.offset,
                        static_cast<std::size_t>(e.rows * e.cols) * sizeof(float)) != 0);
    }
    for (const Precision precision : {Precision::tf32, Precision::bfloat16}) {
      INFO(rows, " rows, precision ", static_cast<int>(precision));
      FusedMlp rounded(*net, loss);
      rounded.rates = full.rates;
      rounded.precision = precision;
      REQUIRE(rounded.step(rule, data, nullptr, rows));
      CHECK(rounded.parameters.same_bits(full.parameters));
      CHECK(rounded.sums.loss == full.sums.loss);
    }
  }
}

TEST_CASE("tensor cores round factors, and NaN stays NaN") {
  if (device().recorder() == nullptr) return;
  const auto net = on_cpu(Dense(1, 1, false));
  const auto product = [&](Precision precision, float x) {
    Array<float> data(1, 1), zero(1, 1);
    data[0] = x;
    zero[0] = 0.0f;
    static_cast<float*>(net->parameters().values.data())[0] = 1.0f;
    const Loss loss = MeanSquaredError{};
    FusedMlp fused(*net, loss);
    fused.rates = {0.0};
    fused.precision = precision;
    REQUIRE(fused.step(SGD{}, {Problem<float>::source(data), Problem<float>::source(zero), {}, false}, nullptr, 1));
    return std::sqrt(fused.sums.loss);
  };
  const float above = 1.0f + 0x1.8p-12f, tie = 1.0f + 0x1p-11f;
  CHECK(product(Precision::full, above) == doctest::Approx(above).epsilon(1e-7));
  CHECK(product(Precision::tf32, above) == 1.0);
  CHECK(product(Precision::tf32, tie) == 1.0 + 0x1p-10);  // away from zero
  CHECK(product(Precision::tf32, 1.0f + 0x1p-10f) == 1.0 + 0x1p-10);
  CHECK(product(Precision::bfloat16, 1.0f + 0x1p-9f) == 1.0);
  CHECK(product(Precision::bfloat16, 1.0f + 0x1.8p-7f) == 1.0 + 0x1p-6);  // a tie, rounded to even
  CHECK(product(Precision::bfloat16, 1.0f + 0x1p-8f) == 1.0);             // another tie
  for (const Precision precision : kPrecisions) CHECK(std::isnan(product(precision, std::nanf(""))));
}

TEST_CASE("a loss that is not finite stops fused MLP steps") {
  if (device().recorder() == nullptr) return;
  Case plan = plans()[4];
  const Problem<float> problem(200, 33, 10);
  Array<float> x = problem.x.copy();
  x[130 * 33 + 2] = std::numeric_limits<float>::infinity();
  Dataset data = problem.classes();
  data.x.data = x.data();
  FusedMlp fused(*plan.net, plan.loss);
  fused.rates.assign(10, 1e-3);
  const OptimizerRule rule = Adam{};
  for (int s = 0; s < 2; ++s) REQUIRE(fused.step(rule, data, nullptr, 50));
  const Array<float> before = fused.parameters.copy(), state = fused.state0.copy();
  for (int s = 0; s < 2; ++s) {
    REQUIRE(fused.step(rule, data, nullptr, 50));
    CHECK(fused.counters.stop == Stop::loss);
    CHECK(fused.counters.step == 2);
    CHECK(fused.counters.batch == 2);
    CHECK(fused.counters.first == 100);
    CHECK(fused.counters.sums.weight == 100.0);
    CHECK(fused.parameters.same_bits(before));
    CHECK(fused.state0.same_bits(state));
  }
}

TEST_CASE("fused MLP steps recorded for another batch size are stopped too") {
  if (device().recorder() == nullptr) return;
  Case plan = plans()[4];
  const Problem<float> problem(200, 33, 10);
  Array<float> x = problem.x.copy();
  Dataset data = problem.classes();
  data.x.data = x.data();
  FusedMlp fused(*plan.net, plan.loss);
  fused.rates.assign(10, 1e-3);
  const OptimizerRule rule = Adam{};
  StepRecorder& recorder = *device().recorder();
  const auto full = recorder.record([&] { REQUIRE(fused.step(rule, data, nullptr, 50)); });
  const auto ragged = recorder.record([&] { REQUIRE(fused.step(rule, data, nullptr, 40)); });
  for (StepGraph* graph : {full.get(), ragged.get()}) {
    graph->launch();
    device().wait();
    CHECK(fused.counters.stop == Stop::none);
  }
  CHECK(fused.counters.first == 90);
  x[100 * 33] = std::numeric_limits<float>::infinity();
  const Array<float> before = fused.parameters.copy();
  for (StepGraph* graph : {full.get(), ragged.get(), full.get()}) {  // the second graph had finite losses
    graph->launch();
    device().wait();
    CHECK(fused.counters.stop == Stop::loss);
    CHECK(fused.counters.step == 2);
    CHECK(fused.counters.first == 90);
    CHECK(fused.parameters.same_bits(before));
  }
}

TEST_CASE("fused MLP steps read sources of other types") {
  if (device().recorder() == nullptr) return;
  Case plan = plans()[1];
  std::vector<std::uint8_t> x(60 * 2), y(60);
  Array<float> xf(60, 2), yf(60, 1);
  for (int i = 0; i < 120; ++i) xf[i] = x[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i * 37 % 5);
  for (int i = 0; i < 60; ++i) yf[i] = y[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i % 3);
  FusedMlp a(*plan.net, plan.loss), b(*plan.net, plan.loss);
  a.rates = b.rates = {0.1, 0.1};
  const OptimizerRule rule = SGD{};
  for (int s = 0; s < 2; ++s) {
    REQUIRE(a.step(rule, {{x.data(), SourceType::u8, 60, 2, 2}, {y.data(), SourceType::u8, 60, 1, 1}, {}, false},
                   nullptr, 30));
    REQUIRE(b.step(rule, {Problem<float>::source(xf), Problem<float>::source(yf), {}, false}, nullptr, 30));
  }
  CHECK(a.parameters.same_bits(b.parameters));
}

TEST_CASE("what is no fused MLP step is refused and leaves everything alone") {
  if (device().recorder() == nullptr) return;
  const Case regression = plans()[1];
  const Problem<float> few(40, 2, 1);
  FusedMlp fused(*regression.net, regression.loss);
  fused.rates = {0.1};
  const OptimizerRule rule = SGD{};
  const Array<float> before = fused.parameters.copy();
  fused.clip_norm = 1.0;
  CHECK_FALSE(fused.step(rule, few.regression(), nullptr, 40));
  fused.clip_norm = std::numeric_limits<double>::infinity();
  fused.plan.operations[0].out = 129;
  CHECK_FALSE(fused.step(rule, few.regression(), nullptr, 40));
  fused.plan.operations[0].out = 16;
  fused.plan.operations[2].input = 0;
  CHECK_FALSE(fused.step(rule, few.regression(), nullptr, 40));
  fused.plan.operations[2].input = 1;
  CHECK(fused.plan.operations.size() == 3);
  for (int i = 0; i < 8; ++i) {
    fused.plan.operations.insert(fused.plan.operations.begin() + 1, fused.plan.operations[1]);
  }
  for (int i = 0; i < 11; ++i) fused.plan.operations[static_cast<std::size_t>(i)].input = i - 1;
  CHECK_FALSE(fused.step(rule, few.regression(), nullptr, 40));
  CHECK(fused.parameters.same_bits(before));
  CHECK(fused.counters.step == 0);
}
