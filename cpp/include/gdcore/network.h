// Network: layers in order, bound to parameters in flat arenas, and the executor of their plan.
#pragma once

#include <atomic>
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
  /// Access for writing: what was derived from the weights is out of date.
  Parameters& parameters() {
    ++weights_;
    return parameters_;
  }
  const Parameters& parameters() const { return parameters_; }
  const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
  Executor& executor() { return executor_; }
  const Executor& executor() const { return executor_; }
  /// The columns of the input that must hold category codes.
  const std::vector<CodeColumn>& codes() const { return codes_; }
  std::int64_t in_features() const { return executor_.plan().in; }
  std::int64_t out_features() const { return executor_.plan().out; }
  DType dtype() const { return parameters_.layout.dtype(); }
  std::uint64_t seed() const { return seed_; }
  Precision precision() const { return precision_; }

  void initialize(std::uint64_t seed);
  /// Freezes or unfreezes the parameters that a dotted name selects (see Match); throws where there are none.
  void set_frozen(const std::string& prefix, bool frozen);

  /// A single forward pass: returns the output for x (N, in), valid in the workspace until the next call. In training,
  /// it saves what backward needs and updates the running averages; x must stay unchanged until backward is done.
  View forward(ConstView x, bool training);
  /// The optimiser steps made. Dropout masks of single forward passes depend on it.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) {
    ++weights_;
    steps_ = steps;
  }
  /// Counts the writable views of the weights that others hold. While there are any, the weights may change at any
  /// time, and predictions keep nothing that is derived from them.
  void lend() { ++views_; }
  void give_back() {
    ++weights_;
    --views_;
  }
  /// Writes predictions for all rows of x, batch by batch, to host memory (rows, out).
  void predict(const Source& x, std::int64_t batch_size, void* out);

  /// Changes with everything that recorded steps depend on: the address of the workspace, frozen parameters, the seed.
  std::uint64_t version() const { return version_ + executor_.version(); }

 private:
  Backend& backend_;
  std::uint64_t seed_;
  Precision precision_;
  std::vector<std::unique_ptr<Layer>> layers_;
  Parameters parameters_;
  Executor executor_;
  std::vector<CodeColumn> codes_;
  Buffer batch_;
  std::int64_t steps_ = 0;
  std::uint64_t version_ = 0;
  std::atomic<std::uint64_t> weights_{1};  // changes with the weights
  std::atomic<int> views_{0};
};

/// Describes a loss that is not finite, for its error message: the operation of the last forward pass with the first
/// values that are not finite, and the largest weight.
std::string diagnosis(const Network& network);

}  // namespace gdcore
