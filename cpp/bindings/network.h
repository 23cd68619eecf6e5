// The bound network: the core's, the layer objects it was made from, and the input that backward still needs.
#pragma once

#include "specs.h"

namespace gdcore::bindings {

struct PyNetwork {
  std::shared_ptr<Network> core;
  py::tuple layers;
  py::object device;
  py::object input;  // of the last forward pass in training
};

}  // namespace gdcore::bindings
