// The state of a training step that its operations read.
#pragma once

#include <cstdint>

#include "gdcore/loss.h"
#include "gdcore/step_rates.h"

namespace gdcore {

/// Why recorded steps on a device stopped early; `finished`: the host wants no more steps.
enum class Stop : std::int32_t { none, loss, gradient_norm, finished };

/// State of steps that run on a device without the host, in the device's memory; StepRecorder::advance updates it.
/// Operations with counters read from them what the host would pass otherwise. Once the steps have stopped, no
/// persistent state is written any more.
struct StepCounters {
  std::int64_t step = 0;   // optimiser steps made
  std::int64_t batch = 0;  // batches since the counters were set: index of the next rate
  std::int64_t first = 0;  // position in the order of the next batch's first row
  LossSums sums;           // of the batches so far
  Stop stop = Stop::none;

  /// Counts a step on a batch.
  constexpr void advance(std::int64_t rows, const LossSums& of_batch) {
    ++step;
    ++batch;
    first += rows;
    sums.add(of_batch);
  }
};

/// One step. Where `counters` are given, the step is recorded: its number and its rates, schedule[counters->batch], are
/// read on the device at each run.
struct StepContext {
  std::uint64_t seed = 0;  // of dropout
  std::int64_t step = 0;   // optimiser steps made before this one
  StepRates rates = {};
  StepCounters* counters = nullptr;
  const StepRates* schedule = nullptr;

  bool recorded() const { return counters != nullptr; }
};

}  // namespace gdcore
