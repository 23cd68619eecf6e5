// TrainingStep: what one step does, stated once. The host drives it batch by batch, or a device records it.
#pragma once

#include <memory>

#include "gdcore/batch.h"
#include "gdcore/optimizer_state.h"
#include "gdcore/step_program.h"

namespace gdcore {

class TrainingStep {
 public:
  TrainingStep(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer);

  Network& network() { return *network_; }
  const Network& network() const { return *network_; }
  Criterion& criterion() { return criterion_; }
  const Criterion& criterion() const { return criterion_; }
  OptimizerState& optimizer() { return optimizer_; }
  const OptimizerState& optimizer() const { return optimizer_; }

  /// Forward, loss, backward, update, commit, and the end of the step where it is recorded. The batch's sums; empty
  /// where the step is recorded. Throws DivergenceError, having changed nothing that lasts, where the loss or the norm
  /// of the gradients is not finite.
  LossSums run(const Batch& batch, const StepContext& context);
  /// The same as far as the check of the gradients' norm; nothing that lasts is changed.
  void check_finite(const Batch& batch, const StepContext& context);
  /// The same, with the rows that are fetched, as data. `context` is that of a recorded step, the loss the device's.
  StepProgram program(const Dataset& data, const RowOrder& order, std::int64_t rows, const StepContext& context);

 private:
  LossSums differentiate(const Batch& batch, const StepContext& context);

  std::shared_ptr<Network> network_;
  Criterion criterion_;
  OptimizerState optimizer_;
};

}  // namespace gdcore
