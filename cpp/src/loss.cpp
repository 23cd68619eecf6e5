// Checks of losses and of the data that goes into them.
#include "gdcore/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "gdcore/batch.h"
#include "gdcore/check.h"
#include "gdcore/loss_elements.h"

namespace gdcore {

namespace {

/// The loss as one of this kind, or null.
template <class Kind>
const Kind* kind_of(const AnyLoss& loss) {
  const Loss* known = std::get_if<Loss>(&loss);
  return known != nullptr ? std::get_if<Kind>(known) : nullptr;
}

/// A loss's weights of classes or outputs.
struct Weights {
  enum class Of : std::uint8_t { classes, answers, positives } of;  // answers: of no and yes, output by output
  const char* name;
  const std::vector<double>& values;

  /// Class weights are part of W_n: their common factor cancels.
  bool cancel() const { return of != Of::positives; }
  /// Whether a label has a weight of its own.
  bool has(double label) const { return label >= 0.0 && label < static_cast<double>(values.size()); }
  /// The factors of yes and of no of an output.
  OutputFactors<double> of_output(std::int64_t k) const {
    const auto at = [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; };
    const auto count = std::ssize(values);
    if (of == Of::answers) return {at(count == 2 ? 1 : 2 * k + 1), at(count == 2 ? 0 : 2 * k)};
    return {at(count == 1 ? 0 : k), 1.0};
  }
};

std::optional<Weights> weights_of(const AnyLoss& loss) {
  const auto* ce = kind_of<CrossEntropy>(loss);
  if (ce != nullptr && ce->class_weights)
    return Weights{Weights::Of::classes, "[CrossEntropy] class_weights", *ce->class_weights};
  const auto* bce = kind_of<BinaryCrossEntropy>(loss);
  if (bce != nullptr && bce->class_weights)
    return Weights{Weights::Of::answers, "[BinaryCrossEntropy] class_weights", *bce->class_weights};
  if (bce != nullptr && bce->pos_weight)
    return Weights{Weights::Of::positives, "[BinaryCrossEntropy] pos_weight", *bce->pos_weight};
  return {};
}

/// Returns the row of the first value for which `bad` is true, or -1.
template <class Bad>
std::int64_t first_row(const Source& source, const Bad& bad) {
  std::int64_t found = -1;
  with_type(source.type, [&]<class S>(S) {
    const S* data = static_cast<const S*>(source.data);
    for (std::int64_t r = 0; r < source.rows && found < 0; ++r) {
      for (std::int64_t c = 0; c < source.cols && found < 0; ++c) {
        if (bad(data[r * source.row_stride + c])) found = r;
      }
    }
  });
  return found;
}

void check_finite(const Source& source, const char* argument) {
  const std::int64_t at = backend(Device::cpu).first_nonfinite(source);
  check(at < 0, "[data] ", argument, ": got NaN or infinity in row ", source.cols > 0 ? at / source.cols : 0,
        ", column ", source.cols > 0 ? at % source.cols : 0, "; expected finite numbers");
}

void check_targets(const Dataset& data, const AnyLoss& loss, std::int64_t outputs, bool finite, bool searched) {
  const Source& y = data.y;
  check(y.rows == data.x.rows, "[data] y: got ", y.rows, " rows; expected ", data.x.rows, ", as many as x has");
  if (data.labels) {
    check_labels(y, outputs);
    return;
  }
  const bool custom = std::holds_alternative<CustomLoss>(loss);  // its targets may be anything
  const auto* quantile = kind_of<Quantile>(loss);
  const std::int64_t levels = quantile != nullptr ? std::ssize(quantile->levels) : 1;
  if (quantile != nullptr) {
    check(y.cols * levels == outputs, "[data] y: got ", y.cols, " columns; expected ", outputs / levels,
          ", as the model has ", outputs, " outputs: one for each of the ", levels, " levels of each target");
  }
  check(custom || y.cols * levels == outputs, "[data] y: got ", y.cols, " columns; expected ", outputs,
        ", one for each output");
  if (finite && !searched) check_finite(y, "y");
  const auto* classes = kind_of<CrossEntropy>(loss);
  check(classes == nullptr || classes->gamma == 0.0, "[CrossEntropy] gamma: got ",
        classes != nullptr ? classes->gamma : 0.0,
        " for soft targets; expected labels (rows,), as focal loss multiplies the loss of a row by the probability of "
        "its label, or gamma=0");
  if (!finite || custom) return;
  const auto outside = [&](double low, double high) {
    return first_row(y, [=](auto t) { return static_cast<double>(t) < low || static_cast<double>(t) > high; });
  };
  if (classes != nullptr || kind_of<BinaryCrossEntropy>(loss) != nullptr) {
    const std::int64_t row = outside(0.0, 1.0);
    check(row < 0, "[", classes != nullptr ? "CrossEntropy" : "BinaryCrossEntropy",
          "] y: got a target outside [0, 1] in row ", row, "; expected numbers from 0 to 1");
  }
  if (kind_of<Poisson>(loss) != nullptr) {
    const std::int64_t row = outside(0.0, std::numeric_limits<double>::infinity());
    check(row < 0, "[Poisson] y: got a negative number in row ", row, "; expected counts or rates, numbers >= 0");
  }
}

/// Returns the power of two by which weights are scaled, given the largest. Weights of ordinary magnitude stay
/// unchanged (1); others could round to 0 or to infinity.
double unit_of(double largest) {
  constexpr double kSmall = 0x1p-32, kLarge = 0x1p32;
  if (!(largest > 0.0) || !std::isfinite(largest) || (largest >= kSmall && largest <= kLarge)) return 1.0;
  int exponent = 0;
  std::frexp(largest, &exponent);
  return std::ldexp(1.0, exponent - 1);
}

/// W_n as double: the weight of a row's label, the sum of its soft targets' weights, or the mean of its answers'. 0 for
/// a label that is none: its owner may have changed it since it was checked, and reading it for a batch refuses it.
double weight_of_row(const Source& y, bool labels, const Weights* weights, std::int64_t n) {
  const bool answers = weights != nullptr && weights->of == Weights::Of::answers;
  double sum = 0.0;
  with_type(y.type, [&]<class S>(S) {
    const S* row = static_cast<const S*>(y.data) + n * y.row_stride;
    for (std::int64_t c = 0; c < y.cols; ++c) {
      const double given = static_cast<double>(row[c]), value = labels ? 1.0 : given;
      if (labels && weights != nullptr && !weights->has(given)) return;
      const std::int64_t k = labels && weights != nullptr ? static_cast<std::int64_t>(given) : c;
      const OutputFactors<double> by = weights != nullptr ? weights->of_output(k) : OutputFactors<double>{};
      sum += value * by.first + (answers ? (1.0 - value) * by.second : 0.0);
    }
  });
  return answers ? sum / static_cast<double>(y.cols) : sum;
}

/// The two factors of a row's weight, s_n of the row itself and W_n of its targets.
struct RowWeights {
  const Dataset& data;
  std::optional<Weights> of_classes;
  bool soft, by_targets;

  RowWeights(const Dataset& data, const AnyLoss& loss)
      : data(data), of_classes(weights_of(loss)), soft(kind_of<CrossEntropy>(loss) != nullptr && !data.labels) {
    if (of_classes && !of_classes->cancel()) of_classes.reset();
    by_targets = data.y && (of_classes || soft);
  }
  bool differ() const { return data.weights || by_targets; }
  double own(std::int64_t n) const {
    double weight = 1.0;
    if (!data.weights) return weight;
    with_type(data.weights.type, [&]<class S>(S) {
      weight = static_cast<double>(static_cast<const S*>(data.weights.data)[n * data.weights.row_stride]);
    });
    return weight;
  }
  double of_targets(std::int64_t n) const {
    return by_targets ? weight_of_row(data.y, data.labels, of_classes ? &*of_classes : nullptr, n) : 1.0;
  }
};

/// Throws where a value of a row is NaN, or infinite in a dtype.
void check_row(const Source& source, std::int64_t n, DType dtype, const char* argument) {
  const double largest = dtype == DType::float32 ? static_cast<double>(std::numeric_limits<float>::max())
                                                 : std::numeric_limits<double>::max();
  with_type(source.type, [&]<class S>(S) {
    const S* row = static_cast<const S*>(source.data) + n * source.row_stride;
    for (std::int64_t c = 0; c < source.cols; ++c) {
      const double value = static_cast<double>(row[c]);
      check(std::abs(value) <= largest, "[data] ", argument, ": got ", value, " in row ", n, ", column ", c,
            ", whose weight is 0; expected finite numbers, as 0 times NaN or infinity is NaN in the gradients: a row "
            "of weight 0 is checked also with check_finite=False, because its loss does not count");
    }
  });
}

}  // namespace

void scale_weights(Dataset& data) {
  if (!data.weights) return;
  double largest = 0.0;
  first_row(data.weights, [&](auto w) {
    largest = std::max(largest, static_cast<double>(w));
    return false;
  });
  data.weight_unit = unit_of(largest);
  if (data.weight_unit == 1.0) return;
  std::vector<double> scaled;
  first_row(data.weights, [&](auto w) {
    scaled.push_back(static_cast<double>(w) / data.weight_unit);
    return false;
  });
  data.scaled_weights = std::make_shared<const std::vector<double>>(std::move(scaled));
  data.weights = {data.scaled_weights->data(), SourceType::f64, data.weights.rows, 1, 1};
}

void check_weights(const Dataset& data, const AnyLoss& loss, std::int64_t outputs, DType dtype,
                   const std::int64_t* rows, std::int64_t count) {
  const RowWeights weights(data, loss);
  const bool by_row = weights.by_targets, soft = weights.soft;
  const double lowest =
      smallest_normal(dtype) * (weights.of_classes ? unit_of(std::ranges::max(weights.of_classes->values)) : 1.0);
  if (!weights.differ()) return;
  if (by_row && data.labels) check_labels(data.y, outputs);
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t n = rows != nullptr ? rows[i] : i;
    double weight = weights.of_targets(n);
    // A batch with only such rows would divide by 0, or overflow, in the dtype.
    check(weight <= 0.0 || weight >= lowest, data.labels || soft ? "[CrossEntropy]" : "[BinaryCrossEntropy]",
          " y: got targets with the sum ", weight, " in row ", n, ", which ", name_of(dtype),
          ", the model's dtype, rounds to zero or to a subnormal number; expected 0 or at least ", lowest);
    weight *= weights.own(n);
    total += weight;
  }
  // Bounds so that neither the inverse nor Σ s_n l_n overflows, for losses up to 1e28.
  constexpr double kLeast = 1e-300, kMost = 1e280;
  total *= data.weight_unit;
  const char* what = !by_row               ? "[data] sample_weight"
                     : data.weights        ? "[data] sample_weight times the class weights of the targets y"
                     : data.labels || soft ? "[CrossEntropy] class_weights of the targets y"
                                           : "[BinaryCrossEntropy] class_weights of the targets y";
  check(total >= kLeast && total <= kMost, what, ": got the sum ", total, " over ", count,
        " rows; expected a positive finite sum, from 1e-300 to 1e280");
}

void check_uncounted(const Dataset& data, const AnyLoss& loss, DType dtype) {
  const RowWeights weights(data, loss);
  if (!weights.differ()) return;
  const bool numbers = !data.labels && !std::holds_alternative<CustomLoss>(loss);
  for (std::int64_t n = 0; n < data.x.rows; ++n) {
    if (weights.own(n) * weights.of_targets(n) != 0.0) continue;
    check_row(data.x, n, dtype, "x");
    if (numbers) check_row(data.y, n, dtype, "y");
  }
}

void check_labels(const Source& labels, std::int64_t outputs) {
  double label = 0.0;
  const std::int64_t row = first_row(labels, [&](auto given) {
    label = static_cast<double>(given);
    return label < 0.0 || label >= static_cast<double>(outputs);
  });
  check(row < 0, "[CrossEntropy] y: got the label ", label, " in row ", row, "; expected 0 to ", outputs - 1,
        ", one class for each of the model's ", outputs, " outputs");
}

namespace {

void check_kind(const MeanSquaredError&, std::int64_t) {}
void check_kind(const MeanAbsoluteError&, std::int64_t) {}
void check_kind(const Poisson&, std::int64_t) {}

/// Beyond, the formulas would multiply 0 by infinity, or squares of gradients in float32 would overflow.
constexpr double kMostGamma = 1e6, kMostPositiveWeight = 1e12;

void check_gamma(const char* kind, double gamma) {
  check(gamma >= 0.0 && gamma <= kMostGamma, "[", kind, "] gamma: got ", gamma, "; expected a number from 0 to ",
        kMostGamma, " (Lin et al. 2017 recommend 2 for focal loss), or 0 for plain cross-entropy");
}

void check_kind(const CrossEntropy& loss, std::int64_t outputs) {
  check(loss.label_smoothing >= 0.0 && loss.label_smoothing < 1.0, "[CrossEntropy] label_smoothing: got ",
        loss.label_smoothing, "; expected 0 <= label_smoothing < 1");
  check_gamma("CrossEntropy", loss.gamma);
  check(loss.gamma == 0.0 || loss.label_smoothing == 0.0, "[CrossEntropy] gamma, label_smoothing: got ", loss.gamma,
        " and ", loss.label_smoothing, "; expected one of them to be 0: focal loss is defined for labels alone");
  check(outputs == 0 || outputs >= 2,
        "[CrossEntropy] the model has 1 output; expected one for each class (BinaryCrossEntropy is for a single "
        "output)");
}

void check_kind(const BinaryCrossEntropy& loss, std::int64_t) {
  check_gamma("BinaryCrossEntropy", loss.gamma);
  check(!loss.pos_weight || !loss.class_weights,
        "[BinaryCrossEntropy] pos_weight, class_weights: got both; expected one of them (class_weights={0: 1, 1: w} is "
        "a weight w of yes)");
}

void check_kind(const Huber& loss, std::int64_t) {
  check(loss.delta > 0.0 && std::isfinite(loss.delta), "[Huber] delta: got ", loss.delta,
        "; expected a positive finite number, in the unit of the targets");
}

void check_kind(const Quantile& loss, std::int64_t outputs) {
  const std::int64_t count = std::ssize(loss.levels);
  check(count >= 1, "[Quantile] levels: got no numbers; expected at least one, such as 0.5 or [0.1, 0.5, 0.9]");
  for (auto level = loss.levels.begin(); level != loss.levels.end(); ++level) {
    check(*level > 0.0 && *level < 1.0, "[Quantile] levels: got ", *level, "; expected numbers between 0 and 1");
    check(std::find(loss.levels.begin(), level, *level) == level, "[Quantile] levels: got ", *level,
          " twice; expected levels that differ from each other");
  }
  check(outputs % count == 0, "[Quantile] levels: got ", count, " levels for a model with ", outputs,
        " outputs; expected a multiple of ", count, " outputs: one for each level of each target");
}

/// Checks the weights of a loss for a number of outputs (0: not known yet).
void check_numbers(const Weights& weights, std::int64_t outputs) {
  const std::int64_t count = std::ssize(weights.values);
  const char* name = weights.name;
  check(count > 0, name, ": got no numbers; expected ",
        weights.of == Weights::Of::answers ? "two, of no and of yes" : "one for each output");
  if (weights.of == Weights::Of::answers) {
    check(count == 2 || (outputs == 0 ? count % 2 == 0 : count == 2 * outputs), name, ": got ", count,
          " numbers; expected 2, of no and of yes, or these two for one output after the other");
  } else {
    const bool one_for_all = weights.of == Weights::Of::positives && count == 1;
    check(outputs == 0 || one_for_all || count == outputs, name, ": got ", count, " numbers; expected ", outputs,
          ", one for each output");
  }
  for (const double value : weights.values) {
    check(value >= 0.0 && std::isfinite(value), name, ": got ", value, "; expected finite numbers >= 0");
    check(weights.cancel() || value <= kMostPositiveWeight, name, ": got ", value, "; expected numbers from 0 to ",
          kMostPositiveWeight, ", such as how many no there are for each yes");
  }
  check(!weights.cancel() || std::ranges::any_of(weights.values, [](double value) { return value > 0.0; }), name,
        ": got only zeros; expected at least one positive number");
}

/// The numbers of each output in a dtype: those of yes or of the class, then, for answers, those of no.
template <class T>
std::vector<T> by_output(const Weights& weights, std::int64_t outputs, double unit) {
  std::vector<T> numbers;
  for (std::int64_t k = 0; k < outputs; ++k) numbers.push_back(static_cast<T>(weights.of_output(k).first / unit));
  for (std::int64_t k = 0; weights.of == Weights::Of::answers && k < outputs; ++k) {
    numbers.push_back(static_cast<T>(weights.of_output(k).second / unit));
  }
  return numbers;
}

/// Checks the weights, and returns the power of two by which they are divided.
double checked_unit(const Weights& weights, DType dtype) {
  const double largest = std::ranges::max(weights.values), unit = weights.cancel() ? unit_of(largest) : 1.0;
  for (const double value : weights.values) {
    if (!weights.cancel()) check_representable("BinaryCrossEntropy", "pos_weight", value, dtype);
    // A batch with only such a class would divide by 0, or overflow, in the dtype.
    check(!weights.cancel() || value == 0.0 || value / unit >= smallest_normal(dtype), weights.name, ": got ", value,
          ", which ", name_of(dtype),
          ", the model's dtype, rounds to zero or to a subnormal number relative to the largest, ", largest,
          "; expected 0 or at least ", smallest_normal(dtype) * unit);
  }
  return unit;
}

/// Throws where the dtype rounds an argument to 0 or to infinity, or a level to 0 or 1.
void check_arguments(const AnyLoss& loss, DType dtype) {
  if (const auto* huber = kind_of<Huber>(loss)) check_positive("Huber", "delta", huber->delta, dtype);
  if (const auto* bce = kind_of<BinaryCrossEntropy>(loss))
    check_representable("BinaryCrossEntropy", "gamma", bce->gamma, dtype);
  const auto* quantile = kind_of<Quantile>(loss);
  if (quantile == nullptr) return;
  for (const double level : quantile->levels) check_share("Quantile", "levels", level, dtype);
  for (const double level : quantile->levels) check_positive("Quantile", "levels", level, dtype);
}

}  // namespace

void check_loss(const AnyLoss& loss, std::int64_t outputs) {
  if (const Loss* known = std::get_if<Loss>(&loss)) {
    std::visit([&](const auto& kind) { check_kind(kind, outputs); }, *known);
  }
  if (const std::optional<Weights> weights = weights_of(loss)) check_numbers(*weights, outputs);
}

Buffer loss_weights(const AnyLoss& loss, std::int64_t outputs, Backend& backend, DType dtype) {
  check_arguments(loss, dtype);
  const std::optional<Weights> weights = weights_of(loss);
  const auto* quantile = kind_of<Quantile>(loss);
  if (!weights && quantile == nullptr) return {};
  Buffer buffer;
  with_type(dtype, [&]<class T>(T) {
    std::vector<T> host;
    if (weights) host = by_output<T>(*weights, outputs, checked_unit(*weights, dtype));
    for (std::int64_t k = 0; quantile != nullptr && k < 2 * outputs; ++k) {
      const double level = quantile->levels[static_cast<std::size_t>(k % outputs % std::ssize(quantile->levels))];
      host.push_back(static_cast<T>(k < outputs ? level : 1.0 - level));
    }
    buffer = Buffer(backend, host.size() * sizeof(T));
    backend.copy(buffer.data(), host.data(), host.size() * sizeof(T), CopyKind::to_device);
  });
  return buffer;
}

void check_data(const Dataset& data, const Network& network, const AnyLoss& loss, bool finite, bool searched) {
  check(data.x.rows >= 1, "[data] x: got 0 rows; expected at least 1");
  check(data.x.cols == network.in_features(), "[data] x: got ", data.x.cols, " columns; expected ",
        network.in_features());
  if (finite && !searched) check_finite(data.x, "x");
  if (data.y) check_targets(data, loss, network.out_features(), finite, searched);
  const DType dtype = network.dtype();
  if (!data.weights) {
    check_weights(data, loss, network.out_features(), dtype, nullptr, data.x.rows);
    return;
  }
  check(data.weights.rows == data.x.rows, "[data] sample_weight: got ", data.weights.rows, " numbers; expected ",
        data.x.rows, ", one for each row of x");
  if (finite) check_finite(data.weights, "sample_weight");
  double found = 0.0;
  const auto bad = [&](auto w) {
    found = static_cast<double>(w);
    return found < 0.0 || (found > 0.0 && found < smallest_normal(dtype));
  };
  const std::int64_t row = first_row(data.weights, bad);
  check(row < 0 || found > 0.0, "[data] sample_weight: got a negative number in row ", row, "; expected numbers >= 0");
  check(row < 0, "[data] sample_weight: got ", found * data.weight_unit, " in row ", row, ", which ", name_of(dtype),
        ", the model's dtype, rounds to zero or to a subnormal number relative to the largest; expected 0 or at least ",
        smallest_normal(dtype) * data.weight_unit);
  check_weights(data, loss, network.out_features(), dtype, nullptr, data.x.rows);
}

}  // namespace gdcore
