// What the benchmarks share: arrays, and the registration of one operation with the work that it has to do.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <utility>

#include "gdcore/backend.h"
#include "limits.h"

namespace gdcore::bench {

inline Backend& cpu() { return backend(Device::cpu); }

/// "a/b/c"
template <class... Parts>
std::string name(const std::string& first, const Parts&... parts) {
  std::ostringstream text;
  text << first;
  ((text << '/' << parts), ...);
  return text.str();
}
inline std::string shape(std::int64_t rows, std::int64_t cols) {
  return std::to_string(rows) + "x" + std::to_string(cols);
}

/// A matrix with random numbers in [-1, 1) times `scale` plus `offset`, in memory of the backend.
class Array {
 public:
  Array(std::int64_t rows, std::int64_t cols, DType dtype = DType::float32, double scale = 1.0, double offset = 0.0);

  View view() const { return view_; }
  template <class T>
  T* as() const {
    return view_.as<T>();
  }

 private:
  Buffer buffer_;
  View view_;
};

/// What one call has to do at least.
struct Work {
  double flop = 0.0;       // counted for matrix products alone
  double bytes = 0.0;      // each input read once, each output written once; something updated counts twice
  double footprint = 0.0;  // bytes of the distinct memory they lie in; 0: as many as are moved
  bool only_reads = false;
  DType dtype = DType::float32;

  double working_set() const { return footprint > 0.0 ? footprint : bytes; }
};

/// What shares are measured against; made by main before the first benchmark.
Meter& meter();
void make_meter(bool quick);

/// The time that a call of this work is compared with, in seconds, and what sets it: the multiply-adds or the bandwidth
/// at the working set's size, whichever takes longer. Measured now.
struct Bound {
  double seconds = 0.0;
  std::string name;
};
Bound measure_bound(const Work& work);

/// Measures one operation: run(call) makes the benchmark's iterations.
class Run {
 public:
  /// `before`: what the time was compared with when this benchmark ran last, as it does with more and more iterations.
  Run(benchmark::State& state, const Work& work, Bound& before) : state_(state), work_(work), before_(before) {}

  template <class Call>
  void operator()(const Call& call) const {
    prepare();
    call();  // pages, scratch memory and threads are there when the clock starts
    for ([[maybe_unused]] auto _ : state_) {
      call();
      benchmark::ClobberMemory();
    }
    report();
  }
  benchmark::State& state() const { return state_; }

 private:
  void prepare() const;
  void report() const;

  benchmark::State& state_;
  Work work_;
  Bound& before_;
};

/// Adds a benchmark; `body` makes its arrays and measures. Under --smoke large ones are left out.
void add(const std::string& name, const Work& work, const std::function<void(const Run&)>& body);
void set_smoke(bool smoke);

/// Heap allocations and memory maps of all threads since the program started.
std::int64_t allocations();

void add_dense();
void add_activations();
void add_norms();
void add_losses();
void add_optimizers();
void add_data();
void add_steps();

}  // namespace gdcore::bench
