// Checks of losses and of the data that goes into them.
#include "gdcore/loss.h"

#include <cmath>

#include "gdcore/batch.h"
#include "gdcore/check.h"

namespace gdcore {

namespace {

/// The loss's weights of classes or outputs, or null.
const std::vector<double>* weights_of(const Loss& loss) {
  if (const auto* ce = std::get_if<CrossEntropy>(&loss)) return ce->class_weights ? &*ce->class_weights : nullptr;
  if (const auto* bce = std::get_if<BinaryCrossEntropy>(&loss)) return bce->pos_weight ? &*bce->pos_weight : nullptr;
  return nullptr;
}

/// The first value of a source that `bad` says yes to, as a row number, or -1.
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
  check(at < 0, "[data] ", argument, " holds NaN or infinity in row ", source.cols > 0 ? at / source.cols : 0,
        ", column ", source.cols > 0 ? at % source.cols : 0, "; expected finite numbers");
}

void check_targets(const Dataset& data, const Loss& loss, std::int64_t outputs, bool finite) {
  const Source& y = data.y;
  check(y.rows == data.x.rows, "[data] y has ", y.rows, " rows and x has ", data.x.rows, "; expected as many");
  if (data.labels) {
    check_labels(y, outputs);
    return;
  }
  check(y.cols == outputs, "[data] y has ", y.cols, " columns; the model has ", outputs, " outputs");
  if (finite) check_finite(y, "y");
  if (!finite || std::holds_alternative<MeanSquaredError>(loss)) return;
  const char* name = std::holds_alternative<CrossEntropy>(loss) ? "CrossEntropy" : "BinaryCrossEntropy";
  const std::int64_t row =
      first_row(y, [](auto t) { return static_cast<double>(t) < 0.0 || static_cast<double>(t) > 1.0; });
  check(row < 0, "[", name, "] y holds a target outside [0, 1] in row ", row);
}

}  // namespace

void check_labels(const Source& labels, std::int64_t outputs) {
  double label = 0.0;
  const std::int64_t row = first_row(labels, [&](auto given) {
    label = static_cast<double>(given);
    return label < 0.0 || label >= static_cast<double>(outputs);
  });
  check(row < 0, "[CrossEntropy] y has the label ", label, " in row ", row, "; expected 0 to ", outputs - 1,
        ", one class for each of the model's ", outputs, " outputs");
}

void check_loss(const Loss& loss, std::int64_t outputs) {
  if (const auto* ce = std::get_if<CrossEntropy>(&loss)) {
    check(ce->label_smoothing >= 0.0 && ce->label_smoothing < 1.0, "[CrossEntropy] label_smoothing is ",
          ce->label_smoothing, "; expected 0 <= label_smoothing < 1");
    check(outputs == 0 || outputs >= 2,
          "[CrossEntropy] the model has 1 output; expected one for each class "
          "(BinaryCrossEntropy takes a single one)");
  }
  const std::vector<double>* weights = weights_of(loss);
  if (weights == nullptr) return;
  const char* name =
      std::holds_alternative<CrossEntropy>(loss) ? "[CrossEntropy] class_weights" : "[BinaryCrossEntropy] pos_weight";
  const bool one_for_all = std::holds_alternative<BinaryCrossEntropy>(loss) && weights->size() == 1;
  check(!weights->empty(), name, " is empty; expected one number for each output");
  check(outputs == 0 || one_for_all || static_cast<std::int64_t>(weights->size()) == outputs, name, " has ",
        weights->size(), " numbers; the model has ", outputs, " outputs");
  for (const double value : *weights) {
    check(value >= 0.0 && std::isfinite(value), name, " holds ", value, "; expected finite numbers >= 0");
  }
}

Buffer loss_weights(const Loss& loss, std::int64_t outputs, Backend& backend, DType dtype) {
  const std::vector<double>* weights = weights_of(loss);
  if (weights == nullptr) return {};
  Buffer buffer(backend, static_cast<std::size_t>(outputs) * size_of(dtype));
  with_type(dtype, [&]<class T>(T) {
    std::vector<T> host(static_cast<std::size_t>(outputs), static_cast<T>(weights->front()));
    if (weights->size() > 1) host.assign(weights->begin(), weights->end());
    backend.copy(buffer.data(), host.data(), host.size() * sizeof(T), CopyKind::to_device);
  });
  return buffer;
}

void check_data(const Dataset& data, const Network& network, const Loss& loss, bool finite) {
  check(data.x.rows >= 1, "[data] x is empty; expected at least one row");
  check(data.x.cols == network.in_features(), "[data] x has ", data.x.cols, " columns; the model takes ",
        network.in_features());
  if (finite) check_finite(data.x, "x");
  if (data.y) check_targets(data, loss, network.out_features(), finite);
  if (!data.weights) return;
  check(data.weights.rows == data.x.rows, "[data] sample_weight has ", data.weights.rows, " numbers and x has ",
        data.x.rows, " rows; expected as many");
  if (finite) check_finite(data.weights, "sample_weight");
  const std::int64_t row = first_row(data.weights, [](auto w) { return static_cast<double>(w) < 0.0; });
  check(row < 0, "[data] sample_weight is negative in row ", row, "; expected numbers >= 0");
}

}  // namespace gdcore
