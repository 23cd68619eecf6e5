// StepProgram: one training step as data, from which a backend may make something faster than its operations.
#pragma once

#include "gdcore/backend.h"
#include "gdcore/plan.h"

namespace gdcore {

/// Rows of data in an order are fetched and go through the plan forward, the loss, the plan back, and the optimiser's
/// pass. All of it lies on the device.
struct StepProgram {
  // Fetch. Weights may be absent; `labels`: y holds class numbers.
  Source x, y, weights;
  bool labels;
  RowOrder order;
  std::int64_t rows;  // of the batch
  // Forward and back.
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
