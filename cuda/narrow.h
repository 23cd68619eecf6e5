// A training step of a narrow network in two launches (narrow.cu).
#pragma once

#include <span>

#include "gdcore/backend.h"

namespace gdcore::cuda {

/// A dense layer with what it absorbed: where its weights (out, in) and biases (null: -1) lie in the arena.
struct NarrowLayer {
  std::int64_t in, out, weight, bias;
  Activation activation;
};

/// Gather, forward, loss, backward, optimiser and advance of one batch without dropout, norms or weights of samples, in
/// float32. The optimiser's counters and rates are the step's: they say where the batch begins in the order and are
/// moved on by it; a loss that is not finite stops the steps instead.
struct NarrowStep {
  std::span<const NarrowLayer> layers;
  Source x, y;
  bool labels;                // y holds labels, not targets
  const std::int64_t* order;  // null: the rows as they lie
  std::int64_t rows;          // of the batch
  const Loss& loss;
  ConstView class_weights;  // the loss's, as in LossPass
  const OptimizerPass& optimizer;
  LossSums* sums;
};

/// Asks for the step, or returns false where the network, the loss, the optimiser or the device is not one for it.
bool narrow_step(const NarrowStep&);

}  // namespace gdcore::cuda
