// Curvature: the loss over a whole dataset as a function of the trained parameters, with exact first and second
// derivatives: gradients, and products of the Hessian with a vector by forward-over-reverse differentiation
// (Pearlmutter 1994). A Hessian-vector product costs eight matrix products per layer, a gradient three.
//
// The parameters form one vector of P values: those that are not frozen, array by array in arena order, without the
// gaps between arrays. The network's own parameters are only read. Frozen parameters, running averages and dropout
// masks keep the state that the network had at construction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/batch.h"

namespace gdcore {

class Curvature {
 public:
  /// `training`: batch norm uses the dataset's own mean and spread, and dropout is active, as in a step on one batch;
  /// otherwise both are as in prediction. Where rows are independent they are computed in batches.
  Curvature(std::shared_ptr<Network> network, AnyLoss loss, const Dataset& data, bool training);

  Curvature(const Curvature&) = delete;
  Curvature& operator=(const Curvature&) = delete;

  std::int64_t parameters() const { return count_; }
  std::int64_t rows() const { return data_.x.rows; }
  std::int64_t width(std::size_t layer) const;

  /// Writes the network's current parameters to `out` (host, P values).
  void point(View out) const;
  /// Returns the mean loss at the point `at` (host, P values), or at the network's parameters if `at` is null.
  double loss(ConstView at);
  /// The same; also writes the gradient to `out` (host, P values).
  double gradient(ConstView at, View out);
  /// Writes the Hessian times `v` to `out` (host, P values each).
  void product(ConstView at, ConstView v, View out);
  /// Writes each layer's outputs for the rows of the dataset to `to` (one per layer: host, rows x its outputs); null
  /// views are skipped.
  void outputs(std::span<const View> to);

 private:
  std::size_t operation_of(std::size_t layer) const;
  void go_to(ConstView at);
  template <class Work>
  LossSums over_batches(const Work& work);
  template <class Work>
  double average(const Buffer& part, View out, const Work& work);
  View forward(const Batch& batch);
  void scatter(ConstView from, const Buffer& to) const;
  void collect(const Buffer& from, View to) const;

  std::shared_ptr<Network> network_;
  Criterion criterion_;
  Dataset data_;
  bool training_;
  BatchReader reader_;
  std::int64_t count_ = 0, batch_rows_ = 0;
  Parameters point_, direction_;  // their gradients: see TangentCall
  Executor executor_;             // its plan absorbs no activations
  Buffer total_;
  StepContext context_;
};

}  // namespace gdcore
