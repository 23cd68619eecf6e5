#include "gdcore/trainer_stack.h"

#include <algorithm>
#include <cmath>

#include "gdcore/check.h"

namespace gdcore {

namespace {

/// Whether two arenas have the same arrays, of which the same are trained.
bool same_layout(const Arena& a, const Arena& b) {
  const auto same = [](const Entry& x, const Entry& y) {
    return x.rows == y.rows && x.cols == y.cols && x.offset == y.offset && x.frozen == y.frozen;
  };
  return a.dtype() == b.dtype() && std::ranges::equal(a.entries(), b.entries(), same);
}

bool same_operation(const Operation& a, const Operation& b) {
  return a.input == b.input && a.skip == b.skip && a.in == b.in && a.out == b.out && a.activation == b.activation &&
         a.computation == b.computation && !std::holds_alternative<OtherComputation>(a.computation);
}

std::vector<TrainingStep*> steps_of(const std::vector<Trainer*>& trainers) {
  std::vector<TrainingStep*> steps;
  for (Trainer* trainer : trainers) steps.push_back(&trainer->training_step());
  return steps;
}

}  // namespace

bool TrainerStack::alike(Trainer& a, Trainer& b) {
  const Loss *loss = std::get_if<Loss>(&a.loss()), *other_loss = std::get_if<Loss>(&b.loss());
  const Optimizer &rule = a.optimizer(), &other_rule = b.optimizer();
  Network &x = a.network(), &y = b.network();
  const Parameters &p = std::as_const(x).parameters(), &q = std::as_const(y).parameters();
  return &a != &b && &x != &y && &x.backend() == &y.backend() && x.backend().recorder() != nullptr && loss != nullptr &&
         other_loss != nullptr && *loss == *other_loss && rule.rule == other_rule.rule &&
         rule.clip_norm == other_rule.clip_norm && rule.clip_value == other_rule.clip_value &&
         x.precision() == y.precision() && same_layout(p.layout, q.layout) &&
         same_layout(p.state_layout, q.state_layout) && a.average() == nullptr && b.average() == nullptr &&
         std::ranges::equal(x.executor().plan().operations, y.executor().plan().operations, same_operation);
}

TrainerStack::TrainerStack(std::vector<Trainer*> trainers, std::int64_t at_once)
    : trainers_(std::move(trainers)),
      memory_(steps_of(trainers_), at_once),
      steps_(trainers_[0]->training_step(), kWindowBytes, &memory_),
      measurement_(trainers_[0]->training_step(), &memory_) {
  for (const Trainer* trainer : trainers_) {
    StepCounters counters;
    counters.step = trainer->steps();
    counters_.push_back(counters);
  }
}

bool TrainerStack::trains(const Dataset& data, const BatchRange& range) {
  const Dataset& here = resident(data, trainers_[0]->network());
  if (here.x.device == Device::cpu || range.first >= range.last) return false;
  return steps_.fuses(here, {}, range.rows_of(range.first)) && steps_.fuses(here, {}, range.rows_of(range.last - 1));
}

bool TrainerStack::measures(const Dataset& data, const BatchRange& range) {
  return measurement_.fuses(resident(data, trainers_[0]->network()), range);
}

std::vector<StepCounters> TrainerStack::counters_of(std::span<const std::uint8_t> active) const {
  std::vector<StepCounters> counters = counters_;
  for (std::size_t i = 0; i < counters.size(); ++i) counters[i].stop = active[i] != 0 ? Stop::none : Stop::finished;
  return counters;
}

void TrainerStack::run(const Dataset& data, const BatchRange& range, std::span<const StepRates> rates,
                       std::span<const std::uint8_t> active, std::span<LossSums> sums) {
  const std::size_t of_network = rates.size() / trainers_.size();
  for (std::size_t i = 0; i < rates.size(); ++i) {
    trainers_[i / of_network]->training_step().optimizer().check_rates(rates[i]);
  }
  std::vector<StepCounters> counters = counters_of(active);
  const auto keep = [&] {
    for (std::size_t i = 0; i < counters.size(); ++i) {
      sums[i] = {counters[i].sums.loss * data.weight_unit, counters[i].sums.weight * data.weight_unit};
      counters_[i].step = counters[i].step;
    }
  };
  try {
    steps_.run(resident(data, trainers_[0]->network()), range, rates, INFINITY, counters);
  } catch (...) {
    keep();
    throw;
  }
  keep();
}

void TrainerStack::evaluate(const Dataset& data, const BatchRange& range, std::span<const std::uint8_t> active,
                            std::span<LossSums> sums, void* outputs) {
  const bool done =
      measurement_.run(resident(data, trainers_[0]->network()), range, counters_of(active), sums, outputs);
  check<std::logic_error>(done, "[Trainer] this stack is not measured in one pass");
  for (LossSums& each : sums) each = {each.loss * data.weight_unit, each.weight * data.weight_unit};
}

std::vector<std::int64_t> TrainerStack::steps() const {
  std::vector<std::int64_t> steps;
  for (const StepCounters& each : counters_) steps.push_back(each.step);
  return steps;
}

void TrainerStack::give_back(std::int64_t network, bool kept) {
  Trainer& trainer = *trainers_[static_cast<std::size_t>(network)];
  memory_.give_back(network, trainer.training_step(), kept);
  trainer.set_steps(counters_[static_cast<std::size_t>(network)].step);
}

}  // namespace gdcore
