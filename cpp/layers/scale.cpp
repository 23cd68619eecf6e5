// A factor per feature: batch norm's passes with the constants 0 and 1 as mean and spread.
#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

Scale::Scale(std::int64_t features) : features(features) { check_width("Scale", "features", features); }

std::int64_t Scale::output_features(std::int64_t in) const {
  check(in == 0 || in == features, "[Scale] features: got ", features, "; expected ", in,
        ", the number of outputs of the previous layer");
  return features;
}

void Scale::bind(int index, std::int64_t, const Activation*, Parameters& parameters) {
  number_ = parameters.layout.add({.name = join(path(index), ".factor"),
                                   .layer = index,
                                   .rows = 1,
                                   .cols = features,
                                   .is_vector = true,
                                   .initializer = Constant{1.0}});
}

void Scale::forward_impl(const LayerCall& call) const {
  call.backend.column_affine({.x = call.x,
                              .mean = {},
                              .spread = {},
                              .gamma = call.parameters.value(number_),
                              .beta = {},
                              .kind = Spread::std,
                              .eps = 0.0,
                              .activation = call.activation,
                              .y = call.y,
                              .pre = call.pre});
}

void Scale::backward_impl(const LayerCall& call) const {
  const bool frozen = call.parameters.frozen(number_);
  call.backend.batch_norm_backward({.x = call.x,
                                    .gamma = call.parameters.value(number_),
                                    .mean = {},
                                    .rstd = {},
                                    .activation = call.activation,
                                    .saved = call.saved(),
                                    .dy = call.dy,
                                    .dx = call.dx,
                                    .dgamma = frozen ? View{} : call.parameters.gradient(number_),
                                    .dbeta = {},
                                    .constant = true});
}

void Scale::tangent(const TangentCall& call) const {
  call.layer.backend.norm_tangent({.over = NormOver::constants,
                                   .x = call.layer.x,
                                   .gamma = call.layer.parameters.value(number_),
                                   .mean = {},
                                   .rstd = {},
                                   .x_dot = call.x_dot,
                                   .gamma_dot = call.direction.value(number_),
                                   .beta_dot = {},
                                   .y_dot = call.y_dot});
}

void Scale::curvature(const TangentCall& call) const {
  const bool frozen = call.direction.frozen(number_);
  call.layer.backend.norm_curvature({.over = NormOver::constants,
                                     .x = call.layer.x,
                                     .gamma = call.layer.parameters.value(number_),
                                     .mean = {},
                                     .rstd = {},
                                     .x_dot = call.x_dot,
                                     .gamma_dot = call.direction.value(number_),
                                     .dy = call.layer.dy,
                                     .dy_dot = call.dy_dot,
                                     .dx = call.layer.dx,
                                     .dx_dot = call.dx_dot,
                                     .dgamma_dot = frozen ? View{} : call.direction.gradient(number_),
                                     .dbeta_dot = {},
                                     .spare = call.spare});
}

}  // namespace gdcore
