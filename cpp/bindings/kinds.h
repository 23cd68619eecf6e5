// Types that accept numbers from Python, and the type names that signatures show.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace gdcore::bindings {

namespace py = pybind11;

/// NumPy's own bool: a class "numpy.bool", or "numpy.bool_" before NumPy 2.
inline bool is_numpy_bool(py::handle value) {
  const char* name = Py_TYPE(value.ptr())->tp_name;
  return std::strcmp(name, "numpy.bool") == 0 || std::strcmp(name, "numpy.bool_") == 0;
}

/// True and False do not count as numbers, so that Dense(True, 2) is refused.
inline bool is_bool(py::handle value) { return PyBool_Check(value.ptr()) != 0 || is_numpy_bool(value); }

/// Python's int of an object with __index__ (not of a float); null, with no error set, for other objects.
inline py::object to_whole(py::handle value) {
  PyObject* number = is_bool(value) ? nullptr : PyNumber_Index(value.ptr());
  if (number == nullptr) PyErr_Clear();
  return py::reinterpret_steal<py::object>(number);
}

/// Whether a value maps keys to values: a mapping, or a pandas Series with its labels.
inline bool has_keys(py::handle value) { return PyType_Check(value.ptr()) == 0 && py::hasattr(value, "items"); }

/// Whether iteration over a value follows the intended order: false for sets and for values with keys.
inline bool is_ordered(py::handle value) { return PyAnySet_Check(value.ptr()) == 0 && !has_keys(value); }

/// Whether a value is a container of known length. An array without dimensions is a number.
inline bool has_length(py::handle value) { return PyObject_LengthHint(value.ptr(), -1) >= 0; }

/// Accepts True, False and NumPy's bool; pybind11's own bool accepts any object with a truth value.
struct Flag {
  bool on = false;
  operator bool() const { return on; }
};

/// An object that only the function itself inspects; its signature shows `Shown::name` as the type.
template <class Shown>
struct Typed : py::object {
  PYBIND11_OBJECT_DEFAULT(Typed, py::object, is_given)
  static bool is_given(PyObject* value) { return value != nullptr; }
};

namespace shown {
using py::detail::const_name;
struct Array {
  static constexpr auto name = const_name("numpy.typing.ArrayLike");
};
struct OptionalArray {
  static constexpr auto name = const_name("numpy.typing.ArrayLike | None");
};
struct Columns {
  static constexpr auto name = const_name("collections.abc.Sequence[int] | collections.abc.Sequence[str] | None");
};
struct Dims {
  static constexpr auto name = const_name("int | collections.abc.Sequence[int | None] | None");
};
struct Rate {
  static constexpr auto name = const_name("float | collections.abc.Callable[[int], float]");
};
struct Betas {
  static constexpr auto name = const_name("tuple[float | collections.abc.Callable[[int], float], float]");
};
struct Decay {
  static constexpr auto name = const_name(
      "float | collections.abc.Sequence[float] | collections.abc.Mapping[str, float] | "
      "collections.abc.Callable[[int], float]");
};
struct OptionalPerLayer {
  static constexpr auto name =
      const_name("collections.abc.Sequence[float] | collections.abc.Mapping[str, float] | None");
};
}  // namespace shown

using ArrayLike = Typed<shown::Array>;
using OptionalArray = Typed<shown::OptionalArray>;

/// The Python object of a bound C++ type, for functions that keep the object.
template <class Bound>
struct ObjectOf : py::object {
  PYBIND11_OBJECT_DEFAULT(ObjectOf, py::object, is_one)
  static bool is_one(PyObject* value) { return py::detail::isinstance_generic(value, typeid(Bound)); }
};

}  // namespace gdcore::bindings

namespace pybind11::detail {

template <class Shown>
struct handle_type_name<gdcore::bindings::Typed<Shown>> {
  static constexpr auto name = Shown::name;
};

template <class Bound>
struct handle_type_name<gdcore::bindings::ObjectOf<Bound>> {
  static constexpr auto name = const_name<Bound>();
};

template <>
struct type_caster<gdcore::bindings::Flag> {
  PYBIND11_TYPE_CASTER(gdcore::bindings::Flag, const_name("bool"));
  bool load(handle source, bool) {
    if (!gdcore::bindings::is_bool(source)) return false;
    value = {PyObject_IsTrue(source.ptr()) == 1};
    return true;
  }
  static handle cast(gdcore::bindings::Flag source, return_value_policy, handle) {
    return handle(source.on ? Py_True : Py_False).inc_ref();
  }
};

/// Accepts objects with __float__ or __index__ except bool: float, int, NumPy's scalars, Decimal, Fraction.
template <>
struct type_caster<double> {
  PYBIND11_TYPE_CASTER(double, const_name("float"));
  bool load(handle source, bool) {
    if (gdcore::bindings::is_bool(source)) return false;
    value = PyFloat_AsDouble(source.ptr());
    const bool failed = value == -1.0 && PyErr_Occurred() != nullptr;
    if (failed) PyErr_Clear();
    return !failed;
  }
  static handle cast(double source, return_value_policy, handle) { return PyFloat_FromDouble(source); }
};

/// Accepts sequences of numbers; pybind11's own caster also accepts sets, and the keys or values of mappings.
template <>
struct type_caster<std::vector<double>> : list_caster<std::vector<double>, double> {
  bool load(handle source, bool convert) {
    return gdcore::bindings::is_ordered(source) && list_caster<std::vector<double>, double>::load(source, convert);
  }
};
template <>
struct type_caster<std::pair<double, double>> : tuple_caster<std::pair, double, double> {
  bool load(handle source, bool convert) {
    return gdcore::bindings::is_ordered(source) && tuple_caster<std::pair, double, double>::load(source, convert);
  }
};

template <>
struct type_caster<std::int64_t> {
  PYBIND11_TYPE_CASTER(std::int64_t, const_name("int"));
  bool load(handle source, bool) {
    const object number = gdcore::bindings::to_whole(source);
    int overflow = 0;
    if (number) value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    return number && overflow == 0;
  }
  static handle cast(std::int64_t source, return_value_policy, handle) { return PyLong_FromLongLong(source); }
};

template <>
struct type_caster<std::uint64_t> {
  PYBIND11_TYPE_CASTER(std::uint64_t, const_name("int"));
  bool load(handle source, bool) {
    const object number = gdcore::bindings::to_whole(source);
    if (!number) return false;
    value = PyLong_AsUnsignedLongLong(number.ptr());
    const bool failed = PyErr_Occurred() != nullptr;
    if (failed) PyErr_Clear();
    return !failed;
  }
  static handle cast(std::uint64_t source, return_value_policy, handle) { return PyLong_FromUnsignedLongLong(source); }
};

}  // namespace pybind11::detail
