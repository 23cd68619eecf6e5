#include <array>
#include <cmath>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

/// The arguments that all optimisers share, in the order of their keyword arguments.
struct Common {
  py::object lr, weight_decay, lr_factors;
  bool decay_biases;
  std::optional<double> clip_norm, clip_value;
};

/// Converts a number, sequence or dict; values with keys are dicts already.
PerLayer to_per_layer(const py::object& given, const char* argument) {
  if (given.is_none()) return std::monostate{};
  try {
    if (py::isinstance<py::dict>(given)) {
      std::vector<std::pair<std::string, double>> named;
      for (const auto& [name, value] : py::reinterpret_borrow<py::dict>(given)) {
        named.emplace_back(name.cast<std::string>(), value.cast<double>());
      }
      return named;
    }
    if (has_length(given) && !py::isinstance<py::str>(given)) return given.cast<std::vector<double>>();
    return given.cast<double>();
  } catch (const std::exception&) {  // includes errors that Python raises for values that are no sequence
    throw TypeMismatch(
        join(argument, ": got ", text_of(given),
             "; expected a number, a sequence with one number for each layer with weights, or a dict by layer name"));
  }
}

/// The Python value that an optimiser shows: the numbers in use, independent of the caller's objects.
py::object shown_per_layer(const PerLayer& numbers) {
  if (std::holds_alternative<std::monostate>(numbers)) return py::none();
  if (const auto* named = std::get_if<std::vector<std::pair<std::string, double>>>(&numbers)) {
    py::dict shown;
    for (const auto& [name, value] : *named) shown[py::str(name)] = value;
    return immutable_copy(shown);
  }
  if (const auto* list = std::get_if<std::vector<double>>(&numbers)) return immutable_copy(py::cast(*list));
  return py::float_(std::get<double>(numbers));
}

/// Returns a function of the step unchanged, and a number as a new float.
py::object to_rate(const py::object& lr) {
  if (PyCallable_Check(lr.ptr()) != 0) return lr;
  const bool truth = PyBool_Check(lr.ptr()) || std::string(Py_TYPE(lr.ptr())->tp_name).starts_with("numpy.bool");
  const bool number = !truth && !py::isinstance<py::str>(lr) && (PyFloat_Check(lr.ptr()) || PyNumber_Check(lr.ptr()));
  const double value = number ? PyFloat_AsDouble(lr.ptr()) : 0.0;
  const bool failed = PyErr_Occurred() != nullptr;
  if (number && !failed && value >= 0.0 && std::isfinite(value)) return py::float_(value);
  const bool too_large = failed && PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
  PyErr_Clear();
  check<TypeMismatch>(number && (!failed || too_large), "[Optimizer] lr: got ", text_of(lr),
                      "; expected a number or a function of the step");
  throw std::invalid_argument(join("[Optimizer] lr: got ", text_of(lr), "; expected a finite number >= 0"));
}

bool is_function(const py::object& given) { return PyCallable_Check(given.ptr()) != 0; }

/// How a field of a rule is given and shown.
template <class Rule, auto Member>
struct Field {
  using Value = std::remove_cvref_t<decltype(std::declval<Rule&>().*Member)>;
  using Argument = std::conditional_t<std::is_same_v<Value, bool>, Flag, Value>;
  static Value taken(const Argument& given, py::object&) { return given; }
  static Value shown(const Value& value, const py::object&) { return value; }
};

/// A number of the argument `whole`, which the messages show.
double to_number(const py::object& given, const char* argument, const py::object& whole, const char* expected) {
  py::detail::make_caster<double> number;
  if (number.load(given, true)) return py::detail::cast_op<double>(number);
  const double value = PyFloat_AsDouble(given.ptr());
  const bool too_large = value == -1.0 && PyErr_ExceptionMatches(PyExc_OverflowError) != 0 && !is_bool(given);
  PyErr_Clear();
  check(!too_large, argument, ": got ", text_of(whole), "; expected ", expected, ", below 1.8e308");
  throw TypeMismatch(join(argument, ": got ", text_of(whole), "; expected ", expected));
}

/// A momentum may be a function of the step; the rule then has its default.
template <>
struct Field<Momentum, &Momentum::momentum> {
  using Argument = Typed<shown::Rate>;
  static double taken(const Argument& given, py::object& schedule) {
    if (!is_function(given)) {
      return to_number(given, "[Momentum] momentum", given, "a number or a function of the step");
    }
    schedule = given;
    return Momentum{}.momentum;
  }
  static Argument shown(double value, const py::object& schedule) {
    return schedule.is_none() ? py::object(py::float_(value)) : schedule;
  }
};

template <>
struct Field<Adam, &Adam::betas> {
  using Argument = Typed<shown::Betas>;
  static std::pair<double, double> taken(const Argument& given, py::object& schedule) {
    constexpr const char *kName = "[Adam] betas", *kExpected = "two numbers, or a function of the step and a number";
    const bool pair = PySequence_Check(given.ptr()) != 0 && is_ordered(given) && PySequence_Size(given.ptr()) == 2;
    PyErr_Clear();
    check<TypeMismatch>(pair, kName, ": got ", text_of(given), "; expected ", kExpected);
    const py::object first = given[py::int_(0)], second = given[py::int_(1)];
    const double beta2 = to_number(second, kName, given, kExpected);
    if (!is_function(first)) return {to_number(first, kName, given, kExpected), beta2};
    schedule = first;
    return {Adam{}.betas.first, beta2};
  }
  static Argument shown(const std::pair<double, double>& value, const py::object& schedule) {
    return schedule.is_none() ? py::cast(value) : py::object(py::make_tuple(schedule, value.second));
  }
};

template <class Rule>
PyOptimizerOf<Rule> make(Rule rule, Common common, py::object momentum) {
  constexpr const char *kDecay = "[Optimizer] weight_decay", *kFactors = "[Optimizer] lr_factors";
  const py::object lr = to_rate(common.lr);
  const bool scheduled = is_function(common.weight_decay);
  const py::object decay = scheduled ? py::object(py::float_(1.0)) : with_keys(common.weight_decay, kDecay);
  const py::object factors = with_keys(common.lr_factors, kFactors);
  PyOptimizerOf<Rule> made;
  made.lr = lr;
  made.value = {rule,
                to_per_layer(decay, kDecay),
                common.decay_biases,
                to_per_layer(factors, kFactors),
                common.clip_norm,
                common.clip_value};
  check_optimizer(made.value, DType::float64);
  made.weight_decay = scheduled ? common.weight_decay : shown_per_layer(made.value.weight_decay);
  made.momentum = std::move(momentum);
  made.lr_factors = shown_per_layer(made.value.lr_factors);
  return made;
}

constexpr const char* kRateDoc = R"(

Parameters
----------
lr : float or callable
    Learning rate η, or a function from the step (0, 1, ...) to it.
)";

constexpr const char* kCommonDoc = R"(weight_decay : float, sequence, dict or callable
    λ of λ/2 wᵀw: one number, one for each layer with weights, or by name ({"layers.0": 1e-4}, or a pandas Series with
    such labels); or a function from the step to the number for all. Biases, γ and β do not decay unless they are
    named.
decay_biases : bool
    Whether biases, γ and β decay too.
lr_factors : sequence or dict, optional
    Factors of the rate, one for each layer with weights, or by name.
clip_norm, clip_value : float, optional
    Largest 2-norm of the gradient, which is scaled down to it; then the largest magnitude of its elements.
)";

/// Binds one rule. Its fields (pointers to members, in struct order) become keyword arguments with the struct's
/// defaults, and properties. The first may also be given by position. `fields_doc` describes them, in
/// numpydoc.
template <class Rule, auto... Members>
void bind_rule(py::module_& m, const char* doc, const std::array<const char*, sizeof...(Members)>& names,
               const char* fields_doc = "") {
  using Number = std::optional<double>;
  const std::string text = std::string(doc) + kRateDoc + fields_doc + kCommonDoc;
  py::class_<PyOptimizerOf<Rule>, PyOptimizer> cls(m, Rule::name, text.c_str());
  const auto init = [](Typed<shown::Rate> lr, typename Field<Rule, Members>::Argument... own, Typed<shown::Decay> decay,
                       Flag biases, Typed<shown::OptionalPerLayer> factors, Number norm, Number value) {
    py::object momentum = py::none();
    const Rule rule{Field<Rule, Members>::taken(own, momentum)...};
    return make(rule, {lr, decay, factors, biases, norm, value}, momentum);
  };
  const auto define = [&](const auto&... arguments) {
    cls.def(py::init(init), py::arg("lr"), arguments..., py::arg("weight_decay") = 0.0, py::arg("decay_biases") = false,
            py::arg("lr_factors") = py::none(), py::arg("clip_norm") = py::none(), py::arg("clip_value") = py::none());
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    if constexpr (sizeof...(I) == 0) {
      define(py::kw_only());
    } else {
      const auto first_by_position = [&](const auto& first, const auto&... rest) {
        define(first, py::kw_only(), rest...);
      };
      first_by_position((py::arg(names[I]) = Rule{}.*Members)...);
    }
    (cls.def_property_readonly(names[I],
                               [](const PyOptimizerOf<Rule>& self) {
                                 return Field<Rule, Members>::shown(self.rule().*Members, self.momentum);
                               }),
     ...);
  }(std::make_index_sequence<sizeof...(Members)>{});
  std::vector<std::string> fields{"lr"};
  fields.insert(fields.end(), names.begin(), names.end());
  for (const char* name : {"weight_decay", "decay_biases", "lr_factors", "clip_norm", "clip_value"})
    fields.emplace_back(name);
  make_spec(cls, fields);
}

}  // namespace

void bind_optimizers(py::module_& m) {
  py::class_<PyOptimizer>(
      m, "Optimizer",
      "An update rule of the parameters, with its hyperparameters. One fused pass updates all parameters.")
      .def_readonly("lr", &PyOptimizer::lr)
      .def_readonly("weight_decay", &PyOptimizer::weight_decay)
      .def_readonly("lr_factors", &PyOptimizer::lr_factors)
      .def_readonly("_momentum", &PyOptimizer::momentum)
      .def_property_readonly("decay_biases", [](const PyOptimizer& self) { return self.value.decay_biases; })
      .def_property_readonly("clip_norm", [](const PyOptimizer& self) { return self.value.clip_norm; })
      .def_property_readonly("clip_value", [](const PyOptimizer& self) { return self.value.clip_value; });

  bind_rule<SGD>(m, "Gradient descent: w ← w - η g.", {});
  bind_rule<Momentum, &Momentum::momentum, &Momentum::nesterov>(
      m, R"(Gradient descent with momentum: v ← μ v - η g, w ← w + v; nesterov=True: w ← w + μ v - η g.

The velocity contains the rate (PyTorch's does not): a change of η does not rescale past steps.)",
      {"momentum", "nesterov"}, R"(momentum : float or callable
    μ, at least 0 and below 1, or a function from the step (0, 1, ...) to it; 0.9 by default.
nesterov : bool
    Whether w moves by μ v - η g, with the new v, instead of by v; False by default.
)");
  bind_rule<AdaGrad, &AdaGrad::eps>(m, "AdaGrad (Duchi et al. 2011): r ← r + g², w ← w - η g / (√r + eps).", {"eps"},
                                    R"(eps : float
    Added to √r, above 0; 1e-8 by default (PyTorch: 1e-10).
)");
  bind_rule<RMSProp, &RMSProp::beta, &RMSProp::eps>(
      m, "RMSProp (Hinton 2012): r ← β r + (1-β) g², w ← w - η g / (√r + eps).", {"beta", "eps"}, R"(beta : float
    β, at least 0 and below 1; 0.9 by default (PyTorch: 0.99).
eps : float
    Added to √r, above 0; 1e-8 by default.
)");
  bind_rule<Adam, &Adam::betas, &Adam::eps, &Adam::decoupled>(
      m, R"(Adam (Kingma & Ba 2014): s ← β₁ s + (1-β₁) g, r ← β₂ r + (1-β₂) g², w ← w - η ŝ / (√r̂ + eps), with
ŝ = s / (1-β₁^τ) and r̂ = r / (1-β₂^τ).)",
      {"betas", "eps", "decoupled"}, R"(betas : tuple of two floats
    (β₁, β₂), each at least 0 and below 1; by default (0.9, 0.99), as in the chapter (PyTorch: 0.9, 0.999). β₁ may be a
    function from the step (0, 1, ...) to it; β₁^τ is then the product over the steps so far.
eps : float
    Added to √r̂, above 0; 1e-8 by default.
decoupled : bool
    Whether weight decay shrinks w itself instead of entering g (AdamW, Loshchilov & Hutter 2019); False by default.
)");
}

}  // namespace gdcore::bindings
