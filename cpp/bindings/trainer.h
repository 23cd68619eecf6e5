// The bound trainer, and the rows and batches of a call.
#pragma once

#include <optional>
#include <utility>

#include "dataset.h"
#include "gdcore/trainer.h"

namespace gdcore::bindings {

struct PyTrainer {
  Trainer core;
  py::object network;
  std::optional<StepRates> rates;  // if none is a function of the step
  bool by_step;                    // whether weight decay or momentum are functions of the step
};

using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;
using SeedAndEpoch = std::pair<std::uint64_t, std::uint64_t>;
using Rows = std::optional<py::array_t<std::int64_t, py::array::c_style>>;

/// Some rows of a dataset, or all, in batches; `first` and `last` are 0.
BatchRange range_of(const PyDataset& dataset, const Rows& rows, std::int64_t batch_size);

/// Returns the first `count` rates of an array (n,) of learning rates, or (n, 5) of learning rates, factors of weight
/// decay and dropout, momenta (negative: the rule's own) and Adam's 1 - Π β₁. `by_step`: all five are needed.
std::vector<StepRates> to_rates(const Numbers& given, std::int64_t count, bool by_step);

/// Adds `run_epochs` to the bound trainer.
void bind_epochs(py::class_<PyTrainer>& cls);

}  // namespace gdcore::bindings
