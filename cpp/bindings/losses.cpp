#include "gdcore/check.h"
#include "gdcore/trainer.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

using Weights = std::optional<std::vector<double>>;

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

/// Keeps class weights as they were given: by class in a dict, or "balanced".
struct PyCrossEntropy : PyLossOf<CrossEntropy> {
  using PyLossOf<CrossEntropy>::PyLossOf;
  py::object given;
};

/// What `given` holds as numbers: all of them, or those of a dict for a first look at them.
std::vector<double> numbers_of(const py::object& given) {
  const bool by_class = py::isinstance<py::dict>(given);
  try {
    const bool ordered =
        PyUnicode_Check(given.ptr()) == 0 && PyBytes_Check(given.ptr()) == 0 && PyAnySet_Check(given.ptr()) == 0;
    check<TypeMismatch>(ordered, "");
    return (by_class ? py::object(py::list(given.attr("values")())) : given).cast<std::vector<double>>();
  } catch (const std::exception&) {
    throw TypeMismatch(join("[CrossEntropy] class_weights is ", std::string(py::repr(given)),
                            "; expected one number for each class, a dict of them by class, or \"balanced\""));
  }
}

PyCrossEntropy make_cross_entropy(const Typed<ShownWeights>& given, double smoothing) {
  CrossEntropy kind{std::nullopt, smoothing};
  const bool balanced = py::isinstance<py::str>(given) && given.equal(py::str("balanced"));
  const bool by_class = py::isinstance<py::dict>(given);
  if (!given.is_none() && !balanced) kind.class_weights = numbers_of(given);
  check_loss(kind, 0);
  PyCrossEntropy loss(kind);
  loss.open = balanced || by_class;
  if (loss.open) std::get<CrossEntropy>(loss.value).class_weights.reset();
  loss.given = kept(loss.open ? py::object(given) : py::cast(kind.class_weights));
  return loss;
}

}  // namespace

const Loss& PyLoss::complete() const {
  check(!open,
        "[CrossEntropy] class_weights by class or \"balanced\" become numbers in a gd.Trainer; expected numbers here");
  return value;
}

void bind_losses(py::module_& m) {
  py::class_<PyLoss>(m, "Loss",
                     R"(A loss over a batch: Σ s_n l_n / Σ s_n W_n with sample weights s_n (1 unless given).

Weights count relative to each other, whatever their scale. A ValueError is raised where Σ s_n W_n is not a positive
finite number, as there is no mean of nothing.)");

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
    One for each class, >= 0; or by class, index or name, 1 for classes left out; or "balanced": N / (K n_c) for n_c
    rows of class c and K classes among the N training labels of fit, as scikit-learn counts.
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
  bce.def(py::init([](const std::variant<std::monostate, double, std::vector<double>>& given) {
            Weights weights;
            if (const double* one = std::get_if<double>(&given)) weights = std::vector<double>{*one};
            if (const auto* each = std::get_if<std::vector<double>>(&given)) weights = *each;
            return checked(BinaryCrossEntropy{std::move(weights)});
          }),
          py::arg("pos_weight") = py::none());
  bce.def_property_readonly(
      "pos_weight", [](const PyLossOf<BinaryCrossEntropy>& self) { return kept(py::cast(self.kind().pos_weight)); });
  make_spec(bce, {"pos_weight"});
}

}  // namespace gdcore::bindings
