// Optimiser steps over an arena of n parameters, sums of squares and averages. A step reads the gradient, and reads and
// writes weights and states: 3 + 2·states values moved per parameter, of 2 + states in memory.
#include <vector>

#include "support.h"

namespace gdcore::bench {

namespace {

constexpr std::int64_t kSizes[] = {1000, 100'000, 1'000'000, 50'000'000};

struct Kind {
  const char* name;
  OptimizerRule rule;
  int segments = 1;  // ranges with different rates
  double weight_decay = 0.0, clip = std::numeric_limits<double>::infinity();
};

void add_optimizer(const Kind& kind, std::int64_t n, DType dtype = DType::float32) {
  const int states = state_count(kind.rule);
  const double bytes = static_cast<double>(n) * static_cast<double>(size_of(dtype));
  const Work work{.bytes = bytes * (3 + 2 * states), .footprint = bytes * (2 + states), .dtype = dtype};
  add(name("optimizer", kind.name, n, name_of(dtype)), work, [=](const Run& run) {
    const Array parameters(1, n, dtype), gradients(1, n, dtype, 0.4, 0.5);
    const Array first(1, states > 0 ? n : 1, dtype, 0.0), second(1, states > 1 ? n : 1, dtype, 0.0);
    std::vector<Segment> segments;
    const std::int64_t each = n / kind.segments;
    for (int s = 0; s < kind.segments; ++s) {
      const std::int64_t begin = s * each, end = s + 1 < kind.segments ? begin + each : n;
      segments.push_back({begin, end - begin, 1.0, s % 2 == 0 ? kind.weight_decay : 0.0});
    }
    OptimizerPass pass{kind.rule, parameters.view(), gradients.view(), {}, segments, 1e-6, 1, 1.0, kind.clip};
    if (states > 0) pass.states[0] = first.view();
    if (states > 1) pass.states[1] = second.view();
    run([&] {
      cpu().optimizer_step(pass);
      ++pass.step;
    });
  });
}

/// The squared norm of all gradients, for clipping: reads them.
void add_sum_of_squares(std::int64_t n, DType dtype = DType::float32) {
  const Work work{
      .bytes = static_cast<double>(n) * static_cast<double>(size_of(dtype)), .only_reads = true, .dtype = dtype};
  add(name("sum-of-squares", n, name_of(dtype)), work, [=](const Run& run) {
    const Array x(1, n, dtype);
    run([&] { benchmark::DoNotOptimize(cpu().sum_of_squares(x.view())); });
  });
}

/// Running averages of n columns: reads the value, reads and writes the average.
void add_lerp(std::int64_t n) {
  const Work work{.bytes = 12.0 * static_cast<double>(n), .footprint = 8.0 * static_cast<double>(n)};
  add(name("lerp", n), work, [=](const Run& run) {
    const Array average(1, n), value(1, n, DType::float32, 0.1, 1.0);
    run([&] { cpu().lerp({average.view(), value.view(), 0.9, true}); });
  });
}

}  // namespace

void add_optimizers() {
  const Kind kinds[] = {{"SGD", SGD{}},
                        {"Momentum", Momentum{}},
                        {"Momentum-nesterov", Momentum{0.9, true}},
                        {"AdaGrad", AdaGrad{}},
                        {"RMSProp", RMSProp{}},
                        {"Adam", Adam{}},
                        {"AdamW", Adam{.decoupled = true}, 1, 0.01}};
  for (const Kind& kind : kinds) {
    for (const std::int64_t n : kSizes) add_optimizer(kind, n);
  }
  add_optimizer({"Adam-16-segments-decay-clip", Adam{}, 16, 0.01, 0.5}, 1'000'000);
  add_optimizer({"Adam", Adam{}}, 1'000'000, DType::float64);
  for (const std::int64_t n : kSizes) add_sum_of_squares(n);
  add_sum_of_squares(1'000'000, DType::float64);
  for (const std::int64_t n : {32, 512, 2048}) add_lerp(n);
}

}  // namespace gdcore::bench
