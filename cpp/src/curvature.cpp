#include "gdcore/curvature.h"

#include <algorithm>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

Parameters like(const Parameters& given, Backend& backend) {
  Parameters made(given.layout.dtype());
  made.layout = given.layout;
  made.state_layout = given.state_layout;
  made.allocate(backend);
  return made;
}

}  // namespace

Curvature::Curvature(std::shared_ptr<Network> network, Loss loss, const Dataset& data, bool training)
    : network_(std::move(network)),
      criterion_(std::move(loss), *network_),
      data_(data),
      training_(training),
      point_(like(network_->parameters(), network_->backend())),
      direction_(like(network_->parameters(), network_->backend())),
      total_(network_->backend(), network_->parameters().layout.bytes()),
      step_(network_->step) {
  // The function stays the same while the network trains on: only where it is asked at may move.
  const Parameters& own = network_->parameters();
  network_->backend().copy(point_.values.data(), own.values.data(), own.layout.bytes(), CopyKind::within);
  network_->backend().copy(point_.states.data(), own.states.data(), own.state_layout.bytes(), CopyKind::within);
  plan();
}

/// The layers' widths, which of them train, and how many rows are computed at once.
void Curvature::plan() {
  constexpr std::int64_t kNumbers = std::int64_t{1} << 22;  // of a batch's outputs, about
  const auto& layers = network_->layers();
  std::int64_t width = widest_ = network_->in_features(), sum = width;
  bool couples = false;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Place place{.in = width, .out = layers[i]->output_features(width), .statistics = layers[i]->statistics(width)};
    place.trains = std::ranges::any_of(point_.layout.entries(), [&](const Entry& entry) {
      return !entry.frozen && entry.layer == static_cast<int>(i);
    });
    width = place.out;
    widest_ = std::max(widest_, width);
    sum += width;
    couples = couples || (training_ && layers[i]->couples_rows());
    places_.push_back(place);
  }
  for (const Entry& entry : point_.layout.entries()) count_ += entry.frozen ? 0 : entry.rows * entry.cols;
  check(count_ > 0, "[analysis] model has no parameters that train; unfreeze some");
  while (!places_[lowest_].trains) ++lowest_;
  batch_rows_ = couples ? data_.x.rows : std::clamp<std::int64_t>(kNumbers / sum, 1, data_.x.rows);
}

void Curvature::reserve(std::int64_t rows) {
  if (rows <= capacity_) return;
  std::size_t end = 0;
  const auto take = [&](std::int64_t cols, std::int64_t count) {
    const std::size_t offset = end;
    end += round_up(static_cast<std::size_t>(checked_size(count, cols)) * size_of(network_->dtype()), kAlignment);
    return offset;
  };
  for (Place& place : places_) {
    place.y = take(place.out, rows);
    place.y_dot = take(place.out, rows);
    place.kept = take(place.statistics.fixed + checked_size(place.statistics.per_row, rows), 1);
  }
  for (std::size_t* offset : {&dy_[0], &dy_[1], &dy_dot_[0], &dy_dot_[1], &spare_}) *offset = take(widest_, rows);
  workspace_ = Buffer();
  workspace_ = Buffer(network_->backend(), end);
  capacity_ = rows;
}

View Curvature::slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const {
  return {static_cast<char*>(workspace_.data()) + offset, rows, cols, network_->dtype()};
}

/// The network's parameters, or those at `at`, into point_; frozen ones stay as they were.
void Curvature::go_to(ConstView at) {
  if (at) return scatter(at, point_.values);
  std::vector<char> own(static_cast<std::size_t>(count_) * size_of(network_->dtype()));
  const View vector{own.data(), 1, count_, network_->dtype()};
  point(vector);
  scatter(vector, point_.values);
}

void Curvature::point(View out) const { collect(network_->parameters().values, out); }

/// work(batch) for all rows, some at a time; it returns the batch's sums. Their sum.
template <class Work>
LossSums Curvature::over_batches(const Work& work) {
  LossSums sums;
  for (std::int64_t first = 0; first < data_.x.rows; first += batch_rows_) {
    poll_interrupt();
    const std::int64_t rows = std::min(batch_rows_, data_.x.rows - first);
    reserve(rows);
    const LossSums more = work(reader_.read(*network_, data_, nullptr, first, rows));
    sums.loss += more.loss;
    sums.weight += more.weight;
  }
  return sums;
}

/// The same for derivatives: a batch's are in `part`, their mean by the batches' weights goes to `out`.
template <class Work>
double Curvature::average(const Buffer& part, View out, const Work& work) {
  Backend& backend = network_->backend();
  const View total = point_.layout.flat(total_), now = point_.layout.flat(part);
  double weight = 0.0;
  bool first = true;
  const LossSums sums = over_batches([&](const Batch& batch) {
    const LossSums more = work(batch);
    weight += more.weight;
    const double share = weight > 0.0 ? more.weight / weight : 0.0;
    if (first) {
      backend.copy(total.data, now.data, total.bytes(), CopyKind::within);
    } else {
      backend.lerp({total, now, 1.0 - share});
    }
    first = false;
    return more;
  });
  collect(total_, out);
  return sums.mean();
}

LayerCall Curvature::call(std::size_t number, const Batch& batch) const {
  const Place& place = places_[number];
  const std::int64_t rows = batch.x.rows;
  return {.backend = network_->backend(),
          .parameters = point_,
          .activation = Identity{},
          .x = number == 0 ? batch.x : ConstView(slice(places_[number - 1].y, rows, place.in)),
          .y = slice(place.y, rows, place.out),
          .pre = {},
          .statistics = slice(place.kept, 1, place.statistics.fixed + place.statistics.per_row * rows),
          .dy = {},
          .dx = {},
          .training = training_,
          .seed = network_->seed(),
          .step = step_};
}

/// Null up to the first layer that trains: nothing moves there.
ConstView Curvature::input_dot(std::size_t number, std::int64_t rows) const {
  return number <= lowest_ ? ConstView{} : slice(places_[number - 1].y_dot, rows, places_[number].in);
}

View Curvature::forward(const Batch& batch) {
  for (std::size_t i = 0; i < places_.size(); ++i) network_->layers()[i]->forward(call(i, batch));
  return slice(places_.back().y, batch.x.rows, places_.back().out);
}

void Curvature::tangent(const Batch& batch) {
  const std::int64_t rows = batch.x.rows;
  for (std::size_t i = lowest_; i < places_.size(); ++i) {
    const Place& place = places_[i];
    const LayerCall layer = call(i, batch);
    network_->layers()[i]->tangent({.layer = layer,
                                    .direction = direction_,
                                    .x_dot = input_dot(i, rows),
                                    .y_dot = slice(place.y_dot, rows, place.out),
                                    .dy_dot = {},
                                    .dx_dot = {},
                                    .spare = slice(spare_, rows, place.out)});
  }
}

/// From dy_[0], and dy_dot_[0] if the second derivatives are wanted, down to the first layer that trains.
void Curvature::backward(const Batch& batch, bool second) {
  const std::int64_t rows = batch.x.rows;
  int now = 0;
  for (std::size_t i = places_.size(); i-- > lowest_; now = 1 - now) {
    const Place& place = places_[i];
    LayerCall layer = call(i, batch);
    layer.dy = slice(dy_[now], rows, place.out);
    if (i > lowest_) layer.dx = slice(dy_[1 - now], rows, place.in);
    if (!second) {
      network_->layers()[i]->backward(layer);
      continue;
    }
    network_->layers()[i]->curvature({.layer = layer,
                                      .direction = direction_,
                                      .x_dot = input_dot(i, rows),
                                      .y_dot = {},
                                      .dy_dot = slice(dy_dot_[now], rows, place.out),
                                      .dx_dot = i > lowest_ ? slice(dy_dot_[1 - now], rows, place.in) : View{},
                                      .spare = slice(spare_, rows, place.in)});
  }
}

double Curvature::loss(ConstView at) {
  go_to(at);
  return over_batches([&](const Batch& batch) { return criterion_.apply(batch, forward(batch), {}); }).mean();
}

double Curvature::gradient(ConstView at, View out) {
  go_to(at);
  return average(point_.gradients, out, [&](const Batch& batch) {
    const View logits = forward(batch);
    const LossSums sums = criterion_.apply(batch, logits, slice(dy_[0], logits.rows, logits.cols));
    backward(batch, false);
    return sums;
  });
}

void Curvature::product(ConstView at, ConstView v, View out) {
  go_to(at);
  scatter(v, direction_.values);
  average(direction_.gradients, out, [&](const Batch& batch) {
    const View logits = forward(batch);
    tangent(batch);
    const LossSums sums = criterion_.apply(batch, logits, slice(dy_[0], logits.rows, logits.cols));
    criterion_.curvature(batch, logits, slice(places_.back().y_dot, logits.rows, logits.cols),
                         slice(dy_dot_[0], logits.rows, logits.cols));
    backward(batch, true);
    return sums;
  });
}

void Curvature::outputs(std::span<const View> to) {
  go_to({});
  std::int64_t first = 0;
  over_batches([&](const Batch& batch) {
    forward(batch);
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (!to[i]) continue;
      const View y = slice(places_[i].y, batch.x.rows, places_[i].out);
      char* place = static_cast<char*>(to[i].data) + static_cast<std::size_t>(first * y.cols) * size_of(y.dtype);
      network_->backend().copy(place, y.data, y.bytes(), CopyKind::to_host);
    }
    first += batch.x.rows;
    return LossSums{};
  });
}

/// A vector of P numbers to its places in an arena.
void Curvature::scatter(ConstView from, const Buffer& to) const {
  const char* next = static_cast<const char*>(from.data);
  for (std::size_t i = 0; i < point_.layout.entries().size(); ++i) {
    if (point_.layout.entries()[i].frozen) continue;
    const View place = point_.layout.view(to, static_cast<int>(i));
    network_->backend().copy(place.data, next, place.bytes(), CopyKind::to_device);
    next += place.bytes();
  }
}

void Curvature::collect(const Buffer& from, View to) const {
  char* next = static_cast<char*>(to.data);
  for (std::size_t i = 0; i < point_.layout.entries().size(); ++i) {
    if (point_.layout.entries()[i].frozen) continue;
    const View place = point_.layout.view(from, static_cast<int>(i));
    network_->backend().copy(next, place.data, place.bytes(), CopyKind::to_host);
    next += place.bytes();
  }
}

}  // namespace gdcore
