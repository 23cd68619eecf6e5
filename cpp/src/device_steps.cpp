#include "gdcore/device_steps.h"

#include <algorithm>
#include <chrono>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

constexpr std::int64_t kMostSteps = 32, kMostRecordings = 16;  // steps per recording; recordings per trainer
constexpr std::int64_t kMostRates = std::int64_t{1} << 17;     // on the device at a time

bool same_memory(const Source& a, const Source& b) {
  return a.data == b.data && a.type == b.type && a.cols == b.cols && a.row_stride == b.row_stride;
}

bool same_memory(const Dataset& a, const Dataset& b) {
  return a.labels == b.labels && same_memory(a.x, b.x) && same_memory(a.y, b.y) && same_memory(a.weights, b.weights);
}

}  // namespace

const std::int64_t* DeviceRows::put(Backend& backend, std::span<const std::int64_t> rows, std::int64_t dataset_rows) {
  if (!std::ranges::equal(listed_, rows)) {
    check_rows(rows.data(), std::ssize(rows), dataset_rows);
    listed_.clear();
    grow(rows_, backend, rows.size_bytes());
    backend.copy(rows_.data(), rows.data(), rows.size_bytes(), CopyKind::to_device);
    listed_.assign(rows.begin(), rows.end());
  }
  return static_cast<const std::int64_t*>(rows_.data());
}

DeviceSteps::DeviceSteps(TrainingStep& step, std::int64_t window_bytes, const StackMemory* stack)
    : step_(step),
      network_(step.network()),
      stack_(stack),
      networks_(stack != nullptr ? stack->networks() : 1),
      window_bytes_(window_bytes),
      counters_(network_.backend(), static_cast<std::size_t>(networks_) * sizeof(StepCounters)),
      shuffle_(network_.backend(), static_cast<std::size_t>(networks_) * sizeof(Permutation)) {}

/// Returns the window of batches from `first` on that can be trained now: all, or as many as one window holds.
DeviceSteps::Window DeviceSteps::open(const Dataset& data, const BatchRange& range, std::int64_t first) {
  if (data.x.device == Device::cpu) return send(data, range, first);
  return {.first = first,
          .last = std::min(range.last, first + kMostRates),
          .data = data,
          .order = order_on_device(range, data.x.rows),
          .first_row = range.first_row(first)};
}

/// Copies the rows of the batches from `first` on, as many as one window holds, unless they are on the device already.
const DeviceSteps::Window& DeviceSteps::send(const Dataset& data, const BatchRange& range, std::int64_t first) {
  std::vector<std::int64_t> rows;
  const auto fill = [&](std::int64_t first_row, std::int64_t count) {
    rows.resize(static_cast<std::size_t>(count));
    fill_order(range.order, first_row, count, rows.data());
  };
  if (sent_ && sent_->batch_size == range.batch_size && same_memory(sent_->source, data) &&
      sent_->window.first <= first && first < sent_->window.last && sent_->window.last <= range.last) {
    fill(range.first_row(sent_->window.first), std::ssize(sent_->rows));
    if (rows == sent_->rows) return sent_->window;
  }
  sent_.reset();
  const auto row_bytes = static_cast<std::int64_t>(resident_row_bytes(data, network_.dtype()));
  const std::int64_t most = std::max<std::int64_t>(window_bytes_ / row_bytes / range.batch_size, 1);
  const std::int64_t last = std::min(range.last, first + most), first_row = range.first_row(first);
  fill(first_row, range.first_row(last) - first_row);
  check_rows(rows.data(), std::ssize(rows), data.x.rows);
  streamed_.load(data, rows.data(), 0, std::ssize(rows), network_);
  const Window window{.first = first, .last = last, .data = streamed_.data(), .order = {}, .first_row = 0};
  sent_ = Sent{window, data, std::move(rows), range.batch_size};
  return sent_->window;
}

/// Returns the range's order in device memory: the keys of its permutations, and the list of rows if there is one.
RowOrder DeviceSteps::order_on_device(const BatchRange& range, std::int64_t dataset_rows) {
  Backend& backend = network_.backend();
  RowOrder order;
  if (range.order.shuffle != nullptr) {
    backend.copy(shuffle_.data(), range.order.shuffle, shuffle_.bytes(), CopyKind::to_device);
    order.shuffle = static_cast<const Permutation*>(shuffle_.data());
  }
  if (range.order.rows == nullptr) return order;
  order.rows = rows_.put(backend, {range.order.rows, static_cast<std::size_t>(range.count)}, dataset_rows);
  std::erase_if(recorded_, [&](const Recorded& r) { return r.order.rows != nullptr && r.order.rows != order.rows; });
  return order;
}

/// Copies the rates of the window's remaining batches, and the counters, to the device.
void DeviceSteps::start(const Window& window, const BatchRange& range, std::int64_t next,
                        std::span<const StepRates> rates, std::span<StepCounters> counters) {
  Backend& backend = network_.backend();
  const std::int64_t count = std::min(window.last, range.last) - next, given = std::ssize(rates) / networks_;
  for (StepCounters& each : counters) {
    each.batch = 0;
    each.first = window.first_row + range.first_row(next) - range.first_row(window.first);
  }
  if (rates_of_network_ < count) {
    recorded_.clear();  // they hold the old address of the rates
    rates_of_network_ = count;
    grow(rates_, backend, static_cast<std::size_t>(networks_ * count) * sizeof(StepRates));
  }
  std::vector<StepRates> of_batches(static_cast<std::size_t>((networks_ - 1) * rates_of_network_ + count));
  for (std::int64_t i = 0; i < networks_; ++i) {
    const auto from = rates.begin() + i * given;
    const auto to = of_batches.begin() + i * rates_of_network_;
    if (given == 1) {
      std::fill_n(to, count, *from);
    } else {
      std::copy_n(from + (next - range.first), count, to);
    }
    for (std::int64_t k = 0; k < count; ++k) {
      to[k].average = step_.optimizer().average_rate(counters[static_cast<std::size_t>(i)].step + k);
    }
  }
  backend.copy(rates_.data(), of_batches.data(), of_batches.size() * sizeof(StepRates), CopyKind::to_device);
  backend.copy(counters_.data(), counters.data(), counters.size_bytes(), CopyKind::to_device);
}

/// Few enough steps that a launch takes about 10 ms at 5 TFLOP/s, so that Ctrl-C and callbacks are handled in time; a
/// power of two.
std::int64_t DeviceSteps::steps_at_once(std::int64_t rows) const {
  const auto numbers = static_cast<double>(networks_ * network_.parameters().layout.size());
  const double seconds = 6.0 * static_cast<double>(rows) * numbers / 5e12;
  std::int64_t steps = 1;
  while (steps < kMostSteps && 2.0 * static_cast<double>(steps) * seconds < 0.01) steps *= 2;
  return steps;
}

/// Enqueues the gather of the next batch's rows.
Batch DeviceSteps::fetch(const Window& window, std::int64_t rows) {
  const auto gather = [&](const Source& source, GatherType type, Buffer& buffer) {
    auto* counters = static_cast<StepCounters*>(counters_.data());
    network_.backend().gather({source, window.order, 0, rows, buffer.data(), type, counters});
    return ConstView{buffer.data(), rows, source.cols, network_.dtype()};
  };
  const GatherType type = gather_type(network_.dtype());
  Batch batch;
  batch.x = gather(window.data.x, type, x_);
  if (window.data.labels) {
    gather(window.data.y, GatherType::label, y_);
    batch.labels = static_cast<const std::int32_t*>(y_.data());
  } else {
    batch.targets = gather(window.data.y, type, y_);
  }
  if (window.data.weights) {
    batch.weights = gather(window.data.weights, type, weights_);
    std::swap(batch.weights.rows, batch.weights.cols);  // (N, 1) is kept as (1, N)
  }
  return batch;
}

StepContext DeviceSteps::context() const {
  return {.seed = network_.seed(),
          .counters = static_cast<StepCounters*>(counters_.data()),
          .schedule = static_cast<const StepRates*>(rates_.data())};
}

std::unique_ptr<FusedStep> DeviceSteps::fuse(const Dataset& data, const RowOrder& order, std::int64_t rows) {
  StepProgram program = step_.program(data, order, rows, context(), stack_);
  program.stack.rates = rates_of_network_;
  return network_.backend().fuse(program);
}

/// Records some steps: fused where the backend offers that, else operation by operation.
std::unique_ptr<StepGraph> DeviceSteps::record(const Window& window, std::int64_t rows, std::int64_t steps) {
  Backend& backend = network_.backend();
  return backend.recorder()->record([&] {
    const auto fused = fuse(window.data, window.order, rows);
    check<std::logic_error>(fused != nullptr || stack_ == nullptr, "[Trainer] the steps of this stack are not fused");
    for (std::int64_t i = 0; i < steps; ++i) {
      if (fused != nullptr) {
        fused->run();
      } else {
        step_.run(fetch(window, rows), context());
      }
    }
  });
}

StepGraph& DeviceSteps::graph(const Window& window, std::int64_t rows, std::int64_t steps) {
  // Recordings hold addresses of these buffers: first grow the buffers, then drop recordings that are out of date.
  const auto room = [&](const Source& source, Buffer& buffer) {
    if (!source) return;
    const auto bytes = static_cast<std::size_t>(checked_size(rows, source.cols)) * size_of(network_.dtype());
    if (buffer.bytes() >= bytes) return;
    recorded_.clear();
    grow(buffer, network_.backend(), bytes);
  };
  room(window.data.x, x_);
  room(window.data.y, y_);
  room(window.data.weights, weights_);
  network_.executor().reserve(rows);
  const std::uint64_t version = network_.version() + step_.optimizer().version();  // both only increase
  std::erase_if(recorded_, [&](const Recorded& r) { return r.version != version; });
  for (const Recorded& r : recorded_) {
    if (r.rows == rows && r.steps == steps && r.order == window.order && same_memory(r.data, window.data)) {
      return *r.graph;
    }
  }
  if (std::ssize(recorded_) == kMostRecordings) recorded_.erase(recorded_.begin());
  recorded_.push_back({rows, steps, window.data, window.order, version, record(window, rows, steps)});
  return *recorded_.back().graph;
}

/// Launches the window's next steps, as many as one recording holds; returns their number.
std::int64_t DeviceSteps::launch(const Window& window, const BatchRange& range, std::int64_t next) {
  const std::int64_t rows = range.rows_of(next), last = std::min(window.last, range.last);
  const std::int64_t many = steps_at_once(rows), alike = std::min(last, range.whole_batches()) - next;
  const std::int64_t steps = alike >= many ? many : 1;
  StepGraph& recorded = graph(window, rows, steps);
  Backend& backend = network_.backend();
  const Profiled scope(backend.profile(), [&] {
    return Profiled::Operation{join("recorded steps (", steps, " of ", rows, " rows)"), {}};
  });
  recorded.launch();
  return steps;
}

std::int64_t DeviceSteps::run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
                              double seconds, std::span<StepCounters> counters) {
  using Clock = std::chrono::steady_clock;
  Backend& backend = network_.backend();
  std::int64_t next = range.first;
  std::optional<Window> window;
  Clock::time_point start_of_call;
  bool late = false;
  const auto stopped = [&] {
    return std::ranges::all_of(counters, [](const StepCounters& each) { return each.stop != Stop::none; });
  };
  while (next < range.last && !late && !stopped()) {
    if (!window || next >= window->last) {
      const bool first = !window;
      window = open(data, range, next);
      if (first) start_of_call = Clock::now();  // the first copy is not timed: its rows serve further calls
    }
    start(*window, range, next, rates, counters);
    const std::int64_t first = next, last = std::min(window->last, range.last);
    const auto reached = [&] {
      backend.copy(counters.data(), counters_.data(), counters.size_bytes(), CopyKind::to_host);
    };
    try {
      while (next < last && !late) {
        poll_interrupt();  // launched steps finish; the others are never started
        next += launch(*window, range, next);
        late = std::chrono::duration<double>(Clock::now() - start_of_call).count() >= seconds;
      }
    } catch (...) {
      const NoInterrupt whole;
      sent_.reset();
      reached();
      throw;
    }
    reached();
    next = first + std::ranges::max(counters, {}, &StepCounters::batch).batch;  // fewer than launched if all stopped
  }
  if (next >= range.last || stopped()) sent_.reset();
  return next;
}

}  // namespace gdcore
