// Measurements that a device computes in one pass over the rows (StepProgram): of one network, or of a stack.
#pragma once

#include <span>

#include "gdcore/device_steps.h"

namespace gdcore {

class DeviceMeasurement {
 public:
  explicit DeviceMeasurement(TrainingStep& step, const StackMemory* stack = nullptr) : step_(step), stack_(stack) {}

  /// Returns whether the backend measures these rows in one pass.
  bool fuses(const Dataset& data, const BatchRange& range);
  /// Writes the sums of each network over the rows of the range, and the outputs unless null (host, rows of the first
  /// network before those of the second, x out). Networks whose steps have stopped are skipped: their sums are 0, their
  /// outputs anything. No counters: none have. Returns false, having written nothing, where the backend has no such
  /// pass, or where the outputs are too many for it.
  bool run(const Dataset& data, const BatchRange& range, std::span<const StepCounters> counters,
           std::span<LossSums> sums, void* outputs);

 private:
  StepProgram program(const Dataset& data, const BatchRange& range);

  TrainingStep& step_;
  const StackMemory* stack_;
  DeviceRows rows_;
  Buffer counters_, outputs_;
};

}  // namespace gdcore
