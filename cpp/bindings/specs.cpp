#include "specs.h"

namespace gdcore::bindings {

namespace {

py::dict fields_of(const py::object& self) {
  py::dict fields;
  for (const py::handle name : self.attr("_fields")) {
    const auto key = py::reinterpret_borrow<py::object>(name);
    fields[key] = py::getattr(self, key);
  }
  return fields;
}

std::string repr(const py::object& self) {
  std::string text = std::string(py::str(py::type::of(self).attr("__name__"))) + "(";
  const char* separator = "";
  for (const auto& [name, value] : fields_of(self)) {
    if (value.is_none() && name.equal(py::str("name"))) continue;  // a layer without one
    text += separator + std::string(py::str(name)) + "=" + std::string(py::repr(value));
    separator = ", ";
  }
  return text + ")";
}

/// Compares values; arrays element by element.
bool same_fields(const py::dict& a, const py::dict& b) {
  for (const auto& [name, value] : a) {
    const py::object other = b[name];
    const bool arrays = py::isinstance<py::array>(value) && py::isinstance<py::array>(other);
    const bool same =
        arrays ? py::module_::import("numpy").attr("array_equal")(value, other).cast<bool>()
               : !py::isinstance<py::array>(value) && !py::isinstance<py::array>(other) && value.equal(other);
    if (!same) return false;
  }
  return true;
}

}  // namespace

std::string text_of(const py::object& value) {
  return py::str(py::module_::import("gdcore.internal.checks").attr("shown")(value));
}

py::object with_keys(const py::object& given, const char* argument) {
  return has_keys(given) ? py::module_::import("gdcore.internal.checks").attr("by_key")(given, argument) : given;
}

py::object immutable_copy(const py::object& given) {
  if (py::isinstance<py::dict>(given)) {
    return py::module_::import("gdcore.internal.immutable").attr("ReadOnlyDict")(given);
  }
  if (py::isinstance<py::array>(given)) return immutable_copy(given.attr("tolist")());
  return has_length(given) && !py::isinstance<py::str>(given) ? py::object(py::tuple(given)) : given;
}

void make_spec(py::object cls, const std::vector<std::string>& fields) {
  cls.attr("_fields") = py::tuple(py::cast(fields));
  const auto method = [&](const char* name, auto&& function) {
    cls.attr(name) = py::cpp_function(std::forward<decltype(function)>(function), py::name(name), py::is_method(cls));
  };
  method("__repr__", [](const py::object& self) { return repr(self); });
  method("__eq__", [](const py::object& self, const py::object& other) {
    return py::type::of(self).is(py::type::of(other)) && same_fields(fields_of(self), fields_of(other));
  });
  method("__hash__", [](const py::object& self) { return py::hash(py::str(repr(self))); });
  method("__reduce__", [](const py::object& self) {
    const py::object rebuild = py::module_::import("gdcore._core").attr("_rebuild");
    return py::make_tuple(rebuild, py::make_tuple(py::type::of(self), fields_of(self)));
  });
}

}  // namespace gdcore::bindings
