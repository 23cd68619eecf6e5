#include <cmath>

#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

BatchNorm::BatchNorm(std::int64_t features, double decay, double eps, Spread running, bool affine)
    : Norm("BatchNorm", features, eps, affine), decay(decay), running(running) {
  check(decay >= 0.0 && decay <= 1.0, "[BatchNorm] decay: got ", decay, "; expected 0 <= decay <= 1");
}

std::int64_t BatchNorm::output_features(std::int64_t in) const { return check_width("BatchNorm", in); }

void BatchNorm::bind(int index, std::int64_t, const Activation*, Parameters& parameters) {
  bind_affine("BatchNorm", path(index), index, parameters);
  const auto add = [&](const char* name, double value, Range range) {
    return parameters.state_layout.add({.name = join(path(index), ".", name),
                                        .layer = index,
                                        .rows = 1,
                                        .cols = features,
                                        .is_vector = true,
                                        .initializer = Constant{value},
                                        .range = range});
  };
  mean_number_ = add("running_mean", 0.0, Range::any);
  spread_number_ = add(running == Spread::std ? "running_std" : "running_variance", 1.0, Range::not_negative);
}

StatisticsSize BatchNorm::statistics(std::int64_t) const { return {3 * features, 0}; }

View BatchNorm::statistic(const LayerCall& call, int number) const {
  char* data = static_cast<char*>(call.statistics.data);
  return {data + static_cast<std::size_t>(number * features) * size_of(call.x.dtype), 1, features, call.x.dtype};
}

void BatchNorm::check_training(std::int64_t rows) const {
  check(rows >= 2,
        "[BatchNorm] x: got a training batch of 1 row, which has no variance; expected at least 2 (drop_last=True "
        "omits a last batch of 1)");
}

void BatchNorm::forward_impl(const LayerCall& call) const {
  if (call.training) {
    call.backend.batch_norm_forward({call.x, gamma(call), beta(call), eps, call.activation, call.y, statistic(call, 0),
                                     statistic(call, 1), statistic(call, 2), call.pre});
  } else {
    call.backend.column_affine({call.x, call.parameters.state(mean_number_), call.parameters.state(spread_number_),
                                gamma(call), beta(call), running, eps, call.activation, call.y});
  }
}

void BatchNorm::backward_impl(const LayerCall& call) const {
  if (!call.training) recall_statistics(call);
  NormBackward pass = backward_pass(call, statistic(call, 0), statistic(call, 1));
  pass.constant = !call.training;
  call.backend.batch_norm_backward(pass);
}

void BatchNorm::commit(const LayerCall& call) const {
  call.backend.lerp({call.parameters.state(mean_number_), statistic(call, 0), decay, false, call.context.counters});
  call.backend.lerp({call.parameters.state(spread_number_), statistic(call, 2), decay, running == Spread::std,
                     call.context.counters});
}

void BatchNorm::recall_statistics(const LayerCall& call) const {
  const View mean = statistic(call, 0), rstd = statistic(call, 1);
  call.backend.copy(mean.data, call.parameters.state(mean_number_).data, mean.bytes(), CopyKind::within);
  with_type(rstd.dtype, [&]<class T>(T) {
    std::vector<T> values(static_cast<std::size_t>(features));
    call.backend.copy(values.data(), call.parameters.state(spread_number_).data, rstd.bytes(), CopyKind::to_host);
    for (T& value : values) {
      const double spread = static_cast<double>(value);
      value = static_cast<T>(1.0 / std::sqrt((running == Spread::std ? spread * spread : spread) + eps));
    }
    call.backend.copy(rstd.data, values.data(), rstd.bytes(), CopyKind::to_device);
  });
}

void BatchNorm::tangent(const TangentCall& call) const {
  if (!call.layer.training) recall_statistics(call.layer);
  const NormOver over = call.layer.training ? NormOver::columns : NormOver::constants;
  call.layer.backend.norm_tangent(tangent_pass(call, over, statistic(call.layer, 0), statistic(call.layer, 1)));
}

void BatchNorm::curvature(const TangentCall& call) const {
  if (!call.layer.training) recall_statistics(call.layer);
  const NormOver over = call.layer.training ? NormOver::columns : NormOver::constants;
  call.layer.backend.norm_curvature(curvature_pass(call, over, statistic(call.layer, 0), statistic(call.layer, 1)));
}

}  // namespace gdcore
