// Packed weights: the same bits as without them, whatever the shape, and never those of other weights.
#include <array>

#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// Whether a product with a packed weight has the bits of one without, and so has the next one, which packs nothing.
template <class T>
bool packing_changes_nothing(std::int64_t rows, std::int64_t out, std::int64_t in, const Activation& f) {
  Array<T> x(rows, in), weight(out, in, 1), bias(1, out), expected(rows, out), y(rows, out, rows % 2);
  x.random(1);
  weight.random(2);
  bias.random(3);
  device().dense_forward({x.view(), weight.view(), bias.view(), f, expected.view(), {}});
  PackedWeight packed;
  for (int turn = 0; turn < 2; ++turn) {
    y.poison();
    device().dense_forward({x.view(), weight.view(), bias.view(), f, y.view(), {}, Precision::full, false, &packed});
    if (!y.same_bits(expected)) return false;
  }
  return true;
}

/// A float32 network with two products that pack, whose weights can be changed behind its back.
struct Secret {
  std::shared_ptr<Network> net = network(DType::float32, Dense(20, 33), ActivationLayer(ReLU{}), Dense(33, 19));
  float* weight = net->parameters().value(2).as<float>();
  Array<float> x{3, 20};

  Secret() { x.random(7); }
  void shift(float by) {  // the weights of the first output, most of whose inputs are positive
    for (int i = 0; i < 33; ++i) weight[i] += by;
  }
  Bits predict() { return bits_of(ConstView(net->forward(x.view(), false))); }
  /// Returns whether the next prediction after a change of the weight is the one before.
  bool keeps() {
    predict();
    const Bits before = predict();
    shift(0.5F);
    const bool same = predict() == before;
    shift(-0.5F);
    return same;
  }
};

}  // namespace

TEST_CASE("a packed weight changes no bits, whatever the number of rows, columns and terms") {
  const std::int64_t widths[] = {1, 3, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 130};
  const std::int64_t depths[] = {1, 15, 16, 64, 65, 255, 256, 257, 520};
  const std::vector<Activation> activations = all_activations();
  std::size_t turn = 0;
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 31, 48, 49, 97}) {
    CAPTURE(rows);
    for (const std::int64_t out : widths) {
      if (few_shapes() && (rows + out) % 5 != 0) continue;
      CAPTURE(out);
      for (const std::int64_t in : depths) {
        CAPTURE(in);
        const Activation& f = activations[turn++ % 8];
        CHECK((turn % 2 == 0 ? packing_changes_nothing<float> : packing_changes_nothing<double>)(rows, out, in, f));
      }
    }
  }
}

TEST_CASE("the same for several tasks, rows a power of two apart and sums of several blocks and ranges") {
  const std::array<std::int64_t, 2> shapes[] = {{1040, 1024}, {600, 512}, {33, 8300}};
  for (const int threads : {1, 3}) {
    const Threads guard(threads);
    for (const std::int64_t rows : {1, 2, 30, 257, 300}) {
      CAPTURE(rows);
      for (const auto& [out, in] : shapes) {
        CAPTURE(in);
        if (few_shapes() && rows > 30) continue;
        CHECK(packing_changes_nothing<float>(rows, out, in, Tanh{}));
      }
    }
  }
}

TEST_CASE("predictions keep packed weights only while no one can have written the weights") {
  if (tested() != Device::cpu) return;  // only the CPU packs
  Secret of;
  CHECK(of.keeps());
  CHECK(of.keeps());
  of.net->lend();  // the first of two writable views
  of.net->lend();
  CHECK_FALSE(of.keeps());
  of.net->give_back();
  CHECK_FALSE(of.keeps());
  of.net->give_back();
  CHECK(of.keeps());
}

TEST_CASE("after every kind of write, a prediction is that of a network that was never packed") {
  using Write = void (*)(Secret&);
  const auto optimise = [](Secret& of) {
    const Problem<float> problem(3, 20, 19);
    Trainer(of.net, MeanSquaredError{}, {SGD{}, 0.5, false, {}, {}, {}}).step(problem.regression(), 0.5);
  };
  const Write writes[] = {
      optimise,
      [](Secret& of) { of.net->initialize(5); },
      [](Secret& of) {
        of.net->lend();
        of.shift(0.5F);
        of.net->give_back();
      },
      [](Secret& of) {
        (void)of.net->parameters();
        of.shift(0.5F);
      },
  };
  for (const Write write : writes) {
    Secret of;
    const Bits before = of.predict();
    CHECK(of.predict() == before);
    write(of);
    const Bits after = of.predict();
    CHECK(after != before);
    Secret other;
    const Buffer& values = of.net->parameters().values;
    std::memcpy(other.net->parameters().values.data(), values.data(), values.bytes());
    CHECK(other.predict() == after);
    CHECK(of.predict() == after);
  }
}
