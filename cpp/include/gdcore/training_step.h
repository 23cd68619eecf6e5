// TrainingStep: the only definition of one step. The host runs it batch by batch, or a device records it.
#pragma once

#include <memory>

#include "gdcore/batch.h"
#include "gdcore/optimizer_state.h"
#include "gdcore/step_program.h"

namespace gdcore {

class StackMemory;

class TrainingStep {
 public:
  TrainingStep(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer);

  Network& network() { return *network_; }
  const Network& network() const { return *network_; }
  Criterion& criterion() { return criterion_; }
  const Criterion& criterion() const { return criterion_; }
  OptimizerState& optimizer() { return optimizer_; }
  const OptimizerState& optimizer() const { return optimizer_; }

  /// Forward, loss, backward, update, commit and, for a recorded step, advance. Returns the batch's sums, empty for a
  /// recorded step. Throws DivergenceError, without changing persistent state, where the loss or the norm of the
  /// gradients is not finite.
  LossSums run(const Batch& batch, const StepContext& context);
  /// Whether a step of so many rows is faster on the calling thread alone: it is short, and the parameters fit into its
  /// caches, while other threads would have to fetch arrays and return their own. False where the loss calls other
  /// code.
  bool computes_alone(std::int64_t rows) const;
  /// The same up to the check of the gradients' norm; changes no persistent state.
  void check_finite(const Batch& batch, const StepContext& context);
  /// Returns the same step as data, including the fetch of its rows, for a recorded step's `context`; for others, a
  /// measurement. Requires a loss that the device computes. With `stack`, the program is that of all its networks.
  StepProgram program(const Dataset& data, const RowOrder& order, std::int64_t rows, const StepContext& context,
                      const StackMemory* stack = nullptr);

 private:
  LossSums differentiate(const Batch& batch, const StepContext& context);

  std::shared_ptr<Network> network_;
  Criterion criterion_;
  OptimizerState optimizer_;
  std::int64_t row_work_ = 0;  // of a forward pass, in multiply-adds
};

}  // namespace gdcore
