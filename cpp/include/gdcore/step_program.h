// StepProgram: one training step as data, which a backend may fuse; of one network, or of a stack of networks.
#pragma once

#include <optional>

#include "gdcore/backend.h"
#include "gdcore/plan.h"

namespace gdcore {

/// The rate and the decay of one array of the parameters.
struct EntryRates {
  double lr_factor, weight_decay;
};

/// Networks of one layout that take each step together, with the data in common. A program's pointers are those of the
/// first network. Parameters, gradients and the optimiser's states of network i lie i · stride elements further, the
/// network's states i · state_stride. Counters, sums and permutations are arrays of one element per network.
struct NetworkStack {
  std::int64_t networks = 1;
  std::int64_t stride = 0, state_stride = 0;
  std::int64_t rates = 0;                // StepRates of a network in the schedule
  const std::uint64_t* seeds = nullptr;  // of dropout, one per network; null: StepProgram::seed
  const EntryRates* entries = nullptr;   // a row per network, a column per entry of the layout; null: the segments'
  // A measurement skips networks whose steps have stopped; null: none have. Their sums are left as they are.
  const StepCounters* counters = nullptr;
  std::int64_t at_once = 0;  // most networks per launch; 0: the backend chooses
};

/// Fetch rows of data in an order; run the plan forward, the loss, the plan backward, and the optimiser. Without an
/// optimiser it is a measurement: the loss in prediction mode of `rows` rows from position 0 on. All memory is on the
/// device.
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
  std::optional<OptimizerPass> optimizer;
  // A measurement's outputs, (networks · rows, out); null: skipped.
  float* outputs = nullptr;
  NetworkStack stack = {};
};

}  // namespace gdcore
