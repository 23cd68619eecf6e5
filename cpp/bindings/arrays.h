// Conversions between Python's arrays and the core's views.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "gdcore/data.h"
#include "gdcore/network.h"
#include "gdcore/parallel.h"
#include "kinds.h"

namespace gdcore::bindings {

namespace py = pybind11;

/// A source and the array that keeps its memory alive.
struct OwnedSource {
  py::array array = py::reinterpret_steal<py::array>(py::handle());  // null: the default would make an array
  Source source;
};

/// Converts any object with array data to a NumPy array of a numeric type, aligned, in native byte order and with
/// contiguous rows. Copies only where needed. Throws TypeError for other objects.
py::array to_array(const py::object& object, const char* argument);

/// The same as a matrix. With `vector`, a vector becomes one column. Throws ValueError for other dimensions.
OwnedSource to_source(const py::object& object, const char* argument, bool vector);

/// Returns a view of the given array itself, which must be float32 or float64 and C-contiguous; None is a null view. An
/// `output` must be writable.
View to_view(const py::object& object, const char* argument, bool output);

DType to_dtype(const std::string& name);
/// "auto" selects the GPU where a usable one is present.
Device to_device(const std::string& name);
Precision to_precision(const std::string& name);
const char* name_of(Precision precision);
py::dtype numpy_dtype(DType dtype);

/// Returns an array over the network's memory that keeps `owner` alive: NumPy on the CPU, else a DeviceArray.
py::object view_array(const View& view, bool vector, Network& network, const py::object& owner);

/// Releases the GIL during its lifetime. Not py::gil_scoped_release: Python ends a daemon thread that returns during
/// shutdown by unwinding its stack, which must pass this destructor.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() noexcept(false) { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

/// Called once, on import of the module.
void remember_main_thread();

/// Returns the function for an InterruptScope: it throws KeyboardInterrupt, or what else a signal handler raises.
/// Python runs signal handlers only in the main thread; in other threads it is empty unless they watch an
/// InterruptFlag. Throws KeyboardInterrupt itself if that is set.
std::function<void()> interrupt_poll();

/// Runs `work` without the GIL, interruptible.
template <class Work>
auto without_gil(Work&& work) {
  std::function<void()> poll = interrupt_poll();
  const WithoutGil released;
  const InterruptScope interruptible(std::move(poll));
  return work();
}

/// The same as a computation of a network: waits while another thread holds the arrays, and throws where another
/// computes.
template <class Work>
auto computing(Network& network, Work&& work, Network::Purpose purpose = Network::Purpose::prediction) {
  while (network.has_other_holder()) without_gil([&] { network.wait_for_holders(); });
  std::optional<Network::Turn> turn;  // until the computation starts; others would start first each time
  if (purpose != Network::Purpose::prediction && network.predicts()) {
    turn.emplace(network);
    while (network.predicts()) without_gil([&] { network.wait_for_prediction(); });
  }
  const Network::Use use(network, purpose);
  turn.reset();
  return without_gil(work);
}

}  // namespace gdcore::bindings
