// The emulation finds each defect that it promises to find, in the build that promises it, and the next kernel works.
#include <cmath>

#include "processes.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::emulation_tests;

namespace {

/// The kernel's defect is reported with these words in every order, and a correct kernel runs afterwards.
void check_found(const std::function<void()>& kernel, const std::string& words) {
  in_each_order([&] {
    const std::string message = error_of(kernel);
    INFO("message: ", message);
    CHECK(message.find(words) != std::string::npos);
    DeviceArray<float> x(std::vector<float>(256, 1.0f)), sum(std::vector<float>(1));
    block_sums(x.data(), sum.data(), 1);
    CHECK(sum.to_host()[0] == 256.0f);
  });
}

template <class T>
void check_race(void (*kernel)(T*), int n, const std::string& words) {
  if (!kFindsRaces) return;
  DeviceArray<T> y(std::vector<T>(static_cast<std::size_t>(n)));
  check_found([&] { kernel(y.data()); }, words);
}

}  // namespace

TEST_CASE("emulation: barriers that not all threads reach are found") {
  check_found(divergent_barrier, "divergent __syncthreads");
  check_found(barrier_after_exit, "barrier after exit");
  check_found(deadlock, "deadlock in block (0,0,0)");
  CHECK(error_of(divergent_barrier).find("kernels.cu:") != std::string::npos);  // the source location
}

TEST_CASE("emulation: warp operations that do not meet are found") {
  DeviceArray<int> y(std::vector<int>(32));
  check_found([&] { shuffle_from_absent_lane(y.data()); }, "shuffle from a lane that does not take part");
  check_found(lane_outside_mask, "is not in its own mask");
  check_found(divergent_warp, "divergent warp operation");
}

TEST_CASE("emulation: what a kernel throws comes out of the launch") {
  check_found(throws, "exception in a kernel: on purpose");
}

TEST_CASE("emulation: shared memory that was not set is NaN, or found") {
  if (kFindsRaces) {
    check_race(uninitialised_shared, 64, "race: read of uninitialised shared memory");
    check_race(stale_shared, 64, "race: read of uninitialised shared memory");
    return;
  }
  in_each_order([] {
    DeviceArray<float> y(std::vector<float>(64));
    uninitialised_shared(y.data());
    CHECK(std::isnan(y.to_host()[40]));
    stale_shared(y.data());
    CHECK(std::isnan(y.to_host()[40]));
  });
}

TEST_CASE("emulation: a missing barrier is found, or shows in one of the orders") {
  check_race(missing_barrier, 64, "race: ");
  if (kFindsRaces) return;
  int wrong = 0;
  in_each_order([&] {
    DeviceArray<float> y(std::vector<float>(64));
    missing_barrier(y.data());
    const std::vector<float> r = y.to_host();
    for (int i = 0; i < 64; ++i) wrong += r[i] != static_cast<float>(63 - i);
  });
  CHECK(wrong > 0);
}

TEST_CASE("emulation: races in shared memory are found") {
  check_race(shared_write_write, 64, "race: write-write shared memory");
  check_race(shared_read_write, 64, "shared memory");
  check_race(warp_without_sync, 32, "shared memory");
}

TEST_CASE("emulation: races in global memory are found") {
  check_race(global_write_write, 64, "race: write-write global memory");
  check_race(global_read_write, 64, "global memory");
  check_race(blocks_write_the_same, 64, "race: write and access from different blocks, global memory");
  check_race(blocks_read_and_write, 64, "different blocks, global memory");
  check_race(atomic_and_plain, 64, "global memory");
}

TEST_CASE("emulation: each access past the end of an array ends the process") {
  if (!kFindsBounds) return;
  DeviceArray<float> y(std::vector<float>(64)), thirty(std::vector<float>(30));
  const std::vector<std::function<void(int)>> kernels = {
      [&](int past) { write_global(thirty.data(), 30 + past); },
      [&](int past) { write_static_shared(y.data(), 33 + past); },
      [&](int past) { write_dynamic_shared(y.data(), 31, 31 + past); },
  };
  for (const auto& kernel : kernels) {
    kernel(0);
    const std::string crash = crash_of([&] { kernel(1); });  // found by AddressSanitizer, or where possible by UBSan
    INFO("crash: ", crash);
    CHECK(
        (crash.find("heap-buffer-overflow") != std::string::npos || crash.find("out of bounds") != std::string::npos));
  }
}

TEST_CASE("emulation: a misaligned 16-byte access ends the process") {
  if (!kFindsBounds) return;
  DeviceArray<float> y(std::vector<float>(64));
  CHECK(crash_of([&] { misaligned(y.data()); }).find("misaligned address") != std::string::npos);
}

TEST_CASE("emulation: more static shared memory than a block may have is found") {
  DeviceArray<float> y(std::vector<float>(32));
  check_found([&] { too_much_static_shared(y.data()); }, "more than 48 KB of static shared memory");
}
