// Correct kernels give the right results in every order of threads, in every build.
#include <cmath>
#include <limits>
#include <thread>

#include "support.h"

using namespace gdcore;
using namespace gdcore::emulation_tests;

TEST_CASE("emulation: a reduction over warps and blocks") {
  in_each_order([] {
    std::vector<float> x(3 * 256);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) + static_cast<float>(i / 256);
    std::vector<float> expected(3);
    for (std::size_t i = 0; i < x.size(); ++i) expected[i / 256] += x[i];
    DeviceArray<float> device(x), sums(std::vector<float>(3));
    block_sums(device.data(), sums.data(), 3);
    CHECK(sums.to_host() == expected);
  });
}

TEST_CASE("emulation: tiles in dynamic shared memory, blocks of two dimensions") {
  in_each_order([] {
    const int rows = 37, cols = 18;
    DeviceArray<float> x(counting<float>(rows * cols)), y(std::vector<float>(rows * cols));
    transpose(x.data(), y.data(), rows, cols);
    const std::vector<float> result = y.to_host();
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) REQUIRE(result[c * rows + r] == static_cast<float>(r * cols + c));
    }
  });
}

TEST_CASE("emulation: atomics") {
  in_each_order([] {
    std::vector<int> values(1000), expected(5);
    for (std::size_t i = 0; i < values.size(); ++i) ++expected[values[i] = static_cast<int>(i * i % 5)];
    DeviceArray<int> device(values), counts(std::vector<int>(5));
    histogram(device.data(), counts.data(), 1000);
    CHECK(counts.to_host() == expected);
  });
}

TEST_CASE("emulation: __syncwarp orders shared memory within a warp") {
  in_each_order([] {
    DeviceArray<int> x(counting<int>(128)), y(std::vector<int>(128));
    exchange(x.data(), y.data(), 128);
    const std::vector<int> result = y.to_host();
    for (int i = 0; i < 128; ++i) REQUIRE(result[i] == (i ^ 1));
  });
}

TEST_CASE("emulation: shuffles") {
  in_each_order([] {
    DeviceArray<int> results(std::vector<int>(3 * 32));
    shuffles(results.data());
    const std::vector<int> r = results.to_host();
    for (int lane = 0; lane < 32; ++lane) {
      INFO("lane ", lane);
      CHECK(r[lane] == (lane ^ 5));
      CHECK(r[32 + lane] == (lane ^ 1) * 3);
      CHECK(r[64 + lane] == (lane ^ 1));
    }
  });
}

TEST_CASE("emulation: warp operations do not wait for lanes that have returned") {
  in_each_order([] {
    DeviceArray<int> result({0});
    half_warp(result.data());
    CHECK(result.to_host()[0] == 120);
  });
}

TEST_CASE("emulation: small device functions") {
  const std::vector<double> expected = {1065353216.0, 3, 0, 0x1p-24, 0, 0x1p-54};
  DeviceArray<double> results(std::vector<double>(expected.size()));
  intrinsics(results.data());
  const std::vector<double> r = results.to_host();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO("number ", i);
    CHECK(r[i] == expected[i]);
  }
}

TEST_CASE("emulation: 16-byte accesses at addresses that allow them") {
  DeviceArray<double> x(std::vector<double>(100));
  fill_pairs(x.data(), 2.5, 50);
  CHECK(x.to_host() == std::vector<double>(100, 2.5));
}

TEST_CASE("emulation: blocks of several host threads at once") {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, -1);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      emulation::options().order = t % 2 == 0 ? emulation::Order::forward : emulation::Order::shuffle;
      wrong[t] = 0;
      for (int n = 0; n < 20; ++n) {
        const int rows = 16 + t, cols = 20 + n;
        DeviceArray<float> x(counting<float>(rows * cols)), y(std::vector<float>(rows * cols));
        transpose(x.data(), y.data(), rows, cols);
        const std::vector<float> r = y.to_host();
        for (int i = 0; i < rows * cols; ++i) wrong[t] += r[i % cols * rows + i / cols] != static_cast<float>(i);
        std::vector<float> ones(256 * 2, static_cast<float>(t));
        DeviceArray<float> some(ones), sums(std::vector<float>(2));
        block_sums(some.data(), sums.data(), 2);
        wrong[t] += sums.to_host() != std::vector<float>(2, 256.0f * static_cast<float>(t));
        wrong[t] += error_of(divergent_barrier).empty();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("emulation: only the first and last blocks of a large grid") {
  in_each_order([] {
    emulation::options().max_blocks = 4;
    DeviceArray<int> x({0});
    touch_last_block(0x7fffffffu, x.data());
    emulation::options().max_blocks = 0;
    if (emulation::options().order != emulation::Order::shuffle) CHECK(x.to_host()[0] == 1);
  });
}
