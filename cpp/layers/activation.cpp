#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

ActivationLayer::ActivationLayer(Activation activation) : activation(activation) {
  if (const auto* leaky = std::get_if<LeakyReLU>(&activation)) {
    check(leaky->negative_slope >= 0.0 && leaky->negative_slope <= 1.0, "[LeakyReLU] negative_slope: got ",
          leaky->negative_slope, "; expected 0 to 1");
  }
  if (const auto* elu = std::get_if<ELU>(&activation)) {
    check(elu->alpha > 0.0 && elu->alpha < 1e30, "[ELU] alpha: got ", elu->alpha,
          "; expected a positive number below 1e30");
  }
}

void ActivationLayer::bind(int, std::int64_t, const Activation*, Parameters& parameters) {
  if (const auto* elu = std::get_if<ELU>(&activation)) {
    check_positive("ELU", "alpha", elu->alpha, parameters.layout.dtype());
  }
}

void ActivationLayer::forward_impl(const LayerCall& call) const {
  call.backend.activation_forward(activation, call.x, call.y);
}

void ActivationLayer::backward_impl(const LayerCall& call) const {
  if (!call.dx) return;
  call.backend.activation_backward(activation, saves_input(activation) ? call.x : ConstView(call.y), call.dy, call.dx);
}

void ActivationLayer::tangent(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  const ConstView saved = saves_input(activation) ? layer.x : ConstView(layer.y);
  layer.backend.activation_backward(activation, saved, call.x_dot, call.y_dot);
}

void ActivationLayer::curvature(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  if (!layer.dx) return;
  const ConstView saved = saves_input(activation) ? layer.x : ConstView(layer.y);
  layer.backend.activation_curvature(activation, saved, call.x_dot, layer.dy, call.dy_dot, call.dx_dot);
  layer.backend.activation_backward(activation, saved, layer.dy, layer.dx);
}

}  // namespace gdcore
