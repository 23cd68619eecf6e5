// Shared code of the benchmarks: arrays, and the registration of an operation with its work.
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

/// A matrix of random values in [-1, 1) times `scale` plus `offset`, in memory of the backend.
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

/// The least work of one call.
struct Work {
  double flop = 0.0;       // floating-point operations, only for matrix products
  double bytes = 0.0;      // each input read once, each output written once; updated arrays count twice
  double footprint = 0.0;  // bytes of distinct memory; 0: the same as `bytes`
  bool only_reads = false;
  DType dtype = DType::float32;

  double working_set() const { return footprint > 0.0 ? footprint : bytes; }
};

/// Returns the meter of the limits; created by main before the first benchmark.
Meter& meter();
void make_meter(bool quick);

/// The least time of a call of this work in seconds, measured now, and the limit that determines it: multiply-adds or
/// the bandwidth at the working set's size, whichever takes longer.
struct Bound {
  double seconds = 0.0;
  std::string name;
};
Bound measure_bound(const Work& work);

/// Measures one operation: run(call) runs the benchmark's iterations.
class Run {
 public:
  /// `before`: the limit in the benchmark's previous run; a benchmark runs repeatedly with increasing iterations.
  Run(benchmark::State& state, const Work& work, Bound& before) : state_(state), work_(work), before_(before) {}

  template <class Call>
  void operator()(const Call& call) const {
    prepare();
    call();  // prepares pages, scratch memory and threads before the timing
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

/// Adds a benchmark; `body` creates the arrays and measures. With --smoke large benchmarks are skipped.
void add(const std::string& name, const Work& work, const std::function<void(const Run&)>& body);
void set_smoke(bool smoke);

/// Returns the number of heap allocations and memory maps of all threads since the program started.
std::int64_t allocations();

void add_dense();
void add_activations();
void add_norms();
void add_losses();
void add_optimizers();
void add_data();
void add_steps();

}  // namespace gdcore::bench
