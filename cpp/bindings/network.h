// The bound network: the core's, the layer objects it was made from, and the input that backward still needs.
#pragma once

#include "specs.h"

namespace gdcore::bindings {

struct PyNetwork {
  std::shared_ptr<Network> core;
  py::tuple layers;
  py::object device;
  py::object input;  // of the last forward pass in training: the array given, or
  Buffer fetched;    // a copy of it in the model's dtype where it computes
  Buffer spare;      // for the next input, and for dx
};

}  // namespace gdcore::bindings
