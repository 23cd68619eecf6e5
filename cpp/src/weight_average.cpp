#include "gdcore/weight_average.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

WeightAverage::WeightAverage(Network& network, double decay, std::int64_t every, std::int64_t steps,
                             std::int64_t updates)
    : network_(network),
      decay_(decay),
      factor_(std::pow(decay, static_cast<double>(every))),
      every_(every),
      before_(steps / std::max<std::int64_t>(every, 1) - updates) {
  check(decay >= 0.0 && decay < 1.0, "[WeightAverage] decay: got ", decay, "; expected at least 0 and below 1");
  check(every >= 1 && updates >= 0, "[WeightAverage] every, updates: got ", every, " and ", updates,
        "; expected at least 1 and 0");
  settled_ = static_cast<std::int64_t>(std::min(std::ceil(-40.0 / std::log(factor_)), 0x1p62));
  const Parameters& own = std::as_const(network).parameters();
  Backend& backend = network.backend();
  parameters_ = Buffer(backend, own.layout.bytes());
  states_ = Buffer(backend, own.state_layout.bytes());
  spare_ = Buffer(backend, std::max(parameters_.bytes(), states_.bytes()));
  backend.copy(parameters_.data(), own.values.data(), parameters_.bytes(), CopyKind::within);
  backend.copy(states_.data(), own.states.data(), states_.bytes(), CopyKind::within);
  backend.wait();
  for (const Entry& entry : own.layout.entries()) frozen_.push_back(entry.frozen);
}

double WeightAverage::rate(std::int64_t steps) const {
  if ((steps + 1) % every_ != 0) return 0.0;
  const std::int64_t made = updates(steps + 1);
  const double rest = 1.0 - factor_;
  return made > settled_ ? rest : rest / (1.0 - std::pow(factor_, static_cast<double>(made)));
}

void WeightAverage::swap() {
  const NoInterrupt whole;
  Parameters& own = network_.parameters();
  Backend& backend = network_.backend();
  const auto exchange = [&](const Buffer& a, const Buffer& b) {
    backend.copy(spare_.data(), a.data(), a.bytes(), CopyKind::within);
    backend.copy(a.data(), b.data(), a.bytes(), CopyKind::within);
    backend.copy(b.data(), spare_.data(), a.bytes(), CopyKind::within);
  };
  exchange(own.values, parameters_);
  exchange(own.states, states_);
  backend.wait();
  swapped_ = !swapped_;
}

void WeightAverage::check_trained() const {
  const auto& entries = std::as_const(network_).parameters().layout.entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    check<std::runtime_error>(frozen_[i] || !entries[i].frozen, "[WeightAverage] ", entries[i].name,
                              ": frozen since the average began; expected parameters that are frozen before that");
  }
}

}  // namespace gdcore
