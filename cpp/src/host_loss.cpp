#include "gdcore/host_loss.h"

#include "gdcore/batch.h"

namespace gdcore {

/// Copies device values to the host where needed.
ConstView HostLoss::fetch(ConstView view, std::vector<char>& space) const {
  if (!view || backend_.device() == Device::cpu) return view;
  const std::size_t bytes = static_cast<std::size_t>(view.size()) * size_of(view.dtype);
  space.resize(bytes);
  backend_.copy(space.data(), view.data, bytes, CopyKind::to_host);
  return {space.data(), view.rows, view.cols, view.dtype};
}

CustomLossCall HostLoss::call(const Batch& batch, ConstView logits, View grad) {
  const std::int32_t* labels = batch.labels;
  if (labels != nullptr && backend_.device() != Device::cpu) {
    labels_.resize(static_cast<std::size_t>(logits.rows));
    backend_.copy(labels_.data(), labels, labels_.size() * sizeof(std::int32_t), CopyKind::to_host);
    labels = labels_.data();
  }
  View gradient = grad;
  if (grad && backend_.device() != Device::cpu) {
    gradient_.resize(grad.bytes());
    gradient.data = gradient_.data();
  }
  weigh(batch, logits.rows);
  losses_.resize(static_cast<std::size_t>(logits.rows));
  return {.outputs = fetch(logits, outputs_),
          .targets = fetch(batch.targets, targets_),
          .labels = labels,
          .losses = losses_.data(),
          .gradient = gradient};
}

/// Sets factors_ to s_n and weight_ to their sum.
void HostLoss::weigh(const Batch& batch, std::int64_t rows) {
  factors_.assign(static_cast<std::size_t>(rows), 1.0);
  if (const ConstView weights = fetch(batch.weights, weights_)) {
    with_type(weights.dtype, [&]<class T>(T) {
      for (std::size_t n = 0; n < factors_.size(); ++n) factors_[n] = static_cast<double>(weights.as<T>()[n]);
    });
  }
  weight_ = 0.0;
  for (const double factor : factors_) weight_ += factor;
}

/// Multiplies row n of the function's gradient by s_n / Σ s and writes it to the network's buffer.
void HostLoss::hand_over(View grad, View to) const {
  with_type(grad.dtype, [&]<class T>(T) {
    T* value = grad.as<T>();
    for (const double factor : factors_) {
      const double share = weight_ > 0.0 ? factor / weight_ : 0.0;
      for (std::int64_t k = 0; k < grad.cols; ++k, ++value)
        *value = static_cast<T>(share * static_cast<double>(*value));
    }
  });
  if (grad.data != to.data) backend_.copy(to.data, grad.data, grad.bytes(), CopyKind::to_device);
}

LossSums HostLoss::apply(const CustomLoss& loss, const Batch& batch, ConstView logits, View grad) {
  const CustomLossCall asked = call(batch, logits, grad);
  (*loss.function)(asked);
  LossSums sums{0.0, weight_};
  for (std::size_t n = 0; n < losses_.size(); ++n) sums.loss += factors_[n] * losses_[n];
  if (grad) hand_over(asked.gradient, grad);
  return sums;
}

void HostLoss::curvature(const CustomLoss& loss, const Batch& batch, ConstView logits, ConstView tangent, View grad) {
  CustomLossCall asked = call(batch, logits, grad);
  asked.losses = nullptr;
  asked.direction = fetch(tangent, direction_);
  (*loss.function)(asked);
  hand_over(asked.gradient, grad);
}

}  // namespace gdcore
