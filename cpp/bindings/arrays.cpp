#include "arrays.h"

#include <atomic>

#include "device_array.h"
#include "gdcore/check.h"

namespace gdcore::bindings {

namespace {

bool has(const py::object& object, const char* attribute) { return py::hasattr(object, attribute); }

py::module_ numpy() { return py::module_::import("numpy"); }

std::string type_name(const py::object& object) { return py::str(py::type::of(object).attr("__name__")); }

/// Returns the core's type for a NumPy dtype; throws TypeError for other dtypes.
SourceType source_type(const py::dtype& dtype, const char* argument) {
  const char kind = dtype.kind();
  const auto size = dtype.itemsize();
  if (kind == 'f' && size == 4) return SourceType::f32;
  if (kind == 'f' && size == 8) return SourceType::f64;
  if (kind == 'b') return SourceType::u8;
  if (kind == 'u' || kind == 'i') {
    const bool plain = kind == 'u';
    if (size == 1) return plain ? SourceType::u8 : SourceType::i8;
    if (size == 2) return plain ? SourceType::u16 : SourceType::i16;
    if (size == 4) return plain ? SourceType::u32 : SourceType::i32;
    if (size == 8) return plain ? SourceType::u64 : SourceType::i64;
  }
  throw TypeMismatch(join(argument, ": got dtype ", std::string(py::str(dtype)),
                          "; expected numbers: float32, float64, float16, bool or an integer type"));
}

/// All platforms that gdcore builds for are little-endian.
bool is_native(const py::array& array) { return array.dtype().byteorder() != '>'; }

}  // namespace

py::array to_array(const py::object& object, const char* argument) {
  py::object given = object;
  if (!py::isinstance<py::array>(given)) {
    check<TypeMismatch>(!given.is_none() && !py::isinstance<py::str>(given), argument, ": got ",
                        given.is_none() ? "None" : "a string", "; expected an array of numbers");
    try {
      if (has(given, "to_numpy")) {
        given = given.attr("to_numpy")();
      } else if (has(given, "__dlpack__") && !has(given, "__array__")) {
        given = numpy().attr("from_dlpack")(given);
      } else {
        given = numpy().attr("asarray")(given);
      }
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_Exception)) throw;
      throw TypeMismatch(
          join(argument, ": got ", type_name(object), ", which does not convert to an array: ", error.what()));
    }
  }
  py::array array = py::reinterpret_borrow<py::array>(given);
  if (array.dtype().kind() == 'f' && array.dtype().itemsize() == 2) array = array.attr("astype")("float32");
  source_type(array.dtype(), argument);
  const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  if (!is_native(array) || !aligned) {
    array = py::reinterpret_borrow<py::array>(array.attr("astype")(array.dtype().attr("newbyteorder")("=")));
  }
  return array;
}

OwnedSource to_source(const py::object& object, const char* argument, bool vector) {
  py::array array = to_array(object, argument);
  check(array.ndim() == 2 || (vector && array.ndim() == 1), argument, ": got ", array.ndim(), " dimensions; expected ",
        vector ? "(rows,) or (rows, columns)" : "2: (rows, columns), as x[None] is for a single row");
  const auto size = array.itemsize();
  const auto contiguous = [&] {
    const bool columns = array.ndim() == 1 || array.shape(1) <= 1 || array.strides(1) == size;
    return columns && array.strides(0) % size == 0;
  };
  if (!contiguous()) array = py::reinterpret_borrow<py::array>(numpy().attr("ascontiguousarray")(array));
  const std::int64_t cols = array.ndim() == 2 ? array.shape(1) : 1;
  checked_size(array.shape(0), cols);
  const std::int64_t stride = array.shape(0) > 1 ? array.strides(0) / size : cols;
  return {array, {array.data(), source_type(array.dtype(), argument), array.shape(0), cols, stride}};
}

View to_view(const py::object& object, const char* argument, bool output) {
  if (object.is_none()) return {};
  if (!py::isinstance<py::array>(object)) {
    throw TypeMismatch(join(argument, ": got ", type_name(object), "; expected a NumPy array"));
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  const bool is_float =
      is_native(array) && array.dtype().kind() == 'f' && (array.itemsize() == 4 || array.itemsize() == 8);
  if (!is_float) {  // checked first: formatting a dtype takes microseconds
    throw TypeMismatch(
        join(argument, ": got dtype ", std::string(py::str(array.dtype())), "; expected float32 or float64"));
  }
  check((array.flags() & py::array::c_style) != 0 && array.ndim() >= 1 && array.ndim() <= 2, argument,
        ": expected a C-contiguous array of 1 or 2 dimensions");
  check(!output || array.writeable(), argument, ": got a read-only array; expected a writable one");
  const bool matrix = array.ndim() == 2;
  return {const_cast<void*>(array.data()), matrix ? array.shape(0) : 1, matrix ? array.shape(1) : array.shape(0),
          array.itemsize() == 4 ? DType::float32 : DType::float64};
}

DType to_dtype(const std::string& name) {
  check(name == "float32" || name == "float64", "dtype: got \"", name, "\"; expected \"float32\" or \"float64\"");
  return name == "float32" ? DType::float32 : DType::float64;
}

Device to_device(const std::string& name) {
  check(name == "auto" || name == "cpu" || name == "cuda", "device: got \"", name,
        "\"; expected \"auto\", \"cpu\" or \"cuda\"");
  if (name == "cpu") return Device::cpu;
  static std::atomic<bool> done{false};  // an initialiser that runs Python would be a deadlock of two threads
  if (!done) py::module_::import("gdcore.internal.cuda").attr("set_cublas_path")();
  done = true;
  return name == "cuda" || has_cuda() ? Device::cuda : Device::cpu;
}

Precision to_precision(const std::string& name) {
  for (const Precision precision : {Precision::full, Precision::tf32, Precision::bfloat16}) {
    if (name == name_of(precision)) return precision;
  }
  throw std::invalid_argument(
      join("[Sequential] precision: got \"", name, "\"; expected \"float32\", \"tf32\" or \"bfloat16\""));
}

const char* name_of(Precision precision) {
  if (precision == Precision::full) return "float32";
  return precision == Precision::tf32 ? "tf32" : "bfloat16";
}

py::dtype numpy_dtype(DType dtype) { return py::dtype(name_of(dtype)); }

py::object view_array(const View& view, bool vector, Network& network, const py::object& owner) {
  std::vector<py::ssize_t> shape =
      vector ? std::vector<py::ssize_t>{view.size()} : std::vector<py::ssize_t>{view.rows, view.cols};
  if (network.backend().device() == Device::cpu) {
    return py::array(numpy_dtype(view.dtype), std::move(shape), view.data, owner);
  }
  return py::cast(DeviceArray(view, std::move(shape), network, owner));
}

}  // namespace gdcore::bindings
