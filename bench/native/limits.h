// The machine's limits, measured on as many threads as the library uses and with its instruction set.
//
// Arithmetic: the rate of independent multiply-adds in registers. Memory: the bandwidth of passes over as much memory
// as the benchmark in question uses, so that a share means something for working sets in any cache; the best of several
// plain loops counts. Bytes are those that have to move: each input read once, each output written once. Where a store
// first reads the line it is about to overwrite, that traffic is not counted, and loops whose stores bypass the cache,
// which avoid it, are among those tried: no kernel can hide behind it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gdcore/tensor.h"

namespace gdcore::bench {

/// Bandwidth of passes over `bytes` of memory in all, in bytes per second.
struct Bandwidth {
  std::string level;  // "L1", "L2", "L3" or "memory"
  double bytes = 0.0;
  double mixed = 0.0, read = 0.0;  // with stores, without; the best of the loops below
  std::vector<std::pair<std::string, double>> loops;
};

/// What one core has for itself, and the last level that is shared; 0: there is none.
struct Caches {
  double first = 0.0, second = 0.0, last = 0.0;
};

/// A survey of the whole machine.
struct Limits {
  double fma32 = 0.0, fma64 = 0.0;  // operations per second
  std::vector<Bandwidth> levels;    // ascending in bytes
};

/// Measures whenever it is asked: shared machines change from one second to the next, and a share is only worth
/// something against a limit that was measured right beside it.
class Meter {
 public:
  /// `quick`: rough figures in a hundredth of the time, for smoke tests.
  explicit Meter(bool quick);
  ~Meter();

  const std::string& isa() const;
  int threads() const;
  double flops(DType dtype) const;
  /// With passes over `bytes` of memory in all, at most those of the largest pass.
  Bandwidth bandwidth(double bytes) const;
  Limits survey() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gdcore::bench
