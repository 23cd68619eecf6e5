#include "gdcore/network.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "gdcore/check.h"
#include "gdcore/layers.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

/// Throws where two layers have one name. `named`: the places of those before, by name.
void check_names(const std::vector<std::unique_ptr<Layer>>& layers, const std::string& place,
                 std::map<std::string, std::string>& named) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = *layers[i];
    const std::string own = join(place, "[", i, "]");
    if (!layer.name.empty()) {
      const auto [before, is_new] = named.emplace(layer.name, own);
      check(is_new, "[Sequential] ", before->second, " and ", own, " have the same name \"", layer.name,
            "\"; expected different names");
    }
    if (layer.inner() != nullptr) check_names(*layer.inner(), join(own, ".layers"), named);
  }
}

/// Binds layers from number `number` on. `prefixes`: what their places begin with; the last one names parameters.
std::int64_t bind_chain(const std::vector<std::unique_ptr<Layer>>& layers, std::int64_t in,
                        const std::vector<std::string>& prefixes, int& number, Parameters& parameters) {
  std::int64_t width = in;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Layer& layer = *layers[i];
    std::vector<std::string> places;
    for (const std::string& prefix : prefixes) places.push_back(join(prefix, ".", i));
    layer.place = places.back();
    const std::int64_t from = width;
    try {
      width = layer.output_features(from);
      if (layer.inner() == nullptr) {
        const Activation* next = i + 1 < layers.size() ? layers[i + 1]->as_activation() : nullptr;
        const std::size_t entries = parameters.layout.entries().size();
        const std::size_t states = parameters.state_layout.entries().size();
        layer.bind(number, from, next, parameters);
        parameters.layout.set_places(entries, places);
        parameters.state_layout.set_places(states, places);
      }
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(join("[Sequential] ", layer.path(number), ": ", error.what()));
    }
    if (layer.inner() != nullptr) {
      if (!layer.name.empty()) places.push_back(layer.name);
      bind_chain(*layer.inner(), from, places, number, parameters);
    }
    ++number;
  }
  return width;
}

}  // namespace

std::int64_t input_features(const std::vector<std::unique_ptr<Layer>>& layers) {
  std::int64_t added = 0;
  for (const auto& layer : layers) {
    if (const std::int64_t in = layer->input_features(); in > 0) return std::max<std::int64_t>(in - added, 0);
    added += layer->added_features();
  }
  return 0;
}

std::int64_t bind_all(const std::vector<std::unique_ptr<Layer>>& layers, Parameters& parameters) {
  check(!layers.empty(), "[Sequential] layers: got none; expected at least one");
  const std::int64_t in = input_features(layers);
  check(in > 0,
        "[Sequential] layers: got none that determines the number of inputs; expected Dense(in_features, ...) first");
  int number = 0;
  std::map<std::string, std::string> named;
  check_names(layers, "layers", named);
  bind_chain(layers, in, {"layers"}, number, parameters);
  return in;
}

namespace {

/// Finds the columns of the network's input that hold codes; throws where a layer reads codes that are not its input.
std::vector<CodeColumn> codes_of(const std::vector<std::unique_ptr<Layer>>& layers, std::int64_t in) {
  if (std::ranges::all_of(layers, [](const auto& layer) { return layer->codes().empty(); })) return {};
  std::vector<std::int64_t> from(static_cast<std::size_t>(in));
  std::iota(from.begin(), from.end(), std::int64_t{0});
  std::vector<CodeColumn> codes;
  for (const auto& layer : layers) {
    for (const CodeColumn& own : layer->codes()) {
      const std::int64_t column = from[static_cast<std::size_t>(own.column)];
      check(column >= 0, "[Sequential] ", layer->place, ": [", layer->kind(), "] columns: got ", own.column,
            ", which the layers before change; expected columns of the model's input: put the layer first");
      codes.push_back({column, own.size});
    }
    from = layer->origins(from);
  }
  return codes;
}

Plan bind_plan(const std::vector<std::unique_ptr<Layer>>& layers, Parameters& parameters) {
  const std::int64_t in = bind_all(layers, parameters);
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
      executor_(bind_plan(layers_, parameters_), backend_, parameters_, precision),
      codes_(codes_of(layers_, executor_.plan().in)) {
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
