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

/// How many rows are computed at once: all, if a layer's outputs for a row depend on other rows.
std::int64_t rows_at_once(const Plan& plan, bool training, std::int64_t rows) {
  constexpr std::int64_t kNumbers = std::int64_t{1} << 22;  // approximate element count of a batch's outputs
  std::int64_t sum = plan.in;
  for (const Operation& operation : plan.operations) {
    if (training && operation.layer->couples_rows()) return rows;
    sum += operation.out;
  }
  return std::clamp<std::int64_t>(kNumbers / sum, 1, rows);
}

}  // namespace

Curvature::Curvature(std::shared_ptr<Network> network, AnyLoss loss, const Dataset& data, bool training)
    : network_(std::move(network)),
      criterion_(std::move(loss), *network_),
      data_(data),
      training_(training),
      point_(like(network_->parameters(), network_->backend())),
      direction_(like(network_->parameters(), network_->backend())),
      executor_(Plan::chain(network_->layers(), network_->in_features(), point_, false), network_->backend(), point_,
                Precision::full, true),
      total_(network_->backend(), network_->parameters().layout.bytes()),
      context_{.seed = network_->seed(), .step = network_->steps()} {
  // The function stays fixed while the network trains on; only the point of evaluation may change.
  const Parameters& own = network_->parameters();
  network_->backend().copy(point_.values.data(), own.values.data(), own.layout.bytes(), CopyKind::within);
  network_->backend().copy(point_.states.data(), own.states.data(), own.state_layout.bytes(), CopyKind::within);
  for (const Entry& entry : point_.layout.entries()) count_ += entry.frozen ? 0 : entry.rows * entry.cols;
  check(count_ > 0, "[analysis] model: got one without trainable parameters; expected at least one that is not frozen");
  batch_rows_ = rows_at_once(executor_.plan(), training_, data_.x.rows);
}

/// Copies the point `at`, or the network's parameters, to point_; frozen parameters stay unchanged.
void Curvature::go_to(ConstView at) {
  if (at) return scatter(at, point_.values);
  std::vector<char> own(static_cast<std::size_t>(count_) * size_of(network_->dtype()));
  const View vector{own.data(), 1, count_, network_->dtype()};
  point(vector);
  scatter(vector, point_.values);
}

void Curvature::point(View out) const { collect(network_->parameters().values, out); }

/// Calls work(batch), which returns the batch's sums, for all rows in batches; returns the total.
template <class Work>
LossSums Curvature::over_batches(const Work& work) {
  LossSums sums;
  for (std::int64_t first = 0; first < data_.x.rows; first += batch_rows_) {
    poll_interrupt();
    const std::int64_t rows = std::min(batch_rows_, data_.x.rows - first);
    sums.add(work(reader_.read(*network_, data_, nullptr, first, rows)));
  }
  return sums;
}

/// The same for derivatives: `part` holds those of a batch; `out` receives their mean, weighted by the batches'
/// weights.
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

View Curvature::forward(const Batch& batch) {
  return executor_.forward(batch.x, training_ ? Executor::Mode::train : Executor::Mode::differentiate, context_);
}

double Curvature::loss(ConstView at) {
  go_to(at);
  return over_batches([&](const Batch& batch) { return criterion_.apply(batch, forward(batch), {}); }).mean();
}

double Curvature::gradient(ConstView at, View out) {
  go_to(at);
  return average(point_.gradients, out, [&](const Batch& batch) {
    const View logits = forward(batch);
    const LossSums sums = criterion_.apply(batch, logits, executor_.output_gradient());
    executor_.backward({});
    return sums;
  });
}

void Curvature::product(ConstView at, ConstView v, View out) {
  go_to(at);
  scatter(v, direction_.values);
  average(direction_.gradients, out, [&](const Batch& batch) {
    const View logits = forward(batch), logits_dot = executor_.tangent(direction_);
    const LossSums sums = criterion_.apply(batch, logits, executor_.output_gradient());
    criterion_.curvature(batch, logits, logits_dot, executor_.output_gradient_tangent());
    executor_.curvature(direction_);
    return sums;
  });
}

/// The operation of a layer. Those of the layers inside a block come before that of the block.
std::size_t Curvature::operation_of(std::size_t layer) const {
  const auto& operations = executor_.plan().operations;
  const auto own = std::ranges::find(operations, network_->layers()[layer].get(), &Operation::layer);
  return static_cast<std::size_t>(own - operations.begin());
}

std::int64_t Curvature::width(std::size_t layer) const { return executor_.plan().operations[operation_of(layer)].out; }

void Curvature::outputs(std::span<const View> to) {
  go_to({});
  std::int64_t first = 0;
  over_batches([&](const Batch& batch) {
    forward(batch);
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (!to[i]) continue;
      const View y = executor_.output(operation_of(i));
      char* block = static_cast<char*>(to[i].data) + static_cast<std::size_t>(first * y.cols) * size_of(y.dtype);
      network_->backend().copy(block, y.data, y.bytes(), CopyKind::to_host);
    }
    first += batch.x.rows;
    return LossSums{};
  });
}

/// Copies a vector of P values to the entries of an arena.
void Curvature::scatter(ConstView from, const Buffer& to) const {
  const char* next = static_cast<const char*>(from.data);
  for (std::size_t i = 0; i < point_.layout.entries().size(); ++i) {
    if (point_.layout.entries()[i].frozen) continue;
    const View entry = point_.layout.view(to, static_cast<int>(i));
    network_->backend().copy(entry.data, next, entry.bytes(), CopyKind::to_device);
    next += entry.bytes();
  }
}

void Curvature::collect(const Buffer& from, View to) const {
  char* next = static_cast<char*>(to.data);
  for (std::size_t i = 0; i < point_.layout.entries().size(); ++i) {
    if (point_.layout.entries()[i].frozen) continue;
    const View entry = point_.layout.view(from, static_cast<int>(i));
    network_->backend().copy(next, entry.data, entry.bytes(), CopyKind::to_host);
    next += entry.bytes();
  }
}

}  // namespace gdcore
