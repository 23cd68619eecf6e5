#include "network.h"

#include "gdcore/check.h"

namespace gdcore::bindings {

py::dict named_views(Network& network, const py::object& owner, const Arena& arena, const Buffer& buffer) {
  py::dict views;
  for (std::size_t i = 0; i < arena.entries().size(); ++i) {
    const Entry& entry = arena.entries()[i];
    views[py::str(entry.name)] = view_array(arena.view(buffer, static_cast<int>(i)), entry.is_vector, network, owner);
  }
  return views;
}

namespace {

PyNetwork make_network(const py::sequence& layers, const std::string& dtype, const std::string& device,
                       std::uint64_t seed, const std::string& precision) {
  std::vector<std::unique_ptr<Layer>> clones;
  for (const py::handle layer : layers) {
    check<TypeMismatch>(py::isinstance<Layer>(layer), "[Sequential] layers[", clones.size(), "]: got ",
                        std::string(py::str(py::type::of(layer).attr("__name__"))),
                        "; expected a layer such as gd.Dense(4, 8) or gd.ReLU()");
    clones.push_back(layer.cast<const Layer&>().clone());
  }
  const DType type = to_dtype(dtype);
  const Precision products = to_precision(precision);
  const Device target = to_device(device);
  auto core = without_gil([&] { return std::make_shared<Network>(std::move(clones), type, target, seed, products); });
  const char* used = name_of(core->backend().device());
  return {std::move(core), py::tuple(layers), py::str(used), py::none(), {}, {}};
}

/// Keeps a network alive while arrays over its weights exist, and the network's count of them.
class Lease {
 public:
  Lease(Network& network, py::object owner) : network_(network), owner_(std::move(owner)) { network_.lend(); }
  ~Lease() { network_.give_back(); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

 private:
  Network& network_;
  py::object owner_;
};

py::array forward(PyNetwork& self, const ArrayLike& x, Flag training) {
  const OwnedSource owned = to_source(x, "[forward] x", false);
  Network& core = *self.core;
  check(owned.source.cols == core.in_features(), "[forward] x: got ", owned.source.cols, " columns; expected ",
        core.in_features());
  check(owned.source.rows >= 1, "[forward] x: got 0 rows; expected at least 1");
  py::array out(numpy_dtype(core.dtype()), std::vector<py::ssize_t>{owned.source.rows, core.out_features()});
  void* to = out.mutable_data();
  computing(core, [&] {
    const ConstView input =
        fetch(core.backend(), core.dtype(), {owned.source, nullptr, 0, owned.source.rows}, self.spare);
    const View y = core.forward(input, training);
    core.backend().copy(to, y.data, y.bytes(), CopyKind::to_host);
    std::swap(self.fetched, self.spare);
  });
  self.input = training ? py::object(owned.array) : py::object(py::none());
  return out;
}

/// Converts the rows of `source`, in host memory, into `to`, in the network's memory.
void put(Backend& backend, const Source& source, View to) {
  if (backend.device() == Device::cpu) {
    return backend.gather({source, nullptr, 0, source.rows, to.data, gather_type(to.dtype)});
  }
  const auto host = std::make_unique_for_overwrite<unsigned char[]>(to.bytes());
  gdcore::backend(Device::cpu).gather({source, nullptr, 0, source.rows, host.get(), gather_type(to.dtype)});
  backend.copy(to.data, host.get(), to.bytes(), CopyKind::to_device);
}

py::array backward(PyNetwork& self, const ArrayLike& dout) {
  const OwnedSource owned = to_source(dout, "[backward] dout", false);
  Network& core = *self.core;
  Executor& executor = core.executor();
  const std::int64_t rows = executor.saved_rows();
  check<std::runtime_error>(rows > 0, "[backward] no forward pass is saved; call forward(x) with training=True first");
  check(owned.source.rows == rows && owned.source.cols == core.out_features(), "[backward] dout: got shape (",
        owned.source.rows, ", ", owned.source.cols, "); expected the shape of forward's output, (", rows, ", ",
        core.out_features(), ")");
  py::array dx(numpy_dtype(core.dtype()), std::vector<py::ssize_t>{rows, core.in_features()});
  const View host{dx.mutable_data(), rows, core.in_features(), core.dtype()};
  computing(core, [&] {
    Backend& backend = core.backend();
    put(backend, owned.source, executor.output_gradient());
    if (backend.device() == Device::cpu) return executor.backward(host);
    grow(self.spare, backend, host.bytes());
    executor.backward({self.spare.data(), rows, core.in_features(), core.dtype()});
    backend.copy(host.data, self.spare.data(), host.bytes(), CopyKind::to_host);
  });
  return dx;
}

/// Returns predictions; with `finite`, None where x has NaN or infinity.
py::object predictions(PyNetwork& self, const ArrayLike& x, std::int64_t batch_size, bool finite) {
  const OwnedSource owned = to_source(x, "[predict] x", false);
  Network& core = *self.core;
  check(owned.source.cols == core.in_features(), "[predict] x: got ", owned.source.cols, " columns; expected ",
        core.in_features());
  check(batch_size >= 1, "[predict] batch_size: got ", batch_size, "; expected at least 1");
  py::array out(numpy_dtype(core.dtype()), std::vector<py::ssize_t>{owned.source.rows, core.out_features()});
  void* to = out.mutable_data();
  const bool done = computing(core, [&] {
    if (finite && backend(Device::cpu).first_nonfinite(owned.source) >= 0) return false;
    core.predict(owned.source, std::min(batch_size, std::max<std::int64_t>(owned.source.rows, 1)), to);
    return true;
  });
  return done ? py::object(std::move(out)) : py::none();
}

py::array predict(PyNetwork& self, const ArrayLike& x, std::int64_t batch_size) {
  return predictions(self, x, batch_size, false);
}

constexpr std::int64_t kPredictedRows = 1024;  // per batch, by default

std::optional<py::array> predict_finite(PyNetwork& self, const ArrayLike& x) {
  py::object found = predictions(self, x, kPredictedRows, true);
  return found.is_none() ? std::nullopt : std::optional<py::array>(std::move(found));
}

/// The names of the parameters and buffers that a dotted name means.
std::vector<std::string> matching_names(const PyNetwork& self, const std::string& dotted) {
  std::vector<std::string> names;
  const Parameters& parameters = self.core->parameters();
  for (const Arena* arena : {&parameters.layout, &parameters.state_layout}) {
    for (const Entry& entry : arena->entries()) {
      if (match(dotted, entry) != Match::none) names.push_back(entry.name);
    }
  }
  return names;
}

std::vector<std::string> frozen(const PyNetwork& self) {
  std::vector<std::string> names;
  for (const Entry& entry : self.core->parameters().layout.entries()) {
    if (entry.frozen) names.push_back(entry.name);
  }
  return names;
}

/// The context manager of `with network._hold():`.
struct Hold {
  std::shared_ptr<Network> network;
  bool inside;
  std::vector<bool> held;  // one per open `with`
};

void enter(Hold& self) {
  const bool held = self.network->begin_hold([](const std::function<void()>& wait) { without_gil(wait); });
  check<std::runtime_error>(held || self.inside,
                            "[Network] a signal handler interrupted a step of this model, whose arrays cannot be used "
                            "until the step ends; set a flag in the handler and use them in a callback's on_progress");
  self.held.push_back(held);
}

void leave(Hold& self) {
  const bool held = self.held.back();
  self.held.pop_back();
  if (held) self.network->end_hold();
}

/// Returns the parameter layout of a network with these layers; allocates no arrays.
Parameters declared(const py::sequence& layers, const std::string& dtype) {
  Parameters parameters(to_dtype(dtype));
  std::vector<std::unique_ptr<Layer>> clones;
  for (const py::handle layer : layers) clones.push_back(layer.cast<const Layer&>().clone());
  bind_all(clones, parameters);
  return parameters;
}

py::dict shapes(const py::sequence& layers, const std::string& dtype) {
  const Parameters parameters = declared(layers, dtype);
  py::dict named;
  for (const Arena* arena : {&parameters.layout, &parameters.state_layout}) {
    for (const Entry& entry : arena->entries()) {
      py::tuple shape = py::make_tuple(entry.rows, entry.cols);
      if (entry.is_vector) shape = py::make_tuple(entry.rows * entry.cols);
      named[py::str(entry.name)] = shape;
    }
  }
  return named;
}

py::dict ranges(const py::sequence& layers, const std::string& dtype) {
  const Parameters parameters = declared(layers, dtype);
  py::dict named;
  for (const Entry& entry : parameters.state_layout.entries()) {
    if (entry.range != Range::any) named[py::str(entry.name)] = entry.range == Range::positive;
  }
  return named;
}

}  // namespace

void bind_network(py::module_& m) {
  using Self = ObjectOf<PyNetwork>;
  const auto core = [](const Self& self) -> Network& { return *self.cast<PyNetwork&>().core; };
  py::class_<Hold>(m, "_Hold", "A context manager; see Network._hold.")
      .def("__enter__", &enter)
      .def(
          "__exit__", [](Hold& self, const py::object&, const py::object&, const py::object&) { leave(self); },
          py::arg("kind"), py::arg("error"), py::arg("traceback"));
  m.def("_shapes", &shapes, py::arg("layers"), py::arg("dtype"),
        "The shapes of the parameters and buffers of a network of these layers, by name. No network is created.");
  m.def("_ranges", &ranges, py::arg("layers"), py::arg("dtype"),
        "The buffers of a network of these layers that are never negative, by name: True where 0 is excluded too.");
  py::class_<PyNetwork>(m, "Network",
                        "Layers in order, with their parameters in flat arenas. The base class of gdcore.Sequential.")
      .def(py::init(&make_network), py::arg("layers"), py::kw_only(), py::arg("dtype") = "float32",
           py::arg("device") = "auto", py::arg("seed"), py::arg("precision") = "float32")
      .def_readonly("layers", &PyNetwork::layers, "The layers, in order.")
      .def_readonly("device", &PyNetwork::device, "\"cpu\" or \"cuda\".")
      .def_property_readonly("in_features", [](const PyNetwork& self) { return self.core->in_features(); })
      .def_property_readonly("out_features", [](const PyNetwork& self) { return self.core->out_features(); })
      .def_property_readonly(
          "_codes",
          [](const PyNetwork& self) {
            std::vector<std::pair<std::int64_t, std::int64_t>> codes;
            for (const CodeColumn& code : self.core->codes()) codes.emplace_back(code.column, code.size);
            return codes;
          },
          "The columns of the input that must hold category codes, each with the number of its categories.")
      .def_property_readonly("dtype", [](const PyNetwork& self) { return name_of(self.core->dtype()); })
      .def_property_readonly(
          "precision", [](const PyNetwork& self) { return name_of(self.core->precision()); },
          "The number format of matrix products on a GPU: \"float32\", \"tf32\" or \"bfloat16\".")
      .def_property_readonly("seed", [](const PyNetwork& self) { return self.core->seed(); })
      .def_property_readonly(
          "_has_gradients", [](const PyNetwork& self) { return self.core->executor().has_gradients(); },
          "Whether gradients of a backward pass are available.")
      .def(
          "parameters",
          [core](const Self& self) {
            Network& network = core(self);
            const py::capsule lease(new Lease(network, self), [](void* made) { delete static_cast<Lease*>(made); });
            return named_views(network, lease, network.parameters().layout, network.parameters().values);
          },
          "The trained arrays by name (\"layers.0.weight\", ...): writable views.")
      .def(
          "gradients",
          [core](const Self& self) {
            const Parameters& own = std::as_const(core(self)).parameters();
            return named_views(core(self), self, own.layout, own.gradients);
          },
          "The gradients of the last backward pass by the same names: views.")
      .def(
          "buffers",
          [core](const Self& self) {
            const Parameters& own = std::as_const(core(self)).parameters();
            return named_views(core(self), self, own.state_layout, own.states);
          },
          "The arrays that are not trained, by name, such as \"layers.1.running_mean\": views.")
      .def(
          "initialize",
          [](PyNetwork& self, std::uint64_t seed) { computing(*self.core, [&] { self.core->initialize(seed); }); },
          py::arg("seed"),
          "Draws new initial values of all parameters and resets the buffers; seed becomes the model's seed.")
      .def("forward", &forward, py::arg("x"), py::arg("training") = true,
           "The output (rows, out_features) for x (rows, in_features). With training=True, saves the values that "
           "backward needs, applies dropout (one mask until the next optimiser step) and updates running averages; x "
           "must not change before backward. ValueError for another shape.")
      .def("backward", &backward, py::arg("dout"),
           "The gradient of x (rows, in_features) from dout (rows, out_features), the gradient of forward's output. "
           "Also computes the gradients of all parameters (see gradients). RuntimeError without a forward pass in "
           "training before it.")
      .def("predict", &predict, py::arg("x"), py::kw_only(), py::arg("batch_size") = kPredictedRows,
           "The outputs (rows, out_features) for x (rows, in_features), batch by batch, without dropout and without "
           "changes of the model. ValueError for another shape.")
      .def("predict_finite", &predict_finite, py::arg("x"),
           "The same as predict(x), but None if x contains NaN or infinity.")
      .def(
          "set_frozen",
          [](PyNetwork& self, const std::string& prefix, Flag value) {
            computing(*self.core, [&] { self.core->set_frozen(prefix, value); });
          },
          py::arg("prefix"), py::arg("frozen"),
          "Freezes (True) or unfreezes (False) the parameter with the name `prefix`, or those of the layer with this "
          "name. ValueError for an unknown name.")
      .def("_matching", &matching_names, py::arg("dotted"),
           "The names of the parameters and buffers that a dotted name selects: those of a layer by its name "
           "(\"head\") or its number (\"layers.3\"), or a single one (\"head.bias\", \"layers.3.bias\").")
      .def(
          "_hold", [](const PyNetwork& self, bool inside) { return Hold{self.core, inside, {}}; }, py::kw_only(),
          py::arg("inside") = true,
          "A context manager for exclusive access to the arrays, to copy or set all of them: it waits until no other "
          "thread computes with the network. In a signal handler that interrupts a step, inside=False raises "
          "RuntimeError.")
      .def("frozen", &frozen, "The names of the frozen parameters.")
      .def(
          "operations",
          [](const PyNetwork& self) {
            std::vector<std::string> names;
            for (const Operation& operation : self.core->executor().plan().operations) {
              names.push_back(operation.describe());
            }
            return names;
          },
          "The operations, in order: \"Dense + ReLU\" for a layer that absorbed its activation.");
}

}  // namespace gdcore::bindings
