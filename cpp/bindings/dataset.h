// The bound dataset: validated data and the arrays that keep it alive.
#pragma once

#include "gdcore/batch.h"
#include "network.h"

namespace gdcore::bindings {

struct PyDataset {
  Dataset data;
  OwnedSource x, y, weights;
  std::shared_ptr<Network> network;  // checked against this network and this loss
  AnyLoss loss;
};

/// Throws unless the dataset was checked against this network and a loss with the same kind of targets.
void check_match(const PyDataset& dataset, const Network& network, const AnyLoss& loss);

}  // namespace gdcore::bindings
