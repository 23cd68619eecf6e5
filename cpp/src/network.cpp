#include "gdcore/network.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

Source source_of(ConstView view) { return {view.data, source_type(view.dtype), view.rows, view.cols, view.cols}; }

}  // namespace

Network::Network(std::vector<std::unique_ptr<Layer>> layers, DType dtype, Device device, std::uint64_t seed,
                 Precision precision)
    : backend_(gdcore::backend(device)),
      dtype_(dtype),
      seed_(seed),
      precision_(precision),
      layers_(std::move(layers)),
      parameters_(dtype) {
  check(!layers_.empty(), "[Sequential] layers is empty; expected at least one layer");
  check(dtype == DType::float32 || precision == Precision::full,
        "[Sequential] precision is for float32 models; leave it out with dtype=\"float64\"");
  plan();
  parameters_.allocate(backend_);
  parameters_.initialize(backend_, seed_);
}

/// Propagates the widths, binds the layers and decides which activations are absorbed.
void Network::plan() {
  for (const auto& layer : layers_) {
    in_ = in_ == 0 ? layer->input_features() : in_;
  }
  check(in_ > 0, "[Sequential] no layer says how many inputs the model has; begin with Dense(in_features, ...)");
  std::int64_t width = in_;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = *layers_[i];
    Operation operation;
    operation.layer = &layer;
    operation.first = operation.last = static_cast<int>(i);
    operation.in = width;
    try {
      operation.out = layer.output_features(width);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(join("[Sequential] layers.", i, ": ", error.what()));
    }
    layer.bind(static_cast<int>(i), width, parameters_);
    operation.statistics = layer.statistics(width);
    width = operation.out;
    const Activation* next = i + 1 < layers_.size() ? layers_[i + 1]->as_activation() : nullptr;
    if (layer.absorbs() && next != nullptr) {
      operation.activation = *next;
      operation.last = static_cast<int>(++i);
    }
    operations_.push_back(operation);
  }
  out_ = width;
}

std::string Network::describe(const Operation& operation) const {
  std::string text = operation.layer->kind();
  if (operation.last > operation.first) text += std::string(" + ") + name_of(operation.activation);
  return text;
}

std::optional<NarrowNetwork> Network::narrow() const {
  NarrowNetwork network;
  network.seed = seed_;
  for (const Operation& operation : operations_) {
    if (!operation.layer->add_to(network, call(operation, {nullptr, 0, operation.in, dtype_}, true))) return {};
  }
  return network;
}

void Network::initialize(std::uint64_t seed) {
  seed_ = seed;
  ++version_;
  parameters_.initialize(backend_, seed);
  backend_.wait();
}

void Network::set_frozen(const std::string& prefix, bool frozen) {
  bool found = false;
  auto& entries = parameters_.layout.entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].name != prefix && !entries[i].name.starts_with(prefix + ".")) continue;
    found = true;
    ++version_;
    entries[i].frozen = frozen;
    const View gradient = parameters_.gradient(static_cast<int>(i));
    const std::vector<char> zeros(gradient.bytes());  // what is frozen has no gradient, for norms and for readers
    backend_.copy(gradient.data, zeros.data(), zeros.size(), CopyKind::to_device);
  }
  backend_.wait();
  check(found, "[freeze] no parameter is named \"", prefix, "\" or begins with \"", prefix,
        ".\"; names look like \"layers.0\" or \"layers.0.weight\"");
}

View Network::slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const {
  return {static_cast<char*>(workspace_.data()) + offset, rows, cols, dtype_};
}

/// Lays out the workspace for batches of up to `rows`: each operation's output and what it keeps, and two gradients.
void Network::reserve(std::int64_t rows) {
  if (rows <= capacity_) return;
  std::size_t end = 0;
  const auto take = [&](std::int64_t count, std::int64_t each) {
    const std::size_t offset = end;
    end += round_up(static_cast<std::size_t>(checked_size(count, each)) * size_of(dtype_), kAlignment);
    return offset;
  };
  std::int64_t widest = out_;
  for (Operation& operation : operations_) {
    operation.y_offset = take(rows, operation.out);
    const bool keeps_pre = operation.last > operation.first && saves_input(operation.activation);
    operation.pre_offset = keeps_pre ? take(rows, operation.out) : 0;
    operation.statistics_offset =
        take(operation.statistics.fixed + checked_size(operation.statistics.per_row, rows), 1);
    widest = std::max({widest, operation.in, operation.out});
  }
  for (std::size_t& offset : gradient_offsets_) offset = take(rows, widest);
  ++version_;
  capacity_ = 0;  // should the allocation fail, the next call tries again
  input_ = {};
  workspace_ = Buffer();
  workspace_ = Buffer(backend_, end);
  capacity_ = rows;
}

LayerCall Network::call(const Operation& operation, ConstView x, bool training) const {
  const bool keeps_pre = training && operation.last > operation.first && saves_input(operation.activation);
  const std::int64_t kept = operation.statistics.fixed + operation.statistics.per_row * x.rows;
  return {.backend = backend_,
          .parameters = parameters_,
          .activation = operation.activation,
          .x = x,
          .y = slice(operation.y_offset, x.rows, operation.out),
          .pre = keeps_pre ? slice(operation.pre_offset, x.rows, operation.out) : View{},
          .statistics = slice(operation.statistics_offset, 1, kept),
          .dy = {},
          .dx = {},
          .training = training,
          .seed = seed_,
          .step = counters != nullptr ? 0 : drawn_,
          .counters = counters,
          .precision = precision_};
}

View Network::forward(ConstView x, bool training, bool commit_now) {
  check(x.cols == in_, "[forward] x has ", x.cols, " columns; expected ", in_);
  check(x.rows >= 1, "[forward] x has no rows");
  reserve(x.rows);
  input_ = {};
  drawn_ = step;
  ConstView current = x;
  View y;
  for (const Operation& operation : operations_) {
    if (!training && operation.layer->trains_only() && &operation != &operations_.back()) continue;
    const LayerCall layer_call = call(operation, current, training);
    operation.layer->forward(layer_call);
    current = y = layer_call.y;
  }
  if (training) input_ = x;
  if (training && commit_now) commit();
  return y;
}

/// What operation `number` of the last forward pass in training read.
ConstView Network::input_of(std::size_t number) const {
  if (number == 0) return input_;
  const Operation& before = operations_[number - 1];
  return slice(before.y_offset, input_.rows, before.out);
}

View Network::output_gradient() const {
  check<std::runtime_error>(
      bool(input_), "[backward] there is no forward pass in training to go back through; call forward(x) first");
  return slice(gradient_offsets_[0], input_.rows, out_);
}

void Network::backward(View dx) {
  View dy = output_gradient();
  has_gradients_ = false;  // until all of them are there
  // Below the first operation that trains nothing is needed, unless the caller wants dx.
  const auto trains = [&](const Operation& operation) {
    return std::ranges::any_of(parameters_.layout.entries(), [&](const Entry& entry) {
      return !entry.frozen && entry.layer >= operation.first && entry.layer <= operation.last;
    });
  };
  std::size_t lowest = 0;
  while (!dx && lowest < operations_.size() && !trains(operations_[lowest])) ++lowest;
  int spare = 1;
  for (std::size_t i = operations_.size(); i-- > lowest;) {
    LayerCall layer_call = call(operations_[i], input_of(i), true);
    layer_call.dy = dy;
    if (i > lowest) {
      layer_call.dx = slice(gradient_offsets_[spare], input_.rows, operations_[i].in);
    } else {
      layer_call.dx = dx;
    }
    operations_[i].layer->backward(layer_call);
    dy = layer_call.dx;
    spare = 1 - spare;
  }
  has_gradients_ = true;
}

void Network::commit() {
  const NoInterrupt whole;
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    operations_[i].layer->commit(call(operations_[i], input_of(i), true));
  }
}

ConstView Network::fetch(const Source& x, const std::int64_t* index, std::int64_t first, std::int64_t rows,
                         Buffer& buffer) const {
  const bool contiguous = x.row_stride == x.cols || rows == 1;
  if (index == nullptr && x.type == source_type(dtype_) && contiguous && x.device == backend_.device()) {
    const auto* data = static_cast<const char*>(x.data);
    return {data + static_cast<std::size_t>(first * x.row_stride) * size_of(dtype_), rows, x.cols, dtype_};
  }
  const View to{nullptr, rows, x.cols, dtype_};
  gather_into(backend_, {x, index, first, rows, nullptr, gather_type(dtype_)}, to.bytes(), buffer);
  return {buffer.data(), rows, x.cols, dtype_};
}

void Network::predict(const Source& x, std::int64_t batch_size, void* out) {
  for (std::int64_t first = 0; first < x.rows; first += batch_size) {
    poll_interrupt();
    const std::int64_t rows = std::min(batch_size, x.rows - first);
    const View y = forward(fetch(x, nullptr, first, rows, batch_), false, false);
    char* to = static_cast<char*>(out) + static_cast<std::size_t>(first * out_) * size_of(dtype_);
    backend_.copy(to, y.data, y.bytes(), CopyKind::to_host);
  }
}

std::string Network::diagnosis() const {
  std::string where = "no layer's output is infinite or NaN, so the loss itself overflowed";
  if (input_) {
    for (std::size_t i = operations_.size(); i-- > 0;) {
      const Operation& operation = operations_[i];
      if (backend_.first_nonfinite(source_of(slice(operation.y_offset, input_.rows, operation.out))) >= 0) {
        where = join("the first values that are not finite come out of layers.", operation.first, " (",
                     describe(operation), ")");
      }
    }
  }
  std::vector<char> host(parameters_.layout.bytes());
  backend_.copy(host.data(), parameters_.values.data(), host.size(), CopyKind::to_host);
  std::string largest = "there are no weights";
  double most = -1.0;
  with_type(dtype_, [&]<class T>(T) {
    const T* values = reinterpret_cast<const T*>(host.data());
    for (const Entry& entry : parameters_.layout.entries()) {
      for (std::int64_t i = 0; i < entry.rows * entry.cols; ++i) {
        const double value = static_cast<double>(values[entry.offset + i]);
        const double size = std::isnan(value) ? INFINITY : std::abs(value);
        if (size <= most) continue;
        most = size;
        largest = join(entry.name, "[", i / entry.cols, ", ", i % entry.cols, "] = ", values[entry.offset + i]);
      }
    }
  });
  if (std::isinf(most)) {
    return join("the parameters were not finite before this step, which has changed nothing: ", largest,
                ". Start again from finite ones, with a smaller lr or clip_norm");
  }
  return join(where, "; ", most < 0.0 ? "" : "the largest weight is ", largest,
              ". The parameters are those before this step; a smaller lr, clip_norm or scaled inputs usually help");
}

namespace {
constexpr std::chrono::milliseconds kPollTime{20};  // how often who waits looks for a signal
constexpr int kMostTurns = 50;                      // of that time, which a hold waits for who wants to compute
thread_local const Network* awaited_network = nullptr;
}  // namespace

Network::Use::Use(Network& network)
    : network_(network), taken_(network.depth_ == 0 || network.user_ != std::this_thread::get_id()) {
  network.end_waiting();
  if (!taken_) return;
  check<std::runtime_error>(!network_.in_use_.exchange(true),
                            "[Network] the model is in use by another thread; give each thread its own model");
  network_.user_ = std::this_thread::get_id();
}

Network::Use::~Use() {
  if (taken_) network_.release();
}

void Network::release() {
  user_ = std::thread::id();
  in_use_ = false;
  if (holders_ == 0) return;
  const std::lock_guard lock(mutex_);
  released_.notify_all();
}

bool Network::begin_hold(const std::function<void(const std::function<void()>&)>& aside) {
  const std::thread::id self = std::this_thread::get_id();
  if (user_ == self) {
    if (depth_ > 0) ++depth_;
    return depth_ > 0;
  }
  if (waiting_ > 0) {  // or a loop of holds would never let them
    aside([this] {
      for (int turn = 0; turn < kMostTurns && waiting_ > 0; ++turn) {
        std::unique_lock lock(mutex_);
        released_.wait_for(lock, kPollTime, [this] { return waiting_ == 0; });
        lock.unlock();
        poll_interrupt();
      }
    });
  }
  ++holders_;
  try {
    aside([this] {
      while (in_use_.exchange(true)) {
        std::unique_lock lock(mutex_);
        released_.wait_for(lock, kPollTime, [this] { return !in_use_; });
        lock.unlock();
        poll_interrupt();
      }
    });
  } catch (...) {
    --holders_;
    throw;
  }
  user_ = self;
  depth_ = 1;
  return true;
}

void Network::end_hold() {
  if (--depth_ > 0) return;
  --holders_;
  release();
  const std::lock_guard lock(mutex_);
  released_.notify_all();  // those that wait to compute too
}

void Network::wait_for_holders() {
  if (awaited_network != this) {
    ++waiting_;
    awaited_network = this;
  }
  try {
    while (awaited()) {
      std::unique_lock lock(mutex_);
      released_.wait_for(lock, kPollTime, [this] { return !awaited(); });
      lock.unlock();
      poll_interrupt();
    }
  } catch (...) {
    end_waiting();
    throw;
  }
}

/// The thread no longer waits to compute with this network: it does, or gave up.
void Network::end_waiting() {
  if (awaited_network != this) return;
  awaited_network = nullptr;
  --waiting_;
  const std::lock_guard lock(mutex_);
  released_.notify_all();
}

}  // namespace gdcore
