// HostLoss: a user-defined loss over a batch. The user's function computes each row's loss and gradient; HostLoss
// applies weights, sums the losses, and copies data from and to the device.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/loss.h"

namespace gdcore {

struct Batch;

class HostLoss {
 public:
  explicit HostLoss(Backend& backend) : backend_(backend) {}

  /// Returns the batch's sums; `grad` (null: skipped) receives the gradient of their quotient.
  LossSums apply(const CustomLoss& loss, const Batch& batch, ConstView logits, View grad);
  /// Writes the derivative of that gradient where the logits move along `tangent`.
  void curvature(const CustomLoss& loss, const Batch& batch, ConstView logits, ConstView tangent, View grad);

 private:
  CustomLossCall call(const Batch& batch, ConstView logits, View grad);
  ConstView fetch(ConstView view, std::vector<char>& space) const;
  void weigh(const Batch& batch, std::int64_t rows);
  void hand_over(View grad, View to) const;

  Backend& backend_;
  std::vector<char> outputs_, targets_, weights_, direction_, gradient_;  // copies on the host
  std::vector<std::int32_t> labels_;
  std::vector<double> losses_, factors_;  // by row: l_n; s_n
  double weight_ = 0.0;                   // Σ s_n
};

}  // namespace gdcore
