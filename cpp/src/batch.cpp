#include "gdcore/batch.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "gdcore/check.h"

namespace gdcore {

void check_rows(const std::int64_t* rows, std::int64_t count, std::int64_t dataset_rows) {
  for (std::int64_t i = 0; rows != nullptr && i < count; ++i) {
    check(rows[i] >= 0 && rows[i] < dataset_rows, "[Trainer] rows[", i, "]: got ", rows[i], "; expected 0 to ",
          dataset_rows - 1);
  }
}

const std::int64_t* BatchReader::index_of(const RowOrder& order, std::int64_t first, std::int64_t rows) {
  next_ = 0;
  if (order.shuffle == nullptr) return order.rows + first;
  // Small batches pay for vectorised rounds only if many positions are computed at once.
  constexpr std::int64_t kAtOnce = 512;
  const std::int64_t left = order.shuffle->n - first, wanted = rows <= kAtOnce / 4 ? std::min(2 * rows, left) : rows;
  if (shuffle_ != *order.shuffle || first < begin_ || first + wanted > begin_ + std::ssize(positions_)) {
    shuffle_ = {};  // an interruption leaves incomplete positions
    const std::int64_t ahead = std::min(kAtOnce / rows * rows, left);
    positions_.resize(static_cast<std::size_t>(std::max(rows, ahead)));
    fill_order({nullptr, order.shuffle}, first, std::ssize(positions_), positions_.data());
    shuffle_ = *order.shuffle;
    begin_ = first;
  }
  const std::int64_t* positions = positions_.data() + (first - begin_);
  next_ = wanted - rows;
  if (order.rows == nullptr) return positions;
  rows_.resize(static_cast<std::size_t>(wanted));
  for (std::int64_t i = 0; i < wanted; ++i) rows_[static_cast<std::size_t>(i)] = order.rows[positions[i]];
  return rows_.data();
}

Batch BatchReader::read(const Network& network, const Dataset& data, const RowOrder& order, std::int64_t first,
                        std::int64_t rows) {
  const Profiled scope(network.backend().profile(), [&] {
    const std::int64_t numbers = rows * (data.x.cols + (data.labels ? 1 : data.y.cols) + data.weights.cols);
    return Profiled::Operation{"rows of the batch",
                               {.bytes = static_cast<double>(numbers) * 2.0 * size_of(network.dtype())}};
  });
  Batch batch;
  const std::int64_t* index = order.is_plain() ? nullptr : index_of(order, first, rows);
  if (index != nullptr) {  // the order is evaluated once for inputs, targets and weights
    if (order.rows != nullptr || order.shuffle->n > data.x.rows) check_rows(index, rows, data.x.rows);
    first = 0;
  }
  Backend& backend = network.backend();
  const auto of = [&](const Source& source) -> Gather {
    return {.source = source, .order = index, .first = first, .count = rows, .next = index != nullptr ? next_ : 0};
  };
  batch.x = fetch(backend, network.dtype(), of(data.x), x_);
  if (data.labels) {
    Gather labels = of(data.y);
    labels.type = GatherType::label;
    gather_into(backend, labels, y_);
    batch.labels = static_cast<const std::int32_t*>(y_.data());
    // Checked again, as kernels use labels as indices: the owner of y may have changed it since.
    if (backend.device() == Device::cpu) {
      check_labels({y_.data(), SourceType::i32, rows, 1, 1}, network.out_features());
    }
  } else {
    batch.targets = fetch(backend, network.dtype(), of(data.y), y_);
  }
  if (data.weights) {
    batch.weights = fetch(backend, network.dtype(), of(data.weights), weights_);
    std::swap(batch.weights.rows, batch.weights.cols);  // (N, 1) is kept as (1, N)
  }
  return batch;
}

Criterion::Criterion(AnyLoss loss, const Network& network)
    : loss_(std::move(loss)),
      backend_(network.backend()),
      dtype_(network.dtype()),
      outputs_(network.out_features()),
      sums_(network.backend(), sizeof(LossSums)),
      host_(network.backend()) {
  check_loss(loss_, outputs_);
  class_weights_ = loss_weights(loss_, outputs_, backend_, dtype_);
}

ConstView Criterion::class_weights() const {
  return {class_weights_.data(), 1, static_cast<std::int64_t>(class_weights_.bytes() / size_of(dtype_)), dtype_};
}

LossPass Criterion::pass(const Batch& batch, ConstView logits, View grad) const {
  return {std::get<Loss>(loss_), logits, batch.targets, batch.labels, batch.weights, class_weights(), grad, sums()};
}

LossSums Criterion::apply(const Batch& batch, ConstView logits, View grad, StepCounters* counters) {
  const Profiled scope(backend_.profile(), [&] {
    const auto bytes = static_cast<double>(logits.size()) * static_cast<double>(size_of(logits.dtype));
    return Profiled::Operation{on_device() ? "loss" : "loss of one's own", {.bytes = (grad ? 3.0 : 2.0) * bytes}};
  });
  if (const auto* custom = std::get_if<CustomLoss>(&loss_)) return host_.apply(*custom, batch, logits, grad);
  LossPass call = pass(batch, logits, grad);
  call.counters = counters;
  backend_.loss(call);
  LossSums result;
  if (counters == nullptr) backend_.copy(&result, sums_.data(), sizeof result, CopyKind::to_host);
  return result;
}

void Criterion::curvature(const Batch& batch, ConstView logits, ConstView tangent, View grad) {
  if (const auto* custom = std::get_if<CustomLoss>(&loss_))
    return host_.curvature(*custom, batch, logits, tangent, grad);
  backend_.loss_curvature(pass(batch, logits, grad), tangent);
}

}  // namespace gdcore
