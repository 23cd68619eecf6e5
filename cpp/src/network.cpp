#include "gdcore/network.h"

#include <algorithm>

#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

/// Throws where two layers have one name.
void check_names(const std::vector<std::unique_ptr<Layer>>& layers) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (std::size_t k = 0; k < i && !layers[i]->name.empty(); ++k) {
      check(layers[k]->name != layers[i]->name, "[Sequential] layers[", k, "] and layers[", i,
            "] have the same name \"", layers[i]->name, "\"; expected different names");
    }
  }
}

/// Propagates the widths and binds the layers; returns their plan.
Plan bind_layers(const std::vector<std::unique_ptr<Layer>>& layers, Parameters& parameters) {
  check(!layers.empty(), "[Sequential] layers: got none; expected at least one");
  check_names(layers);
  std::int64_t in = 0;
  for (const auto& layer : layers) in = in == 0 ? layer->input_features() : in;
  check(in > 0,
        "[Sequential] layers: got none that determines the number of inputs; expected Dense(in_features, ...) first");
  std::int64_t width = in;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::int64_t from = width;
    try {
      width = layers[i]->output_features(from);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(join("[Sequential] ", layers[i]->path(static_cast<int>(i)), ": ", error.what()));
    }
    const Activation* next = i + 1 < layers.size() ? layers[i + 1]->as_activation() : nullptr;
    layers[i]->bind(static_cast<int>(i), from, next, parameters);
  }
  return Plan::chain(layers, in, parameters, true);
}

}  // namespace

Network::Network(std::vector<std::unique_ptr<Layer>> layers, DType dtype, Device device, std::uint64_t seed,
                 Precision precision)
    : backend_(gdcore::backend(device)),
      seed_(seed),
      precision_(precision),
      layers_(std::move(layers)),
      parameters_(dtype),
      executor_(bind_layers(layers_, parameters_), backend_, parameters_, precision) {
  check(dtype == DType::float32 || precision == Precision::full,
        "[Sequential] precision: got a reduced precision for a float64 model; expected \"float32\", the default, with "
        "dtype=\"float64\"");
  parameters_.allocate(backend_);
  parameters_.initialize(backend_, seed_);
}

void Network::initialize(std::uint64_t seed) {
  seed_ = seed;
  ++version_;
  ++weights_;
  parameters_.initialize(backend_, seed);
  backend_.wait();
}

void Network::set_frozen(const std::string& prefix, bool frozen) {
  bool found = false;
  const auto& entries = parameters_.layout.entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (match(prefix, entries[i]) == Match::none) continue;
    found = true;
    ++version_;
    parameters_.layout.freeze(static_cast<int>(i), frozen);
    const View gradient = parameters_.gradient(static_cast<int>(i));
    const std::vector<char> zeros(gradient.bytes());  // frozen parameters have gradient 0, in norms and for readers
    backend_.copy(gradient.data, zeros.data(), zeros.size(), CopyKind::to_device);
  }
  backend_.wait();
  check(found, "[freeze] prefix: got \"", prefix,
        "\", which names no layer or parameter; expected a name such as \"layers.0\" or \"layers.0.weight\"");
}

View Network::forward(ConstView x, bool training) {
  const Executor::Mode mode = training ? Executor::Mode::train : Executor::Mode::predict;
  if (!training) executor_.set_weights(views_ == 0 ? weights_.load() : 0);
  const View y = executor_.forward(x, mode, {.seed = seed_, .step = steps_});
  if (training) executor_.commit();
  return y;
}

void Network::predict(const Source& x, std::int64_t batch_size, void* out) {
  for (std::int64_t first = 0; first < x.rows; first += batch_size) {
    poll_interrupt();
    const std::int64_t rows = std::min(batch_size, x.rows - first);
    const View y = forward(fetch(backend_, dtype(), {x, nullptr, first, rows}, batch_), false);
    char* to = static_cast<char*>(out) + static_cast<std::size_t>(first * y.cols) * size_of(y.dtype);
    backend_.copy(to, y.data, y.bytes(), CopyKind::to_host);
  }
}

}  // namespace gdcore
