// Curvature: the loss over a whole dataset as a function of the trained parameters, with exact first and second
// derivatives: gradients, and products of the Hessian with a vector by forward-over-reverse differentiation
// (Pearlmutter 1994). A product costs eight matrix products a layer where a gradient costs three.
//
// Parameters are here one vector of P numbers: those that are not frozen, array by array in the order of the arena,
// without the gaps between them. The network's own parameters are only read. Which ones are frozen, and their values,
// running averages and the masks of dropout are those of the network when the object was made.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/batch.h"

namespace gdcore {

class Curvature {
 public:
  /// `training`: batch norm takes the dataset's own mean and spread and dropout draws, as in a step on one batch; else
  /// both are as in prediction. Where rows do not depend on each other they are computed some at a time.
  Curvature(std::shared_ptr<Network> network, AnyLoss loss, const Dataset& data, bool training);

  Curvature(const Curvature&) = delete;
  Curvature& operator=(const Curvature&) = delete;

  std::int64_t parameters() const { return count_; }
  std::int64_t rows() const { return data_.x.rows; }
  std::int64_t width(std::size_t layer) const { return executor_.plan().operations[layer].out; }

  /// Where the network is, into `out` (host, P numbers).
  void point(View out) const;
  /// The mean loss at the point `at` (host, P numbers), or where the network is if that is null.
  double loss(ConstView at);
  /// The same, and its gradient into `out` (host, P numbers).
  double gradient(ConstView at, View out);
  /// The Hessian times `v` into `out` (host, P numbers each).
  void product(ConstView at, ConstView v, View out);
  /// What each layer gives for the rows of the dataset, into `to` (one for each layer: host, rows x its outputs); null
  /// ones are skipped.
  void outputs(std::span<const View> to);

 private:
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
  Parameters point_, direction_;  // with their gradients: see TangentCall
  Executor executor_;             // of a plan in which no layer absorbs another
  Buffer total_;
  StepContext context_;
};

}  // namespace gdcore
