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

}  // namespace

void bind_losses(py::module_& m) {
  py::class_<PyLoss>(m, "Loss",
                     R"(A loss over a batch: Σ s_n l_n / Σ s_n W_n with sample weights s_n (1 unless given).)");

  py::class_<PyLossOf<MeanSquaredError>, PyLoss> mse(m, "MeanSquaredError", R"(Mean of (y - t)² over all elements.

Targets are (N, K) numbers, or (N,) for a model with one output. l_n is the mean over the outputs, W_n = 1.)");
  mse.def(py::init([] { return PyLossOf<MeanSquaredError>(MeanSquaredError{}); }));
  make_spec(mse, {});

  py::class_<PyLossOf<CrossEntropy>, PyLoss> ce(m, "CrossEntropy",
                                                R"(Cross-entropy of softmax on logits, the mean over the batch.

Targets are integer labels (N,) or soft targets (N, C), t >= 0. With t̃ = (1 - label_smoothing) t + label_smoothing / C
and class weights ω: l_n = -Σ_c ω_c t̃_nc log softmax(y_n)_c and W_n = Σ_c ω_c t_nc, which is the weight of the label.
For soft targets PyTorch divides by the number of rows instead.

Parameters
----------
class_weights : sequence of float, optional
    One for each class, >= 0.
label_smoothing : float
    0 <= label_smoothing < 1.
)");
  ce.def(
      py::init([](Weights weights, double smoothing) { return checked(CrossEntropy{std::move(weights), smoothing}); }),
      py::arg("class_weights") = py::none(), py::arg("label_smoothing") = 0.0);
  ce.def_property_readonly("class_weights",
                           [](const PyLossOf<CrossEntropy>& self) { return self.kind().class_weights; });
  ce.def_property_readonly("label_smoothing",
                           [](const PyLossOf<CrossEntropy>& self) { return self.kind().label_smoothing; });
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
  bce.def_property_readonly("pos_weight",
                            [](const PyLossOf<BinaryCrossEntropy>& self) { return self.kind().pos_weight; });
  make_spec(bce, {"pos_weight"});
}

}  // namespace gdcore::bindings
