// The bound dataset: validated data and the arrays that keep it alive.
#pragma once

#include "gdcore/batch.h"
#include "network.h"

namespace gdcore::bindings {

struct PyDataset {
  Dataset data;
  HeldSource x, y, weights;
  std::shared_ptr<Network> network;  // that it was checked against, with this loss
  AnyLoss loss;
};

/// A dataset's shapes and labels were checked against one network and one kind of loss; throws unless these are they.
void check_match(const PyDataset& dataset, const Network& network, const AnyLoss& loss);

}  // namespace gdcore::bindings
