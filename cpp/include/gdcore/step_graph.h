// Recorded steps: recorded once, launched repeatedly without the host between steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "gdcore/function_ref.h"
#include "gdcore/step_context.h"

namespace gdcore {

/// The end of a recorded step: adds the batch's sums, counts the step and the batch, and advances the position by
/// `rows`. Does nothing once the steps have stopped.
struct Advance {
  StepCounters* counters;
  const LossSums* sums;
  std::int64_t rows;
};

class StepGraph {
 public:
  virtual ~StepGraph() = default;
  /// Starts the steps. Returns once at most this launch and the one before are still running.
  virtual void launch() = 0;
};

/// A device that can run recorded steps without the host.
class StepRecorder {
 public:
  /// Whether the calling thread is recording.
  virtual bool recording() const = 0;
  virtual ~StepRecorder() = default;
  /// Records the backend calls of `steps` without running them. The graph can be launched any number of times; all
  /// memory that it uses must outlive it.
  virtual std::unique_ptr<StepGraph> record(FunctionRef<void()> steps) = 0;
  virtual void advance(const Advance&) = 0;
  /// Device memory that can still be allocated, in bytes.
  virtual std::size_t free_bytes() = 0;
};

}  // namespace gdcore
