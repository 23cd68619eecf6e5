#include "gdcore/layer.h"

#include "gdcore/check.h"

namespace gdcore {

void check_width(const char* kind, const char* argument, std::int64_t width) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  check(width >= 1 && width <= kMost, "[", kind, "] ", argument, ": got ", width, "; expected 1 to ", kMost);
}

std::string Layer::path(int index) const {
  if (!name.empty()) return name;
  return place.empty() ? join("layers.", index) : place;
}

std::vector<std::int64_t> Layer::origins(const std::vector<std::int64_t>& in) const {
  return std::vector<std::int64_t>(static_cast<std::size_t>(output_features(std::ssize(in))), -1);
}

void Layer::forward(const LayerCall& call) const {
  if (call.x.rows >= 1) [[likely]]
    return forward_impl(call);
  check(false, "[", kind(), "] x: got 0 rows; expected at least 1");
}

void Layer::backward(const LayerCall& call) const {
  if (call.dy.rows == call.x.rows) [[likely]]
    return backward_impl(call);
  check(false, "[", kind(), "] dout: got ", call.dy.rows, " rows; expected ", call.x.rows, ", as many as x has");
}

void Layer::tangent(const TangentCall&) const {
  throw std::runtime_error(
      join("[analysis] ", kind(), " has no second derivatives: it does not override Layer::tangent"));
}

void Layer::curvature(const TangentCall& call) const { tangent(call); }

}  // namespace gdcore
