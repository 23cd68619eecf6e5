#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/random.h"

namespace gdcore {

DropoutLayer::DropoutLayer(double p) : p(p) {
  check(p >= 0.0 && p < 1.0, "[Dropout] p is ", p, "; expected 0 <= p < 1");
}

Dropout DropoutLayer::pass(const LayerCall& call, ConstView from, View to) const {
  const std::uint64_t stream = (call.step << 12) ^ static_cast<std::uint64_t>(index_);
  return {from, to, p, call.seed, stream_of(Stream::dropout, stream)};
}

void DropoutLayer::forward_impl(const LayerCall& call) const {
  if (call.training && p > 0.0) {
    call.backend.dropout(pass(call, call.x, call.y));
  } else {
    call.backend.copy(call.y.data, call.x.data, call.y.bytes(), CopyKind::within);
  }
}

void DropoutLayer::backward_impl(const LayerCall& call) const {
  if (!call.dx) return;
  if (p > 0.0) {
    call.backend.dropout(pass(call, call.dy, call.dx));
  } else {
    call.backend.copy(call.dx.data, call.dy.data, call.dx.bytes(), CopyKind::within);
  }
}

}  // namespace gdcore
