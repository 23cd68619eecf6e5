// Steps that a device repeats by itself: recorded once, launched as often as there are batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "gdcore/function_ref.h"
#include "gdcore/step_context.h"

namespace gdcore {

/// The end of a recorded step: adds the batch's sums, counts the step and the batch, and moves on by `rows`; nothing
/// once the steps have stopped.
struct Advance {
  StepCounters* counters;
  const LossSums* sums;
  std::int64_t rows;
};

class StepGraph {
 public:
  virtual ~StepGraph() = default;
  /// Starts the steps; returns when at most these and the ones started before are under way.
  virtual void launch() = 0;
};

/// A device on which steps follow each other without the host.
class StepRecorder {
 public:
  /// Whether the calling thread records.
  virtual bool recording() const = 0;
  virtual ~StepRecorder() = default;
  /// What `steps` asks of the backend, not done but kept, to be launched as often as wanted; all memory that it touches
  /// must outlive the graph.
  virtual std::unique_ptr<StepGraph> record(FunctionRef<void()> steps) = 0;
  virtual void advance(const Advance&) = 0;
  /// Memory that can still be allocated.
  virtual std::size_t free_bytes() = 0;
};

}  // namespace gdcore
