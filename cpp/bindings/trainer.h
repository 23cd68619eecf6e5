// The bound trainer, and the rows and batches of a call.
#pragma once

#include <optional>

#include "dataset.h"
#include "gdcore/trainer.h"

namespace gdcore::bindings {

struct PyTrainer {
  Trainer core;
  py::object network;
  std::optional<double> lr;  // if it is constant
};

using Rows = std::optional<py::array_t<std::int64_t, py::array::c_style>>;

/// Some rows of a dataset, or all, in batches; `first` and `last` are 0.
BatchRange range_of(const PyDataset& dataset, const Rows& rows, std::int64_t batch_size);

}  // namespace gdcore::bindings
