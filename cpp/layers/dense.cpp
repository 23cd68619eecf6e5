#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

Dense::Dense(std::int64_t in_features, std::int64_t out_features, bool bias, Initializer init,
             std::optional<Initializer> bias_init)
    : in_features(in_features), out_features(out_features), bias(bias), init(init), bias_init(bias_init) {
  check_width("Dense", "in_features", in_features);
  check_width("Dense", "out_features", out_features);
}

std::int64_t Dense::output_features(std::int64_t in) const {
  check(in == 0 || in == in_features, "[Dense] in_features: got ", in_features, "; expected ", in,
        ", the number of outputs of the previous layer");
  return out_features;
}

void Dense::bind(int index, std::int64_t, const Activation* next, Parameters& parameters) {
  // Most ReLUs are active at first if their biases are slightly positive (chapter, slide 20).
  const bool before_relu = next != nullptr && std::holds_alternative<ReLU>(*next);
  const std::string prefix = path(index) + ".";
  weight_number_ = parameters.layout.add({.name = prefix + "weight",
                                          .layer = index,
                                          .rows = out_features,
                                          .cols = in_features,
                                          .is_weight = true,
                                          .initializer = init,
                                          .fan_in = in_features,
                                          .fan_out = out_features});
  bias_number_ = !bias ? -1
                       : parameters.layout.add({.name = prefix + "bias",
                                                .layer = index,
                                                .rows = 1,
                                                .cols = out_features,
                                                .is_vector = true,
                                                .initializer = bias_init.value_or(Constant{before_relu ? 0.01 : 0.0}),
                                                .fan_in = in_features,
                                                .fan_out = out_features});
}

Computation Dense::computation(const Parameters& parameters) const {
  const Arena& layout = parameters.layout;
  return DenseComputation{layout.offset(weight_number_), bias ? layout.offset(bias_number_) : -1};
}

void Dense::forward_impl(const LayerCall& call) const {
  const ConstView b = bias ? ConstView(call.parameters.value(bias_number_)) : ConstView{};
  call.backend.dense_forward({call.x, call.parameters.value(weight_number_), b, call.activation, call.y, call.pre,
                              call.precision, call.training, call.packed});
}

void Dense::backward_impl(const LayerCall& call) const {
  const auto gradient = [&](int number) {
    return number < 0 || call.parameters.frozen(number) ? View{} : call.parameters.gradient(number);
  };
  call.backend.dense_backward({call.x, call.parameters.value(weight_number_), call.activation, call.saved(), call.dy,
                               call.dx, gradient(weight_number_), gradient(bias_number_), call.precision,
                               call.training});
}

/// ẏ = ẋ Wᵀ + x Ẇᵀ + ḃ
void Dense::tangent(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  const ConstView b = bias ? ConstView(call.direction.value(bias_number_)) : ConstView{};
  const bool moves = bool(call.x_dot);
  layer.backend.dense_forward(
      {layer.x, call.direction.value(weight_number_), b, Identity{}, moves ? call.spare : call.y_dot, {}});
  if (!moves) return;
  layer.backend.dense_forward({call.x_dot, layer.parameters.value(weight_number_), {}, Identity{}, call.y_dot, {}});
  layer.backend.add(call.y_dot, call.spare, 1.0);
}

/// The derivatives of dW = dyᵀ x, db = Σ dy and dx = dy W: dẏᵀ x + dyᵀ ẋ, Σ dẏ, and dẏ W + dy Ẇ.
void Dense::curvature(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  const ConstView weight = layer.parameters.value(weight_number_);
  const auto gradient = [&](const Parameters& of, int number) {
    return number < 0 || of.frozen(number) ? View{} : of.gradient(number);
  };
  layer.backend.dense_backward({layer.x,
                                weight,
                                Identity{},
                                {},
                                call.dy_dot,
                                call.dx_dot,
                                gradient(call.direction, weight_number_),
                                gradient(call.direction, bias_number_)});
  const View along = call.x_dot ? gradient(layer.parameters, weight_number_) : View{};
  const ConstView x = call.x_dot ? call.x_dot : layer.x;
  const View through = layer.dx ? call.spare : View{};
  layer.backend.dense_backward({x, call.direction.value(weight_number_), Identity{}, {}, layer.dy, through, along, {}});
  if (along) layer.backend.add(gradient(call.direction, weight_number_), along, 1.0);
  if (!layer.dx) return;
  layer.backend.add(call.dx_dot, call.spare, 1.0);
  layer.backend.dense_backward({layer.x, weight, Identity{}, {}, layer.dy, layer.dx, {}, {}});
}

}  // namespace gdcore
