#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

Dense::Dense(std::int64_t in_features, std::int64_t out_features, bool bias, Initializer init, Initializer bias_init)
    : in_features(in_features), out_features(out_features), bias(bias), init(init), bias_init(bias_init) {
  check_width("Dense", "in_features", in_features);
  check_width("Dense", "out_features", out_features);
}

std::int64_t Dense::output_features(std::int64_t in) const {
  check(in == 0 || in == in_features, "[Dense] in_features is ", in_features, ", but the layer before gives ", in);
  return out_features;
}

void Dense::bind(int index, std::int64_t, Parameters& parameters) {
  const std::string prefix = join("layers.", index, ".");
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
                                                .initializer = bias_init,
                                                .fan_in = in_features,
                                                .fan_out = out_features});
}

void Dense::forward_impl(const LayerCall& call) const {
  const ConstView b = bias ? ConstView(call.parameters.value(bias_number_)) : ConstView{};
  call.backend.dense_forward({call.x, call.parameters.value(weight_number_), b, call.activation, call.y, call.pre});
}

void Dense::backward_impl(const LayerCall& call) const {
  const auto gradient = [&](int number) {
    return number < 0 || call.parameters.frozen(number) ? View{} : call.parameters.gradient(number);
  };
  call.backend.dense_backward({call.x, call.parameters.value(weight_number_), call.activation, call.saved(), call.dy,
                               call.dx, gradient(weight_number_), gradient(bias_number_)});
}

}  // namespace gdcore
