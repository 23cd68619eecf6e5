// A loss with inputs of every kind, and the same computed by double loops.
#pragma once

#include <vector>

#include "support.h"

namespace gdcore::testing {

inline constexpr double kLevel = 0.3, kDelta = 0.7, kGamma = 1.5;
using Wide = long double;  // sums that double results are compared with need more precision than double

template <class T>
struct LossCase {
  std::int64_t rows, cols;
  Loss loss;
  Array<T> logits, targets, weights, class_weights, grad;
  Array<float> unused;
  std::vector<std::int32_t> labels;
  bool with_weights, with_class_weights, with_labels;
  LossSums sums;

  LossCase(const Loss& loss_, std::int64_t rows_, std::int64_t cols_, std::size_t turn)
      : rows(rows_),
        cols(cols_),
        loss(loss_),
        logits(rows, cols, static_cast<std::int64_t>(turn / 2 % 2)),
        targets(rows, cols, static_cast<std::int64_t>(turn / 4 % 2)),
        weights(1, rows, static_cast<std::int64_t>(turn % 2)),
        class_weights(1, 2 * cols, 1),
        grad(rows, cols, static_cast<std::int64_t>(turn / 3 % 2)),
        unused(1, 1),
        with_weights(turn % 3 == 1),
        with_class_weights(turn % 5 < 2 && (loss.index() == 1 || loss.index() == 2)),
        with_labels(loss.index() == 1 && (turn % 2 == 0 || std::get<CrossEntropy>(loss).gamma > 0.0)) {
    logits.random(1, 4.0);
    targets.random(2, 0.5, 0.5);
    weights.random(3, 0.5, 0.6);
    weights[0] = T(0);
    if (rows == 1) weights[0] = T(2);
    class_weights.random(4, 0.5, 0.6);
    for (std::int64_t n = 0; n < rows; ++n) labels.push_back(static_cast<std::int32_t>((n * 7 + 3) % cols));
    labels.shrink_to_fit();
    grad.poison();
  }
  /// Weights of classes or answers; the level of a quantile and its complement.
  ConstView class_view() {
    if (loss.index() == 5) {
      for (std::int64_t c = 0; c < 2 * cols; ++c) class_weights[c] = static_cast<T>(c < cols ? kLevel : 1.0 - kLevel);
      return class_weights.view();
    }
    ConstView view = class_weights.view();
    view.cols = cols;
    return with_class_weights ? view : ConstView{};
  }
  void run(bool with_grad) {
    device().loss({loss, logits.view(), with_labels ? ConstView{} : ConstView(targets.view()),
                   with_labels ? labels.data() : nullptr, with_weights ? ConstView(weights.view()) : ConstView{},
                   class_view(), with_grad ? grad.view() : View{}, &sums});
  }

  /// W_n, l_n and the gradient of l_n, with the magnitude of its terms.
  struct Row {
    Wide weight = 1.0, loss = 0.0;
    std::vector<Wide> gradient, size;
  };
  Row exact(std::int64_t n) const {
    Row row;
    const double k = static_cast<double>(cols);
    row.gradient.resize(static_cast<std::size_t>(cols));
    row.size.resize(static_cast<std::size_t>(cols));
    Wide log_sum = 0.0, total = 0.0;
    double top = -1e300;
    for (std::int64_t c = 0; c < cols; ++c) top = std::max(top, static_cast<double>(logits(n, c)));
    for (std::int64_t c = 0; c < cols; ++c) log_sum += std::exp(static_cast<Wide>(logits(n, c)) - top);
    log_sum = top + std::log(log_sum);
    const Wide smooth = loss.index() == 1 ? Wide{std::get<CrossEntropy>(loss).label_smoothing} : Wide{0.0};
    const auto omega = [&](std::int64_t c) { return with_class_weights ? static_cast<double>(class_weights[c]) : 1.0; };
    const auto target = [&](std::int64_t c) {
      if (!with_labels) return static_cast<double>(targets(n, c));
      return c == labels[static_cast<std::size_t>(n)] ? 1.0 : 0.0;
    };
    if (loss.index() == 1) row.weight = 0.0;
    for (std::int64_t c = 0; c < cols; ++c) {
      const Wide z = static_cast<Wide>(logits(n, c)), t = target(c);
      if (loss.index() == 0) {
        row.loss += (z - t) * (z - t) / k;
        row.gradient[static_cast<std::size_t>(c)] = 2.0 * (z - t) / k;
        row.size[static_cast<std::size_t>(c)] = 2.0 * (std::abs(z) + std::abs(t)) / k;
      } else if (loss.index() > 2) {
        const Wide d = z - t, most = kDelta, mean = std::exp(z);
        const Wide clipped = d > most ? most : (d < -most ? -most : d), sign = d > 0.0 ? 1.0 : -1.0;
        const Wide pinball = d > 0.0 ? 1.0 - Wide{kLevel} : -Wide{kLevel};
        const Wide losses[] = {clipped * (d - clipped / 2), std::abs(d), pinball * d, mean - t * z};
        const Wide slopes[] = {clipped, sign, pinball, mean - t};
        row.loss += losses[loss.index() - 3] / k;
        row.gradient[static_cast<std::size_t>(c)] = slopes[loss.index() - 3] / k;
        row.size[static_cast<std::size_t>(c)] = (loss.index() == 6 ? mean * (1.0 + std::abs(z)) + t : Wide{1.0}) / k;
      } else if (const auto* focal = std::get_if<BinaryCrossEntropy>(&loss); focal != nullptr && focal->gamma > 0.0) {
        const Wide p = 1.0 / (1.0 + std::exp(-z)), a = std::log1p(std::exp(-z)), b = std::log1p(std::exp(z));
        const Wide yes = omega(c) * t * std::pow(1.0 - p, Wide{kGamma}), no = (1.0 - t) * std::pow(p, Wide{kGamma});
        row.loss += yes * a + no * b;
        const Wide up = yes * (kGamma * p * a + 1.0 - p), down = no * (kGamma * (1.0 - p) * b + p);
        row.gradient[static_cast<std::size_t>(c)] = down - up;
        row.size[static_cast<std::size_t>(c)] = (down + up) * (1.0 + kGamma * std::abs(z));
      } else if (loss.index() == 2) {
        const Wide p = 1.0 / (1.0 + std::exp(-z)), soft = std::log1p(std::exp(-std::abs(z)));
        row.loss += omega(c) * t * (soft + std::max(-z, Wide{0.0})) + (1.0 - t) * (soft + std::max(z, Wide{0.0}));
        row.gradient[static_cast<std::size_t>(c)] = (1.0 - t) * p - omega(c) * t * (1.0 - p);
        row.size[static_cast<std::size_t>(c)] = (1.0 - t) * p + omega(c) * t;
      } else {
        const Wide share = omega(c) * ((1.0 - smooth) * t + smooth / k);
        row.weight += omega(c) * t;
        row.loss += share * (log_sum - z);
        total += share;
      }
    }
    for (std::int64_t c = 0; loss.index() == 1 && c < cols; ++c) {
      const Wide share = omega(c) * ((1.0 - smooth) * target(c) + smooth / k);
      const Wide p = std::exp(static_cast<Wide>(logits(n, c)) - log_sum);
      row.gradient[static_cast<std::size_t>(c)] = total * p - share;
      row.size[static_cast<std::size_t>(c)] = total * p + share;
    }
    if (loss.index() == 1 && std::get<CrossEntropy>(loss).gamma > 0.0) focus(n, log_sum, row);
    return row;
  }
  /// Turns cross-entropy of a label into focal loss.
  void focus(std::int64_t n, Wide log_sum, Row& row) const {
    const std::int64_t label = labels[static_cast<std::size_t>(n)];
    Wide rest = 0.0;
    for (std::int64_t c = 0; c < cols; ++c) {
      if (c != label) rest += std::exp(static_cast<Wide>(logits(n, c)) - log_sum);
    }
    const Wide log_p = static_cast<Wide>(logits(n, label)) - log_sum, power = std::pow(rest, Wide{kGamma});
    row.loss *= power;
    const Wide factor = rest > 0.0 ? power * (1.0 - kGamma * std::exp(log_p) * log_p / rest) : Wide{0.0};
    for (std::size_t c = 0; c < row.gradient.size(); ++c) {
      row.gradient[c] *= factor;
      row.size[c] *= factor * (1.0 + kGamma);
    }
  }
};

}  // namespace gdcore::testing
