#include "gdcore/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

Trainer::Trainer(std::shared_ptr<Network> network, Loss loss, Optimizer optimizer)
    : network_(std::move(network)), criterion_(std::move(loss), *network_), optimizer_(std::move(optimizer)) {
  check_optimizer(optimizer_);
  decay_ = per_layer(optimizer_.weight_decay, 0.0, "weight_decay");
  factor_ = per_layer(optimizer_.lr_factors, 1.0, "lr_factors");
  Backend& backend = network_->backend();
  for (int i = 0; i < state_count(optimizer_.rule); ++i) {
    states_[i] = Buffer(backend, network_->parameters().layout.bytes());
  }
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

/// Stretches of the arena that train alike: one for all of it where nothing differs.
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

LossSums Trainer::train(const Batch& batch, double lr) {
  struct Pass {  // however it ends, nobody may go back through it: the batch is not the network's to keep
    Network& network;
    ~Pass() { network.forget(); }
  } const pass{*network_};
  network_->step = static_cast<std::uint64_t>(steps_);
  const View logits = network_->forward(batch.x, true, false);
  const LossSums sums = criterion_.apply(batch, logits, network_->output_gradient());
  if (!std::isfinite(sums.loss)) [[unlikely]] {
    throw DivergenceError(join("[Trainer] the loss became ", sums.loss, " at step ", steps_, "; ",
                               network_->diagnosis(),
                               ". The parameters are those before this step; a smaller lr, "
                               "clip_norm or scaled inputs usually help"));
  }
  network_->backward({});
  const NoInterrupt whole;
  update(lr);
  network_->commit();
  return sums;
}

void Trainer::update(double lr) {
  check(lr >= 0.0 && std::isfinite(lr), "[Trainer] lr is ", lr, "; expected a finite number >= 0");
  Parameters& p = network_->parameters();
  make_segments();
  double scale = 1.0;
  if (optimizer_.clip_norm) {
    const double norm = std::sqrt(network_->backend().sum_of_squares(p.layout.flat(p.gradients)));
    if (!std::isfinite(norm)) {
      throw DivergenceError(join("[Trainer] the norm of the gradient became ", norm, " at step ", steps_, "; ",
                                 network_->diagnosis(), ". The parameters are those before this step"));
    }
    scale = norm > *optimizer_.clip_norm ? *optimizer_.clip_norm / norm : 1.0;
  }
  OptimizerPass pass{.rule = optimizer_.rule,
                     .parameters = p.layout.flat(p.values),
                     .gradients = p.layout.flat(p.gradients),
                     .states = {},
                     .segments = segments_,
                     .lr = lr,
                     .step = steps_ + 1,
                     .grad_scale = scale,
                     .clip_value = optimizer_.clip_value.value_or(std::numeric_limits<double>::infinity())};
  for (int i = 0; i < state_count(optimizer_.rule); ++i) pass.states[i] = p.layout.flat(states_[i]);
  network_->backend().optimizer_step(pass);
  set_steps(steps_ + 1);
}

LossSums Trainer::step(const Dataset& batch, double lr) {
  return train(reader_.read(*network_, batch, nullptr, 0, batch.x.rows), lr);
}

void Trainer::optimizer_step(double lr) {
  check<std::runtime_error>(network_->has_gradients(),
                            "[optimizer_step] there are no gradients yet; call forward(x) and backward(dout) first");
  const NoInterrupt whole;
  update(lr);
}

std::int64_t Trainer::run(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                          LossSums& sums) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::int64_t b = range.first;
  while (b < range.last) {
    const std::int64_t first = b * range.batch_size, rows = std::min(range.batch_size, range.count - first);
    const double lr = lrs.size() == 1 ? lrs[0] : lrs[static_cast<std::size_t>(b - range.first)];
    const LossSums batch = train(reader_.read(*network_, data, range.order, first, rows), lr);
    sums.loss += batch.loss;
    sums.weight += batch.weight;
    ++b;
    poll_interrupt();
    if (std::chrono::duration<double>(Clock::now() - start).count() >= seconds) break;
  }
  return b;
}

LossSums Trainer::evaluate(const Dataset& data, const BatchRange& range, void* outputs) {
  LossSums total;
  const std::int64_t out = network_->out_features();
  for (std::int64_t first = 0; first < range.count; first += range.batch_size) {
    poll_interrupt();
    const std::int64_t rows = std::min(range.batch_size, range.count - first);
    const Batch batch = reader_.read(*network_, data, range.order, first, rows);
    const View logits = network_->forward(batch.x, false, false);
    const LossSums sums = criterion_.apply(batch, logits, {});
    total.loss += sums.loss;
    total.weight += sums.weight;
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
  set_steps(0);
}

}  // namespace gdcore
