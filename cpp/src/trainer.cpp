#include "gdcore/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

Trainer::Trainer(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer, std::int64_t window_bytes)
    : step_(std::move(network), std::move(loss), std::move(optimizer)) {
  Backend& backend = step_.network().backend();
  const bool recordable = backend.recorder() != nullptr && step_.criterion().on_device();
  if (recordable) {
    device_steps_ = std::make_unique<DeviceSteps>(step_, window_bytes);
    measurement_ = std::make_unique<DeviceMeasurement>(step_);
  }
  backend.wait();
}

StepContext Trainer::context(const StepRates& rates) const {
  StepContext context{.seed = network().seed(), .step = steps_, .rates = rates};
  context.rates.average = step_.optimizer().average_rate(steps_);
  return context;
}

/// One step on the host, on `count` rows from `first` in the order.
LossSums Trainer::train(const Dataset& data, const RowOrder& order, std::int64_t first, std::int64_t count,
                        const StepRates& rates) {
  std::optional<ThreadLimit> alone;
  if (step_.computes_alone(count)) alone.emplace(1);
  const Batch batch = reader_.read(network(), data, order, first, count);
  step_.optimizer().check_rates(rates);
  const LossSums sums = step_.run(batch, context(rates));
  set_steps(steps_ + 1);
  return sums;
}

/// run() on a device that records steps.
std::int64_t Trainer::run_on_device(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
                                    double seconds, LossSums& sums) {
  for (const StepRates& each : rates) step_.optimizer().check_rates(each);
  const double unit = data.weight_unit;
  StepCounters counters{
      .step = steps_, .batch = 0, .first = 0, .sums = {sums.loss / unit, sums.weight / unit}, .stop = Stop::none};
  const auto keep = [&] {
    sums = {counters.sums.loss * unit, counters.sums.weight * unit};
    set_steps(counters.step);
  };
  std::int64_t next = range.first;
  try {
    next = device_steps_->run(data, range, rates, seconds, counters);
  } catch (...) {
    keep();
    throw;
  }
  keep();
  if (counters.stop == Stop::none) return next;
  // Repeats the failed step on the host up to the failing check, for a detailed message.
  const Batch batch = reader_.read(network(), data, range.order, range.first_row(next), range.rows_of(next));
  step_.check_finite(batch, context(0.0));
  throw DivergenceError(join("[Trainer] the loss or the norm of the gradient became NaN or infinite at step ", steps_,
                             ". The step changed nothing"));
}

LossSums Trainer::step(const Dataset& batch, const StepRates& rates) {
  if (device_steps_ != nullptr) {
    LossSums sums;
    run_on_device(batch, {{}, batch.x.rows, batch.x.rows, 0, 1}, {&rates, 1}, INFINITY, sums);
    return sums;
  }
  return train(batch, {}, 0, batch.x.rows, rates);
}

void Trainer::optimizer_step(const StepRates& rates) {
  check<std::runtime_error>(network().executor().has_gradients(),
                            "[optimizer_step] no gradients are available; call forward(x) and backward(dout) first");
  const NoInterrupt whole;
  step_.optimizer().check_rates(rates);
  const StepContext at = context(rates);
  step_.optimizer().update(at);
  step_.optimizer().average_states(at);
  set_steps(steps_ + 1);
  network().backend().wait();
}

std::int64_t Trainer::run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
                          double seconds, LossSums& sums, LossSums* since) {
  if (device_steps_ != nullptr) {
    LossSums these, &to = since == nullptr ? sums : these;
    const std::int64_t next = run_on_device(resident(data, network()), range, rates, seconds, to);
    sums.add(these);
    if (since != nullptr) since->add(these);
    return next;
  }
  const Dataset& here = resident(data, network());
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  // Reading the clock takes a part of the time of the smallest steps: several of them share one reading.
  constexpr double kWork = 1 << 20, kMost = 32;  // multiply-adds, steps
  const auto weights = static_cast<double>(std::as_const(network()).parameters().layout.size());
  const double work = 3.0 * static_cast<double>(range.batch_size) * weights;
  const bool shares = step_.criterion().on_device() && seconds > 0.0;
  const auto together = static_cast<std::int64_t>(shares ? std::clamp(kWork / std::max(work, 1.0), 1.0, kMost) : 1.0);
  std::int64_t b = range.first, row = range.first_row(b);
  while (b < range.last) {
    const StepRates& own = rates.size() == 1 ? rates[0] : rates[static_cast<std::size_t>(b - range.first)];
    const std::int64_t begin = std::exchange(row, range.first_row(b + 1));
    const LossSums batch = train(here, range.order, begin, row - begin, own);
    sums.add(batch, data.weight_unit);
    if (since != nullptr) since->add(batch, data.weight_unit);
    ++b;
    if (b < range.last && (b - range.first) % together != 0) continue;
    poll_interrupt();
    if (std::chrono::duration<double>(Clock::now() - start).count() >= seconds) break;
  }
  return b;
}

LossSums Trainer::evaluate(const Dataset& data, const BatchRange& range, void* outputs) {
  LossSums total;
  const Dataset& here = resident(data, network());
  LossSums sums;
  if (measurement_ != nullptr && measurement_->run(here, range, {}, {&sums, 1}, outputs)) {
    total.add(sums, data.weight_unit);
    return total;
  }
  for (std::int64_t first = 0; first < range.count; first += range.batch_size) {
    poll_interrupt();
    const std::int64_t rows = std::min(range.batch_size, range.count - first);
    const Batch batch = reader_.read(network(), here, range.order, first, rows);
    const View logits = network().forward(batch.x, false);
    sums = step_.criterion().apply(batch, logits, {});
    total.add(sums, data.weight_unit);
    if (outputs != nullptr) {
      char* to = static_cast<char*>(outputs) + static_cast<std::size_t>(first * logits.cols) * size_of(logits.dtype);
      network().backend().copy(to, logits.data, logits.bytes(), CopyKind::to_host);
    }
  }
  return total;
}

void Trainer::set_steps(std::int64_t steps) {
  check(steps >= 0, "[Trainer] steps: got ", steps, "; expected a number >= 0");
  steps_ = steps;
  network().set_steps(steps);
}

void Trainer::renumber(std::int64_t steps) {
  const std::int64_t before = steps_;
  set_steps(steps);
  if (average() != nullptr) average()->renumber(before, steps);
}

void Trainer::reset() {
  step_.optimizer().zero_states();
  renumber(0);
}

void Trainer::begin_average(double decay, std::int64_t every, std::int64_t updates) {
  step_.optimizer().set_average(std::make_shared<WeightAverage>(network(), decay, every, steps_, updates));
}

void Trainer::end_average() { step_.optimizer().set_average(nullptr); }

}  // namespace gdcore
