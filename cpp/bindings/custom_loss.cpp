// A loss computed in Python, as a function for the core: takes the GIL and passes copies that Python may keep or
// change.
#include <cstring>

#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

py::array copied(ConstView view) {
  py::array array(numpy_dtype(view.dtype), {view.rows, view.cols});
  std::memcpy(array.mutable_data(), view.data, static_cast<std::size_t>(array.nbytes()));
  return array;
}

py::array_t<std::int64_t> copied(const std::int32_t* labels, std::int64_t rows) {
  py::array_t<std::int64_t> array(rows);
  std::copy_n(labels, rows, array.mutable_data());
  return array;
}

/// Copies the values of an array that was checked in Python.
void copy_values(const py::handle& given, void* to, std::int64_t count, const py::dtype& dtype) {
  const auto array = py::array::ensure(given, py::array::c_style);
  check<std::logic_error>(
      array && array.dtype().equal(dtype) && array.size() == count,
      "[CustomLoss] result: got an array of another shape or dtype; expected the one that was checked");
  std::memcpy(to, array.data(), static_cast<std::size_t>(array.nbytes()));
}

void call_python(const py::object& rows, const CustomLossCall& call) {
  const py::gil_scoped_acquire gil;
  const ConstView outputs = call.outputs;
  const py::array y = copied(outputs);
  const py::object t = call.labels != nullptr ? py::object(copied(call.labels, outputs.rows)) : copied(call.targets);
  const py::dtype dtype = numpy_dtype(outputs.dtype);
  if (call.direction) {
    return copy_values(rows.attr("product")(y, t, copied(call.direction)), call.gradient.data, outputs.size(), dtype);
  }
  const py::tuple answer = rows.attr("gradient")(y, t);
  copy_values(answer[0], call.losses, outputs.rows, py::dtype::of<double>());
  if (call.gradient) copy_values(answer[1], call.gradient.data, outputs.size(), dtype);
}

/// Deletes the object with the GIL held, on any thread.
void release(py::object* object) {
  const py::gil_scoped_acquire gil;
  delete object;
}

PyCustomLoss make_custom_loss(const py::object& rows, bool labels) {
  check<TypeMismatch>(py::hasattr(rows, "gradient") && py::hasattr(rows, "product"), "[CustomLoss] rows: got ",
                      text_of(rows), "; expected an object with the methods gradient and product");
  const std::shared_ptr<py::object> owner(new py::object(rows), &release);
  PyCustomLoss loss;
  loss.value = CustomLoss{labels, std::make_shared<const std::function<void(const CustomLossCall&)>>(
                                      [owner](const CustomLossCall& call) { call_python(*owner, call); })};
  return loss;
}

}  // namespace

void bind_custom_loss(py::module_& m) {
  py::class_<PyCustomLoss, PyLoss>(m, "CustomLoss",
                                   "The C++ side of gdcore.CustomLoss. `rows` has the methods gradient and product; "
                                   "with labels=True the targets are integer labels (rows,).")
      .def(py::init(&make_custom_loss), py::arg("rows"), py::arg("labels"));
}

}  // namespace gdcore::bindings
