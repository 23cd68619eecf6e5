// The bound network: the core's network, its layer objects, and the input that backward still reads.
#pragma once

#include "specs.h"

namespace gdcore::bindings {

struct PyNetwork {
  std::shared_ptr<Network> core;
  py::tuple layers;
  py::object device;
  py::object input;  // of the last training forward pass: the given array, or
  Buffer fetched;    // its copy in the model's dtype, on the model's device
  Buffer spare;      // for the next input, and for dx
};

/// Returns the entries of an arena as named arrays over its memory, which keep `owner` alive.
py::dict named_views(Network& network, const py::object& owner, const Arena& arena, const Buffer& buffer);

}  // namespace gdcore::bindings
