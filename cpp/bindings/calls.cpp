#include "calls.h"

#include <algorithm>
#include <string_view>

namespace gdcore::bindings {

namespace {

using Record = py::detail::function_record;
using Dispatcher = PyObject* (*)(PyObject*, PyObject* const*, std::size_t, PyObject*);

Dispatcher dispatch = nullptr;  // pybind11's, one for all functions

/// pybind11's record of a function or method, null for anything else.
Record* record_of(PyObject* function) {
  if (PyInstanceMethod_Check(function)) function = PyInstanceMethod_GET_FUNCTION(function);
  if (!PyCFunction_Check(function)) return nullptr;
  PyObject* self = PyCFunction_GET_SELF(function);
  return self == nullptr ? nullptr : py::detail::function_record_ptr_from_PyObject(self);
}

/// Whether the current error is pybind11's, about arguments that it could not convert.
bool is_about_arguments() {
  if (PyErr_ExceptionMatches(PyExc_TypeError) == 0 && PyErr_ExceptionMatches(PyExc_RuntimeError) == 0) return false;
  py::error_already_set error;
  const std::string text = py::str(error.value());
  error.restore();
  constexpr std::string_view phrases[] = {"The following argument types are supported",
                                          "invalid or missing `self` argument", "Unable to cast Python instance"};
  return std::ranges::any_of(phrases, [&](std::string_view phrase) { return text.find(phrase) != std::string::npos; });
}

/// The class that the method belongs to, or None.
py::object owner_of(const Record& record) {
  const bool of_class = record.scope && PyType_Check(record.scope.ptr()) != 0;
  return of_class ? py::reinterpret_borrow<py::object>(record.scope) : py::object(py::none());
}

/// Whether a method was called on an object of another class.
bool is_for_another(const Record& record, PyObject* const* values, std::size_t flagged) {
  if (!record.is_method || PyType_Check(record.scope.ptr()) == 0) return false;
  return PyVectorcall_NARGS(flagged) == 0 ||
         PyObject_TypeCheck(values[0], reinterpret_cast<PyTypeObject*>(record.scope.ptr())) == 0;
}

py::module_ arguments() { return py::module_::import("gdcore.internal.arguments"); }

/// Calls the function; replaces pybind11's message about arguments that do not fit.
PyObject* call(PyObject* self, PyObject* const* values, std::size_t flagged, PyObject* names) {
  PyObject* const result = dispatch(self, values, flagged, names);
  if (result != nullptr) [[likely]]
    return result;
  const Record& record = *py::detail::function_record_ptr_from_PyObject(self);
  if (!is_about_arguments() && !is_for_another(record, values, flagged)) return nullptr;
  PyErr_Clear();
  try {
    const auto given = static_cast<std::size_t>(PyVectorcall_NARGS(flagged));
    py::tuple by_position(given);
    for (std::size_t i = 0; i < given; ++i) by_position[i] = py::handle(values[i]);
    py::dict by_name;
    const std::size_t named = names == nullptr ? 0 : static_cast<std::size_t>(PyTuple_GET_SIZE(names));
    for (std::size_t i = 0; i < named; ++i)
      by_name[py::handle(PyTuple_GET_ITEM(names, static_cast<Py_ssize_t>(i)))] = py::handle(values[given + i]);
    arguments().attr("refuse")(owner_of(record), record.name, record.signature, by_position, by_name);
  } catch (py::error_already_set& error) {
    error.restore();
  }
  return nullptr;
}

/// The literal of a default value, or ... for an object.
std::string text_of_default(const py::detail::argument_record& argument) {
  const py::handle type = py::type::handle_of(argument.value);
  const bool literal = argument.value.is_none() || std::string(py::str(type.attr("__module__"))) == "builtins";
  return literal ? argument.descr : "...";
}

/// The signature in the form that `inspect` reads: "(self, x, *, batch_size=1024)".
std::string text_signature(const Record& record) {
  std::string text = "(";
  const auto add = [&](const std::string& part) { text += (text.size() > 1 ? ", " : "") + part; };
  for (std::size_t i = 0; i < record.nargs; ++i) {
    const bool named = i < record.args.size() && record.args[i].name != nullptr && record.args[i].name[0] != '\0';
    if (i == record.nargs_pos && record.args.size() == record.nargs) add("*");
    std::string parameter = named                        ? record.args[i].name
                            : i == 0 && record.is_method ? "self"
                                                         : "arg" + std::to_string(i);
    if (named && record.args[i].value) parameter += "=" + text_of_default(record.args[i]);
    add(parameter);
  }
  return text + ")";
}

/// Routes the function, method or property `name` through call(); leaves other members unchanged.
void explain(py::handle member, const std::string& name) {
  PyObject* function = member.ptr();
  if (PyObject_TypeCheck(function, &PyProperty_Type) != 0) {
    for (const char* part : {"fget", "fset"}) explain(member.attr(part), name);
    return;
  }
  Record* record = record_of(function);
  if (record == nullptr) return;
  if (PyInstanceMethod_Check(function)) function = PyInstanceMethod_GET_FUNCTION(function);
  PyMethodDef& method = *reinterpret_cast<PyCFunctionObject*>(function)->m_ml;
  const auto found = reinterpret_cast<Dispatcher>(reinterpret_cast<void (*)()>(method.ml_meth));
  if (found == &call) return;  // one function under two names
  dispatch = found;
  method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call));
  if (record->name[0] == '\0') {  // a property's accessor
    std::free(record->name);
    method.ml_name = record->name = strdup(name.c_str());
    return;
  }
  const char* own = method.ml_doc == nullptr ? "" : method.ml_doc;
  const std::string doc = record->name + text_signature(*record) + "\n--\n\n" + own;
  std::free(const_cast<char*>(method.ml_doc));
  method.ml_doc = strdup(doc.c_str());
}

/// Gives an abstract base class, which has no constructor, one that raises an explanation.
void explain_class(const py::object& cls) {
  const bool root = py::len(cls.attr("__bases__")[py::int_(0)].attr("__mro__")) == 2;  // pybind11_object, object
  if (root && record_of(cls.attr("__init__").ptr()) == nullptr) {
    cls.attr("__init__") = py::cpp_function(
        [cls](const py::object&, const py::args&, const py::kwargs&) { arguments().attr("refuse_base")(cls); },
        py::name("__init__"), py::is_method(cls));
  }
  for (const auto& [name, member] : py::dict(cls.attr("__dict__"))) explain(member, py::str(name));
  cls.attr("__signature__") = arguments().attr("ConstructorSignature")();
}

void explain_module(const py::module_& m) {
  for (const auto& [name, member] : py::dict(m.attr("__dict__"))) {
    if (PyModule_Check(member.ptr()) != 0) {
      explain_module(py::reinterpret_borrow<py::module_>(member));
    } else if (PyType_Check(member.ptr()) != 0) {
      const bool bound = py::detail::get_type_info(reinterpret_cast<PyTypeObject*>(member.ptr())) != nullptr;
      if (bound) explain_class(py::reinterpret_borrow<py::object>(member));
    } else {
      explain(member, py::str(name));
    }
  }
}

/// The arguments of a class's constructor: (signature, {name: default}), or None for a constructor written in Python.
py::object constructor(const py::object& cls) {
  const Record* record = record_of(cls.attr("__init__").ptr());
  if (record == nullptr) return py::none();
  py::dict defaults;
  for (const auto& argument : record->args) {
    if (argument.value) defaults[py::str(argument.name)] = argument.value;
  }
  return py::make_tuple(record->signature, defaults);
}

}  // namespace

void explain_calls(py::module_& m) {
  m.def("_constructor", &constructor, py::arg("cls"), "The signature of a class's constructor, and its defaults.");
  explain_module(m);
}

}  // namespace gdcore::bindings
