// Batches of a dataset as a step needs them, and a loss with what a device needs of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gdcore/data.h"
#include "gdcore/host_loss.h"
#include "gdcore/network.h"

namespace gdcore {

class ResidentData;

/// Inputs, targets and sample weights as they came; y and weights may be absent. Checked when it is made.
struct Dataset {
  Source x, y, weights;
  bool labels = false;       // y holds class numbers
  double weight_unit = 1.0;  // a power of two: what a weight of 1 among `weights` stands for
  std::shared_ptr<const std::vector<double>> scaled_weights = nullptr;  // where `weights` lies if that is not 1
  mutable std::shared_ptr<ResidentData> on_device = nullptr;            // its copy on a device: see resident.h
};

/// Throws where hyperparameters are out of range, or do not fit a model with `outputs` outputs (0: not known yet).
void check_loss(const AnyLoss& loss, std::int64_t outputs);
/// Throws where one of `count` listed rows is none of the dataset; null is no list.
void check_rows(const std::int64_t* rows, std::int64_t count, std::int64_t dataset_rows);
/// Throws where a label is not one of the model's outputs.
void check_labels(const Source& labels, std::int64_t outputs);
/// Scales sample weights that a dtype might round to 0 or to infinity, by a power of two, which changes no result.
void scale_weights(Dataset& data);
/// Throws where the data does not fit network and loss; with `finite`, also where a value is NaN or infinite.
void check_data(const Dataset& data, const Network& network, const AnyLoss& loss, bool finite);
/// Throws unless Σ s_n W_n over some rows (null: all) is a positive finite number: there is no mean of nothing. No W_n
/// may be so small that the dtype takes it for zero.
void check_weights(const Dataset& data, const AnyLoss& loss, std::int64_t outputs, DType dtype,
                   const std::int64_t* rows, std::int64_t count);
/// The class weights or positive weights of a loss, one for each output, in a device's memory; empty where it has none.
/// Throws for one that is not 0, but zero or nearly so in the dtype.
Buffer loss_weights(const AnyLoss& loss, std::int64_t outputs, Backend& backend, DType dtype);

/// Takes rows out of datasets: as views where they already are what is needed, else gathered into memory of its own,
/// valid until the next call.
class BatchReader {
 public:
  /// The rows order(first), ..., order(first + rows - 1) of the dataset.
  Batch read(const Network& network, const Dataset& data, const RowOrder& order, std::int64_t first, std::int64_t rows);

 private:
  Buffer x_, y_, weights_;
  std::vector<std::int64_t> rows_;
};

/// A loss for the outputs of one network.
class Criterion {
 public:
  Criterion(AnyLoss loss, const Network& network);

  const AnyLoss& loss() const { return loss_; }
  /// Whether the device computes the loss. Otherwise the host does, and steps cannot be recorded.
  bool on_device() const { return std::holds_alternative<Loss>(loss_); }
  ConstView class_weights() const;
  LossSums* sums() const { return static_cast<LossSums*>(sums_.data()); }  // on the device
  /// The batch's sums; `grad` (null: skipped) receives the gradient of their quotient. Where counters are given the
  /// host does not wait: what it gets is empty, and the sums stay on the device.
  LossSums apply(const Batch& batch, ConstView logits, View grad, StepCounters* counters = nullptr);
  /// The derivative of that gradient where the logits move along `tangent`; for the batch of the last apply().
  void curvature(const Batch& batch, ConstView logits, ConstView tangent, View grad);

 private:
  LossPass pass(const Batch& batch, ConstView logits, View grad) const;

  AnyLoss loss_;
  Backend& backend_;
  DType dtype_;
  std::int64_t outputs_;
  Buffer class_weights_, sums_;  // one weight for each output, or empty
  HostLoss host_;                // for a loss of the caller's own
};

}  // namespace gdcore
