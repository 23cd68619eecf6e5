// Optimiser rules against their formulas in double, segments of the arena, and the related passes.
#include <algorithm>
#include <span>

#include "gdcore/optimizer_rules.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// One weight and its states after one step, in double.
struct Weight {
  double w, s = 0.0, r = 0.0, size = 0.0;
};

/// `g_size` is the magnitude of the terms of the gradient g.
Weight exact_step(const OptimizerRule& rule, Weight v, double g, double g_size, double lr, double tau) {
  double move = 0.0;
  if (std::holds_alternative<SGD>(rule)) move = -lr * g;
  if (const auto* m = std::get_if<Momentum>(&rule)) {
    v.s = m->momentum * v.s - lr * g;
    move = m->nesterov ? m->momentum * v.s - lr * g : v.s;
  }
  if (const auto* a = std::get_if<AdaGrad>(&rule)) {
    v.s += g * g;
    move = -lr * g / (std::sqrt(v.s) + a->eps);
  }
  if (const auto* p = std::get_if<RMSProp>(&rule)) {
    v.s = p->beta * v.s + (1.0 - p->beta) * g * g;
    move = -lr * g / (std::sqrt(v.s) + p->eps);
  }
  if (const auto* a = std::get_if<Adam>(&rule)) {
    v.s = a->betas.first * v.s + (1.0 - a->betas.first) * g;
    v.r = a->betas.second * v.r + (1.0 - a->betas.second) * g * g;
    const double s = v.s / (1.0 - std::pow(a->betas.first, tau)), r = v.r / (1.0 - std::pow(a->betas.second, tau));
    move = -lr * s / (std::sqrt(r) + a->eps);
  }
  v.size = std::abs(v.w) + std::abs(move) * (g == 0.0 ? 1.0 : g_size / std::abs(g)) + lr * g_size;
  v.w += move;
  return v;
}

std::vector<OptimizerRule> all_rules() {
  return {SGD{},
          Momentum{0.9, false},
          Momentum{0.9, true},
          AdaGrad{1e-6},
          RMSProp{0.9, 1e-6},
          Adam{{0.9, 0.99}, 1e-6, false},
          Adam{{0.9, 0.99}, 1e-6, true}};
}

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

template <class T>
void check_rule(const OptimizerRule& rule, std::int64_t n, std::int64_t shift, std::int64_t other_shift,
                double average_rate = -1.0, double scale = 0.75, double clip = 0.6) {
  Array<T> w(1, n, shift), g(1, n, other_shift), s(1, n, shift), r(1, n, other_shift);
  w.random(1);
  g.random(2);
  s.random(3, 0.25, std::holds_alternative<Momentum>(rule) || std::holds_alternative<Adam>(rule) ? 0.0 : 0.5);
  r.random(4, 0.25, 0.5);
  Array<T> a(1, n, other_shift);
  a.random(5);
  const Array<T> w0 = w.copy(), s0 = s.copy(), r0 = r.copy(), a0 = a.copy();
  // Three segments with a gap between the first two, which must stay unchanged.
  const std::int64_t third = n / 3;
  const Segment segments[] = {
      {0, third, 1.0, 0.1}, {third + (n > 3), n - third - (n > 3) - third, 0.5, 0.0}, {n - third, third, 2.0, 0.3}};
  const double lr = 0.05, decay_factor = average_rate < 0.0 ? 1.0 : 1.5;
  OptimizerPass pass{rule, w.view(), g.view(), {}, segments, lr, 3, scale, clip};
  if (state_count(rule) > 0) pass.states[0] = s.view();
  if (state_count(rule) > 1) pass.states[1] = r.view();
  pass.rates.decay = decay_factor;
  if (average_rate >= 0.0) {
    pass.average = a.view();
    pass.rates.average = average_rate;
  }
  device().optimizer_step(pass);
  Worst<T> weights(8.0), states(8.0), averages(8.0);
  for (std::int64_t i = 0; i < n; ++i) {
    const Segment* in = nullptr;
    for (const Segment& segment : segments) {
      if (i >= segment.begin && i < segment.begin + segment.count) in = &segment;
    }
    if (in == nullptr) {
      CHECK(w[i] == w0[i]);
      CHECK(s[i] == s0[i]);
      CHECK(r[i] == r0[i]);
      CHECK(a[i] == a0[i]);
      continue;
    }
    double gradient = static_cast<double>(g[i]) * scale, weight = static_cast<double>(w0[i]);
    gradient = std::max(-clip, std::min(clip, gradient));
    double size = std::abs(gradient);
    if (decouples_decay(rule)) {
      weight *= 1.0 - lr * in->lr_factor * in->weight_decay * decay_factor;
    } else {
      gradient += in->weight_decay * decay_factor * weight;
      size += std::abs(in->weight_decay * decay_factor * weight);
    }
    const Weight exact = exact_step(rule, {weight, static_cast<double>(s0[i]), static_cast<double>(r0[i])}, gradient,
                                    size, lr * in->lr_factor, 3.0);
    weights.add(w[i], exact.w, exact.size);
    const double from = static_cast<double>(a0[i]), rate = std::max(average_rate, 0.0);
    averages.add(a[i], from + rate * (static_cast<double>(w[i]) - from), std::abs(from) + std::abs(exact.w));
    if (state_count(rule) > 0) states.add(s[i], exact.s, std::abs(static_cast<double>(s0[i])) + size);
    if (state_count(rule) > 1) states.add(r[i], exact.r, std::abs(static_cast<double>(r0[i])) + size * size);
  }
  CHECK(weights.value() <= 1.0);
  CHECK(states.value() <= 1.0);
  CHECK(averages.value() <= 1.0);
  if (average_rate == 1.0) {
    for (const Segment& in : segments) {
      for (std::int64_t i = in.begin; i < in.begin + in.count; ++i) CHECK(a[i] == w[i]);
    }
  }
  if (state_count(rule) < 2) CHECK(r.same_bits(r0));
}

}  // namespace

TEST_CASE("every rule follows its formula at every length, with clipping, decay and rate factors by segment") {
  for (const OptimizerRule& rule : all_rules()) {
    CAPTURE(rule.index());
    for (std::int64_t n : awkward_widths()) {
      CAPTURE(n);
      check_rule<float>(rule, n, n % 2, 1 - n % 2);
      check_rule<double>(rule, n, 1 - n % 2, n % 2);
      check_rule<float>(rule, n, 0, 0);
      check_rule<double>(rule, n, 0, 0);
      check_rule<float>(rule, n, n % 2, 1 - n % 2, 0.25);
      check_rule<double>(rule, n, 0, 0, n % 2 == 0 ? 0.25 : 1.0);
    }
    for (const std::int64_t n : {1, 7, 16, 50, 1'000}) {  // nothing but the rule, where there is no decay
      check_rule<float>(rule, n, n % 2, 0, -1.0, 1.0, kNoLimit);
      check_rule<double>(rule, n, n % 2, 0, -1.0, 1.0, kNoLimit);
      check_rule<float>(rule, n, 0, 0, -1.0, 1.0, 0.6);
      check_rule<float>(rule, n, 0, 0, -1.0, 0.75, kNoLimit);
    }
    check_rule<float>(rule, 100'003, 0, 0, 0.25);
    check_rule<float>(rule, 1'000, 0, 0, 0.0);
    check_rule<float>(rule, 100'003, 1, 0);
    check_rule<float>(rule, 100'008, 0, 0);
  }
}

namespace {

/// Weights with their own states, and a pass over them.
template <class T>
struct Model {
  Array<T> w, g, s, r;

  explicit Model(std::int64_t n, std::int64_t shift = 0) : w(1, n, shift), g(1, n, 0), s(1, n, shift), r(1, n, 0) {
    w.random(1);
    g.random(2);
    s.random(3, 0.25, 0.5);
    r.random(4, 0.25, 0.5);
  }
  OptimizerPass pass(const OptimizerRule& rule, std::span<const Segment> segments, double lr = 0.0,
                     std::int64_t step = 0) {
    OptimizerPass pass{.rule = rule,
                       .parameters = w.view(),
                       .gradients = g.view(),
                       .states = {},
                       .segments = segments,
                       .rates = lr,
                       .step = step};
    if (state_count(rule) > 0) pass.states[0] = s.view();
    if (state_count(rule) > 1) pass.states[1] = r.view();
    return pass;
  }
  bool same_bits(const Model& other) const {
    return w.same_bits(other.w) && s.same_bits(other.s) && r.same_bits(other.r);
  }
};

}  // namespace

TEST_CASE("many segments in one call give the bits of a call for each, and gaps stay as they were") {
  for (const OptimizerRule& rule : all_rules()) {
    CAPTURE(rule.index());
    for (const int count : {63, 64, 65, 150}) {
      CAPTURE(count);
      std::vector<Segment> segments;
      std::int64_t n = 3;
      for (int i = 0; i < count; ++i) {
        const std::int64_t length = i % 7 == 5 ? 0 : 1 + (i * 13) % 40;
        segments.push_back({n, length, 0.5 + 0.01 * i, i % 3 == 0 ? 0.1 : 0.0});
        n += length + i % 2;
      }
      Model<float> together(n), apart(n);
      const Model<float> before(n);
      device().optimizer_step(together.pass(rule, segments, 0.05, 7));
      for (const Segment& segment : segments) {
        device().optimizer_step(apart.pass(rule, std::span(&segment, 1), 0.05, 7));
      }
      CHECK(together.same_bits(apart));
      for (std::int64_t i = 0; i < n; ++i) {
        const bool inside = std::ranges::any_of(
            segments, [&](const Segment& segment) { return i >= segment.begin && i < segment.begin + segment.count; });
        CHECK((together.w[i] == before.w[i]) != inside);
      }
    }
  }
}

TEST_CASE("steps that read the device's counters give the bits of steps with the host's numbers") {
  StepRecorder* recorder = device().recorder();
  if (recorder == nullptr) return;
  const auto look = [&]<class T>(T, const OptimizerRule& rule, std::int64_t n, std::int64_t shift) {
    const Segment segments[] = {{0, n / 3, 1.0, 0.1}, {n / 3 + 1, n - n / 3 - 1, 0.5, 0.0}};
    const double nan = std::numeric_limits<double>::quiet_NaN();
    StepRates rates[] = {nan, nan, varied_rates(0.1, 1), varied_rates(0.03, 2), varied_rates(0.01, 3), nan};
    rates[2].average = 1.0;
    rates[4].average = 0.3;
    Model<T> host(n, shift), counted(n, shift);
    Array<T> host_average(1, n), counted_average(1, n);
    host_average.random(6);
    counted_average.random(6);
    StepCounters counters{.step = 41, .batch = 2, .first = 100, .sums = {0.5, 2.0}, .stop = Stop::none};
    const LossSums sums{0.25, 32.0};
    for (int i = 0; i < 3; ++i) {
      OptimizerPass pass = host.pass(rule, segments, 0.0, 42 + i);
      pass.rates = rates[2 + i];
      pass.average = host_average.view();
      pass.clip_value = 1.25;
      device().optimizer_step(pass);
      OptimizerPass without_host = counted.pass(rule, segments, nan, -1);
      without_host.clip_value = 1.25;
      without_host.counters = &counters;
      without_host.schedule = rates;
      without_host.average = counted_average.view();
      device().optimizer_step(without_host);
      recorder->advance({&counters, &sums, 32});
    }
    CHECK(counted.same_bits(host));
    CHECK(counted_average.same_bits(host_average));
    CHECK(counters.step == 44);
    CHECK(counters.batch == 5);
    CHECK(counters.first == 196);
    CHECK(counters.sums.loss == 1.25);
    CHECK(counters.sums.weight == 98.0);
    CHECK(counters.stop == Stop::none);
  };
  for (const OptimizerRule& rule : all_rules()) {
    CAPTURE(rule.index());
    look(float{}, rule, 7, 0);
    look(float{}, rule, 20'003, 0);
    look(double{}, rule, 2'001, 1);
  }
}

TEST_CASE("the norm that the device clips by is the host's, and one that is not finite stops the steps") {
  if (device().recorder() == nullptr) return;
  const OptimizerRule rule = Adam{};
  const StepRates rates[] = {0.1};
  const auto look = [&]<class T>(T, std::int64_t n, std::int64_t shift) {
    const Segment segments[] = {{0, n, 1.0, 0.1}};
    for (const double clip_norm : {0.125, 1e6, std::numeric_limits<double>::infinity()}) {
      Model<T> host(n, shift), counted(n, shift);
      StepCounters counters;
      OptimizerPass pass = host.pass(rule, segments, rates[0].lr, 1);
      const double norm = std::sqrt(device().sum_of_squares(host.g.view()));
      if (norm > clip_norm) pass.grad_scale = clip_norm / norm;
      device().optimizer_step(pass);
      OptimizerPass without_host = counted.pass(rule, segments);
      without_host.counters = &counters;
      without_host.schedule = rates;
      without_host.clip_norm = clip_norm;
      device().optimizer_step(without_host);
      CHECK(counted.same_bits(host));
      CHECK(counters.stop == Stop::none);
    }
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      for (const Stop before : {Stop::none, Stop::loss}) {
        Model<T> model(n, shift);
        const Model<T> kept(n, shift);
        model.g[n - 1] = static_cast<T>(bad);
        StepCounters counters;
        counters.stop = before;
        OptimizerPass pass = model.pass(rule, segments);
        pass.counters = &counters;
        pass.schedule = rates;
        pass.clip_norm = 1.0;
        device().optimizer_step(pass);
        CHECK(model.same_bits(kept));
        CHECK(counters.stop == (before == Stop::none ? Stop::gradient_norm : Stop::loss));
      }
    }
  };
  for (const std::int64_t n : {1, 33, 8192, 8193, 30'005}) {
    CAPTURE(n);
    look(float{}, n, n % 2);
    look(double{}, n, 0);
  }
}

TEST_CASE("once something has stopped the steps, nothing that lasts is written") {
  StepRecorder* recorder = device().recorder();
  if (recorder == nullptr) return;
  constexpr std::int64_t n = 5001;
  const Segment segments[] = {{0, n, 1.0, 0.1}};
  const StepRates rates[] = {0.1};
  const LossSums sums{1.0, 1.0};
  for (const Stop stop : {Stop::loss, Stop::gradient_norm}) {
    StepCounters counters{.step = 3, .batch = 0, .first = 8, .sums = {2.0, 4.0}, .stop = stop};
    for (const OptimizerRule& rule : all_rules()) {
      Model<float> model(n);
      const Model<float> kept(n);
      OptimizerPass pass = model.pass(rule, segments);
      pass.counters = &counters;
      pass.schedule = rates;
      device().optimizer_step(pass);
      CHECK(model.same_bits(kept));
    }
    Array<float> average(1, n), value(1, n);
    average.random(1);
    value.random(2);
    const Array<float> kept = average.copy();
    device().lerp({average.view(), value.view(), 0.5, false, &counters});
    CHECK(average.same_bits(kept));
    device().average({average.view(), value.view(), 0.5, &counters, rates});
    CHECK(average.same_bits(kept));
    recorder->advance({&counters, &sums, 4});
    CHECK(counters.step == 3);
    CHECK(counters.batch == 0);
    CHECK(counters.first == 8);
    CHECK(counters.sums.loss == 2.0);
    CHECK(counters.sums.weight == 4.0);
    CHECK(counters.stop == stop);
    counters.stop = Stop::none;
    device().lerp({average.view(), value.view(), 0.5, false, &counters});
    CHECK(average[n - 1] == 0.5f * (kept[n - 1] + value[n - 1]));
  }
}

TEST_CASE("optimiser steps do not depend on the number of threads") {
  for (const OptimizerRule& rule : all_rules()) {
    CAPTURE(rule.index());
    CHECK(same_for_all_threads([&] {
      Array<float> w(1, 300'007), g(1, 300'007), s(1, 300'007), r(1, 300'007);
      w.random(1);
      g.random(2);
      s.fill(0.0);
      r.fill(0.0);
      const Segment segments[] = {{0, 100'000, 1.0, 0.1}, {100'000, 200'007, 0.3, 0.0}};
      for (std::int64_t step = 1; step <= 3; ++step) {
        OptimizerPass pass{rule, w.view(), g.view(), {}, segments, 0.1, step, 0.5};
        if (state_count(rule) > 0) pass.states[0] = s.view();
        if (state_count(rule) > 1) pass.states[1] = r.view();
        device().optimizer_step(pass);
      }
      std::vector<Array<float>> results;
      results.push_back(std::move(w));
      results.push_back(std::move(s));
      results.push_back(std::move(r));
      return results;
    }));
  }
}
