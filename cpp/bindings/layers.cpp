#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

namespace shown {
struct Layers {
  static constexpr auto name = const_name("collections.abc.Sequence[Layer]");
};
}  // namespace shown

void set_name(Layer& layer, const Name& name) {
  if (!name) return;
  const bool fits = py::str(*name).attr("isidentifier")().cast<bool>();
  check(fits && *name != "layers" && *name != "training", "[", layer.kind(), "] name: got ", text_of(py::str(*name)),
        "; expected an identifier such as \"head\", other than \"layers\" and \"training\"");
  layer.name = *name;
}

namespace {

using std::int64_t;

template <class Function>
void bind_activation(py::module_& m, const char* doc) {
  py::class_<PyActivation<Function>, Layer> cls(m, Function::name, doc);
  cls.def(py::init([](const Name& name) { return named(PyActivation<Function>(Function{}), name); }), py::kw_only(),
          py::arg("name") = py::none());
  make_spec(cls, {"name"});
}

void bind_activations(py::module_& m) {
  bind_activation<ReLU>(m, "max(a, 0), elementwise; the slope at 0 is 0.");
  bind_activation<Tanh>(m, "tanh(a), elementwise.");
  bind_activation<Sigmoid>(m, "1 / (1 + exp(-a)), elementwise.");
  bind_activation<Softplus>(m, "log(1 + exp(a)), elementwise, without overflow.");

  bind_activation<SiLU>(
      m, "a σ(a), elementwise, σ the logistic function (Elfwing, Uchibe & Doya 2018); also called Swish.");
  bind_activation<Mish>(m, "a tanh(log(1 + exp(a))), elementwise (Misra 2020).");
  bind_activation<SELU>(
      m,
      "λ a where a > 0, else λ α (exp(a) - 1), with λ = 1.0507 and α = 1.6733 (Klambauer et al. 2017). With "
      "standardised "
      "inputs and weights of variance 1/M, Dense(M, ..., init=Normal(M**-0.5)), mean 0 and variance 1 last through the "
      "layers.");

  py::class_<PyActivation<ELU>, Layer> elu(
      m, "ELU", "a where a > 0, else alpha (exp(a) - 1); alpha positive (Clevert, Unterthiner & Hochreiter 2016).");
  elu.def(py::init([](double alpha, const Name& name) { return named(PyActivation<ELU>(ELU{alpha}), name); }),
          py::arg("alpha") = 1.0, py::kw_only(), py::arg("name") = py::none());
  elu.def_property_readonly("alpha", [](const PyActivation<ELU>& self) { return self.function().alpha; });
  make_spec(elu, {"alpha", "name"});

  py::class_<PyActivation<LeakyReLU>, Layer> leaky(
      m, "LeakyReLU", "a where a >= 0, else negative_slope * a; negative_slope from 0 to 1.");
  leaky.def(
      py::init([](double slope, const Name& name) { return named(PyActivation<LeakyReLU>(LeakyReLU{slope}), name); }),
      py::arg("negative_slope") = 0.01, py::kw_only(), py::arg("name") = py::none());
  leaky.def_property_readonly("negative_slope",
                              [](const PyActivation<LeakyReLU>& self) { return self.function().negative_slope; });
  make_spec(leaky, {"negative_slope", "name"});

  py::class_<PyGELU, Layer> gelu(m, "GELU",
                                 "a Φ(a), Φ the Gaussian distribution function (Hendrycks & Gimpel 2016); "
                                 "approximate=\"tanh\" is that paper's approximation.");
  const auto make = [](const std::string& approximate, const Name& name) {
    check(approximate == "none" || approximate == "tanh", "[GELU] approximate: got \"", approximate,
          "\"; expected \"none\" or \"tanh\"");
    return named(PyGELU(approximate == "tanh" ? Activation(GELUTanh{}) : Activation(GELU{})), name);
  };
  gelu.def(py::init(make), py::arg("approximate") = "none", py::kw_only(), py::arg("name") = py::none());
  gelu.def_property_readonly("approximate", [](const PyGELU& self) {
    return std::holds_alternative<GELUTanh>(self.activation) ? "tanh" : "none";
  });
  make_spec(gelu, {"approximate", "name"});
}

void bind_dense(py::module_& m) {
  py::class_<Dense, Layer> cls(
      m, "Dense", R"(Fully connected layer: y = x Wᵀ + b for x (rows, in_features) and y (rows, out_features).

Parameters "weight" (out_features, in_features) and "bias" (out_features,).

Parameters
----------
in_features, out_features : int
    Widths, at least 1.
bias : bool
    Whether there is a bias.
init : Initializer
    Initial weights; HeNormal() unless given.
bias_init : Initializer, optional
    Initial biases. By default 0.01 where a ReLU is the next layer, so that most of its units are active at first
    (chapter, slide 20), and 0 elsewhere.
name : str, optional
    Prefix of the names of its parameters ("head.weight"), an identifier. By default its number ("layers.0.weight").
)");
  const auto make = [](int64_t in, int64_t out, Flag bias, const PyInitializer& init,
                       const std::optional<PyInitializer>& bias_init, const Name& name) {
    const auto start = bias_init ? std::optional(bias_init->value) : std::nullopt;
    return named(Dense(in, out, bias, init.value, start), name);
  };
  cls.def(py::init(make), py::arg("in_features"), py::arg("out_features"), py::kw_only(), py::arg("bias") = true,
          py::arg_v("init", static_cast<PyInitializer>(PyInitializerOf<HeNormal>(HeNormal{})), "HeNormal()"),
          py::arg("bias_init") = py::none(), py::arg("name") = py::none());
  cls.def_readonly("in_features", &Dense::in_features)
      .def_readonly("out_features", &Dense::out_features)
      .def_readonly("bias", &Dense::bias);
  cls.def_property_readonly("init", [](const Dense& self) { return to_python(self.init); });
  cls.def_property_readonly("bias_init", [](const Dense& self) {
    return self.bias_init ? to_python(*self.bias_init) : py::object(py::none());
  });
  make_spec(cls, {"in_features", "out_features", "bias", "init", "bias_init", "name"});
}

void bind_batch_norm(py::module_& m) {
  py::class_<BatchNorm, Layer> batch(m, "BatchNorm",
                                     R"(Batch normalisation of each feature over the batch (Ioffe & Szegedy 2015).

In training with mean and biased variance of the batch, in prediction with moving averages: average ←
decay · average + (1 - decay) · batch. The standard deviation is averaged, as the chapter does; running="variance"
averages the variance. Parameters "gamma" and "beta" (features,); states "running_mean" and "running_std" or
"running_variance".

Parameters
----------
features : int
    Width, at least 1.
decay : float
    Factor on the old average, 0 to 1. (PyTorch's momentum is 1 - decay.)
eps : float
    Added to the variance, positive.
running : str
    "std" or "variance".
affine : bool
    Whether there are γ and β.
name : str, optional
    Prefix of the names of its parameters ("head.weight"), an identifier. By default its number ("layers.0.weight").
)");
  const auto make = [](int64_t features, double decay, double eps, const std::string& running, Flag affine,
                       const Name& name) {
    check(running == "std" || running == "variance", "[BatchNorm] running: got \"", running,
          "\"; expected \"std\" or \"variance\"");
    return named(BatchNorm(features, decay, eps, running == "std" ? Spread::std : Spread::variance, affine), name);
  };
  batch.def(py::init(make), py::arg("features"), py::arg("decay") = 0.9, py::kw_only(), py::arg("eps") = 1e-5,
            py::arg("running") = "std", py::arg("affine") = true, py::arg("name") = py::none());
  batch.def_property_readonly("features", [](const BatchNorm& self) { return self.features; });
  batch.def_property_readonly("eps", [](const BatchNorm& self) { return self.eps; });
  batch.def_property_readonly("affine", [](const BatchNorm& self) { return self.affine; });
  batch.def_property_readonly("running",
                              [](const BatchNorm& self) { return self.running == Spread::std ? "std" : "variance"; });
  batch.def_readonly("decay", &BatchNorm::decay);
  make_spec(batch, {"features", "decay", "eps", "running", "affine", "name"});
}

void bind_layer_norm(py::module_& m) {
  py::class_<LayerNorm, Layer> layer(m, "LayerNorm",
                                     R"(Layer normalisation of each row over its features (Ba, Kiros & Hinton 2016).

The same in training and in prediction. Parameters "gamma" and "beta" (features,).

Parameters
----------
features : int
    Width, at least 1.
eps : float
    Added to the variance, positive.
affine : bool
    Whether there are γ and β.
name : str, optional
    Prefix of the names of its parameters ("head.weight"), an identifier. By default its number ("layers.0.weight").
)");
  layer.def(py::init([](int64_t features, double eps, Flag affine, const Name& name) {
              return named(LayerNorm(features, eps, affine), name);
            }),
            py::arg("features"), py::arg("eps") = 1e-5, py::kw_only(), py::arg("affine") = true,
            py::arg("name") = py::none());
  layer.def_property_readonly("features", [](const LayerNorm& self) { return self.features; });
  layer.def_property_readonly("eps", [](const LayerNorm& self) { return self.eps; });
  layer.def_property_readonly("affine", [](const LayerNorm& self) { return self.affine; });
  make_spec(layer, {"features", "eps", "affine", "name"});
}

void bind_scale(py::module_& m) {
  py::class_<Scale, Layer> layer(m, "Scale", R"(A trained factor for each feature: y = x ⊙ s, where s is 1 at first.

Before the first dense layer it lets training weigh the inputs. RealMLP (Holzmüller et al. 2024) gives it a learning
rate several times as large as that of the other layers: ``gd.Adam(1e-3, lr_factors={"scale": 6})`` for a layer
``gd.Scale(features, name="scale")``. Weight decay does not apply to it, unless ``decay_biases=True``.
Parameter "factor" (features,).

Parameters
----------
features : int
    Width, at least 1.
name : str, optional
    Prefix of the names of its parameters ("head.weight"), an identifier. By default its number ("layers.0.weight").
)");
  layer.def(py::init([](int64_t features, const Name& name) { return named(Scale(features), name); }),
            py::arg("features"), py::kw_only(), py::arg("name") = py::none());
  layer.def_readonly("features", &Scale::features);
  make_spec(layer, {"features", "name"});
}

/// (x - mean) / std, also where the difference overflows.
double standardized(double x, double mean, double std) {
  const double difference = x - mean;
  return std::isfinite(difference) ? difference / std : x / std - mean / std;
}

/// z std + mean, also where the product overflows.
double restored(double z, double mean, double std) {
  const double x = z * std + mean;
  return std::isfinite(x) ? x : std::fma(z, std, mean);
}

/// (x - mean) / std, or the inverse if `back`, on the host in float64.
py::array scale(const Standardizer& self, const py::object& x, bool back) {
  check<std::runtime_error>(!self.mean.empty(),
                            "[Standardizer] not fitted: mean and std are unknown; call fit(training data) first");
  const OwnedSource owned = to_source(x, "[Standardizer] x", false);
  check(owned.source.cols == self.features, "[Standardizer] x: got ", owned.source.cols, " columns; expected ",
        self.features);
  py::array_t<double> out({owned.source.rows, owned.source.cols});
  double* to = out.mutable_data();
  backend(Device::cpu).gather({owned.source, nullptr, 0, owned.source.rows, to, GatherType::float64});
  for (int64_t r = 0; r < owned.source.rows; ++r) {
    for (std::size_t c = 0; c < self.mean.size(); ++c, ++to) {
      *to = back ? restored(*to, self.mean[c], self.std[c]) : standardized(*to, self.mean[c], self.std[c]);
    }
  }
  const bool single = owned.source.type == SourceType::f32;
  return single ? py::array(out.attr("astype")("float32")) : py::array(out);
}

void set_scaling(Standardizer& self, const std::vector<double>& mean, const std::vector<double>& std) {
  const Standardizer made(static_cast<int64_t>(mean.size()), mean, std);
  self.features = made.features;
  self.mean = made.mean;
  self.std = made.std;
}

void bind_standardizer(py::module_& m) {
  py::class_<Standardizer, Layer> cls(
      m, "Standardizer", R"(Scales data to mean 0 and standard deviation 1, feature by feature: (x - mean) / std.

Fit it on the training data and make it the first layer of a model: mean and std are then saved with the model and
used in every prediction. The std of a feature that is constant, but for rounding, is 1. In a float32 model it reads
float32 data: for values far from zero relative to their spread (timestamps), use transform(x) or a float64 model.

Parameters
----------
features : int
    Width; 0 means that fit sets it.
mean, std : sequence of float, optional
    Given values, instead of fit.
name : str, optional
    Prefix of the names of its buffers ("scaling.mean"), an identifier. By default its number ("layers.0.mean").
)");
  cls.def(py::init([](int64_t features, const std::optional<std::vector<double>>& mean,
                      const std::optional<std::vector<double>>& std, const Name& name) {
            const int64_t width = features == 0 && mean ? static_cast<int64_t>(mean->size()) : features;
            return named(Standardizer(width, mean.value_or(std::vector<double>{}), std.value_or(std::vector<double>{})),
                         name);
          }),
          py::arg("features") = 0, py::kw_only(), py::arg("mean") = py::none(), py::arg("std") = py::none(),
          py::arg("name") = py::none());
  cls.def(
      "fit",
      [](ObjectOf<Standardizer> self, const ArrayLike& x) {
        const OwnedSource owned = to_source(x, "[Standardizer.fit] x", false);
        Standardizer& layer = self.cast<Standardizer&>();
        Standardizer fitted = layer;  // a copy: other threads may read the layer meanwhile
        without_gil([&] { fitted.fit(owned.source); });
        layer = std::move(fitted);
        return self;
      },
      py::arg("x"),
      "Computes mean and standard deviation of x (rows, features), block by block; returns the layer itself.");
  cls.def("_set", &set_scaling, py::arg("mean"), py::arg("std"),
          "Sets mean and standard deviation. ValueError for impossible numbers.");
  cls.def(
      "transform", [](const Standardizer& self, const ArrayLike& x) { return scale(self, x, false); }, py::arg("x"),
      "(x - mean) / std for x (rows, features): float32 for float32 input, otherwise float64. RuntimeError before "
      "fit.");
  cls.def(
      "inverse_transform", [](const Standardizer& self, const ArrayLike& x) { return scale(self, x, true); },
      py::arg("x"), "x · std + mean for x (rows, features), the inverse of transform. RuntimeError before fit.");
  const auto numbers = [](const std::vector<double>& values) -> std::optional<py::array_t<double>> {
    if (values.empty()) return std::nullopt;
    py::array_t<double> copy(static_cast<py::ssize_t>(values.size()), values.data());
    copy.attr("setflags")(false);  // a number written into the copy would not reach the layer
    return copy;
  };
  cls.def_readonly("features", &Standardizer::features);
  cls.def_property_readonly("mean", [numbers](const Standardizer& self) { return numbers(self.mean); });
  cls.def_property_readonly("std", [numbers](const Standardizer& self) { return numbers(self.std); });
  make_spec(cls, {"features", "mean", "std", "name"});
}

/// The block as Python sees it, with the layers that it was made of.
struct PyResidual : Residual {
  py::tuple inside;
  PyResidual(std::vector<std::unique_ptr<Layer>> layers, py::tuple inside)
      : Residual(std::move(layers)), inside(std::move(inside)) {}
};

void bind_residual(py::module_& m) {
  py::class_<PyResidual, Layer> cls(m, "Residual",
                                    "A block y = x + f(x) of a sequence of layers; see gdcore.Residual.");
  const auto make = [](const Typed<shown::Layers>& given, const Name& name) {
    check<TypeMismatch>(has_length(given) && is_ordered(given) && !py::isinstance<py::str>(given),
                        "[Residual] layers: got ", text_of(given), "; expected layers such as gd.Dense(8, 8)");
    const py::tuple layers(given);
    std::vector<std::unique_ptr<Layer>> clones;
    for (const py::handle layer : layers) {
      check<TypeMismatch>(py::isinstance<Layer>(layer), "[Residual] layers[", clones.size(), "]: got ",
                          std::string(py::str(py::type::of(layer).attr("__name__"))),
                          "; expected a layer such as gd.Dense(8, 8) or gd.ReLU()");
      clones.push_back(layer.cast<const Layer&>().clone());
    }
    return named(PyResidual(std::move(clones), layers), name);
  };
  cls.def(py::init(make), py::arg("layers"), py::kw_only(), py::arg("name") = py::none());
  cls.def_property_readonly("layers", [](const PyResidual& self) { return self.inside; });
  make_spec(cls, {"layers", "name"});
}

}  // namespace

void bind_layers(py::module_& m) {
  py::class_<Layer>(m, "Layer", "The description of a layer. A model copies it.")
      .def_property_readonly(
          "name", [](const Layer& self) { return self.name.empty() ? Name() : Name(self.name); },
          "The prefix of its parameters' names; None where that is the layer's number.")
      .def("_outputs", &Layer::output_features, py::arg("inputs"), "The number of outputs for a number of inputs.")
      .def("_origins", &Layer::origins, py::arg("inputs"),
           "For each output, the element of `inputs`, one for each input, whose column it passes on, or -1.");
  bind_dense(m);
  bind_activations(m);
  py::class_<DropoutLayer, Layer> dropout(
      m, "Dropout",
      "In training, sets each input to zero with probability p (0 <= p < 1) and scales the others by 1 / (1 - p) "
      "(Srivastava et al. 2014). In prediction, the identity.");
  dropout.def(py::init([](double p, const Name& name) { return named(DropoutLayer(p), name); }), py::arg("p") = 0.5,
              py::kw_only(), py::arg("name") = py::none());
  dropout.def_readonly("p", &DropoutLayer::p);
  make_spec(dropout, {"p", "name"});
  bind_batch_norm(m);
  bind_layer_norm(m);
  bind_scale(m);
  bind_standardizer(m);
  bind_column_layers(m);
  bind_residual(m);
}

}  // namespace gdcore::bindings
