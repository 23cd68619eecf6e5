// OptimizerState: an optimiser's states for the parameters of one network.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/network.h"
#include "gdcore/step_program.h"

namespace gdcore {

class OptimizerState {
 public:
  OptimizerState(Network& network, Optimizer optimizer);

  const Optimizer& optimizer() const { return optimizer_; }
  /// Throws unless the rate is finite and >= 0 in the model's dtype.
  void check_rate(double lr) const;
  /// Returns the optimiser pass of a step. Unless the step is recorded, computes the norm of the gradients where
  /// clip_norm is set, and throws DivergenceError where the norm is not finite.
  OptimizerPass pass(const StepContext& context);
  /// Updates the parameters from the current gradients, or records the update.
  void update(const StepContext& context);
  /// The states, in the parameters' layout.
  std::vector<View> states() const;
  void zero_states();
  /// The rate factor and the decay of each array of the parameters.
  std::vector<EntryRates> entry_rates() const;

 private:
  std::vector<double> per_parameter(const PerLayer& given, double missing, const char* argument) const;
  void make_segments();
  double clip_scale(std::int64_t step) const;

  Network& network_;
  Optimizer optimizer_;
  std::vector<double> decay_, factor_;  // by parameter
  std::vector<Segment> segments_;
  std::uint64_t segments_for_ = ~std::uint64_t{0};  // freezes() at the last make_segments()
  Buffer states_[kMaxStates];
};

}  // namespace gdcore
