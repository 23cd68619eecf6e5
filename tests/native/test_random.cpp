// Random numbers: Philox4x32-10 against its authors' known answers, moments, dropout.
#include <algorithm>
#include <set>

#include "gdcore/random.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

TEST_CASE("Philox4x32-10 gives the known answers published with Random123") {
  struct Answer {
    std::uint64_t seed, stream, n;
    std::uint32_t word[4];
  };
  const Answer answers[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& answer : answers) {
    const Philox::Block block = Philox{answer.seed, answer.stream}.block(answer.n);
    for (int i = 0; i < 4; ++i) CHECK(block.word[i] == answer.word[i]);
  }
}

TEST_CASE("uniform and normal have the right range and moments") {
  const Philox random{12345, 6};
  constexpr int count = 200'000;
  double u1 = 0, u2 = 0, n1 = 0, n2 = 0, n3 = 0, n4 = 0;
  bool in_range = true;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double u = random.uniform(i), z = random.normal(i);
    in_range = in_range && u >= 0.0 && u < 1.0 && std::isfinite(z);
    u1 += u / count;
    u2 += u * u / count;
    n1 += z / count;
    n2 += z * z / count;
    n3 += z * z * z / count;
    n4 += z * z * z * z / count;
  }
  // Five standard deviations of each estimate.
  const double root = std::sqrt(static_cast<double>(count));
  CHECK(in_range);
  CHECK(std::abs(u1 - 0.5) < 5 * 0.2887 / root);
  CHECK(std::abs(u2 - 1.0 / 3) < 5 * 0.2982 / root);
  CHECK(std::abs(n1) < 5 * 1.0 / root);
  CHECK(std::abs(n2 - 1.0) < 5 * 1.4142 / root);
  CHECK(std::abs(n3) < 5 * 3.873 / root);
  CHECK(std::abs(n4 - 3.0) < 5 * 9.798 / root);
}

TEST_CASE("streams of different uses never meet") {
  std::set<std::uint64_t> streams;
  for (const Stream use : {Stream::parameters, Stream::shuffle, Stream::dropout}) {
    for (std::uint64_t n = 0; n < 5000; ++n) streams.insert(stream_of(use, n << 20));
  }
  CHECK(streams.size() == 15'000);
}

namespace {

template <class T>
void check_dropout(std::int64_t rows, std::int64_t cols, std::int64_t shift, std::int64_t other_shift, double p) {
  const Philox random{11, 22};
  Array<T> x(rows, cols, shift), y(rows, cols, other_shift);
  x.random(1);
  device().dropout({x.view(), y.view(), p, 11, 22});
  const T scale = static_cast<T>(1.0 / (1.0 - p));
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::uint32_t word = random.block(static_cast<std::uint64_t>(i / 4)).word[i % 4];
    const bool kept = static_cast<double>(word) >= std::floor(p * 0x1p32);
    wrong += y[i] != (kept ? x[i] * scale : T(0));
  }
  CHECK(wrong == 0);
  device().dropout({x.view(), x.view(), p, 11, 22});  // in place
  CHECK(std::memcmp(x.data(), y.data(), x.bytes()) == 0);
}

}  // namespace

TEST_CASE("dropout follows its counter at every shape, in place too") {
  for (const std::int64_t cols : awkward_widths()) {
    for (const std::int64_t rows : {1, 2, 33}) {
      CAPTURE(cols);
      CAPTURE(rows);
      check_dropout<float>(rows, cols, cols % 2, 1 - cols % 2, 0.3);
      check_dropout<double>(rows, cols, 1 - cols % 2, cols % 2, 0.9);
      check_dropout<float>(rows, cols, 0, 0, 0.6);
      check_dropout<double>(rows, cols, 0, 0, 0.0);
    }
  }
  // Exactly the value drawn for an element.
  check_dropout<float>(2, 9, 0, 0, Philox{11, 22}.block(1).word[1] * 0x1p-32);
  check_dropout<float>(1, 70'001, 0, 0, 0.5);
  check_dropout<double>(1, 70'001, 0, 0, 0.5);
}

TEST_CASE("dropout with the device's counters draws the mask of the host's stream") {
  if (device().recorder() == nullptr) return;
  Array<float> x(3, 1001), host(3, 1001), counted(3, 1001), before(3, 1001);
  x.fill(1.0);
  const std::uint64_t stream = stream_of(Stream::dropout, 5);
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{77}, std::int64_t{1} << 40}) {
    StepCounters counters;
    counters.step = step;
    counters.batch = step % 2;
    StepRates rates[2];
    rates[0].dropout = 0.5;
    const double p = step % 2 == 0 ? 0.2 : 0.4;
    device().dropout({x.view(), host.view(), p, 9, stream ^ (static_cast<std::uint64_t>(step) << 12)});
    device().dropout({x.view(), counted.view(), 0.4, 9, stream, &counters, rates});
    CHECK(counted.same_bits(host));
    CHECK_FALSE(counted.same_bits(before));
    std::memcpy(before.data(), counted.data(), counted.bytes());
  }
}

TEST_CASE("dropout keeps the share it should, in a new pattern for each stream, the same for all thread counts") {
  Array<float> x(500, 301), y(500, 301), z(500, 301);
  x.fill(1.0);
  for (const double p : {0.1, 0.5, 0.99}) {
    device().dropout({x.view(), y.view(), p, 1, 1});
    device().dropout({x.view(), z.view(), p, 1, 2});
    double kept = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) kept += y[i] != 0.0f;
    const double n = static_cast<double>(y.size());
    CHECK(std::abs(kept / n - (1.0 - p)) < 5 * std::sqrt(p * (1 - p) / n));
    CHECK_FALSE(y.same_bits(z));
  }
  CHECK(same_for_all_threads([&] {
    std::vector<Array<float>> results;
    device().dropout({x.view(), results.emplace_back(500, 301).view(), 0.4, 3, 4});
    return results;
  }));
}
