// The module gdcore._core. Bindings are thin: convert, check, release the GIL, call.
#include "arrays.h"
#include "calls.h"
#include "gdcore/check.h"
#include "specs.h"

#ifndef GDCORE_VERSION
#error "GDCORE_VERSION comes from the build"
#endif

namespace {

namespace py = pybind11;
using namespace gdcore;

/// The device's description, or why it cannot be used.
std::string describe(Device device) {
  try {
    return backend(device).description();
  } catch (const DeviceError& error) {
    return error.what();
  }
}

py::dict info() {
  const std::string missing = cuda_missing();
  py::dict values;
  values["version"] = GDCORE_VERSION;
  values["threads"] = num_threads();
  values["instruction_set"] = describe(Device::cpu);
  values["instruction_sets"] = py::tuple(py::cast(instruction_sets()));
  py::list precisions(py::make_tuple(bindings::name_of(Precision::full)));
  for (const Precision precision : {Precision::tf32, Precision::bfloat16}) {
    if (cpu_rounds_to(precision)) precisions.append(bindings::name_of(precision));
  }
  values["cpu_precisions"] = py::tuple(precisions);
  values["devices"] = py::make_tuple("cpu");
  if (missing.empty()) values["devices"] = py::make_tuple("cpu", "cuda");
  values["cuda"] = missing.empty() ? describe(Device::cuda) : "not usable: " + missing;
  return values;
}

/// Maps the core's exceptions to Python's. By default std::invalid_argument is a ValueError and std::runtime_error a
/// RuntimeError.
void register_exceptions(py::module_& m) {
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError).attr("__doc__") =
      "A device, or a driver or library that it needs, is missing or has failed.";
  py::register_exception<DivergenceError>(m, "DivergenceError", PyExc_ArithmeticError).attr("__doc__") =
      "The loss or a state of the optimiser became NaN or infinite; names the step, and the layer or parameter.";
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const TypeMismatch& mismatch) {
      py::set_error(PyExc_TypeError, mismatch.what());
    }
  });
}

/// Refuses objects whose __init__ never ran (created by __new__ alone, or printed in the traceback of an __init__ that
/// raised): pybind11 would pass uninitialised memory to their methods.
void refuse_uninitialized(const py::module_& m) {
  for (const auto& [name, value] : py::reinterpret_borrow<py::dict>(m.attr("__dict__"))) {
    if (!PyType_Check(value.ptr())) continue;
    auto* type = py::detail::get_type_info(reinterpret_cast<PyTypeObject*>(value.ptr()));
    if (type == nullptr) continue;
    type->operator_new = [](std::size_t) -> void* {
      throw py::type_error("this object is not initialised: its __init__ was not called or raised an error");
    };
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of gdcore.";
  m.attr("__version__") = GDCORE_VERSION;
  register_exceptions(m);
  gdcore::bindings::remember_main_thread();
  m.def(
      "_rebuild", [](const py::object& cls, const py::dict& fields) { return cls(**fields); }, py::arg("cls"),
      py::arg("fields"), "Creates a spec from its fields, for pickle.");
  m.def("info", &info,
        "A dict: version, threads, the instruction set in use and those of this processor, the precisions of products "
        "that it has, the available devices, and the GPU or the reason why it is not usable.");
  using namespace gdcore::bindings;
  bind_threads(m);
  bind_profile(m);
  bind_initializers(m);
  bind_layers(m);
  bind_device_array(m);
  bind_losses(m);
  bind_custom_loss(m);
  bind_optimizers(m);
  bind_network(m);
  bind_trainer(m);
  bind_trainer_stack(m);
  bind_curvature(m);
  bind_data(m);
  bind_ops(m);
  refuse_uninitialized(m);
  explain_calls(m);
}
