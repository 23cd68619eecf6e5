#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

template <class Kind>
PyLossOf<Kind> checked(Kind kind) {
  PyLossOf<Kind> loss(std::move(kind));
  check_loss(loss.value, 0);
  return loss;
}

struct ShownWeights {
  static constexpr auto name = py::detail::const_name(
      "collections.abc.Sequence[float] | collections.abc.Mapping[typing.Any, float] | str | None");
};
struct ShownFactors {
  static constexpr auto name = py::detail::const_name("float | collections.abc.Sequence[float] | None");
};
struct ShownNumbers {
  static constexpr auto name = py::detail::const_name("tuple[float, ...] | None");
};
struct ShownLevels {
  static constexpr auto name = py::detail::const_name("float | collections.abc.Sequence[float]");
};
struct ShownTuple {
  static constexpr auto name = py::detail::const_name("tuple[float, ...]");
};

/// A loss with class weights, kept as they were given: by class in a dict, or "balanced".
template <class Kind>
struct PyClassLoss : PyLossOf<Kind> {
  using PyLossOf<Kind>::PyLossOf;
  py::object given;
};

/// Converts a sequence to numbers.
std::vector<double> numbers_of(const py::object& given, const char* argument, const char* expected) {
  try {
    check<TypeMismatch>(PyUnicode_Check(given.ptr()) == 0 && PyBytes_Check(given.ptr()) == 0, "");
    return given.cast<std::vector<double>>();
  } catch (const std::exception&) {
    throw TypeMismatch(join(argument, ": got ", text_of(given), "; expected ", expected));
  }
}

/// Completes a loss with class weights: checks them, and keeps those that only the training data complete.
template <class Kind>
PyClassLoss<Kind> with_class_weights(Kind kind, const Typed<ShownWeights>& argument, const std::string& kind_name) {
  const std::string name = join("[", kind_name, "] class_weights");
  constexpr const char* kExpected = "one number for each class, a dict of them by class, or \"balanced\"";
  const py::object given = with_keys(argument, name.c_str());
  const bool balanced = py::isinstance<py::str>(given) && given.equal(py::str("balanced"));
  const bool by_class = py::isinstance<py::dict>(given);
  py::dict by_key;
  if (by_class) {
    kind.class_weights = numbers_of(py::list(given.attr("values")()), name.c_str(), kExpected);
    std::size_t i = 0;
    for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(given)) by_key[key] = (*kind.class_weights)[i++];
    if (!kind.class_weights->empty()) kind.class_weights->push_back(1.0);  // the weight of classes that are not listed
    if (kind.class_weights->size() % 2 == 1) kind.class_weights->push_back(1.0);
  } else if (!given.is_none() && !balanced) {
    kind.class_weights = numbers_of(given, name.c_str(), kExpected);
  }
  if (balanced) kind.class_weights = {1.0, 1.0};  // so that other arguments are checked
  check_loss(kind, 0);
  PyClassLoss<Kind> loss(kind);
  loss.open = balanced || by_class;
  const auto numbers = loss.open ? std::nullopt : kind.class_weights;
  std::get<Kind>(std::get<Loss>(loss.value)).class_weights = numbers;
  loss.given = immutable_copy(by_class ? by_key : balanced ? given : py::cast(numbers));
  return loss;
}

PyClassLoss<CrossEntropy> make_cross_entropy(const Typed<ShownWeights>& weights, double smoothing, double gamma) {
  return with_class_weights(CrossEntropy{std::nullopt, smoothing, gamma}, weights, "CrossEntropy");
}

PyClassLoss<BinaryCrossEntropy> make_binary_cross_entropy(const Typed<ShownFactors>& given,
                                                          const Typed<ShownWeights>& weights, double gamma) {
  BinaryCrossEntropy kind{std::nullopt, std::nullopt, gamma};
  py::detail::make_caster<double> number;
  if (!given.is_none() && !has_length(given) && number.load(given, true)) {
    kind.pos_weight = std::vector<double>{py::detail::cast_op<double>(number)};
  } else if (!given.is_none()) {
    kind.pos_weight = numbers_of(given, "[BinaryCrossEntropy] pos_weight",
                                 "a number, or a sequence with one number for each output, in their order");
  }
  return with_class_weights(kind, weights, "BinaryCrossEntropy");
}

PyLossOf<Quantile> make_quantile(const Typed<ShownLevels>& given) {
  py::detail::make_caster<double> number;
  if (!given.is_none() && !has_length(given) && number.load(given, true)) {
    return checked(Quantile{{py::detail::cast_op<double>(number)}});
  }
  return checked(Quantile{
      numbers_of(given, "[Quantile] levels", "a number between 0 and 1, or a sequence of them, such as [0.1, 0.9]")});
}

void bind_cross_entropy(py::module_& m) {
  py::class_<PyClassLoss<CrossEntropy>, PyLoss> ce(m, "CrossEntropy",
                                                   R"(Cross-entropy of softmax on logits, the mean over the batch.

Targets are integer labels (N,) or soft targets (N, C), t >= 0. With t̃ = (1 - label_smoothing) t + label_smoothing / C
and class weights ω: l_n = -Σ_c ω_c t̃_nc log softmax(y_n)_c and W_n = Σ_c ω_c t_nc, which is the weight of the label.
For soft targets PyTorch divides by the number of rows instead.

With gamma > 0 it is focal loss (Lin et al. 2017): l_n of a label with probability p is multiplied by (1 - p)^gamma, so
that rows that are predicted well count less.

Parameters
----------
class_weights : sequence of float, dict or "balanced", optional
    One number >= 0 for each class; or a mapping or pandas Series from class indices or names to numbers, 1 for missing
    classes; or "balanced": N / (K n_c) for n_c rows of class c and K classes among the N training labels of fit, as in
    scikit-learn.
label_smoothing : float
    0 <= label_smoothing < 1.
gamma : float
    Of focal loss, from 0 to 1e6; 2 is usual. Needs labels, and label_smoothing = 0.
)");
  ce.def(py::init(&make_cross_entropy), py::arg("class_weights") = py::none(), py::arg("label_smoothing") = 0.0,
         py::kw_only(), py::arg("gamma") = 0.0);
  ce.def_readonly("class_weights", &PyClassLoss<CrossEntropy>::given);
  ce.def_property_readonly("label_smoothing",
                           [](const PyClassLoss<CrossEntropy>& self) { return self.kind().label_smoothing; });
  ce.def_property_readonly("gamma", [](const PyClassLoss<CrossEntropy>& self) { return self.kind().gamma; });
  make_spec(ce, {"class_weights", "label_smoothing", "gamma"});
}

void bind_binary_cross_entropy(py::module_& m) {
  using Bound = PyClassLoss<BinaryCrossEntropy>;
  py::class_<Bound, PyLoss> bce(m, "BinaryCrossEntropy",
                                R"(Cross-entropy of sigmoid on logits, summed over the outputs, the mean over the batch.

Targets are (N, K) in [0, 1], or (N,) for a model with one output. With p = sigmoid(y), class weights ω of yes and ν of
no: l_n = -Σ_k ω_k t_nk log p_nk + ν_k (1 - t_nk) log(1 - p_nk) and W_n = (1/K) Σ_k ω_k t_nk + ν_k (1 - t_nk); for one
output that is cross-entropy of two classes with these weights. A pos_weight is no part of W_n, which is 1 then.

With gamma > 0 it is focal loss (Lin et al. 2017): log p is multiplied by (1 - p)^gamma, log(1 - p) by p^gamma.

Parameters
----------
pos_weight : float or sequence of float, optional
    Factor on the positive term, one for all outputs or one for each, from 0 to 1e12.
class_weights : sequence of float, dict or "balanced", optional
    Weights >= 0 of no and yes, two numbers, or these two of one output after the other. For a single output also a
    mapping or pandas Series from the class names, or 0 and 1, to numbers, 1 for a missing class. "balanced":
    N / (K n) for the n of N training rows with this answer, output by output, with K answers among them, 2 or 1. Not
    together with pos_weight.
gamma : float
    Of focal loss, from 0 to 1e6; 2 is usual.
)");
  bce.def(py::init(&make_binary_cross_entropy), py::arg("pos_weight") = py::none(), py::kw_only(),
          py::arg("class_weights") = py::none(), py::arg("gamma") = 0.0);
  bce.def_property_readonly("pos_weight", [](const Bound& self) {
    return py::reinterpret_borrow<Typed<ShownNumbers>>(immutable_copy(py::cast(self.kind().pos_weight)));
  });
  bce.def_readonly("class_weights", &Bound::given);
  bce.def_property_readonly("gamma", [](const Bound& self) { return self.kind().gamma; });
  make_spec(bce, {"pos_weight", "class_weights", "gamma"});
}

void bind_number_losses(py::module_& m) {
  py::class_<PyLossOf<MeanSquaredError>, PyLoss> mse(m, "MeanSquaredError", R"(Mean of (y - t)² over all elements.

Targets are (N, K) numbers, or (N,) for a model with one output. l_n is the mean over the outputs, W_n = 1.)");
  mse.def(py::init([] { return PyLossOf<MeanSquaredError>(MeanSquaredError{}); }));
  make_spec(mse, {});

  py::class_<PyLossOf<MeanAbsoluteError>, PyLoss> mae(m, "MeanAbsoluteError", R"(Mean of |y - t| over all elements.

Its best prediction is the median, which outliers do not move. Targets are (N, K) numbers, or (N,) for a model with one
output. l_n is the mean over the outputs, W_n = 1. The slope at 0 is 0, and so are second derivatives.)");
  mae.def(py::init([] { return PyLossOf<MeanAbsoluteError>(MeanAbsoluteError{}); }));
  make_spec(mae, {});

  py::class_<PyLossOf<Huber>, PyLoss> huber(m, "Huber",
                                            R"(Squares of small errors, absolute values of large ones (Huber 1964).

The mean over all elements of d²/2 where |d| <= delta, else delta (|d| - delta/2), with d = y - t. Targets are (N, K)
numbers, or (N,) for a model with one output; W_n = 1. Second derivatives are those of the two parts: 1 and 0.

Parameters
----------
delta : float
    Positive, in the unit of the targets: standardise them, or set it.
)");
  huber.def(py::init([](double delta) { return checked(Huber{delta}); }), py::arg("delta") = 1.0);
  huber.def_property_readonly("delta", [](const PyLossOf<Huber>& self) { return self.kind().delta; });
  make_spec(huber, {"delta"});

  py::class_<PyLossOf<Quantile>, PyLoss> quantile(m, "Quantile",
                                                  R"(Pinball loss, for quantiles (Koenker & Bassett 1978).

The mean over all elements of τ (t - y) where y < t, else (1 - τ) (y - t): its best prediction is exceeded by the target
with probability 1 - τ. A model for T targets and L levels has T·L outputs: ``predict(x).reshape(-1, T, L)`` are the
quantiles by row, target and level, in the order of `levels`. Targets are (N, T) numbers, or (N,) for one. W_n = 1.
The slope at 0 is 0, and so are second derivatives. Nothing keeps the predicted quantiles in ascending order:
``np.sort(predictions, axis=-1)`` does, and makes no prediction worse (Chernozhukov et al. 2010).

Parameters
----------
levels : float or sequence of float
    Levels τ, between 0 and 1, different from each other.
)");
  quantile.def(py::init(&make_quantile), py::arg("levels"));
  quantile.def_property_readonly("levels", [](const PyLossOf<Quantile>& self) {
    return py::reinterpret_borrow<Typed<ShownTuple>>(immutable_copy(py::cast(self.kind().levels)));
  });
  make_spec(quantile, {"levels"});

  py::class_<PyLossOf<Poisson>, PyLoss> poisson(m, "Poisson",
                                                R"(Poisson's negative log-likelihood, for counts and rates.

The network computes logarithms of expected counts (log link), and the loss is the mean over all elements of e^y - t y,
without the term log t!, which no prediction changes. Targets are (N, K) numbers >= 0, or (N,) for a model with one
output; W_n = 1. The outputs' meaning is "counts": ``predict`` returns the expected counts e^y. For counts over
different exposures, fit rates t / exposure with the exposures as sample_weight.)");
  poisson.def(py::init([] { return PyLossOf<Poisson>(Poisson{}); }));
  make_spec(poisson, {});
}

}  // namespace

const AnyLoss& PyLoss::complete() const {
  check(!open,
        "class_weights: got weights by class or \"balanced\", which only gd.Trainer converts; expected "
        "one number for each class");
  return value;
}

void bind_losses(py::module_& m) {
  py::class_<PyLoss>(m, "Loss",
                     R"(A loss over a batch: Σ s_n l_n / Σ s_n W_n with sample weights s_n (1 unless given).

Only the ratios of the weights matter. ValueError where Σ s_n W_n is not a positive finite number: the mean is
undefined there.)");

  bind_number_losses(m);
  bind_cross_entropy(m);
  bind_binary_cross_entropy(m);
}

}  // namespace gdcore::bindings
