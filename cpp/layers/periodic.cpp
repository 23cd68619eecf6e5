#include <cmath>

#include "gdcore/check.h"
#include "gdcore/column_layers.h"
#include "gdcore/encodings.h"

namespace gdcore {

Periodic::Periodic(ColumnChoice choice, std::int64_t frequencies, std::int64_t dim, double sigma, Kind form)
    : ColumnLayer("Periodic", std::move(choice)), frequencies(frequencies), dim(dim), sigma(sigma), form(form) {
  constexpr std::int64_t kMost = 1024;  // keeps the waves of a block of rows in the caches
  check(frequencies >= 1 && frequencies <= kMost, "[Periodic] frequencies: got ", frequencies, "; expected 1 to ",
        kMost);
  const std::int64_t least = form == Kind::pbld ? 2 : 1;
  check(dim >= least && dim <= kMost, "[Periodic] dim: got ", dim, "; expected ", least, " to ", kMost,
        form == Kind::pbld ? ", one of them for x itself" : "");
  check(sigma > 0.0 && std::isfinite(sigma), "[Periodic] sigma: got ", sigma, "; expected a positive finite number");
}

std::int64_t Periodic::chosen(std::int64_t in) const {
  return columns ? std::ssize(*columns) : names.empty() ? in : std::ssize(names);
}

std::int64_t Periodic::output_features(std::int64_t in) const {
  check_choice("Periodic", in, 0);
  return in + chosen(in) * (dim - 1);
}

std::int64_t Periodic::added_features() const {
  check(columns || !names.empty() || dim == 1 || features > 0,
        "[Periodic] features: got 0 for a first layer of all columns; expected the number of inputs");
  return chosen(features) * (dim - 1);
}

std::vector<std::int64_t> Periodic::origins(const std::vector<std::int64_t>& in) const {
  return origins_of(in, output_features(std::ssize(in)));
}

PeriodicShape Periodic::shape() const {
  const bool pbld = form == Kind::pbld;
  return {encoded_, frequencies, pbld ? dim - 1 : dim, !pbld, pbld, !pbld};
}

void Periodic::bind(int index, std::int64_t in, const Activation*, Parameters& parameters) {
  const std::int64_t count = chosen(in);
  arrange(in, std::vector<std::int64_t>(static_cast<std::size_t>(count), dim));
  const PeriodicShape sizes = shape();
  const double pi = kTwoPi / 2.0, bound = 1.0 / std::sqrt(static_cast<double>(sizes.waves()));
  const auto add = [&](const char* name, std::int64_t rows, std::int64_t cols, Initializer init) {
    const bool is_weight = std::string_view(name) == "weight", is_vector = std::string_view(name) == "bias";
    return parameters.layout.add({.name = join(path(index), ".", name),
                                  .layer = index,
                                  .rows = rows,
                                  .cols = cols,
                                  .is_vector = is_vector,
                                  .is_weight = is_weight,
                                  .initializer = init,
                                  .fan_in = sizes.waves(),
                                  .fan_out = sizes.outputs});
  };
  frequency_number_ = add("frequency", count, frequencies, Normal{sigma});
  phase_number_ = sizes.sines ? -1 : add("phase", count, frequencies, Uniform{pi});
  weight_number_ = add("weight", count * sizes.outputs, sizes.waves(), Uniform{bound});
  bias_number_ = add("bias", 1, count * sizes.outputs, Uniform{bound});
}

PeriodicWeights Periodic::weights(const Parameters& parameters) const {
  const auto value = [&](int number) { return number < 0 ? View{} : parameters.value(number); };
  return {value(frequency_number_), value(phase_number_), value(weight_number_), value(bias_number_)};
}

PeriodicWeights Periodic::gradients(const Parameters& parameters) const {
  const auto gradient = [&](int number) {
    return number < 0 || parameters.frozen(number) ? View{} : parameters.gradient(number);
  };
  return {gradient(frequency_number_), gradient(phase_number_), gradient(weight_number_), gradient(bias_number_)};
}

void Periodic::forward_impl(const LayerCall& call) const {
  pass_on(call.backend, call.x, call.y);
  call.backend.periodic_forward({shape(), call.x, weights(call.parameters), call.y});
}

void Periodic::backward_impl(const LayerCall& call) const {
  if (call.dx) pass_back(call.backend, call.dy, call.dx);
  call.backend.periodic_backward(
      {shape(), call.x, weights(call.parameters), call.y, call.dy, call.dx, gradients(call.parameters)});
}

void Periodic::tangent(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  const PeriodicDirection direction{call.x_dot, weights(call.direction)};
  pass_on(layer.backend, call.x_dot, call.y_dot);
  layer.backend.periodic_forward({shape(), layer.x, weights(layer.parameters), call.y_dot, &direction});
}

void Periodic::curvature(const TangentCall& call) const {
  const LayerCall& layer = call.layer;
  const PeriodicDirection direction{call.x_dot, weights(call.direction), call.dy_dot, call.dx_dot};
  if (layer.dx) {
    pass_back(layer.backend, call.dy_dot, call.dx_dot);
    pass_back(layer.backend, layer.dy, layer.dx);
  }
  layer.backend.periodic_backward({shape(), layer.x, weights(layer.parameters), layer.y, layer.dy, layer.dx,
                                   gradients(call.direction), &direction});
}

}  // namespace gdcore
