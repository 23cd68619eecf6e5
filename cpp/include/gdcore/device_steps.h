// Training steps that a device runs without the host. Data, learning rates and everything that changes from step to
// step (StepCounters) lie in its memory, and it computes the row order itself. Groups of steps are recorded once and
// launched repeatedly; the host only starts them. The results equal those of the same steps run one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gdcore/batch_range.h"
#include "gdcore/resident.h"
#include "gdcore/training_step.h"

namespace gdcore {

/// Bytes of rows on the device at a time where the dataset does not fit there; results do not depend on it.
inline constexpr std::int64_t kWindowBytes = std::int64_t{1} << 27;

class DeviceSteps {
 public:
  explicit DeviceSteps(TrainingStep& step, std::int64_t window_bytes = kWindowBytes);

  /// Trains the batches of the range until `seconds` have passed or the steps stopped; returns the next batch. Rows of
  /// a dataset in host memory are copied to the device in windows, as they are needed. `counters` passes in the steps
  /// made and the sums so far, and returns the values reached, also where an interruption is thrown.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const double> rates, double seconds,
                   StepCounters& counters);

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
  void start(const Window& window, const BatchRange& range, std::int64_t next, std::span<const double> rates,
             StepCounters& counters);
  std::int64_t launch(const Window& window, const BatchRange& range, std::int64_t next);
  std::int64_t steps_at_once(std::int64_t rows) const;
  StepGraph& graph(const Window& window, std::int64_t rows, std::int64_t steps);
  std::unique_ptr<StepGraph> record(const Window& window, std::int64_t rows, std::int64_t steps);
  Batch fetch(const Window& window, std::int64_t rows);

  TrainingStep& step_;
  Network& network_;
  std::int64_t window_bytes_;
  ResidentData streamed_;     // rows of a dataset that does not fit on the device, a window at a time
  std::optional<Sent> sent_;  // kept between calls where the time ran out inside the window
  Buffer counters_, shuffle_, rates_, rows_, x_, y_, weights_;
  std::vector<std::int64_t> listed_;  // contents of rows_
  std::vector<Recorded> recorded_;
};

}  // namespace gdcore
