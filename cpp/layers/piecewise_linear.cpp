#include <cmath>
#include <numeric>

#include "gdcore/check.h"
#include "gdcore/column_layers.h"

namespace gdcore {

PiecewiseLinear::PiecewiseLinear(ColumnChoice choice, std::vector<std::vector<double>> edges, bool clip)
    : ColumnLayer("PiecewiseLinear", std::move(choice)), edges(std::move(edges)), clip(clip) {
  const std::size_t chosen = columns ? columns->size() : names.size();
  const std::size_t expected = chosen > 0 ? chosen : static_cast<std::size_t>(features);
  check(this->edges.empty() || expected == 0 || this->edges.size() == expected, "[PiecewiseLinear] edges: got ",
        this->edges.size(), " sequences; expected ", expected, ", one for each column");
  for (std::size_t i = 0; i < this->edges.size(); ++i) {
    const std::vector<double>& own = this->edges[i];
    check(own.size() >= 2, "[PiecewiseLinear] edges[", i, "]: got ", own.size(), " numbers; expected at least 2");
    for (std::size_t k = 0; k < own.size(); ++k) {
      check(std::isfinite(own[k]), "[PiecewiseLinear] edges[", i, "]: got ", own[k], "; expected finite numbers");
      check(k == 0 || own[k] > own[k - 1], "[PiecewiseLinear] edges[", i, "]: got ", own[k], " after ",
            k == 0 ? 0.0 : own[k - 1], "; expected increasing numbers");
    }
  }
}

std::vector<std::int64_t> PiecewiseLinear::widths() const {
  std::vector<std::int64_t> bins;
  for (const std::vector<double>& own : edges) bins.push_back(std::ssize(own) - 1);
  return bins;
}

std::int64_t PiecewiseLinear::output_features(std::int64_t in) const {
  check<std::runtime_error>(!edges.empty(),
                            "[PiecewiseLinear] not fitted: edges are unknown; call fit(training data) first");
  check_choice("PiecewiseLinear", in, std::ssize(edges));
  return in + added_features();
}

std::int64_t PiecewiseLinear::added_features() const {
  const std::vector<std::int64_t> bins = widths();
  return std::accumulate(bins.begin(), bins.end(), -std::ssize(bins));
}

std::vector<std::int64_t> PiecewiseLinear::origins(const std::vector<std::int64_t>& in) const {
  return origins_of(in, output_features(std::ssize(in)));
}

void PiecewiseLinear::bind(int index, std::int64_t in, const Activation*, Parameters& parameters) {
  arrange(in, widths());
  const DType dtype = parameters.state_layout.dtype();
  std::vector<double> start, width;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    for (std::size_t k = 0; k + 1 < edges[i].size(); ++k) {
      const double from = rounded(edges[i][k], dtype), to = rounded(edges[i][k + 1], dtype);
      const double wide = rounded(to - from, dtype);
      check(std::isfinite(from) && std::isfinite(wide) && wide >= smallest_normal(dtype),
            "[PiecewiseLinear] edges: got ", edges[i][k], " and ", edges[i][k + 1], " for column ", number(i),
            ", which ", name_of(dtype),
            ", the model's dtype, does not tell apart or represent; expected edges that "
            "are further apart, as fit(x) returns them, scaled data, or dtype=\"float64\"");
      start.push_back(from);
      width.push_back(wide);
    }
  }
  const auto add = [&](const char* name, std::vector<double> values, Range range) {
    return parameters.state_layout.add({.name = join(path(index), ".", name),
                                        .layer = index,
                                        .rows = 1,
                                        .cols = std::ssize(values),
                                        .is_vector = true,
                                        .initializer = Given{std::move(values)},
                                        .range = range});
  };
  start_number_ = add("start", std::move(start), Range::any);
  width_number_ = add("width", std::move(width), Range::positive);
}

void PiecewiseLinear::encode(const LayerCall& call, ConstView x_dot, View y) const {
  pass_on(call.backend, x_dot ? x_dot : call.x, y);
  const Parameters& own = call.parameters;
  call.backend.piecewise_forward(
      {call.x, own.state(start_number_), own.state(width_number_), encoded_, clip, y, x_dot});
}

void PiecewiseLinear::decode(const LayerCall& call, ConstView dy, View dx) const {
  pass_back(call.backend, dy, dx);
  const Parameters& own = call.parameters;
  call.backend.piecewise_backward({call.x, own.state(start_number_), own.state(width_number_), encoded_, clip, dy, dx});
}

void PiecewiseLinear::forward_impl(const LayerCall& call) const { encode(call, {}, call.y); }

void PiecewiseLinear::backward_impl(const LayerCall& call) const {
  if (call.dx) decode(call, call.dy, call.dx);
}

void PiecewiseLinear::tangent(const TangentCall& call) const { encode(call.layer, call.x_dot, call.y_dot); }

void PiecewiseLinear::curvature(const TangentCall& call) const {
  if (!call.layer.dx) return;
  decode(call.layer, call.dy_dot, call.dx_dot);
  decode(call.layer, call.layer.dy, call.layer.dx);
}

}  // namespace gdcore
