// The machine's limits, measured on as many threads as the library uses and with its instruction set.
//
// Arithmetic: the rate of independent multiply-adds in registers. Memory: the bandwidth of passes over as much memory
// as the benchmark uses, so that shares are valid for working sets in any cache; the best of several plain loops
// counts. Bytes are the least traffic: each input read once, each output written once. The read of a line before it is
// overwritten is not counted; the loops include some whose stores bypass the cache, without this read, so the limit is
// not lowered by it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gdcore/tensor.h"

namespace gdcore::bench {

/// Bandwidth of passes over `bytes` of memory in total, in bytes per second.
struct Bandwidth {
  std::string level;  // "L1", "L2", "L3" or "memory"
  double bytes = 0.0;
  double mixed = 0.0, read = 0.0;  // with stores, without; the best of the loops below
  std::vector<std::pair<std::string, double>> loops;
};

/// Bytes of the caches of one core, and of the shared last-level cache; 0: none.
struct Caches {
  double first = 0.0, second = 0.0, last = 0.0;
};

/// A survey of the whole machine.
struct Limits {
  double fma32 = 0.0, fma64 = 0.0;  // operations per second
  std::vector<Bandwidth> levels;    // ascending in bytes
};

/// Measures limits on demand: the speed of shared machines changes within seconds, so a limit must be measured close to
/// the benchmark.
class Meter {
 public:
  /// `quick`: rough figures in a hundredth of the time, for smoke tests.
  explicit Meter(bool quick);
  ~Meter();

  const std::string& isa() const;
  int threads() const;
  double flops(DType dtype) const;
  /// Measures passes over `bytes` of memory in total, at most the size of the largest pass.
  Bandwidth bandwidth(double bytes) const;
  Limits survey() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gdcore::bench
