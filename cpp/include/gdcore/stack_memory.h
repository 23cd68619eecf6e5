// StackMemory: the arrays of a stack of networks (NetworkStack in step_program.h) on their device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gdcore/training_step.h"

namespace gdcore {

class StackMemory {
 public:
  /// Allocates the arrays and copies those of the networks into them. The networks have one layout, the optimisers one
  /// rule.
  StackMemory(std::span<TrainingStep* const> steps, std::int64_t at_once);

  std::int64_t networks() const { return networks_; }
  /// The parameters and states of the first network, and behind them those of the others.
  const Parameters& parameters() const { return parameters_; }
  LossSums* sums() const { return static_cast<LossSums*>(sums_.data()); }
  /// Returns the first network's pass with the arrays of the stack.
  OptimizerPass pass(OptimizerPass of_first) const;
  /// Without the rates and the counters.
  NetworkStack stack() const;
  /// Keeps a copy of the current weights of each network with better[i] != 0, in place of an earlier one.
  void keep(std::span<const std::uint8_t> better);
  /// Copies a network's arrays to those of its step, with the kept weights on request, if there are any.
  void give_back(std::int64_t network, TrainingStep& step, bool kept) const;

 private:
  template <class Visit>
  void for_each_array(std::int64_t network, TrainingStep& step, const Visit& visit) const;

  Backend& backend_;
  std::int64_t networks_, at_once_;
  Parameters parameters_;  // of all networks; behind the weights, room for two copies of them, for keep()
  Buffer states_[kMaxStates];
  Buffer seeds_, entries_, sums_, order_;
  std::vector<std::int64_t> kept_;  // where a network's kept weights are, counted in networks; -1: nowhere
  std::int64_t spare_ = 1;          // the copy that keep() writes next, 1 or 2
};

}  // namespace gdcore
