#include <cmath>

#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

template <class Kind>
void bind_plain(py::module_& m, const char* name, const char* doc) {
  py::class_<PyInitializerOf<Kind>, PyInitializer> cls(m, name, doc);
  cls.def(py::init([] { return PyInitializerOf<Kind>(Kind{}); }));
  make_spec(cls, {});
}

template <class Kind, class Member>
void bind_number(py::module_& m, const char* name, const char* field, Member member, bool positive, const char* doc) {
  py::class_<PyInitializerOf<Kind>, PyInitializer> cls(m, name, doc);
  const auto make = [=](double number) {
    check(std::isfinite(number) && (!positive || number >= 0.0), "[", name, "] ", field, ": got ", number,
          "; expected a finite number", positive ? " >= 0" : "");
    Kind kind;
    kind.*member = number;
    return PyInitializerOf<Kind>(kind);
  };
  cls.def(py::init(make), py::arg(field));
  cls.def_property_readonly(field, [member](const PyInitializerOf<Kind>& self) { return self.kind().*member; });
  make_spec(cls, {field});
}

}  // namespace

py::object to_python(const Initializer& initializer) {
  return std::visit(
      []<class Kind>(const Kind& kind) -> py::object {
        if constexpr (std::is_same_v<Kind, Given>) {
          return py::none();
        } else {
          return py::cast(PyInitializerOf<Kind>(kind));
        }
      },
      initializer);
}

void bind_initializers(py::module_& m) {
  py::class_<PyInitializer>(
      m, "Initializer", "The distribution of initial weights or biases; M is the fan-in of the layer, M' its fan-out.");
  bind_plain<HeNormal>(m, "HeNormal",
                       "Gaussian with variance 2/M (He et al. 2015): keeps the second moment through ReLU layers.");
  bind_plain<HeUniform>(m, "HeUniform", "Uniform on ±sqrt(6/M): the variance of HeNormal.");
  bind_plain<GlorotNormal>(m, "GlorotNormal", "Gaussian with variance 2/(M + M') (Glorot & Bengio 2010).");
  bind_plain<GlorotUniform>(m, "GlorotUniform", "Uniform on ±sqrt(6/(M + M')): the variance of GlorotNormal.");
  bind_number<Uniform>(m, "Uniform", "eps", &Uniform::eps, true, "Uniform on [-eps, eps].");
  bind_number<Normal>(m, "Normal", "eps", &Normal::eps, true, "Gaussian with standard deviation eps.");
  bind_number<Constant>(m, "Constant", "value", &Constant::value, false, "The same value everywhere; for biases.");
}

}  // namespace gdcore::bindings
