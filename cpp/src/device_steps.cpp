#include "gdcore/device_steps.h"

#include <algorithm>
#include <chrono>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

constexpr std::int64_t kMostSteps = 32, kMostRecordings = 16;  // of a recording; of a trainer

bool same_place(const Source& a, const Source& b) {
  return a.data == b.data && a.type == b.type && a.cols == b.cols && a.row_stride == b.row_stride;
}

bool same_place(const Dataset& a, const Dataset& b) {
  return a.labels == b.labels && same_place(a.x, b.x) && same_place(a.y, b.y) && same_place(a.weights, b.weights);
}

}  // namespace

DeviceSteps::DeviceSteps(Network& network, const WindowSizes& sizes)
    : network_(network), sizes_(sizes), counters_(network.backend(), sizeof(StepCounters)) {}

/// Whether the range goes on where the last call's time was up. The order is compared number by number.
bool DeviceSteps::goes_on(const Dataset& data, const BatchRange& range) const {
  if (!window_ || window_->next != range.first || window_->batch_size != range.batch_size) return false;
  if (!same_place(window_->source, data) || window_->host_order.empty() != (range.order == nullptr)) return false;
  const std::int64_t begin = window_->first * range.batch_size;
  if (range.count < begin + std::ssize(window_->host_order) || range.last < window_->next) return false;
  return range.order == nullptr ||
         std::ranges::equal(window_->host_order, std::span(range.order + begin, window_->host_order.size()));
}

/// Brings what the batches from `first` on need to the device: as many as one window holds.
void DeviceSteps::open(const Dataset& data, const BatchRange& range, std::int64_t first) {
  Backend& backend = network_.backend();
  const bool streamed = data.x.device == Device::cpu;
  std::int64_t most = sizes_.places / range.batch_size;
  if (streamed) {
    most = sizes_.bytes / static_cast<std::int64_t>(resident_row_bytes(data, network_.dtype())) / range.batch_size;
  }
  window_.reset();
  Window window{.first = first,
                .last = std::min(range.last, first + std::max<std::int64_t>(most, 1)),
                .data = data,
                .order = nullptr,
                .place = 0,
                .source = data,
                .host_order = {},
                .batch_size = range.batch_size,
                .next = first};
  const std::int64_t begin = first * range.batch_size;
  const std::int64_t rows = std::min(window.last * range.batch_size, range.count) - begin;
  check_order(range.order, begin, rows, data.x.rows);
  if (range.order != nullptr) window.host_order.assign(range.order + begin, range.order + begin + rows);
  if (streamed) {
    streamed_.load(data, range.order, begin, rows, network_);
    window.data = streamed_.data();
  } else if (range.order != nullptr) {
    const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(std::int64_t);
    grow(order_, backend, bytes);
    backend.copy(order_.data(), range.order + begin, bytes, CopyKind::to_device);
    window.order = static_cast<const std::int64_t*>(order_.data());
  } else {
    window.place = begin;
  }
  window_ = std::move(window);
}

/// Sends the rates of what is left of the window, and the counters.
void DeviceSteps::start(const BatchRange& range, std::span<const double> rates, StepCounters& counters) {
  Backend& backend = network_.backend();
  const std::int64_t next = window_->next, last = std::min(window_->last, range.last);
  counters.batch = 0;
  counters.first = window_->place + (next - window_->first) * range.batch_size;
  std::vector<double> of_batches(static_cast<std::size_t>(last - next), rates[0]);
  if (rates.size() > 1) {
    const auto from = rates.begin() + (next - range.first);
    std::copy(from, from + (last - next), of_batches.begin());
  }
  const std::size_t bytes = of_batches.size() * sizeof(double);
  if (rates_.bytes() < bytes) recorded_.clear();  // they read the rates where they were
  grow(rates_, backend, bytes);
  backend.copy(rates_.data(), of_batches.data(), bytes, CopyKind::to_device);
  backend.copy(counters_.data(), &counters, sizeof counters, CopyKind::to_device);
}

/// Few enough that a launch takes about 10 ms at 5 TFLOP/s, so that Ctrl-C and callbacks come round in time; a power
/// of two.
std::int64_t DeviceSteps::steps_at_once(std::int64_t rows) const {
  const auto numbers = static_cast<double>(network_.parameters().layout.size());
  const double seconds = 6.0 * static_cast<double>(rows) * numbers / 5e12;
  std::int64_t steps = 1;
  while (steps < kMostSteps && 2.0 * static_cast<double>(steps) * seconds < 0.01) steps *= 2;
  return steps;
}

/// Asks for the rows of the next batch.
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

std::unique_ptr<StepGraph> DeviceSteps::record(const Window& window, std::int64_t rows, std::int64_t steps,
                                               const Step& step) {
  const StepInputs inputs{static_cast<StepCounters*>(counters_.data()), static_cast<const double*>(rates_.data())};
  return network_.backend().recorder()->record([&] {
    for (std::int64_t i = 0; i < steps; ++i) {
      if (!step.whole({window.data, window.order, rows}, inputs)) step.fetched(fetch(window, rows), inputs);
    }
  });
}

StepGraph& DeviceSteps::graph(const Window& window, std::int64_t rows, std::int64_t steps, const Step& step) {
  // What a recording points at must not have moved: first make room, then see which recordings are still good.
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
  network_.reserve(rows);
  const std::uint64_t version = network_.version();
  std::erase_if(recorded_, [&](const Recorded& r) { return r.version != version; });
  for (const Recorded& r : recorded_) {
    if (r.rows == rows && r.steps == steps && r.order == window.order && same_place(r.data, window.data)) {
      return *r.graph;
    }
  }
  if (std::ssize(recorded_) == kMostRecordings) recorded_.erase(recorded_.begin());
  recorded_.push_back({rows, steps, window.data, window.order, version, record(window, rows, steps, step)});
  return *recorded_.back().graph;
}

/// Launches the window's next steps, as many as one recording holds; returns how many.
std::int64_t DeviceSteps::launch(const BatchRange& range, std::int64_t next, const Step& step) {
  const std::int64_t rows = range.rows_of(next), full = range.count / range.batch_size;
  const std::int64_t many = steps_at_once(rows), last = std::min(window_->last, range.last);
  const std::int64_t steps = std::min(last, full) - next >= many ? many : 1;
  graph(*window_, rows, steps, step).launch();
  return steps;
}

std::int64_t DeviceSteps::run(const Dataset& data, const BatchRange& range, std::span<const double> rates,
                              double seconds, StepCounters& counters, const Step& step) {
  using Clock = std::chrono::steady_clock;
  Backend& backend = network_.backend();
  if (!goes_on(data, range)) open(data, range, range.first);
  const auto start_of_call = Clock::now();  // what was sent serves further calls
  std::int64_t next = range.first;
  bool late = false;
  while (next < range.last && !late && counters.stop == Stop::none) {
    if (next >= window_->last) open(data, range, next);
    window_->next = next;
    start(range, rates, counters);
    const std::int64_t first = next, last = std::min(window_->last, range.last);
    const auto reached = [&] { backend.copy(&counters, counters_.data(), sizeof counters, CopyKind::to_host); };
    try {
      while (next < last && !late) {
        poll_interrupt();  // what was launched is finished, the rest never begins
        next += launch(range, next, step);
        late = std::chrono::duration<double>(Clock::now() - start_of_call).count() >= seconds;
      }
    } catch (...) {
      const NoInterrupt whole;
      window_.reset();
      reached();
      throw;
    }
    reached();
    next = first + counters.batch;  // fewer than were launched where the steps stopped
    window_->next = next;
  }
  if (next >= range.last || counters.stop != Stop::none) window_.reset();
  return next;
}

}  // namespace gdcore
