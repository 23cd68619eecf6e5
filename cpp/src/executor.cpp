#include "gdcore/executor.h"

#include <algorithm>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

/// The profile's description of a pass through an operation. `products`: its work, in forward passes.
Profiled::Operation profiled(const Operation& operation, DType dtype, std::int64_t rows, const char* pass,
                             double products) {
  const std::string& place = operation.layer->place;
  std::string layers = place.empty() ? join("layers.", operation.first) : place;
  if (operation.last > operation.first) layers += join("-", std::stoi(layers.substr(layers.rfind('.') + 1)) + 1);
  const double in = static_cast<double>(rows * operation.in), out = static_cast<double>(rows * operation.out);
  const bool dense = std::holds_alternative<DenseComputation>(operation.computation);
  return {.name = join(layers, " ", operation.describe(), " (", operation.in, " to ", operation.out, "), ", pass),
          .cost = {.operations = dense ? 2.0 * products * in * static_cast<double>(operation.out) : 0.0,
                   .bytes = products * (in + out) * static_cast<double>(size_of(dtype))}};
}

}  // namespace

Executor::Executor(Plan plan, Backend& backend, const Parameters& parameters, Precision precision, bool directions)
    : plan_(std::move(plan)),
      backend_(backend),
      parameters_(parameters),
      precision_(precision),
      directions_(directions),
      buffers_(plan_.operations.size()),
      trains_(plan_.operations.size()),
      moves_(plan_.operations.size()),
      is_identity_(plan_.operations.size()),
      has_part_(plan_.operations.size() + 1),
      packed_(plan_.operations.size()) {
  plan_.validate();
  for (const Operation& operation : plan_.operations) {
    operation_of_.resize(static_cast<std::size_t>(operation.last) + 1,
                         static_cast<int>(&operation - &plan_.operations[0]));
  }
  for (std::size_t i = 0; i + 1 < buffers_.size(); ++i) {
    const Operation& operation = plan_.operations[i];
    is_identity_[i] = operation.layer->trains_only() && operation.skip == kNothing;
  }
  assign_gradients();
}

/// Shares few buffers among the gradients of all outputs: a buffer is free again once the backward pass is past its
/// operation. A chain needs two.
void Executor::assign_gradients() {
  std::vector<bool> taken, assigned(buffers_.size());
  const auto assign = [&](int operation) {
    if (operation < 0 || assigned[static_cast<std::size_t>(operation)]) return;
    const auto free = std::ranges::find(taken, false) - taken.begin();
    if (free == std::ssize(taken)) taken.push_back(false);
    taken[static_cast<std::size_t>(free)] = assigned[static_cast<std::size_t>(operation)] = true;
    buffers_[static_cast<std::size_t>(operation)].gradient = static_cast<int>(free);
  };
  bool skips = false;
  for (std::size_t i = buffers_.size(); i-- > 0;) {
    if (i + 1 == buffers_.size()) assign(static_cast<int>(i));
    assign(plan_.operations[i].input);
    assign(plan_.operations[i].skip);
    skips = skips || plan_.operations[i].skip != kNothing;
    taken[static_cast<std::size_t>(buffers_[i].gradient)] = false;
  }
  addend_ = static_cast<int>(taken.size());
  gradients_.resize(taken.size() + (skips ? 1 : 0));
  gradients_dot_.resize(directions_ ? gradients_.size() : 0);
}

/// Finds the operations with parameters that are not frozen, and those whose outputs depend on such parameters.
void Executor::find_trained() {
  if (std::exchange(trained_for_, parameters_.layout.freezes()) == parameters_.layout.freezes()) return;
  std::ranges::fill(trains_, char{0});
  for (const Entry& entry : parameters_.layout.entries()) {
    if (!entry.frozen) trains_[static_cast<std::size_t>(operation_of_[static_cast<std::size_t>(entry.layer)])] = 1;
  }
  for (std::size_t i = 0; i < trains_.size(); ++i) {
    const Operation& operation = plan_.operations[i];
    moves_[i] = trains_[i] != 0 || moves(operation.input) || moves(operation.skip);
  }
}

void Executor::reserve(std::int64_t rows) {
  if (rows <= capacity_) return;
  std::size_t end = 0;
  const auto take = [&](std::int64_t count, std::int64_t each) {
    const std::size_t bytes = static_cast<std::size_t>(checked_size(count, each)) * size_of(parameters_.layout.dtype());
    return std::exchange(end, end + round_up(bytes, kAlignment));
  };
  std::int64_t widest = plan_.in;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const Operation& operation = plan_.operations[i];
    Buffers& buffers = buffers_[i];
    buffers.y = take(rows, operation.out);
    buffers.pre = operation.keeps_pre() ? take(rows, operation.out) : 0;
    buffers.statistics = take(operation.statistics.fixed + checked_size(operation.statistics.per_row, rows), 1);
    buffers.y_dot = directions_ ? take(rows, operation.out) : 0;
    const bool skips = operation.skip != kNothing;
    const bool only_adds = operation.layer->inner() != nullptr;  // its output is the sum
    buffers.sum = !skips ? 0 : only_adds ? buffers.y : take(rows, operation.in);
    buffers.sum_dot = skips && directions_ ? take(rows, operation.in) : 0;
    widest = std::max(widest, operation.out);
  }
  for (std::size_t& offset : gradients_) offset = take(rows, widest);
  for (std::size_t& offset : gradients_dot_) offset = take(rows, widest);
  spare_ = directions_ ? take(rows, widest) : 0;
  ++version_;
  capacity_ = 0;  // if the allocation fails, the next call tries again
  saved_ = false;
  workspace_ = Buffer();
  workspace_ = Buffer(backend_, end);
  capacity_ = rows;
}

View Executor::slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const {
  return {static_cast<char*>(workspace_.data()) + offset, rows, cols, parameters_.layout.dtype()};
}

View Executor::output(std::size_t operation) const {
  return slice(buffers_[operation].y, x_.rows, plan_.operations[operation].out);
}

View Executor::gradient(const std::vector<std::size_t>& buffers, int number, std::int64_t cols) const {
  return slice(buffers[static_cast<std::size_t>(number)], x_.rows, cols);
}

/// The output of an operation, or the batch; skips operations that return their input unchanged when predicting.
ConstView Executor::read(int number) const {
  while (mode_ == Mode::predict && number != kBatch && is_identity_[static_cast<std::size_t>(number)] != 0) {
    number = plan_.operations[static_cast<std::size_t>(number)].input;
  }
  return number == kBatch ? x_ : ConstView(output(static_cast<std::size_t>(number)));
}

/// to = a + b
void Executor::sum(View to, ConstView a, ConstView b) const {
  backend_.copy(to.data, a.data, to.bytes(), CopyKind::within);
  backend_.add(to, b, 1.0);
}

/// Makes the layers' calls for the batch x_. Those of the last pass serve again where only the batch and the step
/// differ.
void Executor::make_calls() {
  const std::int64_t rows = x_.rows;
  if (const Shape shape{rows, mode_, version_}; std::exchange(made_for_, shape) != shape) calls_.clear();
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const Operation& operation = plan_.operations[i];
    const Buffers& buffers = buffers_[i];
    if (calls_.size() == i) {
      const std::int64_t kept = operation.statistics.fixed + operation.statistics.per_row * rows;
      const bool keeps_pre = mode_ != Mode::predict && operation.keeps_pre();
      calls_.push_back({.backend = backend_,
                        .parameters = parameters_,
                        .activation = operation.activation,
                        .x = slice(buffers.sum, rows, operation.in),
                        .y = output(i),
                        .pre = keeps_pre ? slice(buffers.pre, rows, operation.out) : View{},
                        .statistics = slice(buffers.statistics, 1, kept),
                        .dy = {},
                        .dx = {},
                        .training = mode_ == Mode::train,
                        .precision = precision_});
    }
    calls_[i].context = context_;
    calls_[i].packed = packs_ && mode_ == Mode::predict ? &packed_[i] : nullptr;
    if (operation.skip == kNothing) calls_[i].x = read(operation.input);
  }
}

void Executor::set_weights(std::uint64_t state) {
  const std::uint64_t before = std::exchange(weights_, state);
  packs_ = state != 0 && state == before;
  if (packs_) return;
  for (PackedWeight& packed : packed_) packed.current = false;
}

View Executor::forward(ConstView x, Mode mode, const StepContext& context) {
  check(x.cols == plan_.in, "[forward] x: got ", x.cols, " columns; expected ", plan_.in);
  check(x.rows >= 1, "[forward] x: got 0 rows; expected at least 1");
  if (mode == Mode::train) {  // a refused batch leaves the last pass unchanged
    for (const Operation& operation : plan_.operations) operation.layer->check_training(x.rows);
  }
  reserve(x.rows);
  saved_ = false;
  x_ = x;
  mode_ = mode;
  context_ = context;
  make_calls();
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const Operation& operation = plan_.operations[i];
    if (mode == Mode::predict && is_identity_[i] != 0) continue;
    if (operation.skip != kNothing) {
      sum(slice(buffers_[i].sum, x.rows, operation.in), read(operation.input), read(operation.skip));
    }
    const Profiled scope(backend_.profile(), [&] { return profiled(operation, x.dtype, x.rows, "forward", 1); });
    operation.layer->forward(calls_[i]);
  }
  saved_ = mode != Mode::predict;
  return output(buffers_.size() - 1);
}

View Executor::output_gradient() const {
  check<std::runtime_error>(saved_, "[backward] no forward pass is saved; call forward(x) with training=True first");
  return gradient(gradients_, buffers_.back().gradient, plan_.out);
}

View Executor::output_gradient_tangent() const { return gradient(gradients_dot_, buffers_.back().gradient, plan_.out); }

void Executor::backward(View dx) {
  (void)output_gradient();
  has_gradients_ = false;  // until all of them are computed
  run_backward(dx, nullptr);
  has_gradients_ = true;
}

/// Runs the operations backward, last to first. Skips those that depend on no trained parameter, unless dx is
/// requested. The gradient of an output that several operations read is the sum of their contributions.
void Executor::run_backward(View dx, const Parameters* direction) {
  find_trained();
  std::ranges::fill(has_part_, char{0});
  for (std::size_t i = buffers_.size(); i-- > 0;) {
    const Operation& operation = plan_.operations[i];
    const auto wants = [&](int number) { return number != kNothing && (dx || moves(number)); };
    const bool first = wants(operation.input), second = wants(operation.skip);
    if (!first && !second) {
      if (trains_[i] != 0) run_operation_backward(i, {}, {}, direction);
      continue;
    }
    const auto target = [&](int number) -> Part {
      if (number == kBatch) return {dx, {}};
      const int buffer = number == kNothing ? addend_ : buffers_[static_cast<std::size_t>(number)].gradient;
      return {gradient(gradients_, buffer, operation.in),
              direction != nullptr ? gradient(gradients_dot_, buffer, operation.in) : View{}};
    };
    // Writes directly to the gradient of `input` if that is empty, else to the addend; then adds or copies it to the
    // other gradients.
    const bool direct = first && has_part_[static_cast<std::size_t>(operation.input + 1)] == 0;
    const Part part = target(direct ? operation.input : kNothing);
    run_operation_backward(i, part.gradient, part.gradient_dot, direction);
    const auto accumulate = [&](int number) {
      const Part to = target(number);
      const bool adds = std::exchange(has_part_[static_cast<std::size_t>(number + 1)], char{1}) != 0;
      add_or_copy(part.gradient, to.gradient, adds);
      if (direction != nullptr) add_or_copy(part.gradient_dot, to.gradient_dot, adds);
    };
    if (direct) has_part_[static_cast<std::size_t>(operation.input + 1)] = 1;
    if (second) accumulate(operation.skip);
    if (first && !direct) accumulate(operation.input);
  }
}

void Executor::add_or_copy(ConstView part, View to, bool adds) const {
  if (adds) return backend_.add(to, part, 1.0);
  backend_.copy(to.data, part.data, to.bytes(), CopyKind::within);
}

void Executor::run_operation_backward(std::size_t number, View dx, View dx_dot, const Parameters* direction) {
  const Operation& operation = plan_.operations[number];
  LayerCall& layer = calls_[number];
  layer.dy = gradient(gradients_, buffers_[number].gradient, operation.out);
  layer.dx = dx;
  const char* pass = direction == nullptr ? "backward" : "curvature";
  const double products = (dx ? 2.0 : 1.0) * (direction == nullptr ? 1.0 : 2.0);  // each as in the forward pass
  const Profiled scope(backend_.profile(), [&] { return profiled(operation, x_.dtype, x_.rows, pass, products); });
  if (direction == nullptr) return operation.layer->backward(layer);
  operation.layer->curvature({.layer = layer,
                              .direction = *direction,
                              .x_dot = input_dot(number),
                              .y_dot = {},
                              .dy_dot = gradient(gradients_dot_, buffers_[number].gradient, operation.out),
                              .dx_dot = dx_dot,
                              .spare = slice(spare_, x_.rows, operation.in)});
}

void Executor::commit() {
  const NoInterrupt whole;
  for (std::size_t i = 0; i < buffers_.size(); ++i) plan_.operations[i].layer->commit(calls_[i]);
}

/// The derivative of the input; null where it does not depend on a trained parameter.
ConstView Executor::input_dot(std::size_t number) const {
  const Operation& operation = plan_.operations[number];
  const bool first = moves(operation.input), second = moves(operation.skip);
  if (first && second) return slice(buffers_[number].sum_dot, x_.rows, operation.in);
  if (!first && !second) return {};
  const int from = first ? operation.input : operation.skip;
  return slice(buffers_[static_cast<std::size_t>(from)].y_dot, x_.rows, operation.in);
}

View Executor::tangent(const Parameters& direction) {
  find_trained();
  View y_dot;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    if (moves_[i] == 0) continue;
    const Operation& operation = plan_.operations[i];
    const LayerCall& layer = calls_[i];
    if (moves(operation.input) && moves(operation.skip)) {
      const auto dot_of = [&](int number) {
        return slice(buffers_[static_cast<std::size_t>(number)].y_dot, x_.rows, operation.in);
      };
      sum(slice(buffers_[i].sum_dot, x_.rows, operation.in), dot_of(operation.input), dot_of(operation.skip));
    }
    y_dot = slice(buffers_[i].y_dot, x_.rows, operation.out);
    const Profiled scope(backend_.profile(), [&] { return profiled(operation, x_.dtype, x_.rows, "tangent", 2); });
    operation.layer->tangent({.layer = layer,
                              .direction = direction,
                              .x_dot = input_dot(i),
                              .y_dot = y_dot,
                              .dy_dot = {},
                              .dx_dot = {},
                              .spare = slice(spare_, x_.rows, operation.out)});
  }
  return y_dot;
}

void Executor::curvature(const Parameters& direction) { run_backward({}, &direction); }

}  // namespace gdcore
