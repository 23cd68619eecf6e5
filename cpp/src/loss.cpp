// Checks of losses and of the data that goes into them.
#include "gdcore/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "gdcore/batch.h"
#include "gdcore/check.h"

namespace gdcore {

namespace {

/// The loss as one of this kind, or null.
template <class Kind>
const Kind* kind_of(const AnyLoss& loss) {
  const Loss* known = std::get_if<Loss>(&loss);
  return known != nullptr ? std::get_if<Kind>(known) : nullptr;
}

/// The loss's weights of classes or outputs, or null.
const std::vector<double>* weights_of(const AnyLoss& loss) {
  if (const auto* ce = kind_of<CrossEntropy>(loss)) return ce->class_weights ? &*ce->class_weights : nullptr;
  if (const auto* bce = kind_of<BinaryCrossEntropy>(loss)) return bce->pos_weight ? &*bce->pos_weight : nullptr;
  return nullptr;
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
  check(custom || y.cols == outputs, "[data] y: got ", y.cols, " columns; expected ", outputs, ", one for each output");
  if (finite && !searched) check_finite(y, "y");
  if (!finite || custom || kind_of<MeanSquaredError>(loss) != nullptr) return;
  const char* name = kind_of<CrossEntropy>(loss) != nullptr ? "CrossEntropy" : "BinaryCrossEntropy";
  const std::int64_t row =
      first_row(y, [](auto t) { return static_cast<double>(t) < 0.0 || static_cast<double>(t) > 1.0; });
  check(row < 0, "[", name, "] y: got a target outside [0, 1] in row ", row, "; expected numbers from 0 to 1");
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

/// The smallest normal number of a dtype.
double least(DType dtype) {
  return dtype == DType::float32 ? double{std::numeric_limits<float>::min()} : std::numeric_limits<double>::min();
}

/// W_n as double: the weight of a row's label, or the sum of its soft targets' weights.
double weight_of_row(const Source& y, bool labels, const std::vector<double>* class_weights, std::int64_t n) {
  double sum = 0.0;
  with_type(y.type, [&]<class S>(S) {
    const S* row = static_cast<const S*>(y.data) + n * y.row_stride;
    for (std::int64_t c = 0; c < y.cols; ++c) {
      const double value = static_cast<double>(row[c]);
      if (labels) {
        sum += class_weights != nullptr ? (*class_weights)[static_cast<std::size_t>(row[c])] : 1.0;
      } else {
        sum += value * (class_weights != nullptr ? (*class_weights)[static_cast<std::size_t>(c)] : 1.0);
      }
    }
  });
  return sum;
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
  const auto* classes = kind_of<CrossEntropy>(loss);
  const std::vector<double>* class_weights = classes != nullptr ? weights_of(loss) : nullptr;
  const double lowest = least(dtype) * (class_weights != nullptr ? unit_of(std::ranges::max(*class_weights)) : 1.0);
  const bool by_row = classes != nullptr && data.y && (class_weights != nullptr || !data.labels);
  if (!data.weights && !by_row) return;
  if (by_row && data.labels) check_labels(data.y, outputs);
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t n = rows != nullptr ? rows[i] : i;
    double weight = by_row ? weight_of_row(data.y, data.labels, class_weights, n) : 1.0;
    // A batch with only such rows would divide by 0, or overflow, in the dtype.
    check(weight <= 0.0 || weight >= lowest, "[CrossEntropy] y: got targets with the sum ", weight, " in row ", n,
          ", which ", name_of(dtype),
          ", the model's dtype, rounds to zero or to a subnormal number; expected 0 or at least ", lowest);
    if (data.weights) {
      with_type(data.weights.type, [&]<class S>(S) {
        weight *= static_cast<double>(static_cast<const S*>(data.weights.data)[n * data.weights.row_stride]);
      });
    }
    total += weight;
  }
  // Bounds so that neither the inverse nor Σ s_n l_n overflows, for losses up to 1e28.
  constexpr double kLeast = 1e-300, kMost = 1e280;
  total *= data.weight_unit;
  const char* what = !by_row         ? "[data] sample_weight"
                     : !data.weights ? "[CrossEntropy] class_weights of the targets y"
                                     : "[data] sample_weight times the class weights of the targets y";
  check(total >= kLeast && total <= kMost, what, ": got the sum ", total, " over ", count,
        " rows; expected a positive finite sum, from 1e-300 to 1e280");
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

void check_loss(const AnyLoss& loss, std::int64_t outputs) {
  if (const auto* ce = kind_of<CrossEntropy>(loss)) {
    check(ce->label_smoothing >= 0.0 && ce->label_smoothing < 1.0, "[CrossEntropy] label_smoothing: got ",
          ce->label_smoothing, "; expected 0 <= label_smoothing < 1");
    check(outputs == 0 || outputs >= 2,
          "[CrossEntropy] the model has 1 output; expected one for each class (BinaryCrossEntropy is for a single "
          "output)");
  }
  const std::vector<double>* weights = weights_of(loss);
  if (weights == nullptr) return;
  const bool binary = kind_of<BinaryCrossEntropy>(loss) != nullptr;
  const char* name = binary ? "[BinaryCrossEntropy] pos_weight" : "[CrossEntropy] class_weights";
  const bool one_for_all = binary && weights->size() == 1;
  check(!weights->empty(), name, ": got no numbers; expected one for each output");
  check(outputs == 0 || one_for_all || static_cast<std::int64_t>(weights->size()) == outputs, name, ": got ",
        weights->size(), " numbers; expected ", outputs, ", one for each output");
  for (const double value : *weights) {
    check(value >= 0.0 && std::isfinite(value), name, ": got ", value, "; expected finite numbers >= 0");
  }
  if (binary) return;
  check(std::ranges::any_of(*weights, [](double value) { return value > 0.0; }), name,
        ": got only zeros; expected at least one positive number");
}

Buffer loss_weights(const AnyLoss& loss, std::int64_t outputs, Backend& backend, DType dtype) {
  const std::vector<double>* weights = weights_of(loss);
  if (weights == nullptr) return {};
  // Class weights cancel in the mean, so they may be scaled; pos_weight does not cancel.
  const bool divides_out = kind_of<CrossEntropy>(loss) != nullptr;
  const double largest = std::ranges::max(*weights), unit = divides_out ? unit_of(largest) : 1.0;
  for (const double value : *weights) {
    if (!divides_out) check_representable("BinaryCrossEntropy", "pos_weight", value, dtype);
    // A batch with only such a class would divide by 0, or overflow, in the dtype.
    check(!divides_out || value == 0.0 || value / unit >= least(dtype), "[CrossEntropy] class_weights: got ", value,
          ", which ", name_of(dtype),
          ", the model's dtype, rounds to zero or to a subnormal number relative to the largest, ", largest,
          "; expected 0 or at least ", least(dtype) * unit);
  }
  Buffer buffer(backend, static_cast<std::size_t>(outputs) * size_of(dtype));
  with_type(dtype, [&]<class T>(T) {
    std::vector<T> host(static_cast<std::size_t>(outputs), static_cast<T>(weights->front() / unit));
    for (std::size_t i = 0; i < weights->size(); ++i) host[i] = static_cast<T>((*weights)[i] / unit);
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
    return found < 0.0 || (found > 0.0 && found < least(dtype));
  };
  const std::int64_t row = first_row(data.weights, bad);
  check(row < 0 || found > 0.0, "[data] sample_weight: got a negative number in row ", row, "; expected numbers >= 0");
  check(row < 0, "[data] sample_weight: got ", found * data.weight_unit, " in row ", row, ", which ", name_of(dtype),
        ", the model's dtype, rounds to zero or to a subnormal number relative to the largest; expected 0 or at least ",
        least(dtype) * data.weight_unit);
  check_weights(data, loss, network.out_features(), dtype, nullptr, data.x.rows);
}

}  // namespace gdcore
