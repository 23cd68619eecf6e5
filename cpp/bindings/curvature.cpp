#include "gdcore/curvature.h"

#include "dataset.h"
#include "gdcore/check.h"

namespace gdcore::bindings {

namespace {

struct PyCurvature {
  Curvature core;
  std::shared_ptr<Network> network;
  py::object dataset;  // owns the memory that the core reads
};

/// A vector of P values of the model's dtype. None is the model's own point if `optional`.
View to_vector(const PyCurvature& self, const py::object& object, const char* argument, bool optional) {
  check<TypeMismatch>(optional || !object.is_none(), argument, ": got None; expected a vector");
  const View view = to_view(object, argument, false);
  const std::int64_t count = self.core.parameters();
  check(!view || (view.rows == 1 && view.cols == count), argument, ": got shape (", view.rows, ", ", view.cols,
        "); expected (", count, ",), one number for each trainable parameter");
  check<TypeMismatch>(!view || view.dtype == self.network->dtype(), argument, ": got ", name_of(view.dtype),
                      "; expected ", name_of(self.network->dtype()), ", the model's dtype");
  return view;
}

py::array new_array(const PyCurvature& self, std::vector<py::ssize_t> shape) {
  return py::array(numpy_dtype(self.network->dtype()), std::move(shape));
}

py::array point(PyCurvature& self) {
  py::array out = new_array(self, {self.core.parameters()});
  const View to{out.mutable_data(), 1, self.core.parameters(), self.network->dtype()};
  computing(*self.network, [&] { self.core.point(to); });
  return out;
}

double loss(PyCurvature& self, const OptionalArray& at) {
  const View point = to_vector(self, at, "[Curvature.loss] at", true);
  return computing(*self.network, [&] { return self.core.loss(point); });
}

py::tuple gradient(PyCurvature& self, const OptionalArray& at) {
  const View point = to_vector(self, at, "[Curvature.gradient] at", true);
  py::array out = new_array(self, {self.core.parameters()});
  const View to{out.mutable_data(), 1, self.core.parameters(), self.network->dtype()};
  const double value = computing(*self.network, [&] { return self.core.gradient(point, to); });
  return py::make_tuple(value, out);
}

py::array product(PyCurvature& self, const ArrayLike& v, const OptionalArray& at) {
  const View direction = to_vector(self, v, "[Curvature.product] v", false);
  const View point = to_vector(self, at, "[Curvature.product] at", true);
  py::array out = new_array(self, {self.core.parameters()});
  const View to{out.mutable_data(), 1, self.core.parameters(), self.network->dtype()};
  computing(*self.network, [&] { self.core.product(point, direction, to); });
  return out;
}

py::list outputs(PyCurvature& self, const std::vector<std::int64_t>& layers) {
  const auto count = static_cast<std::int64_t>(self.network->layers().size());
  std::vector<View> views(static_cast<std::size_t>(count));
  py::list arrays;
  for (const std::int64_t layer : layers) {
    check(layer >= 0 && layer < count, "[Curvature.outputs] layers: got ", layer, "; expected 0 to ", count - 1);
    View& view = views[static_cast<std::size_t>(layer)];
    check(!view, "[Curvature.outputs] layers: got ", layer, " twice; expected each layer once");
    py::array made = new_array(self, {self.core.rows(), self.core.width(static_cast<std::size_t>(layer))});
    view = {made.mutable_data(), made.shape(0), made.shape(1), self.network->dtype()};
    arrays.append(made);
  }
  computing(*self.network, [&] { self.core.outputs(views); });
  return arrays;
}

}  // namespace

void bind_curvature(py::module_& m) {
  py::class_<PyCurvature>(
      m, "Curvature",
      "The mean loss over a dataset as a function of the P trainable parameters, with exact first and second "
      "derivatives. Users call it through gdcore.analysis. Vectors have shape (P,) and the model's dtype: the "
      "parameters in the order of Network.parameters(), without the frozen ones. at=None means the model's current "
      "parameters. ValueError for another shape, TypeError for another dtype.")
      .def(
          py::init([](const PyNetwork& network, const PyLoss& loss, const ObjectOf<PyDataset>& dataset, Flag training) {
            const auto& given = dataset.cast<const PyDataset&>();
            check_match(given, *network.core, loss.complete());
            return std::unique_ptr<PyCurvature>(
                new PyCurvature{Curvature(network.core, loss.value, given.data, training), network.core, dataset});
          }),
          py::arg("network"), py::arg("loss"), py::arg("dataset"), py::kw_only(), py::arg("training"))
      .def_property_readonly(
          "size", [](const PyCurvature& self) { return self.core.parameters(); },
          "P, the number of trainable parameters.")
      .def("point", &point, "The model's current parameters: a copy (P,).")
      .def("loss", &loss, py::arg("at") = py::none(), "The mean loss, a float.")
      .def("gradient", &gradient, py::arg("at") = py::none(), "The mean loss, a float, and its gradient (P,).")
      .def("product", &product, py::arg("v"), py::arg("at") = py::none(), "The Hessian-vector product H v, (P,).")
      .def("outputs", &outputs, py::arg("layers"),
           "The outputs of the layers with these indices, from one forward pass: a list of arrays (rows, width of the "
           "layer). ValueError for an index that is out of range or repeated.");
}

}  // namespace gdcore::bindings
