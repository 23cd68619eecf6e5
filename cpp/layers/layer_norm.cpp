#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

LayerNorm::LayerNorm(std::int64_t features, double eps, bool affine) : Norm("LayerNorm", features, eps, affine) {}

std::int64_t LayerNorm::output_features(std::int64_t in) const { return check_width("LayerNorm", in); }

void LayerNorm::bind(int index, std::int64_t, const Activation*, Parameters& parameters) {
  bind_affine("LayerNorm", path(index), index, parameters);
}

View LayerNorm::statistic(const LayerCall& call, int number) const {
  char* data = static_cast<char*>(call.statistics.data);
  return {data + static_cast<std::size_t>(number * call.x.rows) * size_of(call.x.dtype), 1, call.x.rows, call.x.dtype};
}

void LayerNorm::forward_impl(const LayerCall& call) const {
  call.backend.layer_norm_forward({call.x, gamma(call), beta(call), eps, call.activation, call.y, statistic(call, 0),
                                   statistic(call, 1), call.pre});
}

void LayerNorm::backward_impl(const LayerCall& call) const {
  call.backend.layer_norm_backward(backward_pass(call, statistic(call, 0), statistic(call, 1)));
}

void LayerNorm::tangent(const TangentCall& call) const {
  call.layer.backend.norm_tangent(
      tangent_pass(call, NormOver::rows, statistic(call.layer, 0), statistic(call.layer, 1)));
}

void LayerNorm::curvature(const TangentCall& call) const {
  call.layer.backend.norm_curvature(
      curvature_pass(call, NormOver::rows, statistic(call.layer, 0), statistic(call.layer, 1)));
}

}  // namespace gdcore
