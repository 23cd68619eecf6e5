#include "gdcore/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

void check_rate(double lr, DType dtype) {
  check(lr >= 0.0 && std::isfinite(rounded(lr, dtype)), "[Trainer] lr is ", lr, "; expected a finite number >= 0 that ",
        name_of(dtype), ", the model's dtype, can hold");
}

}  // namespace

Trainer::Trainer(std::shared_ptr<Network> network, Loss loss, Optimizer optimizer, std::int64_t window_bytes)
    : network_(std::move(network)), criterion_(std::move(loss), *network_), optimizer_(std::move(optimizer)) {
  check_optimizer(optimizer_, network_->dtype());
  decay_ = per_layer(optimizer_.weight_decay, 0.0, "weight_decay");
  factor_ = per_layer(optimizer_.lr_factors, 1.0, "lr_factors");
  Backend& backend = network_->backend();
  for (int i = 0; i < state_count(optimizer_.rule); ++i) {
    states_[i] = Buffer(backend, network_->parameters().layout.bytes());
  }
  if (backend.recorder() != nullptr) device_steps_ = std::make_unique<DeviceSteps>(*network_, window_bytes);
  backend.wait();
}

/// One number for each parameter, from one for all, one for each layer with weights, or by name.
std::vector<double> Trainer::per_layer(const PerLayer& given, double missing, const char* argument) const {
  const auto& entries = network_->parameters().layout.entries();
  std::vector<double> values(entries.size(), missing);
  const bool is_decay = missing == 0.0;
  const auto takes = [&](const Entry& entry) { return !is_decay || entry.is_weight || optimizer_.decay_biases; };
  if (const double* one = std::get_if<double>(&given)) {
    for (std::size_t i = 0; i < entries.size(); ++i) values[i] = takes(entries[i]) ? *one : missing;
  } else if (const auto* list = std::get_if<std::vector<double>>(&given)) {
    std::vector<int> layers;  // those with weights
    for (const Entry& entry : entries) {
      if (entry.is_weight) layers.push_back(entry.layer);
    }
    check(list->size() == layers.size(), "[Optimizer] ", argument, " has ", list->size(), " numbers; the model has ",
          layers.size(), " layers with weights");
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto at = std::ranges::find(layers, entries[i].layer);
      if (at != layers.end() && takes(entries[i])) values[i] = (*list)[static_cast<std::size_t>(at - layers.begin())];
    }
  } else if (const auto* named = std::get_if<std::vector<std::pair<std::string, double>>>(&given)) {
    for (const auto& [name, value] : *named) {
      bool found = false;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const bool exact = entries[i].name == name, below = entries[i].name.starts_with(name + ".");
        found = found || exact || below;
        if (exact || (below && takes(entries[i]))) values[i] = value;
      }
      check(found, "[Optimizer] ", argument, " names \"", name,
            "\", which the model does not have; names look like \"layers.0\"");
    }
  }
  return values;
}

/// Segments of the arena with one rate and one decay each; a single segment where nothing differs.
void Trainer::make_segments() {
  const auto& entries = network_->parameters().layout.entries();
  bool same = segments_frozen_.size() == entries.size();
  for (std::size_t i = 0; same && i < entries.size(); ++i) same = segments_frozen_[i] == entries[i].frozen;
  if (same) return;
  segments_.clear();
  segments_frozen_.clear();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    segments_frozen_.push_back(entries[i].frozen);
    if (entries[i].frozen) continue;
    const std::int64_t end = i + 1 < entries.size() ? entries[i + 1].offset : network_->parameters().layout.size();
    const Segment next{entries[i].offset, end - entries[i].offset, factor_[i], decay_[i]};
    Segment* last = segments_.empty() ? nullptr : &segments_.back();
    if (last != nullptr && last->begin + last->count == next.begin && last->lr_factor == next.lr_factor &&
        last->weight_decay == next.weight_decay) {
      last->count += next.count;
    } else {
      segments_.push_back(next);
    }
  }
}

namespace {

/// Clears the saved forward pass on every exit, as the batch that it refers to is the caller's.
struct Pass {
  Network& network;
  ~Pass() {
    network.counters = nullptr;
    network.forget();
  }
};

}  // namespace

/// The batch's loss, and its gradient with respect to the outputs; throws where it is not finite.
LossSums Trainer::loss_of(const Batch& batch) {
  network_->step = static_cast<std::uint64_t>(steps_);
  const View logits = network_->forward(batch.x, true, false);
  const LossSums sums = criterion_.apply(batch, logits, network_->output_gradient());
  if (!std::isfinite(sums.loss)) [[unlikely]] {
    throw DivergenceError(
        join("[Trainer] the loss became ", sums.loss, " at step ", steps_, "; ", network_->diagnosis()));
  }
  return sums;
}

LossSums Trainer::train(const Batch& batch, double lr) {
  const Pass pass{*network_};
  const LossSums sums = loss_of(batch);
  network_->backward({});
  const NoInterrupt whole;
  update(lr);
  network_->commit();
  return sums;
}

/// The optimiser's pass without its rate and step number, which change at every step.
OptimizerPass Trainer::optimizer_pass() {
  Parameters& p = network_->parameters();
  make_segments();
  OptimizerPass pass{.rule = optimizer_.rule,
                     .parameters = p.layout.flat(p.values),
                     .gradients = p.layout.flat(p.gradients),
                     .states = {},
                     .segments = segments_,
                     .lr = 0.0,
                     .step = 0,
                     .clip_value = optimizer_.clip_value.value_or(std::numeric_limits<double>::infinity())};
  for (int i = 0; i < state_count(optimizer_.rule); ++i) pass.states[i] = p.layout.flat(states_[i]);
  return pass;
}

/// What the gradients are multiplied by so that their norm is not above clip_norm; throws where it is not finite.
double Trainer::clip_scale() const {
  if (!optimizer_.clip_norm) return 1.0;
  const Parameters& p = network_->parameters();
  const double norm = std::sqrt(network_->backend().sum_of_squares(p.layout.flat(p.gradients)));
  if (!std::isfinite(norm)) {
    throw DivergenceError(
        join("[Trainer] the norm of the gradient became ", norm, " at step ", steps_, "; ", network_->diagnosis()));
  }
  return norm > *optimizer_.clip_norm ? *optimizer_.clip_norm / norm : 1.0;
}

void Trainer::update(double lr) {
  check_rate(lr, network_->dtype());
  OptimizerPass pass = optimizer_pass();
  pass.grad_scale = clip_scale();
  pass.lr = lr;
  pass.step = steps_ + 1;
  network_->backend().optimizer_step(pass);
  set_steps(steps_ + 1);
}

/// The same with rate and step number read from the counters in device memory.
OptimizerPass Trainer::recorded_pass(const StepInputs& inputs) {
  OptimizerPass pass = optimizer_pass();
  pass.counters = inputs.counters;
  pass.rates = inputs.rates;
  if (optimizer_.clip_norm) pass.clip_norm = *optimizer_.clip_norm;
  return pass;
}

bool Trainer::record_whole(const NextBatch& batch, const StepInputs& inputs) {
  const std::optional<NarrowNetwork> network = network_->narrow();
  if (!network) return false;
  const OptimizerPass pass = recorded_pass(inputs);
  return network_->backend().recorder()->narrow_step({.network = *network,
                                                      .precision = network_->precision(),
                                                      .x = batch.data.x,
                                                      .y = batch.data.y,
                                                      .weights = batch.data.weights,
                                                      .labels = batch.data.labels,
                                                      .order = batch.order,
                                                      .rows = batch.rows,
                                                      .loss = criterion_.loss(),
                                                      .class_weights = criterion_.class_weights(),
                                                      .optimizer = pass,
                                                      .sums = criterion_.sums()});
}

/// Records one step, operation by operation, for the device to repeat.
void Trainer::record_step(const Batch& batch, const StepInputs& inputs) {
  const Pass pass{*network_};
  network_->counters = inputs.counters;
  const View logits = network_->forward(batch.x, true, false);
  const LossSums* sums = criterion_.record(batch, logits, network_->output_gradient(), inputs.counters);
  network_->backward({});
  network_->backend().optimizer_step(recorded_pass(inputs));
  network_->commit();
  network_->backend().recorder()->advance({inputs.counters, sums, batch.x.rows});
}

/// The same as run() where the device makes the steps by itself.
std::int64_t Trainer::run_on_device(const Dataset& data, const BatchRange& range, std::span<const double> lrs,
                                    double seconds, LossSums& sums) {
  for (const double lr : lrs) check_rate(lr, network_->dtype());
  const double unit = data.weight_unit;
  StepCounters counters{
      .step = steps_, .batch = 0, .first = 0, .sums = {sums.loss / unit, sums.weight / unit}, .stop = Stop::none};
  const auto keep = [&] {
    sums = {counters.sums.loss * unit, counters.sums.weight * unit};
    set_steps(counters.step);
  };
  std::int64_t next = range.first;
  try {
    const auto whole = [&](const NextBatch& batch, const StepInputs& inputs) { return record_whole(batch, inputs); };
    const auto fetched = [&](const Batch& batch, const StepInputs& inputs) { record_step(batch, inputs); };
    next = device_steps_->run(data, range, lrs, seconds, counters, {whole, fetched});
  } catch (...) {
    keep();
    throw;
  }
  keep();
  if (counters.stop == Stop::none) return next;
  // The step that was refused, once more by the host as far as it got, to say what is wrong with it.
  const Pass pass{*network_};
  loss_of(reader_.read(*network_, data, range.order, range.first_row(next), range.rows_of(next)));
  network_->backward({});
  clip_scale();
  throw DivergenceError(join("[Trainer] the loss or the norm of the gradient became NaN or infinite at step ", steps_,
                             ". The parameters are those before this step"));
}

LossSums Trainer::step(const Dataset& batch, double lr) {
  if (device_steps_ != nullptr) {
    LossSums sums;
    run_on_device(batch, {{}, batch.x.rows, batch.x.rows, 0, 1}, {&lr, 1}, INFINITY, sums);
    return sums;
  }
  return train(reader_.read(*network_, batch, {}, 0, batch.x.rows), lr);
}

void Trainer::optimizer_step(double lr) {
  check<std::runtime_error>(network_->has_gradients(),
                            "[optimizer_step] there are no gradients yet; call forward(x) and backward(dout) first");
  const NoInterrupt whole;
  update(lr);
  network_->backend().wait();
}

std::int64_t Trainer::run(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                          LossSums& sums) {
  if (device_steps_ != nullptr) return run_on_device(resident(data, *network_), range, lrs, seconds, sums);
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::int64_t b = range.first;
  while (b < range.last) {
    const double lr = lrs.size() == 1 ? lrs[0] : lrs[static_cast<std::size_t>(b - range.first)];
    const Batch rows = reader_.read(*network_, data, range.order, range.first_row(b), range.rows_of(b));
    const LossSums batch = train(rows, lr);
    sums.loss += batch.loss * data.weight_unit;
    sums.weight += batch.weight * data.weight_unit;
    ++b;
    poll_interrupt();
    if (std::chrono::duration<double>(Clock::now() - start).count() >= seconds) break;
  }
  return b;
}

LossSums Trainer::evaluate(const Dataset& data, const BatchRange& range, void* outputs) {
  LossSums total;
  const std::int64_t out = network_->out_features();
  const Dataset& here = resident(data, *network_);
  for (std::int64_t first = 0; first < range.count; first += range.batch_size) {
    poll_interrupt();
    const std::int64_t rows = std::min(range.batch_size, range.count - first);
    const Batch batch = reader_.read(*network_, here, range.order, first, rows);
    const View logits = network_->forward(batch.x, false, false);
    const LossSums sums = criterion_.apply(batch, logits, {});
    total.loss += sums.loss * data.weight_unit;
    total.weight += sums.weight * data.weight_unit;
    if (outputs != nullptr) {
      char* to = static_cast<char*>(outputs) + static_cast<std::size_t>(first * out) * size_of(logits.dtype);
      network_->backend().copy(to, logits.data, logits.bytes(), CopyKind::to_host);
    }
  }
  return total;
}

void Trainer::set_steps(std::int64_t steps) {
  check(steps >= 0, "[Trainer] steps is ", steps, "; expected a number >= 0");
  steps_ = steps;
  network_->step = static_cast<std::uint64_t>(steps);
}

std::vector<View> Trainer::states() const {
  std::vector<View> views;
  for (int i = 0; i < state_count(optimizer_.rule); ++i) {
    views.push_back(network_->parameters().layout.flat(states_[i]));
  }
  return views;
}

void Trainer::reset() {
  for (const View& state : states()) {
    const std::vector<char> zeros(state.bytes());
    network_->backend().copy(state.data, zeros.data(), zeros.size(), CopyKind::to_device);
  }
  network_->backend().wait();
  set_steps(0);
}

}  // namespace gdcore
