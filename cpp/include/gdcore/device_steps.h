// Training steps that a device runs without the host. Data, learning rates and everything that changes from step to
// step (StepCounters) lie in its memory, and it computes the row order itself. Groups of steps are recorded once and
// launched repeatedly; the host only starts them. The results equal those of the same steps run one by one. The steps
// may be those of a stack of networks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gdcore/batch_range.h"
#include "gdcore/resident.h"
#include "gdcore/stack_memory.h"

namespace gdcore {

/// Bytes of rows on the device at a time where the dataset does not fit there; results do not depend on it.
inline constexpr std::int64_t kWindowBytes = std::int64_t{1} << 27;

/// A list of rows in a device's memory.
class DeviceRows {
 public:
  /// Returns the list's address on the device; copies the rows unless they are there. Throws where one is not a row of
  /// the dataset.
  const std::int64_t* put(Backend& backend, std::span<const std::int64_t> rows, std::int64_t dataset_rows);

 private:
  Buffer rows_;
  std::vector<std::int64_t> listed_;  // contents of rows_
};

class DeviceSteps {
 public:
  /// With `stack`, the steps are those of its networks, and `step` is the first one's. The data must then be on the
  /// device, and the steps such as the backend fuses.
  explicit DeviceSteps(TrainingStep& step, std::int64_t window_bytes = kWindowBytes,
                       const StackMemory* stack = nullptr);

  /// Trains the batches of the range until `seconds` have passed or the steps of all networks stopped; returns the next
  /// batch. Rows of a dataset in host memory are copied to the device in windows, as they are needed. Each network has
  /// its own counters, learning rates (one, or one for each batch) and permutation. `counters` passes in the steps made
  /// and the sums so far, and returns the values reached, also where an interruption is thrown.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates, double seconds,
                   std::span<StepCounters> counters);
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates, double seconds,
                   StepCounters& counters) {
    return run(data, range, rates, seconds, {&counters, 1});
  }
  /// Whether the backend fuses steps of `rows` rows.
  bool fuses(const Dataset& data, const RowOrder& order, std::int64_t rows) {
    return fuse(data, order, rows) != nullptr;
  }

 private:
  struct Recorded {
    std::int64_t rows, steps;
    Dataset data;  // its memory: the recording holds its addresses
    RowOrder order;
    std::uint64_t version;
    std::unique_ptr<StepGraph> graph;
  };
  struct Window {  // batches that can be trained with the rows on the device
    std::int64_t first, last;
    Dataset data;
    RowOrder order;
    std::int64_t first_row;  // position in the order of the first batch's first row
  };
  struct Sent {  // contents of streamed_: a window's rows, in their order
    Window window;
    Dataset source;
    std::vector<std::int64_t> rows;
    std::int64_t batch_size;
  };

  Window open(const Dataset& data, const BatchRange& range, std::int64_t first);
  const Window& send(const Dataset& data, const BatchRange& range, std::int64_t first);
  RowOrder order_on_device(const BatchRange& range, std::int64_t dataset_rows);
  void start(const Window& window, const BatchRange& range, std::int64_t next, std::span<const StepRates> rates,
             std::span<StepCounters> counters);
  std::int64_t launch(const Window& window, const BatchRange& range, std::int64_t next);
  std::int64_t steps_at_once(std::int64_t rows) const;
  StepGraph& graph(const Window& window, std::int64_t rows, std::int64_t steps);
  StepContext context() const;
  std::unique_ptr<FusedStep> fuse(const Dataset& data, const RowOrder& order, std::int64_t rows);
  std::unique_ptr<StepGraph> record(const Window& window, std::int64_t rows, std::int64_t steps);
  Batch fetch(const Window& window, std::int64_t rows);

  TrainingStep& step_;
  Network& network_;
  const StackMemory* stack_;
  std::int64_t networks_, window_bytes_;
  ResidentData streamed_;     // rows of a dataset that does not fit on the device, a window at a time
  std::optional<Sent> sent_;  // kept between calls where the time ran out inside the window
  Buffer counters_, shuffle_, rates_, x_, y_, weights_;
  std::int64_t rates_of_network_ = 0;  // room in rates_
  DeviceRows rows_;
  std::vector<Recorded> recorded_;
};

}  // namespace gdcore
