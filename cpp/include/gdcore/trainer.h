// Trainer: one step, one epoch, evaluation: the loops that must not run in Python.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/device_measurement.h"

namespace gdcore {

class Trainer {
 public:
  /// `window_bytes`: bytes of rows copied at a time to a device that runs recorded steps.
  Trainer(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer,
          std::int64_t window_bytes = kWindowBytes);

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  Network& network() { return step_.network(); }
  const Network& network() const { return step_.network(); }
  const AnyLoss& loss() const { return step_.criterion().loss(); }
  const Optimizer& optimizer() const { return step_.optimizer().optimizer(); }

  /// Runs one step on a batch, its rows in their order; returns the batch's sums of losses before the step.
  LossSums step(const Dataset& batch, const StepRates& rates);
  /// Trains the batches of the range until `seconds` have passed; returns the next batch and adds to `sums`.
  /// `rates`: those of each batch, or one for all; their `average` is ignored. `since`: other sums, or null, to which
  /// the batches are added too.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates, double seconds,
                   LossSums& sums, LossSums* since = nullptr);
  /// Returns sums over the rows of `range` without training; writes predictions to `outputs` (host, rows x out) unless
  /// null.
  LossSums evaluate(const Dataset& data, const BatchRange& range, void* outputs);
  /// Runs the optimiser on the current gradients.
  void optimizer_step(const StepRates& rates);

  /// The largest p of the network's dropout layers.
  double most_dropout() const { return step_.optimizer().most_dropout(); }
  TrainingStep& training_step() { return step_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps);
  /// Goes on from another number of steps.
  void renumber(std::int64_t steps);
  /// The optimiser's states, in the parameters' layout.
  std::vector<View> states() const { return step_.optimizer().states(); }
  void check_states() const { step_.optimizer().check_states(steps_); }
  void reset();

  /// Begins a moving average of the weights, with the current weights as its value, in place of an earlier one.
  void begin_average(double decay, std::int64_t every, std::int64_t updates);
  void end_average();
  /// The moving average, or null.
  const std::shared_ptr<WeightAverage>& average() const { return step_.optimizer().average(); }

 private:
  StepContext context(const StepRates& rates) const;
  LossSums train(const Dataset& data, const RowOrder& order, std::int64_t first, std::int64_t count,
                 const StepRates& rates);
  std::int64_t run_on_device(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
                             double seconds, LossSums& sums);

  TrainingStep step_;
  BatchReader reader_;
  std::unique_ptr<DeviceSteps> device_steps_;       // null where the backend cannot record the steps
  std::unique_ptr<DeviceMeasurement> measurement_;  // likewise
  std::int64_t steps_ = 0;
};

}  // namespace gdcore
