// Training steps that a device makes by itself: data, order, rates and everything that changes from step to step lie in
// its memory (StepCounters), and some steps at a time are recorded once and launched as often as there are batches. The
// host only starts them. The results are those of the same steps made one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gdcore/resident.h"

namespace gdcore {

/// Batches [first, last) of `order` (null: as they lie), each of batch_size rows, the last one possibly shorter.
struct BatchRange {
  const std::int64_t* order = nullptr;
  std::int64_t count = 0, batch_size = 0, first = 0, last = 0;

  std::int64_t rows_of(std::int64_t batch) const {
    return batch_size < count - batch * batch_size ? batch_size : count - batch * batch_size;
  }
};

/// What a recorded step reads that changes from step to step.
struct StepInputs {
  StepCounters* counters;
  const double* rates;
};

/// The next batch of recorded steps: rows of a dataset on the device, or of its order.
struct NextBatch {
  const Dataset& data;
  const std::int64_t* order;
  std::int64_t rows;
};

/// How much of a dataset is on the device at a time; the results do not depend on it.
struct WindowSizes {
  std::int64_t places = std::int64_t{1} << 20;  // of the order
  std::int64_t bytes = std::int64_t{1} << 27;   // of rows, where the dataset has no room there
};

class DeviceSteps {
 public:
  /// What is asked of the backend for one step; nothing of it may depend on the step.
  struct Step {
    FunctionRef<bool(const NextBatch&, const StepInputs&)> whole;  // the step at once; false: not to be had
    FunctionRef<void(const Batch&, const StepInputs&)> fetched;    // of a batch whose rows were fetched
  };

  explicit DeviceSteps(Network& network, const WindowSizes& sizes = {});

  /// Trains the batches of the range until `seconds` have passed or the steps stopped, and returns the next batch.
  /// Rows of a dataset in the host's memory are sent as they are needed.
  /// `counters` goes in with the steps made and the sums so far and comes out with what was reached, also where an
  /// interruption is thrown.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const double> rates, double seconds,
                   StepCounters& counters, const Step& step);

 private:
  struct Recorded {
    std::int64_t rows, steps;
    Dataset data;  // where it lies
    const void* order;
    std::uint64_t version;
    std::unique_ptr<StepGraph> graph;
  };
  struct Window {  // batches whose rows, or whose part of the order, are on the device
    std::int64_t first, last;
    Dataset data;
    const std::int64_t* order;
    std::int64_t place;  // of its first row among those
    // What it was made from; `next` is the batch that it goes on with.
    Dataset source;
    std::vector<std::int64_t> host_order;
    std::int64_t batch_size, next;
  };

  bool goes_on(const Dataset& data, const BatchRange& range) const;
  void open(const Dataset& data, const BatchRange& range, std::int64_t first);
  void start(const BatchRange& range, std::span<const double> rates, StepCounters& counters);
  std::int64_t launch(const BatchRange& range, std::int64_t next, const Step& step);
  std::int64_t steps_at_once(std::int64_t rows) const;
  StepGraph& graph(const Window& window, std::int64_t rows, std::int64_t steps, const Step& step);
  std::unique_ptr<StepGraph> record(const Window& window, std::int64_t rows, std::int64_t steps, const Step& step);
  Batch fetch(const Window& window, std::int64_t rows);

  Network& network_;
  WindowSizes sizes_;
  ResidentData streamed_;  // rows of a dataset that has no room on the device, a window at a time
  Buffer counters_, rates_, order_, x_, y_, weights_;
  std::optional<Window> window_;  // kept from one call to the next where the time was up in the middle of it
  std::vector<Recorded> recorded_;
};

}  // namespace gdcore
