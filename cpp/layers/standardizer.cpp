#include <cmath>

#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/parallel.h"

namespace gdcore {

Standardizer::Standardizer(std::int64_t features, std::vector<double> mean, std::vector<double> std)
    : features(features), mean(std::move(mean)), std(std::move(std)) {
  check(features >= 0, "[Standardizer] features: got ", features,
        "; expected a positive number, or 0, which fit replaces");
  const auto count = static_cast<std::int64_t>(this->mean.size());
  check(count == static_cast<std::int64_t>(this->std.size()) && (count == 0 || count == features),
        "[Standardizer] mean, std: got ", count, " and ", this->std.size(), " values; expected features = ", features,
        " of both");
  for (const double value : this->mean) {
    check(::std::isfinite(value), "[Standardizer] mean: got ", value, "; expected finite numbers");
  }
  for (const double value : this->std) {
    check(value > 0.0 && ::std::isfinite(value), "[Standardizer] std: got ", value,
          "; expected positive finite numbers");
  }
}

std::int64_t Standardizer::output_features(std::int64_t in) const {
  check<std::runtime_error>(!mean.empty(),
                            "[Standardizer] not fitted: mean and std are unknown; call fit(training data) first");
  check(in == 0 || in == features, "[Standardizer] features: got ", features, "; expected ", in,
        ", the number of outputs of the previous layer");
  return features;
}

void Standardizer::bind(int index, std::int64_t, const Activation*, Parameters& parameters) {
  const auto add = [&](const char* name, const std::vector<double>& values, Range range) {
    return parameters.state_layout.add({.name = join(path(index), ".", name),
                                        .layer = index,
                                        .rows = 1,
                                        .cols = features,
                                        .is_vector = true,
                                        .initializer = Given{values},
                                        .range = range});
  };
  mean_number_ = add("mean", mean, Range::any);
  std_number_ = add("std", std, Range::positive);
}

void Standardizer::fit(const Source& source) {
  check(source.rows >= 1 && source.cols >= 1, "[Standardizer.fit] x: got shape (", source.rows, ", ", source.cols,
        "); expected at least one row and one column");
  check(features == 0 || features == source.cols, "[Standardizer.fit] x: got ", source.cols, " columns; expected ",
        features);
  // Row blocks small enough for the cache and for memory-mapped data. Later passes sum deviations from the mean.
  const std::int64_t cols = source.cols, at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 18) / cols);
  std::vector<double> block(static_cast<std::size_t>(std::min(at_once, source.rows) * cols));
  std::vector<double> sum(static_cast<std::size_t>(cols)), centre(sum), spread(sum);
  const auto pass = [&](std::vector<double>& total, auto&& term) {
    for (std::int64_t first = 0; first < source.rows; first += at_once) {
      poll_interrupt();
      const std::int64_t count = std::min(at_once, source.rows - first);
      backend(Device::cpu).gather({source, nullptr, first, count, block.data(), GatherType::float64});
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          total[static_cast<std::size_t>(c)] +=
              term(block[static_cast<std::size_t>(r * cols + c)], static_cast<std::size_t>(c));
        }
      }
    }
    for (double& value : total) value /= static_cast<double>(source.rows);
  };
  pass(centre, [](double x, std::size_t) { return x; });
  pass(sum, [&](double x, std::size_t c) { return x - centre[c]; });  // rounding error of the mean
  pass(spread, [&](double x, std::size_t c) { return (x - centre[c]) * (x - centre[c]); });
  for (std::size_t c = 0; c < spread.size(); ++c) {
    check(std::isfinite(centre[c]) && std::isfinite(spread[c]),
          "[Standardizer.fit] x: got NaN, infinity or numbers too large to square in column ", c,
          "; expected finite numbers");
    const double variance = spread[c] - sum[c] * sum[c];
    centre[c] += sum[c];
    // The spread of a constant column is only rounding error: it gets std 1.
    const double noise = 1e-14 * std::abs(centre[c]);
    spread[c] = variance > noise * noise && variance > 0.0 ? std::sqrt(variance) : 1.0;
  }
  features = cols;
  mean = std::move(centre);
  std = std::move(spread);
}

Computation Standardizer::computation(const Parameters& parameters) const {
  const Arena& layout = parameters.state_layout;
  return StandardizerComputation{layout.offset(mean_number_), layout.offset(std_number_)};
}

void Standardizer::forward_impl(const LayerCall& call) const {
  call.backend.column_affine({call.x,
                              call.parameters.state(mean_number_),
                              call.parameters.state(std_number_),
                              {},
                              {},
                              Spread::std,
                              0.0,
                              call.activation,
                              call.y});
}

void Standardizer::scale(const LayerCall& call, ConstView from, View to) const {
  call.backend.column_affine({from, {}, call.parameters.state(std_number_), {}, {}, Spread::std, 0.0, Identity{}, to});
}

void Standardizer::backward_impl(const LayerCall& call) const {
  if (call.dx) scale(call, call.dy, call.dx);
}

void Standardizer::tangent(const TangentCall& call) const { scale(call.layer, call.x_dot, call.y_dot); }

void Standardizer::curvature(const TangentCall& call) const {
  if (!call.layer.dx) return;
  scale(call.layer, call.dy_dot, call.dx_dot);
  scale(call.layer, call.layer.dy, call.layer.dx);
}

}  // namespace gdcore
