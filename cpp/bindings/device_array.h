// An array over a network's memory on a GPU. NumPy cannot view that memory, so it is copied on each read and write.
#pragma once

#include <vector>

#include "arrays.h"

namespace gdcore::bindings {

class DeviceArray {
 public:
  DeviceArray(const View& view, std::vector<py::ssize_t> shape, Network& network, py::object owner)
      : view_(view), shape_(std::move(shape)), network_(&network), owner_(std::move(owner)) {}

  const View& view() const { return view_; }
  const std::vector<py::ssize_t>& shape() const { return shape_; }
  std::string shape_text() const { return py::str(py::cast<py::tuple>(py::cast(shape_))); }

  /// Returns a copy on the host.
  py::array numpy() const;
  /// Overwrites the array with a C-contiguous array of its shape and dtype.
  void write(const py::array& from);
  /// The elements as a vector.
  DeviceArray flat() const { return {view_, {view_.size()}, *network_, owner_}; }
  /// Waits until the device has finished all enqueued work, so that others may read its memory.
  void synchronize() const;

 private:
  View view_;
  std::vector<py::ssize_t> shape_;
  Network* network_;  // kept alive by `owner`
  py::object owner_;
};

}  // namespace gdcore::bindings
