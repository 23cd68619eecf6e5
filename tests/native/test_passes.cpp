// Passes over arrays beside the optimiser's: sums of squares, running and moving averages, additions.
#include "gdcore/optimizer_rules.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

TEST_CASE("the sum of squares: every length, in doubles whatever the dtype, the same for all thread counts") {
  const auto look = [&]<class T>(T, std::int64_t n, double scale, std::int64_t shift) {
    Array<T> x(1, n, shift);
    x.random(1, scale);
    long double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<long double>(x[i]) * static_cast<long double>(x[i]);
    CHECK(std::abs(device().sum_of_squares(x.view()) - sum) <= 1e-14 * sum);
  };
  for (const std::int64_t n : awkward_widths()) {
    look(float{}, n, 1.0, n % 2);
    look(double{}, n, 1.0, 1 - n % 2);
  }
  look(float{}, 300'001, 1e30, 0);  // the squares exceed float32's range
  look(float{}, 300'001, 1e30, 1);
  look(double{}, 100'001, 1.0, 1);
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
  const auto look = [&]<class T>(T, std::int64_t n, bool root, std::int64_t other_shift) {
    Array<T> average(1, n, n % 2), value(1, n, other_shift);
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
    look(float{}, n, false, n % 2);
    look(float{}, n, true, 1 - n % 2);
    look(double{}, n, n % 2 == 0, 0);
  }
  look(float{}, 50'002, true, 0);
}

TEST_CASE("adding a multiple: every length, aligned or not") {
  const auto look = [&]<class T>(T, std::int64_t n, std::int64_t shift, std::int64_t other_shift) {
    Array<T> to(1, n, shift), x(1, n, other_shift);
    to.random(1);
    x.random(2);
    const Array<T> before = to.copy(), same = x.copy();
    device().add(to.view(), x.view(), -0.3);
    Worst<T> worst(2.0);
    for (std::int64_t i = 0; i < n; ++i) {
      const double a = static_cast<double>(before[i]), b = static_cast<double>(x[i]);
      worst.add(to[i], a - 0.3 * b, std::abs(a) + std::abs(b));
    }
    CHECK(worst.value() <= 1.0);
    CHECK(x.same_bits(same));
  };
  for (const std::int64_t n : awkward_widths()) {
    look(float{}, n, 0, 0);
    look(float{}, n, 1, 1);
    look(double{}, n, n % 2, 0);
  }
  look(float{}, 50'003, 0, 0);
  look(float{}, 50'003, 0, 1);
  look(double{}, 50'003, 0, 0);
}

TEST_CASE("moving averages: every rate, at every length, with the device's counters too") {
  const auto look = [&]<class T>(T, std::int64_t n, double rate, std::int64_t other_shift) {
    Array<T> average(1, n, n % 2), value(1, n, other_shift);
    average.random(1);
    value.random(2);
    const Array<T> before = average.copy(), same = value.copy();
    Array<T> counted = average.copy();
    device().average({average.view(), value.view(), rate});
    Worst<T> worst(2.0);
    for (std::int64_t i = 0; i < n; ++i) {
      const double a = static_cast<double>(before[i]), v = static_cast<double>(value[i]);
      worst.add(average[i], a + rate * (v - a), std::abs(a) + std::abs(v));
    }
    CHECK(worst.value() <= 1.0);
    CHECK(value.same_bits(same));
    if (rate == 1.0) CHECK(average[n - 1] == value[n - 1]);
    if (device().recorder() == nullptr) return;
    StepRates rates[3];
    rates[1].average = rate;
    StepCounters counters;
    counters.batch = 1;
    device().average({counted.view(), value.view(), 0.75, &counters, rates});
    CHECK(counted.same_bits(average));
    counters.batch = 2;  // a step that does not update the average
    device().average({counted.view(), value.view(), 0.75, &counters, rates});
    CHECK(counted.same_bits(average));
  };
  for (const std::int64_t n : awkward_widths()) {
    look(float{}, n, 0.1, n % 2);
    look(float{}, n, 1.0, 1 - n % 2);
    look(double{}, n, 0.3, 0);
  }
  look(float{}, 50'002, 0.01, 0);
}

TEST_CASE("a moving average of what does not change stays the same") {
  Array<float> value(1, 1001);
  value.random(1);
  Array<float> average = value.copy();
  for (int i = 0; i < 100; ++i) device().average({average.view(), value.view(), 0.001 + 0.01 * i});
  CHECK(average.same_bits(value));
}
