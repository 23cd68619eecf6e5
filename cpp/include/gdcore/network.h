// Network: layers in order, bound to parameters in flat arenas, and the executor of the plan that they make.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/executor.h"
#include "gdcore/occupancy.h"

namespace gdcore {

class Network : public Occupancy {
 public:
  Network(std::vector<std::unique_ptr<Layer>> layers, DType dtype, Device device, std::uint64_t seed,
          Precision precision = Precision::full);

  Backend& backend() const { return backend_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
  Executor& executor() { return executor_; }
  const Executor& executor() const { return executor_; }
  std::int64_t in_features() const { return executor_.plan().in; }
  std::int64_t out_features() const { return executor_.plan().out; }
  DType dtype() const { return parameters_.layout.dtype(); }
  std::uint64_t seed() const { return seed_; }
  Precision precision() const { return precision_; }

  void initialize(std::uint64_t seed);
  /// Freezes (or frees) the parameters that a dotted name means (see Match); throws where there are none.
  void set_frozen(const std::string& prefix, bool frozen);

  /// A forward pass by hand: the output for x (N, in), in the workspace until the next call. In training, what backward
  /// needs is kept, x must stay as it is until backward is done, and the running averages move.
  View forward(ConstView x, bool training);
  /// The optimiser steps made, on which the masks of dropout in passes by hand depend.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// Predictions for all rows of x, batch by batch, into host memory (rows, out).
  void predict(const Source& x, std::int64_t batch_size, void* out);

  /// Changes with everything that recorded steps depend on: where the workspace lies, what is frozen, the seed.
  std::uint64_t version() const { return version_ + executor_.version(); }

 private:
  Backend& backend_;
  std::uint64_t seed_;
  Precision precision_;
  std::vector<std::unique_ptr<Layer>> layers_;
  Parameters parameters_;
  Executor executor_;
  Buffer batch_;
  std::int64_t steps_ = 0;
  std::uint64_t version_ = 0;
};

/// Which operation of the last forward pass gave the first values that are not finite, and the largest weight: for the
/// message when a loss is not finite.
std::string diagnosis(const Network& network);

}  // namespace gdcore
