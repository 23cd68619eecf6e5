// Optimiser rules against their formulas in double, segments of the arena, and the passes beside them.
#include "gdcore/optimizer.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// One weight and its states after one step, in double.
struct Weight {
  double w, s = 0.0, r = 0.0, size = 0.0;
};

/// `g_size` is the size of the terms of the gradient g.
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

template <class T>
void check_rule(const OptimizerRule& rule, std::int64_t n, std::int64_t shift) {
  Array<T> w(1, n, shift), g(1, n, 1 - shift), s(1, n, shift), r(1, n, 1 - shift);
  w.random(1);
  g.random(2);
  s.random(3, 0.25, std::holds_alternative<Momentum>(rule) || std::holds_alternative<Adam>(rule) ? 0.0 : 0.5);
  r.random(4, 0.25, 0.5);
  const Array<T> w0 = w.copy(), s0 = s.copy(), r0 = r.copy();
  // Three segments with a gap between the first two, which must stay as it is.
  const std::int64_t third = n / 3;
  const Segment segments[] = {
      {0, third, 1.0, 0.1}, {third + (n > 3), n - third - (n > 3) - third, 0.5, 0.0}, {n - third, third, 2.0, 0.3}};
  const double lr = 0.05, scale = 0.75, clip = 0.6;
  OptimizerPass pass{rule, w.view(), g.view(), {}, segments, lr, 3, scale, clip};
  if (state_count(rule) > 0) pass.states[0] = s.view();
  if (state_count(rule) > 1) pass.states[1] = r.view();
  device().optimizer_step(pass);
  Worst<T> weights(8.0), states(8.0);
  for (std::int64_t i = 0; i < n; ++i) {
    const Segment* in = nullptr;
    for (const Segment& segment : segments) {
      if (i >= segment.begin && i < segment.begin + segment.count) in = &segment;
    }
    if (in == nullptr) {
      CHECK(w[i] == w0[i]);
      CHECK(s[i] == s0[i]);
      CHECK(r[i] == r0[i]);
      continue;
    }
    double gradient = static_cast<double>(g[i]) * scale, weight = static_cast<double>(w0[i]);
    gradient = std::max(-clip, std::min(clip, gradient));
    double size = std::abs(gradient);
    if (decouples_decay(rule)) {
      weight *= 1.0 - lr * in->lr_factor * in->weight_decay;
    } else {
      gradient += in->weight_decay * weight;
      size += std::abs(in->weight_decay * weight);
    }
    const Weight exact = exact_step(rule, {weight, static_cast<double>(s0[i]), static_cast<double>(r0[i])}, gradient,
                                    size, lr * in->lr_factor, 3.0);
    weights.add(w[i], exact.w, exact.size);
    if (state_count(rule) > 0) states.add(s[i], exact.s, std::abs(static_cast<double>(s0[i])) + size);
    if (state_count(rule) > 1) states.add(r[i], exact.r, std::abs(static_cast<double>(r0[i])) + size * size);
  }
  CHECK(weights.value() <= 1.0);
  CHECK(states.value() <= 1.0);
  if (state_count(rule) < 2) CHECK(r.same_bits(r0));
}

}  // namespace

TEST_CASE("every rule follows its formula at every length, with clipping, decay and rate factors by segment") {
  for (const OptimizerRule& rule : all_rules()) {
    CAPTURE(rule.index());
    for (std::int64_t n : awkward_widths()) {
      CAPTURE(n);
      check_rule<float>(rule, n, n % 2);
      check_rule<double>(rule, n, 1 - n % 2);
    }
    check_rule<float>(rule, 100'003, 1);
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

TEST_CASE("the sum of squares: every length, in doubles whatever the dtype, the same for all thread counts") {
  const auto look = [&]<class T>(T, std::int64_t n, double scale) {
    Array<T> x(1, n, n % 2);
    x.random(1, scale);
    long double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<long double>(x[i]) * static_cast<long double>(x[i]);
    CHECK(std::abs(device().sum_of_squares(x.view()) - sum) <= 1e-14 * sum);
  };
  for (const std::int64_t n : awkward_widths()) {
    look(float{}, n, 1.0);
    look(double{}, n, 1.0);
  }
  look(float{}, 300'001, 1e30);  // the squares are beyond float32
  CHECK(same_for_all_threads([] {
    Array<float> x(1, 1'000'003);
    x.random(5);
    std::vector<Array<double>> results;
    results.emplace_back(1, 1).fill(device().sum_of_squares(x.view()));
    return results;
  }));
  Array<float> bad(1, 100'000);
  bad.fill(1.0);
  bad[77'777] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(device().sum_of_squares(bad.view())));
}

TEST_CASE("running averages: decay and the square root, at every length") {
  const auto look = [&]<class T>(T, std::int64_t n, bool root) {
    Array<T> average(1, n, n % 2), value(1, n, 1 - n % 2);
    average.random(1);
    value.random(2, 0.5, 1.0);
    const Array<T> before = average.copy();
    device().lerp({average.view(), value.view(), 0.9, root});
    Worst<T> worst(2.0);
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = static_cast<double>(value[i]);
      const double exact = 0.9 * static_cast<double>(before[i]) + (1.0 - 0.9) * (root ? std::sqrt(v) : v);
      worst.add(average[i], exact, std::abs(static_cast<double>(before[i])) + v);
    }
    CHECK(worst.value() <= 1.0);
  };
  for (const std::int64_t n : awkward_widths()) {
    look(float{}, n, false);
    look(float{}, n, true);
    look(double{}, n, n % 2 == 0);
  }
}
