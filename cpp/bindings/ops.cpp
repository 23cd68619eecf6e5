// The backend's operations on given arrays, for tests and study: outputs are passed in and overwritten.
#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

using Object = py::object;

Activation to_activation(const Object& layer) {
  if (layer.is_none()) return Identity{};
  check<TypeMismatch>(py::isinstance<ActivationLayer>(layer) || py::isinstance<Layer>(layer),
                      "[ops] activation is no activation layer");
  const Activation* activation = layer.cast<const Layer&>().as_activation();
  check<TypeMismatch>(activation != nullptr, "[ops] activation is no activation layer");
  return *activation;
}

View given(const Object& array, const char* name, bool output) {
  const View view = to_view(array, name, output);
  check<TypeMismatch>(bool(view), name, " is None; expected an array");
  check(view.rows >= 1 && view.cols >= 1, "[ops] ", name, " is empty; expected at least one row and one column");
  return view;
}

/// Throws unless every given view has the dtype and shape of the first, or of a vector of `length`.
void same_shape(const View& first, std::initializer_list<std::pair<const char*, View>> others) {
  for (const auto& [name, view] : others) {
    check(!view || (view.dtype == first.dtype && view.rows == first.rows && view.cols == first.cols), "[ops] ", name,
          " does not have the shape and dtype of its partner");
  }
}

void vectors(const View& first, std::int64_t length, std::initializer_list<std::pair<const char*, View>> others) {
  for (const auto& [name, view] : others) {
    check(!view || (view.dtype == first.dtype && view.size() == length), "[ops] ", name, " must be a vector of ",
          length, " in the dtype of x");
  }
}

/// What backward needs of an absorbed activation.
void needs_saved(const Activation& activation, const View& saved) {
  check<TypeMismatch>(bool(saved) || std::holds_alternative<Identity>(activation),
                      "[ops] saved is None; expected what the activation's slope is computed from");
}

Backend& on(const std::string& device) { return backend(to_device(device)); }

void dense_forward(const Object& x, const Object& weight, const Object& bias, const Object& activation,
                   const Object& out, const Object& pre, const std::string& device) {
  const View vx = given(x, "x", false), w = given(weight, "weight", false), b = to_view(bias, "bias", false),
             y = given(out, "out", true), p = to_view(pre, "pre", true);
  check(w.cols == vx.cols && y.rows == vx.rows && y.cols == w.rows && w.dtype == vx.dtype && y.dtype == vx.dtype,
        "[ops.dense_forward] shapes do not fit");
  vectors(vx, w.rows, {{"bias", b}});
  same_shape(y, {{"pre", p}});
  on(device).dense_forward({vx, w, b, to_activation(activation), y, p});
}

void dense_backward(const Object& x, const Object& weight, const Object& activation, const Object& saved,
                    const Object& dout, const Object& dx, const Object& dweight, const Object& dbias,
                    const std::string& device) {
  const View vx = given(x, "x", false), w = given(weight, "weight", false), dy = given(dout, "dout", true),
             gx = to_view(dx, "dx", true), gw = to_view(dweight, "dweight", true), gb = to_view(dbias, "dbias", true);
  check(w.cols == vx.cols && dy.rows == vx.rows && dy.cols == w.rows && w.dtype == vx.dtype && dy.dtype == vx.dtype,
        "[ops.dense_backward] shapes do not fit");
  needs_saved(to_activation(activation), to_view(saved, "saved", false));
  same_shape(vx, {{"dx", gx}});
  same_shape(w, {{"dweight", gw}});
  same_shape(dy, {{"saved", to_view(saved, "saved", false)}});
  vectors(vx, w.rows, {{"dbias", gb}});
  on(device).dense_backward({vx, w, to_activation(activation), to_view(saved, "saved", false), dy, gx, gw, gb});
}

void activation_forward(const Object& activation, const Object& x, const Object& out, const std::string& device) {
  const View vx = given(x, "x", false), y = given(out, "out", true);
  same_shape(vx, {{"out", y}});
  on(device).activation_forward(to_activation(activation), vx, y);
}

void activation_backward(const Object& activation, const Object& saved, const Object& dout, const Object& dx,
                         const std::string& device) {
  const View s = given(saved, "saved", false), dy = given(dout, "dout", true), to = given(dx, "dx", true);
  same_shape(s, {{"dout", dy}, {"dx", to}});
  on(device).activation_backward(to_activation(activation), s, dy, to);
}

void dropout(const Object& x, const Object& out, double p, std::uint64_t seed, std::uint64_t stream,
             const std::string& device) {
  const View vx = given(x, "x", false), y = given(out, "out", true);
  same_shape(vx, {{"out", y}});
  check(p >= 0.0 && p < 1.0, "[ops.dropout] p is ", p, "; expected 0 <= p < 1");
  on(device).dropout({vx, y, p, seed, stream});
}

void batch_norm_forward(const Object& x, const Object& gamma, const Object& beta, const Object& activation, double eps,
                        const Object& out, const Object& mean, const Object& rstd, const Object& variance,
                        const Object& pre, const std::string& device) {
  const View vx = given(x, "x", false), y = given(out, "out", true), m = given(mean, "mean", true),
             r = given(rstd, "rstd", true), v = given(variance, "variance", true);
  const View g = to_view(gamma, "gamma", false), b = to_view(beta, "beta", false), p = to_view(pre, "pre", true);
  same_shape(vx, {{"out", y}, {"pre", p}});
  vectors(vx, vx.cols, {{"gamma", g}, {"beta", b}, {"mean", m}, {"rstd", r}, {"variance", v}});
  on(device).batch_norm_forward({vx, g, b, eps, to_activation(activation), y, m, r, v, p});
}

void layer_norm_forward(const Object& x, const Object& gamma, const Object& beta, const Object& activation, double eps,
                        const Object& out, const Object& mean, const Object& rstd, const Object& pre,
                        const std::string& device) {
  const View vx = given(x, "x", false), y = given(out, "out", true), m = given(mean, "mean", true),
             r = given(rstd, "rstd", true);
  const View g = to_view(gamma, "gamma", false), b = to_view(beta, "beta", false), p = to_view(pre, "pre", true);
  same_shape(vx, {{"out", y}, {"pre", p}});
  vectors(vx, vx.cols, {{"gamma", g}, {"beta", b}});
  vectors(vx, vx.rows, {{"mean", m}, {"rstd", r}});
  check(bool(g) == bool(b), "[ops.layer_norm_forward] gamma and beta must be given together");
  on(device).layer_norm_forward({vx, g, b, eps, to_activation(activation), y, m, r, p});
}

/// Both norms' backward; `length` is that of mean and rstd.
template <bool Batch>
void norm_backward(const Object& x, const Object& gamma, const Object& mean, const Object& rstd,
                   const Object& activation, const Object& saved, const Object& dout, const Object& dx,
                   const Object& dgamma, const Object& dbeta, const std::string& device) {
  const View vx = given(x, "x", false), dy = given(dout, "dout", true), m = given(mean, "mean", false),
             r = given(rstd, "rstd", false), to = to_view(dx, "dx", true);
  const View g = to_view(gamma, "gamma", false), s = to_view(saved, "saved", false),
             dg = to_view(dgamma, "dgamma", true), db = to_view(dbeta, "dbeta", true);
  same_shape(vx, {{"dout", dy}, {"saved", s}, {"dx", to}});
  vectors(vx, vx.cols, {{"gamma", g}, {"dgamma", dg}, {"dbeta", db}});
  vectors(vx, Batch ? vx.cols : vx.rows, {{"mean", m}, {"rstd", r}});
  needs_saved(to_activation(activation), s);
  const NormBackward call{vx, g, m, r, to_activation(activation), s, dy, to, dg, db};
  if (Batch) {
    on(device).batch_norm_backward(call);
  } else {
    on(device).layer_norm_backward(call);
  }
}

void column_affine(const Object& x, const Object& mean, const Object& spread, const Object& gamma, const Object& beta,
                   const Object& activation, const Object& out, const std::string& kind, double eps,
                   const std::string& device) {
  const View vx = given(x, "x", false), y = given(out, "out", true), m = to_view(mean, "mean", false),
             s = given(spread, "spread", false), g = to_view(gamma, "gamma", false), b = to_view(beta, "beta", false);
  same_shape(vx, {{"out", y}});
  vectors(vx, vx.cols, {{"mean", m}, {"spread", s}, {"gamma", g}, {"beta", b}});
  check(kind == "std" || kind == "variance", "[ops.column_affine] kind is \"", kind,
        "\"; expected \"std\" or \"variance\"");
  on(device).column_affine(
      {vx, m, s, g, b, kind == "std" ? Spread::std : Spread::variance, eps, to_activation(activation), y});
}

py::tuple loss(const PyLoss& loss, const Object& logits, const Object& targets, const Object& weights,
               const Object& grad, const std::string& device) {
  const View z = given(logits, "logits", false), w = to_view(weights, "weights", false),
             g = to_view(grad, "grad", true);
  check<TypeMismatch>(py::isinstance<py::array>(targets), "[ops.loss] targets is no NumPy array");
  const auto array = py::reinterpret_borrow<py::array>(targets);
  const bool labels = array.dtype().kind() == 'i' && array.itemsize() == 4 && array.ndim() == 1 &&
                      (array.flags() & py::array::c_style) != 0;
  const View t = labels ? View{} : given(targets, "targets", false);
  check(!labels || (array.size() == z.rows && std::holds_alternative<CrossEntropy>(loss.value)),
        "[ops.loss] labels do not fit");
  same_shape(z, {{"targets", t}, {"grad", g}});
  vectors(z, z.rows, {{"weights", w}});
  const auto* label = labels ? static_cast<const std::int32_t*>(array.data()) : nullptr;
  for (std::int64_t n = 0; labels && n < z.rows; ++n)
    check(label[n] >= 0 && label[n] < z.cols, "[ops.loss] label out of range");
  Backend& backend = on(device);
  check_loss(loss.value, z.cols);
  const Buffer class_weights = loss_weights(loss.value, z.cols, backend, z.dtype);
  LossSums sums;
  backend.loss({loss.value, z, t, label, w, {class_weights.data(), 1, z.cols, z.dtype}, g, &sums});
  return py::make_tuple(sums.loss, sums.weight);
}

void optimizer_step(const PyOptimizer& optimizer, const Object& parameters, const Object& gradients,
                    const std::vector<Object>& states, double lr, std::int64_t step, double weight_decay,
                    double grad_scale, const std::string& device) {
  const View p = given(parameters, "parameters", true), g = given(gradients, "gradients", false);
  const Segment all{0, p.size(), 1.0, weight_decay};
  vectors(p, p.size(), {{"gradients", g}});
  check(static_cast<int>(states.size()) == state_count(optimizer.value.rule), "[ops.optimizer_step] states has ",
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
    pass.states[i] = given(states[i], "states", true);
    vectors(p, p.size(), {{"states", pass.states[i]}});
  }
  on(device).optimizer_step(pass);
}

}  // namespace

void bind_ops(py::module_& module) {
  py::module_ m = module.def_submodule("ops",
                                       "The backend's operations on given arrays: exact dtypes, C-contiguous, outputs "
                                       "overwritten. For tests and study.");
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
  m.def(
      "sum_of_squares",
      [](const Object& x, const std::string& name) { return on(name).sum_of_squares(given(x, "x", false)); }, arg("x"),
      key, device());
  m.def(
      "lerp",
      [](const Object& average, const Object& value, double decay, bool root, const std::string& name) {
        const View a = given(average, "average", true), v = given(value, "value", false);
        vectors(a, a.size(), {{"value", v}});
        on(name).lerp({a, v, decay, root});
      },
      arg("average"), arg("value"), arg("decay"), key, arg("root") = false, device());
}

}  // namespace gdcore::bindings
