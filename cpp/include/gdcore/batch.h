// Datasets, their batches in the form a step needs, and a loss with its buffers on a device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gdcore/data.h"
#include "gdcore/host_loss.h"
#include "gdcore/network.h"

namespace gdcore {

class ResidentData;

/// Inputs, targets and sample weights as given; y and weights may be absent. Checked when created.
struct Dataset {
  Source x, y, weights;
  bool labels = false;       // y holds class numbers
  double weight_unit = 1.0;  // power of two: a sample weight is weight_unit times its value in `weights`
  std::shared_ptr<const std::vector<double>> scaled_weights = nullptr;  // memory of `weights` if weight_unit is not 1
  mutable std::shared_ptr<ResidentData> on_device = nullptr;            // the copy on a device: see resident.h
};

/// Throws where hyperparameters are out of range or do not fit a model with `outputs` outputs (0: not known yet).
void check_loss(const AnyLoss& loss, std::int64_t outputs);
/// Throws where one of `count` row indices is outside the dataset; null: no list.
void check_rows(const std::int64_t* rows, std::int64_t count, std::int64_t dataset_rows);
/// Throws where a label is not one of the model's outputs.
void check_labels(const Source& labels, std::int64_t outputs);
/// Scales sample weights that a dtype might round to 0 or to infinity by a power of two, which changes no result.
void scale_weights(Dataset& data);
/// Throws where the data does not fit the network and the loss; with `finite`, also where a value is NaN or infinite.
/// With `searched`, the caller has searched x and y for such values already.
void check_data(const Dataset& data, const Network& network, const AnyLoss& loss, bool finite, bool searched = false);
/// Throws unless Σ s_n W_n over some rows (null: all) is a positive finite number, as the mean divides by it. Also
/// throws where a W_n is so small that the dtype treats it as zero.
void check_weights(const Dataset& data, const AnyLoss& loss, std::int64_t outputs, DType dtype,
                   const std::int64_t* rows, std::int64_t count);
/// Throws where a row of weight 0 has a value that is NaN, or infinite in the dtype: its loss does not count, but its
/// gradients would be NaN. For data to train on that was not searched for such values.
void check_uncounted(const Dataset& data, const AnyLoss& loss, DType dtype);
/// The numbers of each output that a loss has, in a device's memory; empty where it has none: weights of classes or
/// positive weights, K numbers; weights of answers, K of yes and then K of no; K levels of quantiles and their
/// complements to 1. Throws for a weight that is not 0 but is zero or nearly so in the dtype, and for another argument
/// that the dtype cannot hold.
Buffer loss_weights(const AnyLoss& loss, std::int64_t outputs, Backend& backend, DType dtype);

/// Some rows of a dataset, in the network's dtype.
struct Batch {
  ConstView x, targets, weights;
  const std::int32_t* labels = nullptr;
};

/// Reads rows of datasets. Returns views where rows already lie there as needed; otherwise gathers the rows into its
/// own memory, valid until the next call.
class BatchReader {
 public:
  /// Returns the rows order(first), ..., order(first + rows - 1) of the dataset.
  Batch read(const Network& network, const Dataset& data, const RowOrder& order, std::int64_t first, std::int64_t rows);

 private:
  /// Returns the rows order(first), ... as a list, valid until the next call; the order is not plain. Those of the next
  /// batch follow, `next_` rows.
  const std::int64_t* index_of(const RowOrder& order, std::int64_t first, std::int64_t rows);

  Buffer x_, y_, weights_;
  std::vector<std::int64_t> rows_;
  std::vector<std::int64_t> positions_;  // positions_[i] is shuffle_(begin_ + i), for this batch and some after it
  Permutation shuffle_;
  std::int64_t begin_ = 0, next_ = 0;
};

/// A loss for the outputs of one network.
class Criterion {
 public:
  Criterion(AnyLoss loss, const Network& network);

  const AnyLoss& loss() const { return loss_; }
  /// Whether the device computes the loss. Otherwise the host computes it, and steps cannot be recorded.
  bool on_device() const { return std::holds_alternative<Loss>(loss_); }
  ConstView class_weights() const;
  LossSums* sums() const { return static_cast<LossSums*>(sums_.data()); }  // on the device
  /// Returns the batch's sums; `grad` (null: skipped) receives the gradient of their quotient. With counters, the host
  /// does not wait: the returned sums are empty, and the real ones stay on the device.
  LossSums apply(const Batch& batch, ConstView logits, View grad, StepCounters* counters = nullptr);
  /// Writes the derivative of that gradient where the logits move along `tangent`, for the batch of the last apply().
  void curvature(const Batch& batch, ConstView logits, ConstView tangent, View grad);

 private:
  LossPass pass(const Batch& batch, ConstView logits, View grad) const;

  AnyLoss loss_;
  Backend& backend_;
  DType dtype_;
  std::int64_t outputs_;
  Buffer class_weights_, sums_;  // class weights: see loss_weights
  HostLoss host_;                // for user-defined losses
};

}  // namespace gdcore
