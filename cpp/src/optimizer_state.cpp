#include "gdcore/optimizer_state.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "gdcore/check.h"

namespace gdcore {

namespace {

/// The number given to an entry by the name that means the least beside it: a parameter alone overrules its layer.
std::pair<Match, double> closest_match(const std::vector<std::pair<std::string, double>>& named, const Entry& entry,
                                       const char* argument) {
  Match closest = Match::none;
  const std::pair<std::string, double>* chosen = nullptr;
  for (const auto& given : named) {
    const Match found = match(given.first, entry);
    if (found == Match::none || found < closest) continue;
    check(found != closest, "[Optimizer] ", argument, ": got \"", chosen == nullptr ? "" : chosen->first, "\" and \"",
          given.first, "\", which name the same parameters; expected one of them");
    closest = found;
    chosen = &given;
  }
  return {closest, chosen == nullptr ? 0.0 : chosen->second};
}

}  // namespace

OptimizerState::OptimizerState(Network& network, Optimizer optimizer)
    : network_(network), optimizer_(std::move(optimizer)) {
  check_optimizer(optimizer_, network_.dtype());
  decay_ = per_parameter(optimizer_.weight_decay, 0.0, "weight_decay");
  factor_ = per_parameter(optimizer_.lr_factors, 1.0, "lr_factors");
  for (const double decay : decay_) most_decay_ = std::max(most_decay_, decay);
  for (const Operation& operation : std::as_const(network).executor().plan().operations) {
    const auto* dropout = std::get_if<DropoutComputation>(&operation.computation);
    if (dropout != nullptr) most_dropout_ = std::max(most_dropout_, dropout->p);
  }
  for (int i = 0; i < state_count(optimizer_.rule); ++i) {
    states_[i] = Buffer(network_.backend(), network_.parameters().layout.bytes());
  }
}

/// One value per parameter, from one for all, one per layer with weights, or by name.
std::vector<double> OptimizerState::per_parameter(const PerLayer& given, double missing, const char* argument) const {
  const auto& entries = network_.parameters().layout.entries();
  std::vector<double> values(entries.size(), missing);
  const bool is_decay = missing == 0.0;
  const auto takes = [&](const Entry& entry) { return !is_decay || entry.is_weight || optimizer_.decay_biases; };
  if (const double* one = std::get_if<double>(&given)) {
    for (std::size_t i = 0; i < entries.size(); ++i) values[i] = takes(entries[i]) ? *one : missing;
  } else if (const auto* list = std::get_if<std::vector<double>>(&given)) {
    std::vector<int> layers;  // those with weights
    for (const Entry& entry : entries) {
      if (entry.is_weight && (layers.empty() || layers.back() != entry.layer)) layers.push_back(entry.layer);
    }
    check(list->size() == layers.size(), "[Optimizer] ", argument, ": got ", list->size(), " numbers; expected ",
          layers.size(), ", one for each layer with weights");
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto at = std::ranges::find(layers, entries[i].layer);
      if (at != layers.end() && takes(entries[i])) values[i] = (*list)[static_cast<std::size_t>(at - layers.begin())];
    }
  } else if (const auto* named = std::get_if<std::vector<std::pair<std::string, double>>>(&given)) {
    for (const auto& [name, value] : *named) {
      check(std::ranges::any_of(entries, [&](const Entry& entry) { return match(name, entry) != Match::none; }),
            "[Optimizer] ", argument, ": got \"", name,
            "\", which names no layer or parameter; expected a name such as \"layers.0\"");
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto [closest, value] = closest_match(*named, entries[i], argument);
      if (closest == Match::entry || (closest != Match::none && takes(entries[i]))) values[i] = value;
    }
  }
  return values;
}

/// Builds the segments of the arena with one rate and one decay each; a single one where all are equal.
void OptimizerState::make_segments() {
  const Arena& layout = network_.parameters().layout;
  if (segments_for_ == layout.freezes()) return;
  if (average_ != nullptr) average_->check_trained();
  segments_for_ = layout.freezes();
  const auto& entries = layout.entries();
  segments_.clear();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].frozen) continue;
    const std::int64_t end = i + 1 < entries.size() ? entries[i + 1].offset : layout.size();
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

void OptimizerState::check_rates(const StepRates& rates) const {
  const DType dtype = network_.dtype();
  check(rates.lr >= 0.0 && std::isfinite(rounded(rates.lr, dtype)), "[Trainer] lr: got ", rates.lr,
        "; expected a finite number >= 0 that ", name_of(dtype), ", the model's dtype, can represent");
  check(rates.decay >= 0.0 && std::isfinite(rates.decay) && std::isfinite(rounded(rates.decay * most_decay_, dtype)),
        "[Trainer] weight_decay: got ", most_decay_, " times the factor ", rates.decay,
        "; expected a finite number >= 0 that ", name_of(dtype), ", the model's dtype, can represent");
  check(rates.dropout >= 0.0 && rates.dropout * most_dropout_ < 1.0 && std::isfinite(rates.dropout),
        "[Trainer] dropout_schedule: got the factor ", rates.dropout, " of a layer's p = ", most_dropout_,
        "; expected a factor >= 0 with a product below 1");
  check(rates.momentum < 0.0 || rounded(rates.momentum, dtype) < 1.0, "[Trainer] momentum: got ", rates.momentum,
        "; expected a number from 0 to below 1 in ", name_of(dtype), ", the model's dtype");
  check<std::runtime_error>(average_ == nullptr || !average_->swapped(),
                            "[Trainer] the model has its averaged weights; expected a step after they are exchanged "
                            "for the weights in training (WeightAverage.on_epoch_begin)");
}

/// The factor on the gradients that limits their norm to clip_norm.
double OptimizerState::clip_scale(std::int64_t step) const {
  if (!optimizer_.clip_norm) return 1.0;
  const Parameters& p = network_.parameters();
  const double norm = std::sqrt(network_.backend().sum_of_squares(p.layout.flat(p.gradients)));
  if (!std::isfinite(norm)) {
    throw DivergenceError(
        join("[Trainer] the norm of the gradient became ", norm, " at step ", step, "; ", diagnosis(network_)));
  }
  return norm > *optimizer_.clip_norm ? *optimizer_.clip_norm / norm : 1.0;
}

OptimizerPass OptimizerState::pass(const StepContext& context) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const Parameters& p = network_.parameters();
  make_segments();
  OptimizerPass pass{.rule = optimizer_.rule,
                     .parameters = p.layout.flat(p.values),
                     .gradients = p.layout.flat(p.gradients),
                     .states = {},
                     .segments = segments_,
                     .rates = context.rates,
                     .step = context.step + 1,
                     .clip_value = optimizer_.clip_value.value_or(kNone),
                     .counters = context.counters,
                     .schedule = context.schedule};
  for (int i = 0; i < state_count(optimizer_.rule); ++i) pass.states[i] = p.layout.flat(states_[i]);
  if (average_ != nullptr) pass.average = p.layout.flat(average_->parameters());
  if (context.recorded()) {
    pass.clip_norm = optimizer_.clip_norm.value_or(kNone);
  } else {
    pass.grad_scale = clip_scale(context.step);
  }
  return pass;
}

void OptimizerState::update(const StepContext& context) {
  Backend& backend = network_.backend();
  const Profiled scope(backend.profile(), [&] {
    // w and g are read, w is written, states and the average both
    const double arrays = 3.0 + 2.0 * (state_count(optimizer_.rule) + (average_ != nullptr ? 1 : 0));
    return Profiled::Operation{"optimiser",
                               {.bytes = arrays * static_cast<double>(network_.parameters().layout.bytes())}};
  });
  backend.optimizer_step(pass(context));
}

void OptimizerState::average_states(const StepContext& context) {
  const Parameters& p = std::as_const(network_).parameters();
  if (average_ == nullptr || p.state_layout.size() == 0) return;
  if (!context.recorded() && context.rates.average == 0.0) return;
  network_.backend().average({p.state_layout.flat(average_->states()), p.state_layout.flat(p.states),
                              context.rates.average, context.counters, context.schedule});
}

void OptimizerState::set_average(std::shared_ptr<WeightAverage> average) {
  average_ = std::move(average);
  ++version_;
}

std::vector<View> OptimizerState::states() const {
  std::vector<View> views;
  for (int i = 0; i < state_count(optimizer_.rule); ++i) {
    views.push_back(network_.parameters().layout.flat(states_[i]));
  }
  return views;
}

void OptimizerState::check_states(std::int64_t steps) const {
  const auto& entries = network_.parameters().layout.entries();
  for (const View& state : states()) {
    const std::int64_t at =
        network_.backend().first_nonfinite({state.data, source_type(state.dtype), 1, state.size(), state.size()});
    if (at < 0) continue;
    const auto next = std::ranges::upper_bound(entries, at, {}, &Entry::offset);
    throw DivergenceError(
        join("[Trainer] the optimiser's state of ", std::prev(next)->name, " is no longer finite after step ", steps,
             ": its gradients, or their squares, are too large for ", name_of(network_.dtype()),
             ", and such weights no longer move; scale inputs and targets, or use clip_norm or clip_value"));
  }
}

std::vector<EntryRates> OptimizerState::entry_rates() const {
  std::vector<EntryRates> rates;
  for (std::size_t i = 0; i < factor_.size(); ++i) rates.push_back({factor_[i], decay_[i]});
  return rates;
}

void OptimizerState::zero_states() {
  for (const View& state : states()) {
    const std::vector<char> zeros(state.bytes());
    network_.backend().copy(state.data, zeros.data(), zeros.size(), CopyKind::to_device);
  }
  network_.backend().wait();
}

}  // namespace gdcore
