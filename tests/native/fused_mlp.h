// Networks trained by fused steps, for tests of these.
#pragma once

#include <limits>
#include <vector>

#include "gdcore/step_program.h"
#include "models.h"

namespace gdcore::testing {

/// A copy of a network's arrays, trained by fused steps.
struct FusedMlp {
  Network& net;
  const Loss& loss;
  Plan plan;
  Array<float> parameters, gradients, state0, state1, average;
  Buffer class_weights;
  std::vector<Segment> segments;
  std::vector<StepRates> rates;
  StepCounters counters;
  LossSums sums;
  double clip_norm = std::numeric_limits<double>::infinity();
  Precision precision = Precision::full;

  FusedMlp(Network& net_, const Loss& loss_)
      : net(net_),
        loss(loss_),
        plan(net.executor().plan()),
        parameters(1, net.parameters().layout.size()),
        gradients(1, parameters.cols()),
        state0(1, parameters.cols()),
        state1(1, parameters.cols()),
        average(1, parameters.cols()),
        class_weights(loss_weights(loss, net.out_features(), cpu(), DType::float32)) {
    std::memcpy(parameters.data(), net.parameters().values.data(), parameters.bytes());
    state0.fill(0.0);
    state1.fill(0.0);
    average.fill(0.25);
    const auto& entries = net.parameters().layout.entries();
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const std::int64_t end = i + 1 < entries.size() ? entries[i + 1].offset : parameters.cols();
      segments.push_back(
          {entries[i].offset, end - entries[i].offset, 1.0 + 0.5 * static_cast<double>(i % 2), i % 2 ? 0.0 : 1e-3});
    }
  }
  OptimizerPass pass(const OptimizerRule& rule) {
    return {.rule = rule,
            .parameters = parameters.view(),
            .gradients = gradients.view(),
            .states = {state0.view(), state1.view()},
            .segments = segments,
            .rates = {},
            .step = 0,
            .clip_value = 5.0,
            .counters = &counters,
            .schedule = rates.data(),
            .clip_norm = clip_norm,
            .average = average.view()};
  }
  bool step(const OptimizerRule& rule, const Dataset& data, const std::int64_t* order, std::int64_t rows) {
    const auto numbers = static_cast<std::int64_t>(class_weights.bytes() / sizeof(float));
    const ConstView weights{class_weights.data(), 1, numbers, DType::float32};
    const auto fused = device().fuse({.x = data.x,
                                      .y = data.y,
                                      .weights = data.weights,
                                      .labels = data.labels,
                                      .order = order,
                                      .rows = rows,
                                      .plan = plan,
                                      .parameters = net.parameters(),
                                      .precision = precision,
                                      .seed = net.seed(),
                                      .loss = loss,
                                      .class_weights = weights,
                                      .sums = &sums,
                                      .optimizer = pass(rule)});
    if (fused != nullptr) fused->run();
    return fused != nullptr;
  }
};

/// Compares the average of the fused steps' weights with the formula, and what is no weight with its former value.
inline void check_average(const Network& net, const FusedMlp& fused, const Array<float>& before, double rate) {
  double worst = 0.0;
  const auto& entries = net.parameters().layout.entries();
  std::size_t e = 0;
  for (std::int64_t i = 0; i < fused.average.cols(); ++i) {
    while (e + 1 < entries.size() && i >= entries[e + 1].offset) ++e;
    const bool weight = i < entries[e].offset + entries[e].rows * entries[e].cols;
    const double from = static_cast<double>(before[i]), to = static_cast<double>(fused.parameters[i]);
    const double expected = weight ? from + rate * (to - from) : from;
    worst = std::max(worst, std::abs(static_cast<double>(fused.average[i]) - expected));
    if (!weight || rate == 0.0) CHECK(fused.average[i] == before[i]);
    if (weight && rate == 1.0) CHECK(fused.average[i] == fused.parameters[i]);
  }
  CHECK(worst <= 1e-6);
}

}  // namespace gdcore::testing
