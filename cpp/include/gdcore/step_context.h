// What the parts of a training step may know of it.
#pragma once

#include <cstdint>

#include "gdcore/loss.h"

namespace gdcore {

/// Why steps that follow each other on a device came to an end before their time.
enum class Stop : std::int32_t { none, loss, gradient_norm };

/// What changes from step to step where steps follow each other on a device without the host: in the device's memory,
/// moved on by StepRecorder::advance. Operations that are handed the counters read from them what the host would tell
/// them otherwise; once something has stopped the steps, nothing that lasts is written any more.
struct StepCounters {
  std::int64_t step = 0;   // optimiser steps made
  std::int64_t batch = 0;  // batches since the counters were set: which rate is next
  std::int64_t first = 0;  // the place of the next batch's first row in the order
  LossSums sums;           // of the batches so far
  Stop stop = Stop::none;
};

/// One step. Where `counters` are given, the step is recorded: its number and its rate, rates[counters->batch], are
/// read on the device, each time that it is repeated.
struct StepContext {
  std::uint64_t seed = 0;  // of dropout
  std::int64_t step = 0;   // optimiser steps made before it
  double lr = 0.0;
  StepCounters* counters = nullptr;
  const double* rates = nullptr;

  bool recorded() const { return counters != nullptr; }
};

}  // namespace gdcore
