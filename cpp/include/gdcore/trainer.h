// Trainer: one step, one epoch, evaluation: the loops that must not go through Python.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gdcore/data.h"
#include "gdcore/network.h"

namespace gdcore {

/// Inputs, targets and sample weights as they came; y and weights may be absent. Checked when it is made.
struct Dataset {
  Source x, y, weights;
  bool labels = false;  // y holds class numbers
};

/// Batches [first, last) of `order` (null: as they lie), each of batch_size rows, the last one possibly shorter.
struct BatchRange {
  const std::int64_t* order = nullptr;
  std::int64_t count = 0, batch_size = 0, first = 0, last = 0;
};

/// Throws where hyperparameters are out of range, or do not fit a model with `outputs` outputs (0: not known yet).
void check_loss(const Loss& loss, std::int64_t outputs);
/// Throws where a label is not one of the model's outputs.
void check_labels(const Source& labels, std::int64_t outputs);
/// Throws where the data does not fit network and loss; with `finite`, also where a value is NaN or infinite.
void check_data(const Dataset& data, const Network& network, const Loss& loss, bool finite);
/// The class weights or positive weights of a loss, one for each output, in a device's memory; empty where it has none.
Buffer loss_weights(const Loss& loss, std::int64_t outputs, Backend& backend, DType dtype);

class Trainer {
 public:
  Trainer(std::shared_ptr<Network> network, Loss loss, Optimizer optimizer);

  Network& network() { return *network_; }
  const Network& network() const { return *network_; }
  const Loss& loss() const { return loss_; }

  /// One step on one batch as it lies; the batch's mean loss before the step.
  LossSums step(const Dataset& batch, double lr);
  /// Trains the batches of the range until `seconds` have passed; returns the next batch and adds to `sums`.
  /// `lrs`: one rate for each batch, or one for all.
  std::int64_t run(const Dataset& data, const BatchRange& range, std::span<const double> lrs, double seconds,
                   LossSums& sums);
  /// Sums over the rows of `range` without training; the predictions go to `outputs` (host, rows x out) unless null.
  LossSums evaluate(const Dataset& data, const BatchRange& range, void* outputs);
  /// The optimiser's part of a step, on the gradients as they are.
  void optimizer_step(double lr);

  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps);
  /// The optimiser's states, in the parameters' layout.
  std::vector<View> states() const;
  void reset();

 private:
  struct Batch {
    ConstView x, targets, weights;
    const std::int32_t* labels = nullptr;
  };

  std::vector<double> per_layer(const PerLayer& given, double missing, const char* argument) const;
  void make_segments();
  Batch fetch(const Dataset& data, const std::int64_t* index, std::int64_t first, std::int64_t rows);
  LossSums apply_loss(const Batch& batch, ConstView logits, View grad);
  LossSums train(const Batch& batch, double lr);
  void update(double lr);

  std::shared_ptr<Network> network_;
  Loss loss_;
  Optimizer optimizer_;
  std::vector<double> decay_, factor_;  // one for each parameter
  std::vector<Segment> segments_;
  std::vector<bool> segments_frozen_;  // the parameters' flags that segments_ was made from
  Buffer states_[kMaxStates];
  Buffer class_weights_, sums_;
  Buffer x_, y_, weights_;  // of the batch, where it had to be gathered
  std::int64_t steps_ = 0;
};

}  // namespace gdcore
