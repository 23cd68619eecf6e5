// OptimizerState: an optimiser's states for the parameters of one network, and the moving average of these.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gdcore/step_program.h"
#include "gdcore/weight_average.h"

namespace gdcore {

class OptimizerState {
 public:
  OptimizerState(Network& network, Optimizer optimizer);

  const Optimizer& optimizer() const { return optimizer_; }
  /// Throws unless the rates are in their ranges in the model's dtype, and the model has its weights in training.
  void check_rates(const StepRates& rates) const;
  /// Returns the optimiser pass of a step. Unless the step is recorded, computes the norm of the gradients where
  /// clip_norm is set, and throws DivergenceError where the norm is not finite.
  OptimizerPass pass(const StepContext& context);
  /// Updates the parameters from the current gradients, or records the update.
  void update(const StepContext& context);
  /// Moves the averages of the network's state arrays, if averages are kept: the end of a step.
  void average_states(const StepContext& context);
  /// Throws DivergenceError, naming the parameter, where a state is not finite after so many steps. The loss may stay
  /// finite: an element whose squared gradient overflowed has an infinite state and never moves again.
  void check_states(std::int64_t steps) const;
  /// The states, in the parameters' layout.
  std::vector<View> states() const;
  void zero_states();
  /// The rate factor and the decay of each array of the parameters.
  std::vector<EntryRates> entry_rates() const;

  /// The moving average of the weights, or null.
  const std::shared_ptr<WeightAverage>& average() const { return average_; }
  void set_average(std::shared_ptr<WeightAverage> average);
  /// The rate of the average in the step that follows `steps` steps.
  double average_rate(std::int64_t steps) const { return average_ == nullptr ? 0.0 : average_->rate(steps); }
  double most_dropout() const { return most_dropout_; }
  /// Changes with everything beside the network that recorded steps depend on.
  std::uint64_t version() const { return version_; }

 private:
  std::vector<double> per_parameter(const PerLayer& given, double missing, const char* argument) const;
  void make_segments();
  double clip_scale(std::int64_t step) const;

  Network& network_;
  Optimizer optimizer_;
  std::vector<double> decay_, factor_;  // by parameter
  double most_decay_ = 0.0, most_dropout_ = 0.0;
  std::vector<Segment> segments_;
  std::uint64_t segments_for_ = ~std::uint64_t{0};  // freezes() at the last make_segments()
  Buffer states_[kMaxStates];
  std::shared_ptr<WeightAverage> average_;
  std::uint64_t version_ = 0;
};

}  // namespace gdcore
