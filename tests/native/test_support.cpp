// Tests of the test tools: a comparer that cannot fail would make every test worthless.
#include <sys/wait.h>

#include <csignal>

#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

TEST_CASE("Worst notices one value that is a little off, NaN and infinity") {
  Worst<float> good(2.0);
  good.add(1.0f, 1.0 + 1e-8, 1.0);
  CHECK(good.value() <= 1.0);
  Worst<float> off(2.0);
  off.add(1.0f, 1.0, 1.0);
  off.add(1.000001f, 1.0, 1.0);
  off.add(1.0f, 1.0, 1.0);
  CHECK(off.value() > 1.0);
  Worst<float> nan(2.0);
  nan.add(std::numeric_limits<float>::quiet_NaN(), 1.0, 1.0);
  CHECK(nan.value() > 1.0);
  Worst<double> infinite(2.0);
  infinite.add(std::numeric_limits<double>::infinity(), 1e300, 1e300);
  CHECK(infinite.value() > 1.0);
  Worst<double> zero_size(2.0);
  zero_size.add(1e-20, 0.0, 0.0);
  CHECK(zero_size.value() > 1.0);
}

TEST_CASE("arrays begin as NaN, lie where they should and compare bit for bit") {
  Array<float> a(3, 5, 1), b(3, 5, 0);
  CHECK(std::isnan(a[0]));
  CHECK(std::isnan(a[14]));
  CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 8 == 4);
  a.random(1);
  b.random(1);
  CHECK(a.same_bits(b));
  b[14] = std::nextafter(b[14], 10.0f);
  CHECK_FALSE(a.same_bits(b));
}

TEST_CASE("who reads past the end of a guarded array dies" * doctest::skip(!guard_pages())) {
  const auto end_of_child = [](std::int64_t element) {
    const Array<float> a(3, 5, 1);
    const pid_t child = fork();
    if (child == 0) {
      std::signal(SIGSEGV, SIG_DFL);
      const volatile float* at = a.data() + element;
      _exit(*at == 0.0f ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  };
  CHECK(WIFEXITED(end_of_child(14)));
  CHECK(WIFSIGNALED(end_of_child(15)));
}

TEST_CASE("a result that depends on the number of threads is noticed") {
  CHECK_FALSE(same_for_all_threads([] {
    std::vector<Array<double>> results;
    results.emplace_back(1, 1).fill(num_threads() == 2 ? 1.0 : 2.0);
    return results;
  }));
  CHECK(same_for_all_threads([] {
    std::vector<Array<double>> results;
    results.emplace_back(1, 1).fill(2.0);
    return results;
  }));
}

TEST_CASE("the exact slopes are the derivatives of the exact values") {
  for (const Activation& activation : all_activations()) {
    for (const double a : {-3.0, -0.7, -0.01, 0.02, 0.9, 4.0}) {
      const double h = 1e-5, slope = (exact_value(activation, a + h) - exact_value(activation, a - h)) / (2.0 * h);
      CHECK(std::abs(slope - exact_slope(activation, a)) < 1e-8);
    }
  }
}
