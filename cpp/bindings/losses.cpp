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

/// Keeps class weights as given: by class in a dict, or "balanced".
struct PyCrossEntropy : PyLossOf<CrossEntropy> {
  using PyLossOf<CrossEntropy>::PyLossOf;
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

PyCrossEntropy make_cross_entropy(const Typed<ShownWeights>& argument, double smoothing) {
  constexpr const char* kName = "[CrossEntropy] class_weights";
  constexpr const char* kExpected = "one number for each class, a dict of them by class, or \"balanced\"";
  CrossEntropy kind{std::nullopt, smoothing};
  const py::object given = with_keys(argument, kName);
  const bool balanced = py::isinstance<py::str>(given) && given.equal(py::str("balanced"));
  const bool by_class = py::isinstance<py::dict>(given);
  py::dict by_key;
  if (by_class) {
    kind.class_weights = numbers_of(py::list(given.attr("values")()), kName, kExpected);
    std::size_t i = 0;
    for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(given)) by_key[key] = (*kind.class_weights)[i++];
    if (!kind.class_weights->empty()) kind.class_weights->push_back(1.0);  // the weight of classes that are not listed
  } else if (!given.is_none() && !balanced) {
    kind.class_weights = numbers_of(given, kName, kExpected);
  }
  check_loss(kind, 0);
  PyCrossEntropy loss(kind);
  loss.open = balanced || by_class;
  if (loss.open) std::get<CrossEntropy>(std::get<Loss>(loss.value)).class_weights.reset();
  loss.given = immutable_copy(by_class ? by_key : balanced ? given : py::cast(kind.class_weights));
  return loss;
}

PyLossOf<BinaryCrossEntropy> make_binary_cross_entropy(const Typed<ShownFactors>& given) {
  if (given.is_none()) return checked(BinaryCrossEntropy{});
  py::detail::make_caster<double> number;
  if (!has_length(given) && number.load(given, true)) {
    return checked(BinaryCrossEntropy{std::vector<double>{py::detail::cast_op<double>(number)}});
  }
  return checked(
      BinaryCrossEntropy{numbers_of(given, "[BinaryCrossEntropy] pos_weight",
                                    "a number, or a sequence with one number for each output, in their order")});
}

}  // namespace

const AnyLoss& PyLoss::complete() const {
  check(!open,
        "[CrossEntropy] class_weights: got weights by class or \"balanced\", which only gd.Trainer converts; expected "
        "one number for each class");
  return value;
}

void bind_losses(py::module_& m) {
  py::class_<PyLoss>(m, "Loss",
                     R"(A loss over a batch: Σ s_n l_n / Σ s_n W_n with sample weights s_n (1 unless given).

Only the ratios of the weights matter. ValueError where Σ s_n W_n is not a positive finite number: the mean is
undefined there.)");

  py::class_<PyLossOf<MeanSquaredError>, PyLoss> mse(m, "MeanSquaredError", R"(Mean of (y - t)² over all elements.

Targets are (N, K) numbers, or (N,) for a model with one output. l_n is the mean over the outputs, W_n = 1.)");
  mse.def(py::init([] { return PyLossOf<MeanSquaredError>(MeanSquaredError{}); }));
  make_spec(mse, {});

  py::class_<PyCrossEntropy, PyLoss> ce(m, "CrossEntropy",
                                        R"(Cross-entropy of softmax on logits, the mean over the batch.

Targets are integer labels (N,) or soft targets (N, C), t >= 0. With t̃ = (1 - label_smoothing) t + label_smoothing / C
and class weights ω: l_n = -Σ_c ω_c t̃_nc log softmax(y_n)_c and W_n = Σ_c ω_c t_nc, which is the weight of the label.
For soft targets PyTorch divides by the number of rows instead.

Parameters
----------
class_weights : sequence of float, dict or "balanced", optional
    One number >= 0 for each class; or a mapping or pandas Series from class indices or names to numbers, 1 for missing
    classes; or "balanced": N / (K n_c) for n_c rows of class c and K classes among the N training labels of fit, as in
    scikit-learn.
label_smoothing : float
    0 <= label_smoothing < 1.
)");
  ce.def(py::init(&make_cross_entropy), py::arg("class_weights") = py::none(), py::arg("label_smoothing") = 0.0);
  ce.def_readonly("class_weights", &PyCrossEntropy::given);
  ce.def_property_readonly("label_smoothing", [](const PyCrossEntropy& self) { return self.kind().label_smoothing; });
  make_spec(ce, {"class_weights", "label_smoothing"});

  py::class_<PyLossOf<BinaryCrossEntropy>, PyLoss> bce(
      m, "BinaryCrossEntropy", R"(Cross-entropy of sigmoid on logits, summed over the outputs, the mean over the batch.

Targets are (N, K) in [0, 1], or (N,) for a model with one output.

Parameters
----------
pos_weight : float or sequence of float, optional
    Factor on the positive term, one for all outputs or one for each, >= 0.
)");
  bce.def(py::init(&make_binary_cross_entropy), py::arg("pos_weight") = py::none());
  bce.def_property_readonly("pos_weight", [](const PyLossOf<BinaryCrossEntropy>& self) {
    return py::reinterpret_borrow<Typed<ShownNumbers>>(immutable_copy(py::cast(self.kind().pos_weight)));
  });
  make_spec(bce, {"pos_weight"});
}

}  // namespace gdcore::bindings
