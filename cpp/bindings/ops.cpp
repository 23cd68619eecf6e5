// The backend's operations on NumPy arrays, for tests and study: outputs are passed in and overwritten.
#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "specs.h"
#include "staging.h"

namespace gdcore::bindings {

namespace {

using Object = py::object;

Activation to_activation(const Object& layer) {
  if (layer.is_none()) return Identity{};
  check<TypeMismatch>(py::isinstance<ActivationLayer>(layer) || py::isinstance<Layer>(layer),
                      "[ops] activation: expected an activation layer such as gd.ReLU(), or None");
  const Activation* activation = layer.cast<const Layer&>().as_activation();
  check<TypeMismatch>(activation != nullptr,
                      "[ops] activation: expected an activation layer such as gd.ReLU(), or None");
  return *activation;
}

/// The arrays of one call, staged for the device.
class Arrays : public Staging {
 public:
  using Staging::Staging;

  /// None is a null view.
  View optional(const Object& array, const char* name, bool output) {
    View view = to_view(array, name, output);
    const bool writable = view && py::reinterpret_borrow<py::array>(array).writeable();
    view.data = stage(view.data, view.bytes(), writable);
    return view;
  }

  View given(const Object& array, const char* name, bool output) {
    const View view = to_view(array, name, output);
    check<TypeMismatch>(bool(view), name, ": got None; expected an array");
    check(view.rows >= 1 && view.cols >= 1, "[ops] ", name,
          ": got an empty array; expected at least one row and one column");
    return optional(array, name, output);
  }

  /// Values of any numeric type, in strided rows.
  Source source(const Object& array, const char* name) {
    owned_ = to_source(array, name, true);
    Source source = owned_.source;
    check(source.rows >= 1 && source.cols >= 1, "[ops] ", name,
          ": got an empty array; expected at least one row and one column");
    const auto elements = static_cast<std::size_t>((source.rows - 1) * source.row_stride + source.cols);
    source.data = stage(const_cast<void*>(source.data), elements * size_of(source.type), false);
    source.device = backend().device();
    return source;
  }

 private:
  OwnedSource owned_;
};

/// Throws unless every given view has the dtype and shape of the first.
void same_shape(const View& first, std::initializer_list<std::pair<const char*, View>> others) {
  for (const auto& [name, view] : others) {
    check(!view || (view.dtype == first.dtype && view.rows == first.rows && view.cols == first.cols), "[ops] ", name,
          ": expected the shape and dtype of the array that it belongs to");
  }
}

void vectors(const View& first, std::int64_t length, std::initializer_list<std::pair<const char*, View>> others) {
  for (const auto& [name, view] : others) {
    check(!view || (view.dtype == first.dtype && view.size() == length), "[ops] ", name, ": expected a vector of ",
          length, " in the dtype of x");
  }
}

/// Throws where backward lacks the saved values of an absorbed activation.
void needs_saved(const Activation& activation, const View& saved) {
  check<TypeMismatch>(bool(saved) || std::holds_alternative<Identity>(activation),
                      "[ops] saved: got None; expected the array from which the activation's slope is computed");
}

void dense_forward(const Object& x, const Object& weight, const Object& bias, const Object& activation,
                   const Object& out, const Object& pre, const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), w = arrays.given(weight, "weight", false),
             b = arrays.optional(bias, "bias", false), y = arrays.given(out, "out", true),
             p = arrays.optional(pre, "pre", true);
  check(w.cols == vx.cols && y.rows == vx.rows && y.cols == w.rows && w.dtype == vx.dtype && y.dtype == vx.dtype,
        "[ops.dense_forward] expected x (N, in), weight (out, in) and out (N, out) of one dtype");
  vectors(vx, w.rows, {{"bias", b}});
  same_shape(y, {{"pre", p}});
  arrays.run([&](Backend& backend) { backend.dense_forward({vx, w, b, to_activation(activation), y, p}); });
}

void dense_backward(const Object& x, const Object& weight, const Object& activation, const Object& saved,
                    const Object& dout, const Object& dx, const Object& dweight, const Object& dbias,
                    const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), w = arrays.given(weight, "weight", false),
             dy = arrays.given(dout, "dout", true), gx = arrays.optional(dx, "dx", true),
             gw = arrays.optional(dweight, "dweight", true), gb = arrays.optional(dbias, "dbias", true);
  check(w.cols == vx.cols && dy.rows == vx.rows && dy.cols == w.rows && w.dtype == vx.dtype && dy.dtype == vx.dtype,
        "[ops.dense_backward] expected x (N, in), weight (out, in) and dout (N, out) of one dtype");
  const View s = arrays.optional(saved, "saved", false);
  needs_saved(to_activation(activation), s);
  same_shape(vx, {{"dx", gx}});
  same_shape(w, {{"dweight", gw}});
  same_shape(dy, {{"saved", s}});
  vectors(vx, w.rows, {{"dbias", gb}});
  arrays.run([&](Backend& backend) { backend.dense_backward({vx, w, to_activation(activation), s, dy, gx, gw, gb}); });
}

void activation_forward(const Object& activation, const Object& x, const Object& out, const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), y = arrays.given(out, "out", true);
  same_shape(vx, {{"out", y}});
  arrays.run([&](Backend& backend) { backend.activation_forward(to_activation(activation), vx, y); });
}

void activation_backward(const Object& activation, const Object& saved, const Object& dout, const Object& dx,
                         const std::string& device) {
  Arrays arrays(device);
  const View s = arrays.given(saved, "saved", false), dy = arrays.given(dout, "dout", true),
             to = arrays.given(dx, "dx", true);
  same_shape(s, {{"dout", dy}, {"dx", to}});
  arrays.run([&](Backend& backend) { backend.activation_backward(to_activation(activation), s, dy, to); });
}

void dropout(const Object& x, const Object& out, double p, std::uint64_t seed, std::uint64_t stream,
             const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), y = arrays.given(out, "out", true);
  same_shape(vx, {{"out", y}});
  check(p >= 0.0 && p < 1.0, "[ops.dropout] p: got ", p, "; expected 0 <= p < 1");
  arrays.run([&](Backend& backend) { backend.dropout({vx, y, p, seed, stream}); });
}

void batch_norm_forward(const Object& x, const Object& gamma, const Object& beta, const Object& activation, double eps,
                        const Object& out, const Object& mean, const Object& rstd, const Object& variance,
                        const Object& pre, const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), y = arrays.given(out, "out", true), m = arrays.given(mean, "mean", true),
             r = arrays.given(rstd, "rstd", true), v = arrays.given(variance, "variance", true);
  const View g = arrays.optional(gamma, "gamma", false), b = arrays.optional(beta, "beta", false),
             p = arrays.optional(pre, "pre", true);
  same_shape(vx, {{"out", y}, {"pre", p}});
  vectors(vx, vx.cols, {{"gamma", g}, {"beta", b}, {"mean", m}, {"rstd", r}, {"variance", v}});
  arrays.run(
      [&](Backend& backend) { backend.batch_norm_forward({vx, g, b, eps, to_activation(activation), y, m, r, v, p}); });
}

void layer_norm_forward(const Object& x, const Object& gamma, const Object& beta, const Object& activation, double eps,
                        const Object& out, const Object& mean, const Object& rstd, const Object& pre,
                        const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), y = arrays.given(out, "out", true), m = arrays.given(mean, "mean", true),
             r = arrays.given(rstd, "rstd", true);
  const View g = arrays.optional(gamma, "gamma", false), b = arrays.optional(beta, "beta", false),
             p = arrays.optional(pre, "pre", true);
  same_shape(vx, {{"out", y}, {"pre", p}});
  vectors(vx, vx.cols, {{"gamma", g}, {"beta", b}});
  vectors(vx, vx.rows, {{"mean", m}, {"rstd", r}});
  check(bool(g) == bool(b), "[ops.layer_norm_forward] gamma, beta: got one of them; expected both or neither");
  arrays.run(
      [&](Backend& backend) { backend.layer_norm_forward({vx, g, b, eps, to_activation(activation), y, m, r, p}); });
}

/// Backward of both norms; `length` is that of mean and rstd.
template <bool Batch>
void norm_backward(const Object& x, const Object& gamma, const Object& mean, const Object& rstd,
                   const Object& activation, const Object& saved, const Object& dout, const Object& dx,
                   const Object& dgamma, const Object& dbeta, const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), dy = arrays.given(dout, "dout", true),
             m = arrays.given(mean, "mean", false), r = arrays.given(rstd, "rstd", false),
             to = arrays.optional(dx, "dx", true);
  const View g = arrays.optional(gamma, "gamma", false), s = arrays.optional(saved, "saved", false),
             dg = arrays.optional(dgamma, "dgamma", true), db = arrays.optional(dbeta, "dbeta", true);
  same_shape(vx, {{"dout", dy}, {"saved", s}, {"dx", to}});
  vectors(vx, vx.cols, {{"gamma", g}, {"dgamma", dg}, {"dbeta", db}});
  vectors(vx, Batch ? vx.cols : vx.rows, {{"mean", m}, {"rstd", r}});
  needs_saved(to_activation(activation), s);
  const NormBackward call{vx, g, m, r, to_activation(activation), s, dy, to, dg, db};
  if (Batch) {
    arrays.run([&](Backend& backend) { backend.batch_norm_backward(call); });
  } else {
    arrays.run([&](Backend& backend) { backend.layer_norm_backward(call); });
  }
}

void column_affine(const Object& x, const Object& mean, const Object& spread, const Object& gamma, const Object& beta,
                   const Object& activation, const Object& out, const std::string& kind, double eps,
                   const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false), y = arrays.given(out, "out", true),
             m = arrays.optional(mean, "mean", false), s = arrays.given(spread, "spread", false),
             g = arrays.optional(gamma, "gamma", false), b = arrays.optional(beta, "beta", false);
  same_shape(vx, {{"out", y}});
  vectors(vx, vx.cols, {{"mean", m}, {"spread", s}, {"gamma", g}, {"beta", b}});
  check(kind == "std" || kind == "variance", "[ops.column_affine] kind: got \"", kind,
        "\"; expected \"std\" or \"variance\"");
  arrays.run([&](Backend& backend) {
    backend.column_affine(
        {vx, m, s, g, b, kind == "std" ? Spread::std : Spread::variance, eps, to_activation(activation), y});
  });
}

py::tuple loss(const PyLoss& loss, const Object& logits, const Object& targets, const Object& weights,
               const Object& grad, const std::string& device) {
  Arrays arrays(device);
  const View z = arrays.given(logits, "logits", false), w = arrays.optional(weights, "weights", false),
             g = arrays.optional(grad, "grad", true);
  check<TypeMismatch>(py::isinstance<py::array>(targets), "[ops.loss] targets: expected a NumPy array");
  const auto array = py::reinterpret_borrow<py::array>(targets);
  const bool labels = array.dtype().kind() == 'i' && array.itemsize() == 4 && array.ndim() == 1 &&
                      (array.flags() & py::array::c_style) != 0;
  const View t = labels ? View{} : arrays.given(targets, "targets", false);
  const Loss* known = std::get_if<Loss>(&loss.complete());
  check(known != nullptr, "[ops.loss] loss: got a CustomLoss, which is computed in Python; expected another loss");
  check(!labels || (array.size() == z.rows && std::holds_alternative<CrossEntropy>(*known)),
        "[ops.loss] targets: expected one label for each row, and the loss CrossEntropy");
  const auto* classes = std::get_if<CrossEntropy>(known);
  check(labels || classes == nullptr || classes->gamma == 0.0, "[ops.loss] targets: expected labels for gamma > 0");
  const auto* quantile = std::get_if<Quantile>(known);
  const std::int64_t repeat = quantile != nullptr ? std::ssize(quantile->levels) : 1;
  same_shape({z.data, z.rows, z.cols / repeat, z.dtype}, {{"targets", t}});
  same_shape(z, {{"grad", g}});
  vectors(z, z.rows, {{"weights", w}});
  auto* const label = labels ? static_cast<std::int32_t*>(const_cast<void*>(array.data())) : nullptr;
  for (std::int64_t n = 0; labels && n < z.rows; ++n)
    check(label[n] >= 0 && label[n] < z.cols,
          "[ops.loss] targets: got a label out of range; expected 0 to the number of outputs - 1");
  check_loss(*known, z.cols);
  const Buffer class_weights = loss_weights(*known, z.cols, arrays.backend(), z.dtype);
  LossSums sums;
  auto* const total = arrays.stage(sums);
  const auto* const index = static_cast<std::int32_t*>(arrays.stage(label, static_cast<std::size_t>(array.nbytes())));
  arrays.run([&](Backend& backend) {
    const auto count = static_cast<std::int64_t>(class_weights.bytes() / size_of(z.dtype));
    const ConstView factors{class_weights.data(), 1, count, z.dtype};
    backend.loss({*known, z, t, index, w, factors, g, total});
  });
  return py::make_tuple(sums.loss, sums.weight);
}

void optimizer_step(const PyOptimizer& optimizer, const Object& parameters, const Object& gradients,
                    const std::vector<Object>& states, double lr, std::int64_t step, double weight_decay,
                    double grad_scale, const std::string& device) {
  Arrays arrays(device);
  const View p = arrays.given(parameters, "parameters", true), g = arrays.given(gradients, "gradients", false);
  const Segment all{0, p.size(), 1.0, weight_decay};
  vectors(p, p.size(), {{"gradients", g}});
  check(static_cast<int>(states.size()) == state_count(optimizer.value.rule), "[ops.optimizer_step] states: got ",
        states.size(), " arrays; expected ", state_count(optimizer.value.rule));
  OptimizerPass pass{optimizer.value.rule,
                     p,
                     g,
                     {},
                     {&all, 1},
                     lr,
                     step,
                     grad_scale,
                     optimizer.value.clip_value.value_or(std::numeric_limits<double>::infinity())};
  for (std::size_t i = 0; i < states.size(); ++i) {
    pass.states[i] = arrays.given(states[i], "states", true);
    vectors(p, p.size(), {{"states", pass.states[i]}});
  }
  arrays.run([&](Backend& backend) { backend.optimizer_step(pass); });
}

double sum_of_squares(const Object& x, const std::string& device) {
  Arrays arrays(device);
  const View vx = arrays.given(x, "x", false);
  return arrays.run([&](Backend& backend) { return backend.sum_of_squares(vx); });
}

void lerp(const Object& average, const Object& value, double decay, Flag root, const std::string& device) {
  Arrays arrays(device);
  const View a = arrays.given(average, "average", true), v = arrays.given(value, "value", false);
  vectors(a, a.size(), {{"value", v}});
  arrays.run([&](Backend& backend) { backend.lerp({a, v, decay, root}); });
}

void average(const Object& average, const Object& value, double rate, const std::string& device) {
  Arrays arrays(device);
  const View a = arrays.given(average, "average", true), v = arrays.given(value, "value", false);
  vectors(a, a.size(), {{"value", v}});
  arrays.run([&](Backend& backend) { backend.average({a, v, rate}); });
}

/// `out` is float32 or float64, or int32 for labels; its rows are those that `index` lists.
void gather(const Object& source, const Object& index, const Object& out, const std::string& device) {
  Arrays arrays(device);
  const Source from = arrays.source(source, "source");
  check<TypeMismatch>(py::isinstance<py::array_t<std::int64_t>>(index) && py::isinstance<py::array>(out),
                      "[ops.gather] expected index as an int64 array, and out as an array");
  const auto rows = py::reinterpret_borrow<py::array_t<std::int64_t>>(index);
  auto to = py::reinterpret_borrow<py::array>(out);
  const bool label = to.dtype().kind() == 'i' && to.itemsize() == 4;
  const bool fits = to.size() == rows.size() * from.cols && to.ndim() >= 1 && to.shape(0) == rows.size();
  check(fits && rows.ndim() == 1 && (rows.flags() & to.flags() & py::array::c_style) != 0,
        "[ops.gather] expected a C-contiguous index (n,) and out with n rows of source's columns");
  for (std::int64_t i = 0; i < rows.size(); ++i)
    check<std::out_of_range>(rows.at(i) >= 0 && rows.at(i) < from.rows,
                             "[ops.gather] index: got a number out of range; expected 0 to the rows of source - 1");
  const GatherType type = label ? GatherType::label : gather_type(to_view(out, "out", true).dtype);
  const auto* which = static_cast<const std::int64_t*>(
      arrays.stage(const_cast<std::int64_t*>(rows.data()), static_cast<std::size_t>(rows.nbytes()), false));
  void* const staged = arrays.stage(to.mutable_data(), static_cast<std::size_t>(to.nbytes()));
  arrays.run([&](Backend& backend) { backend.gather({from, which, 0, rows.size(), staged, type}); });
}

std::int64_t first_nonfinite(const Object& x, const std::string& device) {
  Arrays arrays(device);
  const Source source = arrays.source(x, "x");
  return arrays.run([&](Backend& backend) { return backend.first_nonfinite(source); });
}

}  // namespace

void bind_ops(py::module_& module) {
  py::module_ m = module.def_submodule(
      "ops",
      "The operations of a backend on given arrays, for tests and study. Arrays are C-contiguous and of one dtype; "
      "outputs are overwritten. ValueError for a wrong shape, TypeError for a wrong kind.");
  using py::arg;
  const auto device = [] { return arg("device") = "cpu"; };
  const py::kw_only key;
  m.def("dense_forward", &dense_forward, arg("x"), arg("weight"), arg("bias"), arg("activation"), arg("out"),
        arg("pre"), key, device());
  m.def("dense_backward", &dense_backward, arg("x"), arg("weight"), arg("activation"), arg("saved"), arg("dout"),
        arg("dx"), arg("dweight"), arg("dbias"), key, device());
  m.def("activation_forward", &activation_forward, arg("activation"), arg("x"), arg("out"), key, device());
  m.def("activation_backward", &activation_backward, arg("activation"), arg("saved"), arg("dout"), arg("dx"), key,
        device());
  m.def("dropout", &dropout, arg("x"), arg("out"), key, arg("p"), arg("seed"), arg("stream"), device());
  m.def("batch_norm_forward", &batch_norm_forward, arg("x"), arg("gamma"), arg("beta"), arg("activation"), arg("eps"),
        arg("out"), arg("mean"), arg("rstd"), arg("variance"), arg("pre"), key, device());
  m.def("batch_norm_backward", &norm_backward<true>, arg("x"), arg("gamma"), arg("mean"), arg("rstd"),
        arg("activation"), arg("saved"), arg("dout"), arg("dx"), arg("dgamma"), arg("dbeta"), key, device());
  m.def("layer_norm_forward", &layer_norm_forward, arg("x"), arg("gamma"), arg("beta"), arg("activation"), arg("eps"),
        arg("out"), arg("mean"), arg("rstd"), arg("pre"), key, device());
  m.def("layer_norm_backward", &norm_backward<false>, arg("x"), arg("gamma"), arg("mean"), arg("rstd"),
        arg("activation"), arg("saved"), arg("dout"), arg("dx"), arg("dgamma"), arg("dbeta"), key, device());
  m.def("column_affine", &column_affine, arg("x"), arg("mean"), arg("spread"), arg("gamma"), arg("beta"),
        arg("activation"), arg("out"), key, arg("kind"), arg("eps"), device());
  m.def("loss", &loss, arg("loss"), arg("logits"), arg("targets"), arg("weights"), arg("grad"), key, device());
  m.def("optimizer_step", &optimizer_step, arg("optimizer"), arg("parameters"), arg("gradients"), arg("states"), key,
        arg("lr"), arg("step"), arg("weight_decay"), arg("grad_scale") = 1.0, device());
  m.def("sum_of_squares", &sum_of_squares, arg("x"), key, device());
  m.def("average", &average, arg("average"), arg("value"), arg("rate"), key, device());
  m.def("lerp", &lerp, arg("average"), arg("value"), arg("decay"), key, arg("root") = false, device());
  m.def("gather", &gather, arg("source"), arg("index"), arg("out"), key, device());
  m.def("first_nonfinite", &first_nonfinite, arg("x"), key, device());
}

}  // namespace gdcore::bindings
