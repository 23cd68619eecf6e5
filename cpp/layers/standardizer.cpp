#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

/// Features whose deviation is at most this share of their mean differ by rounding alone and count as constant.
constexpr double kRounding = 4 * std::numeric_limits<double>::epsilon();

/// Exponent of the power of two that brings a number of this magnitude near 1, as far as a double holds the power.
int scaling_exponent(double magnitude) {
  return std::isfinite(magnitude) && magnitude > 0.0 ? std::clamp(-std::ilogb(magnitude), -1000, 1000) : 0;
}

}  // namespace

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
  // Row blocks small enough for the cache and for memory-mapped data. Numbers are scaled by powers of two, which rounds
  // nothing and keeps squares of huge and tiny ones finite. Deviations are from 0, or from the lowest number of a
  // column far from 0; then from their mean, which corrects its rounding.
  const std::int64_t cols = source.cols, at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 18) / cols);
  std::vector<double> block(static_cast<std::size_t>(std::min(at_once, source.rows) * cols));
  std::vector<double> sum(static_cast<std::size_t>(cols)), squares(sum), unit(sum), centre(sum);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<double> low(sum.size(), kInfinity), high(sum.size(), -kInfinity);
  const auto pass = [&](auto&& take) {
    for (std::int64_t first = 0; first < source.rows; first += at_once) {
      poll_interrupt();
      const std::int64_t count = std::min(at_once, source.rows - first);
      backend(Device::cpu).gather({source, nullptr, first, count, block.data(), GatherType::float64});
      const double* x = block.data();
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::size_t c = 0; c < sum.size(); ++c) take(*x++, c);
      }
    }
  };
  pass([&](double x, std::size_t c) {
    low[c] = std::min(low[c], x);
    high[c] = std::max(high[c], x);
  });
  const auto rows = static_cast<double>(source.rows);
  for (std::size_t c = 0; c < sum.size(); ++c) {
    const double most = std::max(std::abs(low[c]), std::abs(high[c]));
    unit[c] = std::ldexp(1.0, scaling_exponent(most));
    if (unit[c] * high[c] - unit[c] * low[c] < unit[c] * most / 16) centre[c] = unit[c] * low[c];
  }
  pass([&](double x, std::size_t c) { sum[c] += x * unit[c] - centre[c]; });
  for (std::size_t c = 0; c < sum.size(); ++c) centre[c] += std::exchange(sum[c], 0.0) / rows;
  pass([&](double x, std::size_t c) {
    const double deviation = x * unit[c] - centre[c];
    sum[c] += deviation;  // rounding error of the mean
    squares[c] += deviation * deviation;
  });
  std::vector<double> spread(sum.size(), 1.0);
  for (std::size_t c = 0; c < sum.size(); ++c) {
    check(std::isfinite(squares[c]), "[Standardizer.fit] x: got NaN or infinity in column ", c,
          "; expected finite numbers");
    const double missing = sum[c] / rows, variance = squares[c] / rows - missing * missing;
    const double deviation = std::sqrt(std::max(0.0, variance));
    centre[c] += missing;
    if (deviation > kRounding * std::abs(centre[c])) {
      spread[c] = std::max(deviation / unit[c], std::numeric_limits<double>::denorm_min());
    }
    centre[c] /= unit[c];
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
