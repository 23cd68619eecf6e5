// Matrix products: the choice of algorithms, and gdcore's own kernel. Linked with the backend's objects, because the
// library exports none of this.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "backend/stream.h"
#include "backend_support.h"
#include "emulation/emulated_cublaslt.h"
#include "gdcore/check.h"
#include "matmul/matmul.h"
#include "processes.h"

using namespace gdcore;
using namespace gdcore::cuda;
using emulation::cublaslt_calls;
using emulation_tests::contains;
using emulation_tests::device;
using emulation_tests::message_of;
using emulation_tests::run_alone;

namespace {

/// Values on the device, `shift` elements past an address aligned to 256 bytes.
template <class T>
class Numbers {
 public:
  Numbers(std::int64_t size, std::uint64_t seed, std::int64_t shift = 0)
      : host(static_cast<std::size_t>(size)), shift_(shift), bytes_(host.size() * sizeof(T)) {
    block_ = device().allocate(bytes_ + static_cast<std::size_t>(shift) * sizeof(T));
    std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (T& value : host) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<T>(static_cast<double>(state >> 11) * 0x1p-52 - 1.0);
    }
    send();
  }
  ~Numbers() { device().deallocate(block_, bytes_); }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

  T* data() const { return static_cast<T*>(block_) + shift_; }
  void send() { device().copy(data(), host.data(), bytes_, CopyKind::to_device); }
  const std::vector<T>& fetch() {
    device().copy(host.data(), data(), bytes_, CopyKind::to_host);
    return host;
  }

  std::vector<T> host;

 private:
  std::int64_t shift_;
  std::size_t bytes_;
  void* block_;
};

struct Sizes {
  std::int64_t m, n, k;
};

template <class T>
constexpr DType kDType = std::is_same_v<T, float> ? DType::float32 : DType::float64;

template <class T>
struct Case {
  Sizes sizes;
  Numbers<T> a, b, bias, c;

  explicit Case(const Sizes& s, std::int64_t shift = 0)
      : sizes(s), a(s.m * s.k, 1, shift), b(s.k * s.n, 2, shift), bias(s.n, 3, shift), c(s.m * s.n, 4, shift) {}

  Matmul call(bool transposed_a = false, bool transposed_b = false, bool with_bias = false) {
    return {.m = sizes.m,
            .n = sizes.n,
            .k = sizes.k,
            .a = {a.data(), transposed_a},
            .b = {b.data(), transposed_b},
            .c = c.data(),
            .dtype = kDType<T>,
            .bias = with_bias ? bias.data() : nullptr};
  }

  /// The largest error of c, in roundings of the sum of the terms' magnitudes.
  double error(bool transposed_a, bool transposed_b, bool with_bias) {
    const auto& [m, n, k] = sizes;
    const std::vector<T>& got = c.fetch();
    double worst = 0.0;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = with_bias ? static_cast<double>(bias.host[static_cast<std::size_t>(j)]) : 0.0,
               size = std::abs(sum);
        for (std::int64_t p = 0; p < k; ++p) {
          const double x = static_cast<double>(a.host[static_cast<std::size_t>(transposed_a ? p * m + i : i * k + p)]);
          const double y = static_cast<double>(b.host[static_cast<std::size_t>(transposed_b ? j * k + p : p * n + j)]);
          sum += x * y;
          size += std::abs(x * y);
        }
        const double off = std::abs(static_cast<double>(got[static_cast<std::size_t>(i * n + j)]) - sum);
        worst = std::max(worst, off == off ? off / size : 1.0);
      }
    }
    return worst / (std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53);
  }
};

int proposals_asked(const std::function<void()>& work) {
  const int before = cublaslt_calls().heuristics;
  work();
  return cublaslt_calls().heuristics - before;
}

template <class T>
void check_own_kernel(const Sizes& sizes, bool ta, bool tb, std::int64_t shift) {
  CAPTURE(sizes.m);
  CAPTURE(sizes.n);
  CAPTURE(sizes.k);
  CAPTURE(ta);
  CAPTURE(tb);
  for (const bool with_bias : {false, true}) {
    Case<T> own(sizes, shift);
    own_matmul(own.call(ta, tb, with_bias));
    CHECK(own.error(ta, tb, with_bias) <= (std::is_same_v<T, float> ? 5.0 : 8.0));
  }
}

}  // namespace

TEST_CASE("products: our own kernel, stored either way, at the edges of tiles, slices and pieces") {
  const Sizes shapes[] = {{1, 1, 1},    {1, 1, 700},  {3, 5, 2},     {63, 65, 15}, {64, 64, 16},
                          {65, 63, 17}, {128, 1, 31}, {1, 130, 33},  {66, 4, 256}, {7, 70, 257},
                          {2, 3, 1025}, {64, 68, 32}, {130, 129, 48}};
  std::int64_t turn = 0;
  for (const Sizes& sizes : shapes) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        check_own_kernel<float>(sizes, ta, tb, turn % 2);
        check_own_kernel<double>(sizes, ta, tb, (turn + 1) % 2);
        ++turn;
      }
    }
  }
}

TEST_CASE("products: our own kernel adds the same terms in the same order wherever they lie") {
  for (const std::int64_t k : {100, 1000}) {
    Case<float> aligned({70, 68, k}), shifted({70, 68, k}, 1);
    own_matmul(aligned.call(false, true, true));
    own_matmul(shifted.call(false, true, true));
    CHECK(aligned.c.fetch() == shifted.c.fetch());
  }
}

TEST_CASE("products: who computes them") { CHECK(contains(products_description(), "cuBLASLt 13.0.0 (")); }

TEST_CASE("products: an algorithm is chosen once for a shape, a type and an alignment") {
  Case<float> one({12, 20, 36}), shifted({12, 20, 36}, 1);
  Case<double> wide({12, 20, 36});
  CHECK(proposals_asked([&] { matmul(one.call()); }) == 1);
  CHECK(one.error(false, false, false) <= 1.0);
  for (int i = 0; i < 3; ++i) CHECK(proposals_asked([&] { matmul(one.call()); }) == 0);
  Case<float> elsewhere({12, 20, 36});
  CHECK(proposals_asked([&] { matmul(elsewhere.call()); }) == 0);
  CHECK(proposals_asked([&] { matmul(shifted.call()); }) == 1);
  CHECK(shifted.error(false, false, false) <= 1.0);
  CHECK(proposals_asked([&] { matmul(one.call(true, false)); }) == 1);
  CHECK(proposals_asked([&] { matmul(one.call(false, true)); }) == 1);
  CHECK(proposals_asked([&] { matmul(one.call(false, false, true)); }) == 1);
  CHECK(proposals_asked([&] { matmul(wide.call()); }) == 1);
  Matmul rough = one.call();
  for (const Precision precision : {Precision::tf32, Precision::bfloat16}) {
    rough.precision = precision;
    CHECK(proposals_asked([&] { matmul(rough); }) == 1);
    CHECK(proposals_asked([&] { matmul(rough); }) == 0);
  }
}

/// Rounded to 8 binary digits, ties to even.
float bfloat16_of(float x) {
  int exponent = 0;
  const float mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(mantissa * 256.0f) / 256.0f, exponent);
}

TEST_CASE("products: factors rounded to bfloat16 in memory") {
  for (const Sizes& sizes : {Sizes{1, 1, 1}, {3, 5, 2}, {9, 17, 33}, {64, 8, 16}, {5, 7, 300}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const bool with_bias : {false, true}) {
          CAPTURE(sizes.k);
          CAPTURE(ta);
          CAPTURE(tb);
          Case<float> c(sizes, ta == tb ? 0 : 1);
          Matmul call = c.call(ta, tb, with_bias);
          call.precision = Precision::bfloat16;
          const bool added = matmul(in_bfloat16(call));
          CHECK(added == (with_bias && ta == tb));  // where the bias is aligned to 16 bytes
          for (Numbers<float>* factor : {&c.a, &c.b}) {
            for (float& x : factor->host) x = bfloat16_of(x);
          }
          CHECK(c.error(ta, tb, added) <= 1.0 + (added ? 1.0 : 0.0));
        }
      }
    }
  }
}

TEST_CASE("products: factors are rounded in memory where that pays") {
  const auto asked = [](Case<float>& c, bool in_memory) {
    Matmul call = c.call();
    call.precision = Precision::bfloat16;
    // Recorded, not launched: these products are large.
    return proposals_asked([&] { device().recorder()->record([&] { matmul(in_memory ? in_bfloat16(call) : call); }); });
  };
  Case<float> large({4096, 4096, 256}), small({256, 256, 256}), flat({4096, 16, 4096});
  CHECK(asked(large, false) == 1);
  CHECK(asked(large, true) == 0);  // the same product
  for (Case<float>* c : {&small, &flat}) {
    CHECK(asked(*c, false) == 1);
    CHECK(asked(*c, true) == 1);  // another product
  }
}

TEST_CASE("products: bfloat16 without an algorithm for it") {
  Case<float> c({4096, 4096, 4 * emulation::kUnknownDepth});
  Matmul call = c.call();
  call.precision = Precision::bfloat16;
  device().recorder()->record([&] { CHECK_FALSE(matmul(call)); });  // falls back to gdcore's own kernel
}

TEST_CASE("products: what is kept has a bound") {
  constexpr std::int64_t kMany = 5000;  // more than the cache holds
  Case<float> c({1, 1, kMany});
  const auto ask_all = [&] {
    for (std::int64_t k = 1; k <= kMany; ++k) {
      Matmul call = c.call();
      call.k = k;
      if (k % emulation::kUnknownDepth != 0) matmul(call);
    }
  };
  CHECK(proposals_asked(ask_all) > kMany * 9 / 10);
  CHECK(proposals_asked(ask_all) > 0);
}

TEST_CASE("products: the bias is added by cuBLASLt where that is safe, and else left to the caller") {
  Case<float> c({9, 7, 11});
  CHECK(matmul(c.call(false, false, true)));
  CHECK(c.error(false, false, true) <= 2.0);
  CHECK_FALSE(matmul(c.call()));
  CHECK(c.error(false, false, false) <= 1.0);

  Case<float> shifted({9, 7, 11}, 1);  // the bias is not aligned to 16 bytes
  CHECK_FALSE(matmul(shifted.call(false, false, true)));
  CHECK(shifted.error(false, false, false) <= 1.0);

  Case<double> wide({9, 7, 11});  // no algorithm with a bias, but one without
  CHECK_FALSE(matmul(wide.call(false, false, true)));
  CHECK(wide.error(false, false, false) <= 4.0);

  Case<float> unknown({9, 7, emulation::kUnknownDepth});  // no algorithm at all
  CHECK(matmul(unknown.call(false, false, true)));
  CHECK(unknown.error(false, false, true) <= 5.0);
  CHECK_FALSE(matmul(unknown.call()));
  CHECK(unknown.error(false, false, false) <= 5.0);
}

TEST_CASE("products: recorded, workspace and pieces included") {
  // The first product needs a workspace of cuBLASLt's, the second one of gdcore's kernel.
  for (const std::int64_t k : {std::int64_t{600}, 10 * emulation::kUnknownDepth}) {
    Case<float> c({5, 9, k});
    const auto graph = device().recorder()->record([&] { matmul(c.call(false, true)); });
    for (const std::uint64_t seed : {5, 6}) {
      const Numbers<float> other(5 * k, seed);
      c.a.host = other.host;
      c.a.send();
      graph->launch();
      device().wait();
      CHECK(c.error(false, true, false) <= 5.0);
    }
  }
}

TEST_CASE("products: several threads at once") {
  std::vector<double> worst(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < worst.size(); ++t) {
    threads.emplace_back([t, &worst] {
      for (std::int64_t turn = 0; turn < 20; ++turn) {
        Case<float> c({5 + turn, 9, 200});
        matmul(c.call(false, true, true));
        worst[t] = std::max(worst[t], c.error(false, true, true));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : worst) CHECK(error <= 2.0);
}

// Run by the tests below, in processes with an additional environment variable.
TEST_CASE("products: by our own kernel alone" * doctest::skip()) {
  Case<float> c({9, 7, 11});
  open_products();
  CHECK(products_description() == "products by gdcore's own kernel");
  CHECK(proposals_asked([&] { CHECK(matmul(c.call(false, false, true))); }) == 0);
  CHECK(c.error(false, false, true) <= 5.0);
  CHECK(cublaslt_calls().products + cublaslt_calls().products_with_bias == 0);
}
TEST_CASE("products: by nobody" * doctest::skip()) {
  CHECK(message_of([] { open_products(); }) ==
        "[cuda] GDCORE_CUDA_PRODUCTS=mine is unknown; expected cublaslt, rounded or own");
}
TEST_CASE("products: with tuning" * doctest::skip()) {
  Case<float> c({8, 12, 500}), deep({5, 9, emulation::kUnknownDepth});
  // Three proposals, each run once and then five more times; then the product itself.
  matmul(c.call());
  CHECK(cublaslt_calls().products == 3 * 6 + 1);
  CHECK(c.error(false, false, false) <= 1.0);
  CHECK(proposals_asked([&] { matmul(c.call()); }) == 0);
  CHECK(cublaslt_calls().products == 3 * 6 + 2);
  matmul(deep.call());
  CHECK(deep.error(false, false, false) <= 5.0);
  CHECK(proposals_asked([&] { matmul(deep.call()); }) == 0);
  // Also while steps are recorded: on the thread's own stream.
  Case<float> recorded({8, 12, 501});
  const int before = cublaslt_calls().products;
  const auto graph = device().recorder()->record([&] { matmul(recorded.call()); });
  CHECK(cublaslt_calls().products > before + 6);
  graph->launch();
  device().wait();
  CHECK(recorded.error(false, false, false) <= 1.0);
  CHECK(proposals_asked([&] { matmul(recorded.call()); }) == 0);
}

TEST_CASE("products: variables that choose how") {
  CHECK(run_alone("products: by our own kernel alone", "GDCORE_CUDA_PRODUCTS", "own") == 0);
  CHECK(run_alone("products: by nobody", "GDCORE_CUDA_PRODUCTS", "mine") == 0);
  CHECK(run_alone("products: with tuning", "GDCORE_CUDA_TUNE", "1") == 0);
}
