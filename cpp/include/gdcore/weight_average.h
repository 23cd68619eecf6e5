// WeightAverage: an exponential moving average of a network's weights over the steps.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/network.h"

namespace gdcore {

/// w̄_t = Σ_i d^(t-i) w_i / Σ_i d^(t-i) over the weights w_1, ..., w_t after the updates of the average, one in every
/// `every` steps, and the same of the network's state arrays (running averages). The correction of the bias is Adam's:
/// the weights before the first update have no part in it. As a recursion, w̄ ← w̄ + ρ (w - w̄) with
/// ρ_t = (1 - d) / (1 - d^t). The optimiser's pass moves the weights' average.
class WeightAverage {
 public:
  /// `decay` is d for one step. `steps` have been made so far, with `updates` of this average.
  WeightAverage(Network& network, double decay, std::int64_t every, std::int64_t steps, std::int64_t updates);

  double decay() const { return decay_; }
  std::int64_t every() const { return every_; }
  /// Updates after so many steps.
  std::int64_t updates(std::int64_t steps) const { return steps / every_ - before_; }
  /// ρ of the step that follows `steps` steps; 0 where that step does not update the average.
  double rate(std::int64_t steps) const;
  /// Keeps the number of updates where the number of steps is set.
  void renumber(std::int64_t from, std::int64_t to) { before_ += to / every_ - from / every_; }

  /// Exchanges the network's arrays and the averages.
  void swap();
  /// Whether the network has the averages, and this object the weights in training. No step may be made then.
  bool swapped() const { return swapped_; }
  void set_swapped(bool swapped) { swapped_ = swapped; }
  const Buffer& parameters() const { return parameters_; }
  const Buffer& states() const { return states_; }
  /// Throws where a parameter is frozen now that was trained when the average began.
  void check_trained() const;

 private:
  Network& network_;
  double decay_, factor_;        // d for one step, and from one update to the next
  std::int64_t every_, before_;  // multiples of `every` up to the step where the average began
  std::int64_t settled_ = 0;     // updates after which 1 - d^t is 1
  bool swapped_ = false;
  std::vector<bool> frozen_;  // by parameter, when the average began
  Buffer parameters_, states_, spare_;
};

}  // namespace gdcore
