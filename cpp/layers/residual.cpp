#include "gdcore/check.h"
#include "gdcore/layers.h"

namespace gdcore {

Residual::Residual(std::vector<std::unique_ptr<Layer>> layers) : layers(std::move(layers)) {
  check(!this->layers.empty(), "[Residual] layers: got none; expected at least one");
  for (std::size_t i = 0; i < this->layers.size(); ++i) {
    const Layer& layer = *this->layers[i];
    const bool has_data = dynamic_cast<const Standardizer*>(&layer) != nullptr ||
                          dynamic_cast<const PiecewiseLinear*>(&layer) != nullptr ||
                          dynamic_cast<const Embedding*>(&layer) != nullptr;
    check(!has_data, "[Residual] layers[", i, "]: got ", layer.kind(),
          ", which reads the model's data; expected it before the block");
  }
  const std::int64_t in = gdcore::input_features(this->layers);
  if (in > 0) (void)output_features(in);
}

Residual::Residual(const Residual& other) : LayerOf(other) {
  for (const auto& layer : other.layers) layers.push_back(layer->clone());
}

std::int64_t Residual::output_features(std::int64_t in) const {
  std::int64_t width = in;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    try {
      width = layers[i]->output_features(width);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(join("[Residual] layers[", i, "]: ", error.what()));
    }
  }
  check(width == in, "[Residual] layers: got ", width, " outputs for ", in,
        " inputs; expected as many outputs as inputs, which are added");
  return width;
}

std::int64_t Residual::input_features() const { return gdcore::input_features(layers); }

void Residual::forward_impl(const LayerCall& call) const {
  if (call.x.data == call.y.data) return;  // the executor has added up in place
  call.backend.copy(call.y.data, call.x.data, call.y.bytes(), CopyKind::within);
}

void Residual::backward_impl(const LayerCall& call) const {
  if (call.dx) call.backend.copy(call.dx.data, call.dy.data, call.dx.bytes(), CopyKind::within);
}

void Residual::tangent(const TangentCall& call) const {
  call.layer.backend.copy(call.y_dot.data, call.x_dot.data, call.y_dot.bytes(), CopyKind::within);
}

void Residual::curvature(const TangentCall& call) const {
  if (!call.layer.dx) return;
  call.layer.backend.copy(call.dx_dot.data, call.dy_dot.data, call.dx_dot.bytes(), CopyKind::within);
  backward_impl(call.layer);
}

}  // namespace gdcore
