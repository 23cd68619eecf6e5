// The part that both norms share: γ, β and the arguments of their passes.
#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

Norm::Norm(const char* kind, std::int64_t features, double eps, bool affine)
    : features(features), eps(eps), affine(affine) {
  gdcore::check_width(kind, "features", features);
  check(eps > 0.0 && eps < 1e30, "[", kind, "] eps: got ", eps, "; expected a positive number below 1e30");
}

std::int64_t Norm::check_width(const char* kind, std::int64_t in) const {
  check(in == 0 || in == features, "[", kind, "] features: got ", features, "; expected ", in,
        ", the number of outputs of the previous layer");
  return features;
}

void Norm::bind_affine(const char* kind, const std::string& path, int index, Parameters& parameters) {
  check_positive(kind, "eps", eps, parameters.layout.dtype());
  gamma_number_ = beta_number_ = -1;
  if (!affine) return;
  const auto add = [&](const char* name, double value) {
    return parameters.layout.add({.name = join(path, ".", name),
                                  .layer = index,
                                  .rows = 1,
                                  .cols = features,
                                  .is_vector = true,
                                  .initializer = Constant{value}});
  };
  gamma_number_ = add("gamma", 1.0);
  beta_number_ = add("beta", 0.0);
}

ConstView Norm::gamma(const LayerCall& call) const {
  return affine ? ConstView(call.parameters.value(gamma_number_)) : ConstView{};
}

ConstView Norm::beta(const LayerCall& call) const {
  return affine ? ConstView(call.parameters.value(beta_number_)) : ConstView{};
}

NormBackward Norm::backward_pass(const LayerCall& call, ConstView mean, ConstView rstd) const {
  const auto gradient = [&](int number) {
    return affine && !call.parameters.frozen(number) ? call.parameters.gradient(number) : View{};
  };
  return {call.x,
          gamma(call),
          mean,
          rstd,
          call.activation,
          call.saved(),
          call.dy,
          call.dx,
          gradient(gamma_number_),
          gradient(beta_number_)};
}

NormTangent Norm::tangent_pass(const TangentCall& call, NormOver over, ConstView mean, ConstView rstd) const {
  const auto moved = [&](int number) { return affine ? ConstView(call.direction.value(number)) : ConstView{}; };
  return {over,       call.layer.x,         gamma(call.layer),   mean,      rstd,
          call.x_dot, moved(gamma_number_), moved(beta_number_), call.y_dot};
}

NormCurvature Norm::curvature_pass(const TangentCall& call, NormOver over, ConstView mean, ConstView rstd) const {
  const auto gradient = [&](int number) {
    return affine && !call.direction.frozen(number) ? call.direction.gradient(number) : View{};
  };
  return {.over = over,
          .x = call.layer.x,
          .gamma = gamma(call.layer),
          .mean = mean,
          .rstd = rstd,
          .x_dot = call.x_dot,
          .gamma_dot = affine ? ConstView(call.direction.value(gamma_number_)) : ConstView{},
          .dy = call.layer.dy,
          .dy_dot = call.dy_dot,
          .dx = call.layer.dx,
          .dx_dot = call.dx_dot,
          .dgamma_dot = gradient(gamma_number_),
          .dbeta_dot = gradient(beta_number_),
          .spare = call.spare};
}

}  // namespace gdcore
