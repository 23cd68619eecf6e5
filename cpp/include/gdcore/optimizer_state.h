// OptimizerState: what an optimiser keeps for the parameters of one network.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/network.h"

namespace gdcore {

class OptimizerState {
 public:
  OptimizerState(Network& network, Optimizer optimizer);

  const Optimizer& optimizer() const { return optimizer_; }
  /// Throws unless it is a rate that the model's dtype can hold.
  void check_rate(double lr) const;
  /// The pass of a step. Where the step is not recorded, the norm of the gradients is looked at, and DivergenceError is
  /// thrown where it is not finite.
  OptimizerPass pass(const StepContext& context);
  /// Moves the parameters along the gradients as they are, or records that.
  void update(const StepContext& context);
  /// The states, in the parameters' layout.
  std::vector<View> states() const;
  void zero_states();

 private:
  std::vector<double> per_parameter(const PerLayer& given, double missing, const char* argument) const;
  void make_segments();
  double clip_scale(std::int64_t step) const;

  Network& network_;
  Optimizer optimizer_;
  std::vector<double> decay_, factor_;  // one for each parameter
  std::vector<Segment> segments_;
  std::uint64_t segments_for_ = ~std::uint64_t{0};  // the freezes that they were made for
  Buffer states_[kMaxStates];
};

}  // namespace gdcore
