// StepProgram: one training step as data, which a backend may fuse.
#pragma once

#include "gdcore/backend.h"
#include "gdcore/plan.h"

namespace gdcore {

/// Fetch rows of data in an order; run the plan forward, the loss, the plan backward, and the optimiser. All memory is
/// on the device.
struct StepProgram {
  // Fetch. `weights` may be absent; `labels`: y holds class numbers.
  Source x, y, weights;
  bool labels;
  RowOrder order;
  std::int64_t rows;  // of the batch
  // Forward and backward.
  const Plan& plan;
  const Parameters& parameters;
  Precision precision;
  std::uint64_t seed;  // of dropout
  // Loss: as in LossPass.
  const Loss& loss;
  ConstView class_weights;
  LossSums* sums;
  // Update. Its counters and rates are those of the step.
  OptimizerPass optimizer;
};

}  // namespace gdcore
