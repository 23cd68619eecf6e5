// TrainerStack: trainers whose networks have one layout, trained together on a device. Each network has its own seeds,
// learning rates, weight decay and steps, and ends with the bits that it has when it is trained alone on that device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/device_measurement.h"
#include "gdcore/trainer.h"

namespace gdcore {

class TrainerStack {
 public:
  /// Whether two trainers may be in one stack: the same computation, loss and rule; other seeds, rates and decays.
  static bool alike(Trainer& a, Trainer& b);

  /// Copies the state of the trainers, which must outlive the stack and be alike. They change in give_back() alone.
  /// `at_once`: most networks per launch; 0: the backend chooses. Results do not depend on it.
  explicit TrainerStack(std::vector<Trainer*> trainers, std::int64_t at_once = 0);

  std::int64_t networks() const { return std::ssize(trainers_); }
  /// Whether the device trains with the batches of the range, and measures its rows, for all networks at once.
  bool trains(const Dataset& data, const BatchRange& range);
  bool measures(const Dataset& data, const BatchRange& range);

  /// Trains all batches of the range for the networks with active[i] != 0, and writes their sums. The order has a
  /// permutation for each network; `rates` has one rate for each network, or one for each network and batch. A network
  /// whose loss is not finite stays as it was before that step: it has made fewer steps than there are batches.
  void run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
           std::span<const std::uint8_t> active, std::span<LossSums> sums);
  /// Writes the sums over the rows of the range for these networks, and their outputs, as DeviceMeasurement::run.
  void evaluate(const Dataset& data, const BatchRange& range, std::span<const std::uint8_t> active,
                std::span<LossSums> sums, void* outputs);
  /// Steps made by each network.
  std::vector<std::int64_t> steps() const;
  /// Keeps a copy of the weights of each network with better[i] != 0, in place of an earlier copy.
  void keep(std::span<const std::uint8_t> better) { memory_.keep(better); }
  /// Copies a network's state to its trainer, with the kept weights on request, if there are any.
  void give_back(std::int64_t network, bool kept);

 private:
  /// Returns the counters with the networks that are not active stopped.
  std::vector<StepCounters> counters_of(std::span<const std::uint8_t> active) const;

  std::vector<Trainer*> trainers_;
  StackMemory memory_;
  DeviceSteps steps_;
  DeviceMeasurement measurement_;
  std::vector<StepCounters> counters_;
};

}  // namespace gdcore
