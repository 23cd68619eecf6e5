// Networks: arenas, absorbed activations, skipped operations, frozen parameters, and exclusive use.
#include <algorithm>
#include <thread>

#include "gdcore/check.h"
#include "gdcore/network.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// Counts the nonzero bytes of an arena that belong to no entry.
std::size_t dirty_padding(const Arena& arena, const void* data) {
  std::vector<bool> used(arena.bytes(), false);
  for (const Entry& entry : arena.entries()) {
    const std::size_t begin = static_cast<std::size_t>(entry.offset) * size_of(arena.dtype());
    for (std::size_t i = 0; i < static_cast<std::size_t>(entry.rows * entry.cols) * size_of(arena.dtype()); ++i) {
      REQUIRE_FALSE(used[begin + i]);  // no two entries overlap
      used[begin + i] = true;
    }
  }
  std::size_t dirty = 0;
  for (std::size_t i = 0; i < used.size(); ++i) dirty += !used[i] && static_cast<const unsigned char*>(data)[i] != 0;
  return dirty;
}

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % kAlignment == 0; }

}  // namespace

TEST_CASE("arenas: entries are aligned and apart, padding stays zero through many steps of every rule") {
  for (const DType dtype : {DType::float32, DType::float64}) {
    for (const OptimizerRule& rule : every_rule()) {
      const auto net = network(dtype, Dense(5, 65), BatchNorm(65), ActivationLayer(GELU{}), Dense(65, 7, false),
                               LayerNorm(7), ActivationLayer(Tanh{}), Dense(7, 3));
      Parameters& p = net->parameters();
      CHECK(p.layout.entries().size() == 9);
      for (std::size_t i = 0; i < p.layout.entries().size(); ++i) {
        CHECK(aligned(p.value(static_cast<int>(i)).data));
        CHECK(aligned(p.gradient(static_cast<int>(i)).data));
      }
      for (std::size_t i = 0; i < p.state_layout.entries().size(); ++i)
        CHECK(aligned(p.state(static_cast<int>(i)).data));
      Trainer trainer(net, MeanSquaredError{}, {rule, 0.1, true, 0.5, 1.0, 0.1});
      const auto train = [&]<class T>(T) {
        const Problem<T> problem(33, 5, 3);
        for (int step = 0; step < 20; ++step) trainer.step(problem.weighted(), 0.01);
      };
      with_type(dtype, train);
      CHECK(dirty_padding(p.layout, p.values.data()) == 0);
      CHECK(dirty_padding(p.layout, p.gradients.data()) == 0);
      CHECK(dirty_padding(p.state_layout, p.states.data()) == 0);
      for (const View& state : trainer.states()) {
        CHECK(aligned(state.data));
        CHECK(dirty_padding(p.layout, state.data) == 0);
      }
    }
  }
}

TEST_CASE("the check for padding can fail") {
  Arena arena(DType::float32);
  arena.add({.name = "a", .rows = 1, .cols = 3});
  std::vector<float> data(64, 0.0f);
  CHECK(arena.size() == 64);
  data[2] = 1.0f;
  CHECK(dirty_padding(arena, data.data()) == 0);
  data[3] = 1.0f;
  CHECK(dirty_padding(arena, data.data()) > 0);
}

TEST_CASE("an absorbed activation gives the same bits as one that stands alone") {
  // A dropout with p = 0 prevents the activation from being absorbed and changes no value.
  const auto look = [&]<class T>(T, const auto& absorber, const Activation& f) {
    const auto together = network(kDType<T>, Dense(9, 35), absorber, ActivationLayer(f), Dense(35, 2));
    const auto apart = network(kDType<T>, Dense(9, 35), absorber, DropoutLayer(0.0), ActivationLayer(f), Dense(35, 2));
    CHECK(together->executor().plan().operations.size() == 3);
    CHECK(apart->executor().plan().operations.size() == 5);
    CHECK(together->executor().plan().operations[1].describe() == absorber.kind() + " + " + name_of(f));
    Array<T> x(31, 9), dx_together(31, 9), dx_apart(31, 9);
    x.random(1);
    pass(*together, x, dx_together.view());
    pass(*apart, x, dx_apart.view());
    CHECK(bits_of(together->parameters().values) == bits_of(apart->parameters().values));
    CHECK(bits_of(together->parameters().gradients) == bits_of(apart->parameters().gradients));
    CHECK(dx_together.same_bits(dx_apart));
    CHECK(bits_of(ConstView(together->forward(x.view(), true))) == bits_of(ConstView(apart->forward(x.view(), true))));
    CHECK(bits_of(ConstView(together->forward(x.view(), false))) ==
          bits_of(ConstView(apart->forward(x.view(), false))));
    CHECK(bits_of(together->parameters().states) == bits_of(apart->parameters().states));
  };
  for (const Activation& f : all_activations()) {
    CAPTURE(std::string(name_of(f)));
    look(float{}, Dense(35, 35, true, HeNormal{}, Constant{0.1}), f);
    look(double{}, Dense(35, 35, true, HeNormal{}, Constant{0.1}), f);
    look(float{}, BatchNorm(35), f);
    look(double{}, BatchNorm(35, 0.8, 1e-3, Spread::variance, false), f);
    look(float{}, LayerNorm(35), f);
    look(double{}, LayerNorm(35, 1e-3, false), f);
  }
}

TEST_CASE("biases start at 0.01 directly before a ReLU, and at 0 elsewhere") {
  const auto bias_of = [](const auto& net, int number) {
    return net->parameters().value(number).template as<float>()[0];
  };
  const ActivationLayer relu{ReLU{}}, leaky{LeakyReLU{}}, tanh{Tanh{}};
  const auto net = network(DType::float32, Dense(3, 4), relu, Dense(4, 4), leaky, Dense(4, 4), tanh, Dense(4, 2));
  for (int layer = 0; layer < 4; ++layer) CHECK(bias_of(net, 2 * layer + 1) == (layer == 0 ? 0.01f : 0.0f));
  const auto given = network(DType::float32, Dense(3, 4, true, HeNormal{}, Constant{0.5}), relu, Dense(4, 2));
  CHECK(bias_of(given, 1) == 0.5f);
  CHECK(bias_of(network(DType::float32, Dense(3, 4), LayerNorm(4), relu), 1) == 0.0f);
}

TEST_CASE("the gradients do not depend on whether dx is wanted") {
  const std::vector<double> mean(6, 0.5), spread(6, 2.0);
  const auto net = network(DType::float32, Standardizer(6, mean, spread), DropoutLayer(0.2), Dense(6, 17),
                           BatchNorm(17), ActivationLayer(Softplus{}), Dense(17, 3));
  Array<float> x(33, 6), dx(33, 6);
  x.random(1);
  pass(*net, x, dx.view());
  const Bits with = bits_of(net->parameters().gradients);
  for (std::int64_t i = 0; i < dx.size(); ++i) REQUIRE(std::isfinite(dx[i]));
  std::memset(net->parameters().gradients.data(), 0xff, net->parameters().layout.bytes());
  pass(*net, x, {});
  const Bits without = bits_of(net->parameters().gradients);
  std::memset(net->parameters().gradients.data(), 0xff, net->parameters().layout.bytes());
  pass(*net, x, dx.view());
  CHECK(bits_of(net->parameters().gradients) == without);
  // Entry by entry: the padding was overwritten by the test.
  for (const Entry& entry : net->parameters().layout.entries()) {
    const auto begin = entry.offset * 4, end = begin + entry.rows * entry.cols * 4;
    CHECK(std::equal(with.begin() + begin, with.begin() + end, without.begin() + begin));
  }
}

TEST_CASE("frozen parameters stay, have no gradient, and change no gradient above them") {
  for (const char* prefix : {"layers.0", "layers.1", "layers.1.gamma", "layers.3.bias", "layers.3"}) {
    CAPTURE(prefix);
    const auto make = [] {
      return network(DType::float64, Dense(6, 17), BatchNorm(17), ActivationLayer(Tanh{}), Dense(17, 5), LayerNorm(5),
                     Dense(5, 3));
    };
    const auto net = make(), free = make();
    net->set_frozen(prefix, true);
    const Problem<double> problem(33, 6, 3);
    pass(*net, problem.x, {});
    pass(*free, problem.x, {});
    const auto& entries = net->parameters().layout.entries();
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Bits gradient = bits_of(ConstView(net->parameters().gradient(static_cast<int>(i))));
      if (entries[i].frozen) {
        CHECK(std::ranges::all_of(gradient, [](unsigned char byte) { return byte == 0; }));
      } else {
        CHECK(gradient == bits_of(ConstView(free->parameters().gradient(static_cast<int>(i)))));
      }
    }
    const auto values = [&] {
      std::vector<Bits> all;
      for (std::size_t i = 0; i < entries.size(); ++i)
        all.push_back(bits_of(ConstView(net->parameters().value(static_cast<int>(i)))));
      return all;
    };
    const std::vector<Bits> before = values();
    Trainer trainer(net, MeanSquaredError{}, {Adam{}, 0.1, true, {}, 0.5, {}});
    for (int step = 0; step < 3; ++step) trainer.step(problem.regression(), 0.1);
    const std::vector<Bits> after = values();
    for (std::size_t i = 0; i < entries.size(); ++i) CHECK((before[i] == after[i]) == entries[i].frozen);
    net->set_frozen(prefix, false);
    trainer.step(problem.regression(), 0.1);
    for (std::size_t i = 0; i < entries.size(); ++i) CHECK(values()[i] != after[i]);
  }
  CHECK_THROWS_AS(network(DType::float32, Dense(2, 3))->set_frozen("layers.1", true), std::invalid_argument);
  CHECK_THROWS_AS(network(DType::float32, Dense(2, 3))->set_frozen("layers.0.w", true), std::invalid_argument);
}

TEST_CASE("a network is used by one at a time") {
  const auto net = network(DType::float32, Dense(2, 3));
  {
    const Network::Use first(*net);
    bool refused = false;
    std::thread other([&] {
      try {
        const Network::Use second(*net);
      } catch (const std::runtime_error&) {
        refused = true;
      }
    });
    other.join();
    CHECK(refused);
  }
  CHECK_NOTHROW([&] { const Network::Use again(*net); }());
}

TEST_CASE("predictions do not depend on the batch size, leave out dropout and change nothing") {
  const auto net = network(DType::float32, DropoutLayer(0.5), Dense(7, 33), BatchNorm(33), ActivationLayer(ReLU{}),
                           DropoutLayer(0.5), Dense(33, 3), DropoutLayer(0.9));
  const Problem<float> problem(101, 7, 3);
  net->forward(problem.x.view(), true);
  const Bits values = bits_of(net->parameters().values), states = bits_of(net->parameters().states);
  Array<float> whole(101, 3), batches(101, 3);
  net->predict(Problem<float>::source(problem.x), 101, whole.data());
  for (const std::int64_t batch : {1, 2, 33, 100, 1000}) {
    batches.poison();
    net->predict(Problem<float>::source(problem.x), batch, batches.data());
    CHECK(batches.same_bits(whole));
  }
  CHECK(bits_of(net->parameters().values) == values);
  CHECK(bits_of(net->parameters().states) == states);
  // The same from doubles in strided rows.
  std::vector<double> far(101 * 9);
  for (std::int64_t i = 0; i < 101 * 7; ++i)
    far[static_cast<std::size_t>(i / 7 * 9 + i % 7)] = static_cast<double>(problem.x[i]);
  batches.poison();
  net->predict({far.data(), SourceType::f64, 101, 7, 9}, 33, batches.data());
  CHECK(batches.same_bits(whole));
}

TEST_CASE("seeds decide the initial values; entries have streams of their own") {
  const auto make = [](std::uint64_t seed) {
    return std::make_unique<Network>(layers(Dense(20, 20), Dense(20, 20)), DType::float32, tested(), seed);
  };
  const auto a = make(1), b = make(1), c = make(2);
  CHECK(bits_of(a->parameters().values) == bits_of(b->parameters().values));
  CHECK(bits_of(a->parameters().values) != bits_of(c->parameters().values));
  CHECK(bits_of(ConstView(a->parameters().value(0))) != bits_of(ConstView(a->parameters().value(2))));
  a->initialize(2);
  CHECK(a->seed() == 2);
  CHECK(bits_of(a->parameters().values) == bits_of(c->parameters().values));
}

TEST_CASE("initialisers have the spread they promise") {
  const auto spread = [](const Initializer& init) {
    const auto net = network(DType::float64, Dense(300, 200, false, init));
    double sum = 0.0, squares = 0.0;
    const View w = net->parameters().value(0);
    for (std::int64_t i = 0; i < w.size(); ++i) {
      sum += w.as<double>()[i];
      squares += w.as<double>()[i] * w.as<double>()[i];
    }
    const double n = static_cast<double>(w.size()), rms = std::sqrt(squares / n);
    CHECK(std::abs(sum / n) < 5.0 * rms / std::sqrt(n));
    return rms;
  };
  CHECK(spread(HeNormal{}) == doctest::Approx(std::sqrt(2.0 / 300)).epsilon(0.02));
  CHECK(spread(HeUniform{}) == doctest::Approx(std::sqrt(2.0 / 300)).epsilon(0.02));
  CHECK(spread(GlorotNormal{}) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.02));
  CHECK(spread(GlorotUniform{}) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.02));
  CHECK(spread(Uniform{0.3}) == doctest::Approx(0.3 / std::sqrt(3.0)).epsilon(0.02));
  CHECK(spread(Normal{0.3}) == doctest::Approx(0.3).epsilon(0.02));
}

TEST_CASE("networks refuse what does not fit, and wrong order of calls, and work on") {
  CHECK_THROWS_AS(network(DType::float32), std::invalid_argument);
  CHECK_THROWS_AS(network(DType::float32, ActivationLayer(ReLU{})), std::invalid_argument);
  CHECK_THROWS_AS(network(DType::float32, Dense(2, 3), Dense(4, 1)), std::invalid_argument);
  CHECK_THROWS_AS(network(DType::float32, Dense(2, 3), BatchNorm(2)), std::invalid_argument);
  CHECK_THROWS_AS(network(DType::float32, Standardizer(2)), std::runtime_error);
  if (tested() == Device::cpu) {
    CHECK_THROWS_AS(Network(layers(Dense(2, 3)), DType::float32, Device::cuda, 1), DeviceError);
  }
  const auto net = network(DType::float32, Dense(4, 3), BatchNorm(3));
  Array<float> x(2, 4), wide(2, 5), one(1, 4);
  x.random(1);
  wide.random(1);
  one.random(1);
  const Bits states = bits_of(net->parameters().states);
  CHECK_THROWS_AS(net->executor().backward({}), std::runtime_error);
  CHECK_THROWS_AS(net->forward(wide.view(), true), std::invalid_argument);
  CHECK_THROWS_AS(net->forward(one.view(), true), std::invalid_argument);  // batch norm of one row
  CHECK_THROWS_AS(net->executor().output_gradient(), std::runtime_error);
  const ConstView empty{x.data(), 0, 4, DType::float32};
  CHECK_THROWS_AS(net->forward(empty, false), std::invalid_argument);
  CHECK(bits_of(net->parameters().states) == states);
  CHECK_NOTHROW(net->forward(one.view(), false));
  CHECK_NOTHROW(pass(*net, x, {}));
  const Bits gradients = bits_of(net->parameters().gradients);
  forward_in_training(*net, x.view());
  CHECK_THROWS_AS(net->forward(one.view(), true), std::invalid_argument);
  CHECK_THROWS_AS(net->forward(wide.view(), true), std::invalid_argument);
  const View dy = net->executor().output_gradient();  // a refused pass leaves the previous one unchanged
  for (std::int64_t i = 0; i < dy.size(); ++i) {
    dy.as<float>()[i] = static_cast<float>(noise(9, static_cast<std::uint64_t>(i)));
  }
  CHECK_NOTHROW(net->executor().backward({}));
  CHECK(bits_of(net->parameters().gradients) == gradients);
  net->forward(x.view(), false);  // after a prediction there is no saved forward pass
  CHECK_THROWS_AS(net->executor().backward({}), std::runtime_error);
}
