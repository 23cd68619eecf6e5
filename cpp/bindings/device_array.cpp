#include "device_array.h"

#include <algorithm>
#include <memory>

#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

py::array DeviceArray::numpy() const {
  py::array out(numpy_dtype(view_.dtype), shape_);
  void* to = out.mutable_data();
  if (view_.size() == 0) return out;
  computing(*network_, [&] {
    Backend& device = network_->backend();
    device.wait();  // waits for work of other threads that may write it
    device.copy(to, view_.data, view_.bytes(), CopyKind::to_host);
  });
  return out;
}

void DeviceArray::write(const py::array& from) {
  const void* data = from.data();
  if (view_.size() == 0) return;
  computing(*network_, [&] {
    Backend& device = network_->backend();
    device.wait();
    device.copy(view_.data, data, view_.bytes(), CopyKind::to_device);
    device.wait();
  });
}

void DeviceArray::synchronize() const {
  computing(*network_, [&] { network_->backend().wait(); });
}

namespace {

// ---- DLPack -------------------------------------------------------------------------------------------------------
// The ABI of DLPack's first, unversioned tensor (dlpack.h, Apache License 2.0), which every consumer accepts.
namespace dlpack {

constexpr std::int32_t kCuda = 2;
constexpr std::uint8_t kFloat = 2;

struct Device {
  std::int32_t kind, id;
};
struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

/// The objects that a consumer of the memory keeps alive.
struct ManagerContext {
  ManagedTensor managed;
  std::vector<std::int64_t> shape, strides;
  py::object array;
};

void release(ManagedTensor* managed) {
  if (Py_IsInitialized() == 0) return;  // at process exit, where the memory is freed anyway
  const py::gil_scoped_acquire acquire;
  delete static_cast<ManagerContext*>(managed->context);
}

/// Releases the tensor of a capsule that no consumer has taken.
void destroy(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
  auto* managed = static_cast<ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

py::object capsule(const py::object& self) {
  const auto& array = self.cast<const DeviceArray&>();
  auto context = std::make_unique<ManagerContext>();
  context->shape.assign(array.shape().begin(), array.shape().end());
  context->strides.assign(context->shape.size(), 1);
  for (std::size_t i = context->shape.size(); i-- > 1;)
    context->strides[i - 1] = context->strides[i] * context->shape[i];
  context->array = self;
  const auto bits = static_cast<std::uint8_t>(8 * size_of(array.view().dtype));
  context->managed = {{array.view().data,
                       {kCuda, 0},
                       static_cast<std::int32_t>(context->shape.size()),
                       {kFloat, bits, 1},
                       context->shape.data(),
                       context->strides.data(),
                       0},
                      context.get(),
                      &release};
  PyObject* made = PyCapsule_New(&context->managed, "dltensor", &destroy);
  if (made == nullptr) throw py::error_already_set();
  context.release();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace dlpack

py::object to_dlpack(const py::object& self, const py::object&, const py::object&, const py::object& device,
                     const py::object& copy) {
  const bool here = device.is_none() || py::tuple(device).equal(py::make_tuple(dlpack::kCuda, 0));
  if (!here || (!copy.is_none() && PyObject_IsTrue(copy.ptr()) == 1)) {
    py::set_error(
        PyExc_BufferError,
        "[DeviceArray] __dlpack__ shares the GPU memory and does not copy it; use array.numpy() for a copy on the CPU");
    throw py::error_already_set();
  }
  self.cast<const DeviceArray&>().synchronize();
  return dlpack::capsule(self);
}

py::dict cuda_array_interface(const DeviceArray& self) {
  self.synchronize();
  py::dict interface;
  interface["shape"] = py::tuple(py::cast(self.shape()));
  interface["typestr"] = self.view().dtype == DType::float32 ? "<f4" : "<f8";
  interface["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(self.view().data), false);
  interface["strides"] = py::none();
  interface["stream"] = py::none();
  interface["version"] = 3;
  return interface;
}

// ---- NumPy's protocols --------------------------------------------------------------------------------------------
bool is_everything(const py::object& key) {
  if (key.is(py::ellipsis())) return true;
  return PySlice_Check(key.ptr()) != 0 && key.equal(py::slice(std::nullopt, std::nullopt, std::nullopt));
}

void set_item(DeviceArray& self, const py::object& key, const py::object& value) {
  py::array host = is_everything(key) ? py::array(numpy_dtype(self.view().dtype), self.shape()) : self.numpy();
  host.attr("__setitem__")(key, value);
  self.write(host);
}

py::object to_numpy(const DeviceArray& self, const py::object& dtype, const py::object& copy) {
  check(copy.is_none() || PyObject_IsTrue(copy.ptr()) == 1,
        "[DeviceArray] copy: got False; expected None or True, as the array is in GPU memory");
  py::object host = self.numpy();
  return dtype.is_none() ? host : host.attr("astype")(dtype);
}

DeviceArray reshape(const DeviceArray& self, const py::object& shape) {
  check(shape.equal(py::int_(-1)) || shape.equal(py::make_tuple(-1)),
        "[DeviceArray] shape: expected -1, for the flat array; reshape array.numpy() for other shapes");
  return self.flat();
}

std::string represent(const DeviceArray& self) {
  return join("DeviceArray(shape=", self.shape_text(), ", dtype=", name_of(self.view().dtype), ", device=\"cuda\")");
}

[[noreturn]] void no_attribute(const DeviceArray& self, const std::string& name) {
  throw py::attribute_error(
      join(represent(self), " has no attribute '", name, "'; use array.numpy() for a NumPy copy"));
}

/// Arithmetic returns NumPy arrays; `array -= x` writes the result back.
void bind_arithmetic(py::class_<DeviceArray>& cls) {
  const py::module_ operators = py::module_::import("operator");
  for (const std::string name : {"add", "sub", "mul", "truediv", "pow", "matmul"}) {
    const py::object operation = operators.attr(name.c_str());
    cls.def(("__" + name + "__").c_str(),
            [operation](const DeviceArray& self, const py::object& other) { return operation(self.numpy(), other); });
    cls.def(("__r" + name + "__").c_str(),
            [operation](const DeviceArray& self, const py::object& other) { return operation(other, self.numpy()); });
    cls.def(("__i" + name + "__").c_str(), [operation](const py::object& self, const py::object& other) {
      auto& array = self.cast<DeviceArray&>();
      const py::array host = array.numpy();
      host[py::ellipsis()] = operation(host, other);
      array.write(host);
      return self;
    });
  }
  cls.def("__neg__", [](const DeviceArray& self) { return self.numpy().attr("__neg__")(); });
}

}  // namespace

void bind_device_array(py::module_& m) {
  using Self = const DeviceArray&;
  py::class_<DeviceArray> cls(
      m, "DeviceArray",
      "An array of a model in GPU memory, float32 or float64: parameters(), gradients(), buffers() and the optimiser's "
      "state() return such arrays with device=\"cuda\". numpy() and np.asarray return a copy on the host. array[...] = "
      "values, array[key] = values and array -= values change the model. torch.from_dlpack and cupy.asarray share the "
      "memory without a copy.");
  cls.def_property_readonly("shape", [](Self self) { return py::tuple(py::cast(self.shape())); })
      .def_property_readonly("dtype", [](Self self) -> py::object { return numpy_dtype(self.view().dtype); })
      .def_property_readonly("size", [](Self self) { return self.view().size(); })
      .def_property_readonly("ndim", [](Self self) { return self.shape().size(); })
      .def_property_readonly("itemsize", [](Self self) { return size_of(self.view().dtype); })
      .def_property_readonly("nbytes", [](Self self) { return self.view().bytes(); })
      .def_property_readonly("device", [](Self) { return "cuda"; })
      .def("numpy", &DeviceArray::numpy, "A copy on the host, as a NumPy array.")
      .def("copy", &DeviceArray::numpy, "A copy on the host, as a NumPy array.")
      .def(
          "tolist", [](Self self) { return self.numpy().attr("tolist")(); }, "The elements as nested lists of floats.")
      .def("ravel", &DeviceArray::flat, "A flat DeviceArray over the same memory.")
      .def("reshape", &reshape, py::arg("shape"), "reshape(-1): a flat DeviceArray over the same memory.")
      .def("__array__", &to_numpy, py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def("__len__", [](Self self) { return self.shape().front(); })
      .def("__getitem__", [](Self self, const py::object& key) { return self.numpy().attr("__getitem__")(key); })
      .def("__setitem__", &set_item)
      .def("__iter__", [](Self self) { return py::iter(self.numpy()); })
      .def("__float__", [](Self self) { return self.numpy().attr("__float__")(); })
      .def("__repr__", &represent)
      .def("__getattr__", &no_attribute)
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](Self) { return py::make_tuple(dlpack::kCuda, 0); })
      .def_property_readonly("__cuda_array_interface__", &cuda_array_interface);
  bind_arithmetic(cls);
}

}  // namespace gdcore::bindings
