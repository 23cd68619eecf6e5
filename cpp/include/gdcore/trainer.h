// Trainer: one step, one epoch, evaluation: the loops that must not go through Python.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/device_steps.h"

namespace gdcore {

class Trainer {
 public:
  /// `window_bytes`: what a device that makes its steps by itself is sent at a time.
  Trainer(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer,
          std::int64_t window_bytes = kWindowBytes);

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  Network& network() { return step_.network(); }
  const Network& network() const { return step_.network(); }
  const AnyLoss& loss() const { return step_.criterion().loss(); }
  const Optimizer& optimizer() const { return step_.optimizer().optimizer(); }

  /// One step on one batch as it lies; the batch's mean loss before the step.
  LossSums step(const Dataset& batch, double lr);
  /// Trains the batches of the range until `seconds` have passed; returns the next batch and adds to `sums`.
  /// `lrs`: one rate for each batch, or one for all.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                   LossSums& sums);
  /// Sums over the rows of `range` without training; the predictions go to `outputs` (host, rows x out) unless null.
  LossSums evaluate(const Dataset& data, const BatchRange& range, void* outputs);
  /// The optimiser's part of a step, on the gradients as they are.
  void optimizer_step(double lr);

  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps);
  /// The optimiser's states, in the parameters' layout.
  std::vector<View> states() const { return step_.optimizer().states(); }
  void reset();

 private:
  StepContext context(double lr) const { return {.seed = network().seed(), .step = steps_, .lr = lr}; }
  LossSums train(const Batch& batch, double lr);
  std::int64_t run_on_device(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                             LossSums& sums);

  TrainingStep step_;
  BatchReader reader_;
  std::unique_ptr<DeviceSteps> device_steps_;  // where the backend records steps
  std::int64_t steps_ = 0;
};

}  // namespace gdcore
