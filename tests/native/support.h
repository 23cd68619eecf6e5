// Shared by the native tests: arrays guarded to the byte at their end, by sanitizers or by an inaccessible page, and
// comparers that measure errors. test_support.cpp shows that both can fail.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/parallel.h"

namespace gdcore::testing {

template <class T>
inline constexpr DType kDType = std::is_same_v<T, float> ? DType::float32 : DType::float64;

/// Half the distance from 1 to the next value: the relative error of one rounding.
template <class T>
inline constexpr double kEps = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;

inline Backend& cpu() { return backend(Device::cpu); }

/// The tested device: the CPU, or with GDCORE_TEST_DEVICE=cuda the CUDA backend compiled for the CPU, whose device
/// memory is host memory.
inline Device tested() {
  const char* name = std::getenv("GDCORE_TEST_DEVICE");
  return name != nullptr && std::string(name) == "cuda" ? Device::cuda : Device::cpu;
}
inline Backend& device() { return backend(tested()); }

/// Whether fewer shapes suffice: under sanitizers or the race detector, and where a planted bug must be found. The
/// build without them runs all shapes.
inline bool few_shapes() { return std::getenv("GDCORE_TEST_FEW_SHAPES") != nullptr; }

/// The widths and row counts at which every operation is tested. With few shapes, one of each family: one element, less
/// than a vector of 16, 32 and 64 bytes, whole vectors, a vector and a remainder, a warp minus and plus one, several
/// warps and a remainder, more than the threads of a block.
inline std::vector<std::int64_t> awkward_widths() {
  if (few_shapes()) return {1, 2, 3, 8, 17, 31, 32, 33, 64, 65, 129, 1000, 1025};
  std::vector<std::int64_t> widths;
  for (std::int64_t w = 1; w <= 33; ++w) widths.push_back(w);
  for (const std::int64_t w : {63, 64, 65, 127, 128, 129, 1000, 1025}) widths.push_back(w);
  return widths;
}
inline std::vector<std::int64_t> awkward_rows() {
  if (few_shapes()) return {1, 33};
  return {1, 2, 31, 33, 100};
}

/// A fast random number in [-1, 1) from two counters (SplitMix64), independent of the library.
inline double noise(std::uint64_t stream, std::uint64_t n) {
  std::uint64_t z = (stream * 0x9E3779B97F4A7C15u) ^ ((n + 1) * 0xD1B54A32D192ED03u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-52 - 1.0;
}

/// Whether arrays end at an inaccessible page: the vector code of a release build, which no sanitizer checks, then
/// cannot read or write past an end unnoticed. Arrays are then aligned only to an element.
inline bool guard_pages() { return std::getenv("GDCORE_TEST_GUARD_PAGES") != nullptr; }

/// Memory of one array, exact to the byte at its end.
class Block {
 public:
  explicit Block(std::size_t bytes) : bytes_(bytes) {
    if (!guard_pages()) {
      data_ = ::operator new(bytes);
      return;
    }
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t whole = (bytes + page - 1) / page * page;
    pages_ = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages_ == MAP_FAILED) throw std::bad_alloc();
    mapped_ = whole + page;
    mprotect(static_cast<char*>(pages_) + whole, page, PROT_NONE);
    data_ = static_cast<char*>(pages_) + whole - bytes;
  }
  Block(Block&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        pages_(std::exchange(other.pages_, nullptr)),
        bytes_(other.bytes_),
        mapped_(other.mapped_) {}
  Block& operator=(Block&&) = delete;
  ~Block() {
    if (pages_ != nullptr) {
      munmap(pages_, mapped_);
    } else if (data_ != nullptr) {
      ::operator delete(data_, bytes_);
    }
  }
  void* data() const { return data_; }

 private:
  void *data_ = nullptr, *pages_ = nullptr;
  std::size_t bytes_ = 0, mapped_ = 0;
};

/// A matrix at the end of its own block, so that AddressSanitizer or the inaccessible page sees the first byte past it.
/// It begins `shift` elements past the block's start, so that it is aligned only to an element. Filled with NaN.
template <class T>
class Array {
 public:
  Array(std::int64_t rows, std::int64_t cols, std::int64_t shift = 0)
      : rows_(rows), cols_(cols), shift_(shift), block_(static_cast<std::size_t>(shift + rows * cols) * sizeof(T)) {
    for (std::int64_t i = 0; i < shift; ++i) begin()[i] = kGuard;
    poison();
  }
  Array(Array&&) = default;
  ~Array() {
    for (std::int64_t i = 0; begin() != nullptr && i < shift_; ++i) CHECK(begin()[i] == kGuard);
  }

  Array copy() const {
    Array other(rows_, cols_, shift_);
    std::memcpy(other.data(), data(), bytes());
    return other;
  }
  Array& random(std::uint64_t stream, double scale = 1.5, double offset = 0.0) {
    for (std::int64_t i = 0; i < size(); ++i) {
      data()[i] = static_cast<T>(offset + scale * noise(stream, static_cast<std::uint64_t>(i)));
    }
    return *this;
  }
  Array& fill(double value) {
    for (std::int64_t i = 0; i < size(); ++i) data()[i] = static_cast<T>(value);
    return *this;
  }
  void poison() { fill(std::numeric_limits<double>::quiet_NaN()); }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t size() const { return rows_ * cols_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * sizeof(T); }
  T* data() { return begin() + shift_; }
  const T* data() const { return begin() + shift_; }
  T& operator[](std::int64_t i) { return data()[i]; }
  T operator[](std::int64_t i) const { return data()[i]; }
  T operator()(std::int64_t r, std::int64_t c) const { return data()[r * cols_ + c]; }
  View view() { return {data(), rows_, cols_, kDType<T>}; }
  ConstView view() const { return {data(), rows_, cols_, kDType<T>}; }
  bool same_bits(const Array& other) const {
    return size() == other.size() && std::memcmp(data(), other.data(), bytes()) == 0;
  }

 private:
  T* begin() const { return static_cast<T*>(block_.data()); }

  static constexpr T kGuard = T(-1234.5);
  std::int64_t rows_, cols_, shift_;
  Block block_;
};

/// Roundings of a sum of n terms. Vectors would shorten the chains of additions, but sanitizers keep loops from being
/// vectorised; 1,024 terms is the longest chain in float32. The Python tests check the real build against tighter
/// bounds.
inline double chain(std::int64_t n) { return 2.0 * std::sqrt(static_cast<double>(std::min<std::int64_t>(n, 1024))); }

/// The largest error so far, in units of the bound: `roundings` roundings of a value of the given magnitude.
template <class T>
class Worst {
 public:
  explicit Worst(double roundings) : allowed_(roundings * kEps<T>) {}

  void add(T actual, long double exact, long double size) {
    const auto a = static_cast<long double>(actual);
    if (a == exact) return;
    auto ratio = static_cast<double>(std::abs(a - exact) / (allowed_ * std::abs(size) + kTiny));
    if (!(ratio == ratio)) ratio = std::numeric_limits<double>::infinity();
    if (ratio > worst_) worst_ = ratio;
  }
  /// At most 1 if all errors are within the bound.
  double value() const { return worst_; }

 private:
  static constexpr T kTiny = std::numeric_limits<T>::min();  // subnormals may be flushed
  double allowed_, worst_ = 0.0;
};

/// Sets the number of threads during its lifetime.
class Threads {
 public:
  explicit Threads(int threads) : before_(num_threads()) { set_num_threads(threads); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/// Calls work() with 1, 2, 3 and 7 threads; the arrays that each call returns must agree bit for bit. On a GPU, which
/// does not use the host's threads, calls it twice.
template <class Work>
bool same_for_all_threads(Work&& work) {
  const auto run = [&](int threads) {
    const Threads guard(threads);
    return work();
  };
  const auto expected = run(1);
  for (const int threads : {2, 3, 7}) {
    if (threads > 2 && tested() == Device::cuda) break;
    const auto got = run(threads);
    if (got.size() != expected.size()) return false;
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (!got[i].same_bits(expected[i])) return false;
    }
  }
  return true;
}

inline std::vector<Activation> all_activations() {
  return {Identity{}, ReLU{},     LeakyReLU{0.1}, Tanh{}, Sigmoid{}, GELU{},
          GELUTanh{}, Softplus{}, SiLU{},         Mish{}, ELU{0.7},  SELU{}};
}

/// f and f' in double with the standard library, implemented independently of activations.h.
inline double exact_value(const Activation& activation, double a) {
  switch (activation.index()) {
    case 0:
      return a;
    case 1:
      return a > 0.0 ? a : 0.0;
    case 2:
      return a > 0.0 ? a : 0.1 * a;
    case 3:
      return std::tanh(a);
    case 4:
      return 1.0 / (1.0 + std::exp(-a));
    case 5:
      return 0.5 * a * std::erfc(-a / std::sqrt(2.0));
    case 6:
      return 0.5 * a * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (a + 0.044715 * a * a * a)));
    case 8:
      return a / (1.0 + std::exp(-a));
    case 9:
      return a * std::tanh(std::log1p(std::exp(a)));
    case 10:
      return a > 0.0 ? a : 0.7 * std::expm1(a);
    case 11:
      return 1.0507009873554805 * (a > 0.0 ? a : 1.6732632423543772 * std::expm1(a));
    default:
      return a > 0.0 ? a + std::log1p(std::exp(-a)) : std::log1p(std::exp(a));
  }
}
inline double exact_slope(const Activation& activation, double a) {
  const double y = exact_value(activation, a);
  switch (activation.index()) {
    case 0:
      return 1.0;
    case 1:
      return a > 0.0 ? 1.0 : 0.0;
    case 2:
      return a > 0.0 ? 1.0 : 0.1;
    case 3:
      return 1.0 - y * y;
    case 4:
      return y * (1.0 - y);
    case 5:
      return 0.5 * std::erfc(-a / std::sqrt(2.0)) + a * std::exp(-0.5 * a * a) / std::sqrt(2.0 * M_PI);
    case 6: {
      const double root = std::sqrt(2.0 / M_PI), t = std::tanh(root * (a + 0.044715 * a * a * a));
      return 0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * a * a);
    }
    case 8: {
      const double p = 1.0 / (1.0 + std::exp(-a));
      return p + a * p * (1.0 - p);
    }
    case 9: {
      const double t = std::tanh(std::log1p(std::exp(a)));
      return t + a * (1.0 - t * t) / (1.0 + std::exp(-a));
    }
    case 10:
      return a > 0.0 ? 1.0 : 0.7 * std::exp(a);
    case 11:
      return 1.0507009873554805 * (a > 0.0 ? 1.0 : 1.6732632423543772 * std::exp(a));
    default:
      return 1.0 / (1.0 + std::exp(-a));
  }
}

/// Rates that differ in everything from step to step.
inline StepRates varied_rates(double lr, std::int64_t step) {
  StepRates rates(lr);
  const auto s = static_cast<double>(step % 7);
  rates.decay = 1.5 - 0.2 * s;
  rates.dropout = 0.1 * s;
  rates.momentum = step % 3 == 0 ? -1.0 : 0.5 + 0.05 * s;
  rates.unbiased = 0.4 + 0.08 * s;
  return rates;
}

}  // namespace gdcore::testing
