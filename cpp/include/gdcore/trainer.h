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
  Trainer(std::shared_ptr<Network> network, Loss loss, Optimizer optimizer, std::int64_t window_bytes = kWindowBytes);

  Network& network() { return *network_; }
  const Network& network() const { return *network_; }
  const Loss& loss() const { return criterion_.loss(); }
  const Optimizer& optimizer() const { return optimizer_; }

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
  std::vector<View> states() const;
  void reset();

 private:
  std::vector<double> per_layer(const PerLayer& given, double missing, const char* argument) const;
  void make_segments();
  LossSums loss_of(const Batch& batch);
  double clip_scale() const;
  LossSums train(const Batch& batch, double lr);
  void update(double lr);
  OptimizerPass optimizer_pass();
  std::int64_t run_on_device(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                             LossSums& sums);
  OptimizerPass recorded_pass(const StepInputs& inputs);
  bool record_whole(const NextBatch& batch, const StepInputs& inputs);
  void record_step(const Batch& batch, const StepInputs& inputs);

  std::shared_ptr<Network> network_;
  Criterion criterion_;
  BatchReader reader_;
  Optimizer optimizer_;
  std::vector<double> decay_, factor_;  // one for each parameter
  std::vector<Segment> segments_;
  std::vector<bool> segments_frozen_;  // the parameters' flags that segments_ was made from
  Buffer states_[kMaxStates];
  std::unique_ptr<DeviceSteps> device_steps_;  // where the backend records steps
  std::int64_t steps_ = 0;
};

}  // namespace gdcore
