// Small models and data for the tests of networks and trainers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gdcore/layers.h"
#include "gdcore/trainer.h"
#include "support.h"

namespace gdcore::testing {

using Layers = std::vector<std::unique_ptr<Layer>>;

template <class... Kinds>
Layers layers(Kinds... kinds) {
  Layers list;
  (list.push_back(std::make_unique<Kinds>(std::move(kinds))), ...);
  return list;
}

template <class... Kinds>
std::shared_ptr<Network> network(DType dtype, Kinds... kinds) {
  return std::make_shared<Network>(layers(std::move(kinds)...), dtype, testing::tested(), 42);
}

using Bits = std::vector<unsigned char>;

inline Bits bits_of(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const unsigned char*>(data);
  return Bits(from, from + bytes);
}
inline Bits bits_of(const Buffer& buffer) { return bits_of(buffer.data(), buffer.bytes()); }
inline Bits bits_of(ConstView view) {
  return bits_of(view.data, static_cast<std::size_t>(view.size()) * size_of(view.dtype));
}

/// All state that a step changes and that a failed step must not change.
struct Snapshot {
  Bits values, states;
  std::vector<Bits> optimizer;
  std::int64_t steps;

  explicit Snapshot(Trainer& trainer)
      : values(bits_of(trainer.network().parameters().values)),
        states(bits_of(trainer.network().parameters().states)),
        steps(trainer.steps()) {
    for (const View& state : trainer.states()) optimizer.push_back(bits_of(state));
  }
  bool operator==(const Snapshot&) const = default;
};

/// Inputs, targets, labels and weights of a synthetic problem.
template <class T>
struct Problem {
  Array<T> x, y, weights;
  std::vector<std::int32_t> labels;

  Problem(std::int64_t rows, std::int64_t in, std::int64_t out) : x(rows, in), y(rows, out), weights(rows, 1) {
    x.random(1);
    y.random(2, 0.5, 0.5);
    weights.random(3, 0.5, 0.6);
    for (std::int64_t n = 0; n < rows; ++n) labels.push_back(static_cast<std::int32_t>((n * 5 + n / 3) % out));
  }
  static constexpr SourceType type = std::is_same_v<T, float> ? SourceType::f32 : SourceType::f64;
  static Source source(const Array<T>& a) { return {a.data(), type, a.rows(), a.cols(), a.cols()}; }
  Dataset regression() const { return {source(x), source(y), {}, false}; }
  Dataset weighted() const { return {source(x), source(y), source(weights), false}; }
  Dataset classes() const {
    const auto rows = static_cast<std::int64_t>(labels.size());
    return {source(x), {labels.data(), SourceType::i32, rows, 1, 1}, {}, true};
  }
};

inline std::vector<OptimizerRule> every_rule() { return {SGD{}, Momentum{}, AdaGrad{}, RMSProp{}, Adam{}}; }

/// A forward pass of a training step on its own: changes no persistent state.
inline View forward_in_training(Network& net, ConstView x, const StepRates& rates = {}) {
  return net.executor().forward(x, Executor::Mode::train, {.seed = net.seed(), .step = net.steps(), .rates = rates});
}

/// Runs forward and backward with synthetic gradients of the output.
template <class T>
void pass(Network& net, const Array<T>& x, View dx) {
  const View y = forward_in_training(net, x.view());
  const View dy = net.executor().output_gradient();
  for (std::int64_t i = 0; i < y.size(); ++i) dy.as<T>()[i] = static_cast<T>(noise(9, static_cast<std::uint64_t>(i)));
  net.executor().backward(dx);
}

}  // namespace gdcore::testing
