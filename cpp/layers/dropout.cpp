#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/random.h"

namespace gdcore {

DropoutLayer::DropoutLayer(double p) : p(p) {
  check(p >= 0.0 && p < 1.0, "[Dropout] p: got ", p, "; expected 0 <= p < 1");
}

Computation DropoutLayer::computation(const Parameters&) const {
  return DropoutComputation{p, stream_of(Stream::dropout, static_cast<std::uint64_t>(index_))};
}

/// Applies the mask to inputs, derivatives or gradients: the layer is linear.
void DropoutLayer::apply(const LayerCall& call, ConstView from, View to) const {
  if (call.training && p > 0.0) {
    const StepContext& at = call.context;
    const std::uint64_t step = at.recorded() ? 0 : static_cast<std::uint64_t>(at.step);
    const std::uint64_t stream = stream_of(Stream::dropout, (step << 12) ^ static_cast<std::uint64_t>(index_));
    call.backend.dropout({from, to, p * at.rates.dropout, at.seed, stream, at.counters, at.schedule});
  } else {
    call.backend.copy(to.data, from.data, to.bytes(), CopyKind::within);
  }
}

void DropoutLayer::forward_impl(const LayerCall& call) const { apply(call, call.x, call.y); }

void DropoutLayer::backward_impl(const LayerCall& call) const {
  if (call.dx) apply(call, call.dy, call.dx);
}

void DropoutLayer::tangent(const TangentCall& call) const { apply(call.layer, call.x_dot, call.y_dot); }

void DropoutLayer::curvature(const TangentCall& call) const {
  if (!call.layer.dx) return;
  apply(call.layer, call.dy_dot, call.dx_dot);
  apply(call.layer, call.layer.dy, call.layer.dx);
}

}  // namespace gdcore
