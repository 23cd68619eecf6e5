// Between Python's arrays and the core's views.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "gdcore/data.h"
#include "gdcore/network.h"
#include "gdcore/parallel.h"
#include "kinds.h"

namespace gdcore::bindings {

namespace py = pybind11;

/// A source and the array that keeps its memory alive.
struct HeldSource {
  py::array array = py::reinterpret_steal<py::array>(py::handle());  // null: the default would make an array
  Source source;
};

/// Any object with array data as a NumPy array of a numeric type in native byte order, aligned, with contiguous rows;
/// copied only where it is not that already. Throws TypeError for what is no array of numbers.
py::array to_array(const py::object& object, const char* argument);

/// The same as a matrix; a vector becomes one column where `vector` allows it. Throws ValueError for other dimensions.
HeldSource to_source(const py::object& object, const char* argument, bool vector);

/// Exactly the array that is given, float32 or float64 and C-contiguous, as a view; None is a null view. An `output`
/// must be writable.
View to_view(const py::object& object, const char* argument, bool output);

DType to_dtype(const std::string& name);
/// "auto" is the GPU where there is one that can be used.
Device to_device(const std::string& name);
Precision to_precision(const std::string& name);
const char* name_of(Precision precision);
py::dtype numpy_dtype(DType dtype);

/// An array over the network's memory that keeps `owner` alive: NumPy's on the CPU, a DeviceArray elsewhere.
py::object view_array(const View& view, bool vector, Network& network, const py::object& owner);

/// While it lives, the GIL is released. Not py::gil_scoped_release: a daemon thread that comes back while Python shuts
/// down is ended by unwinding its stack, which must be allowed to pass this destructor.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() noexcept(false) { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

/// Called once when the module is imported.
void remember_main_thread();

/// What an InterruptScope calls: throws KeyboardInterrupt (or what else a signal handler raises). Empty outside the
/// main thread, for Python runs signal handlers nowhere else.
std::function<void()> signal_poll();

/// Runs `work` without the GIL, interruptible.
template <class Work>
auto without_gil(Work&& work) {
  std::function<void()> poll = signal_poll();
  const WithoutGil released;
  const InterruptScope interruptible(std::move(poll));
  return work();
}

/// The same on a network, refusing a second thread; waits while another holds the arrays still.
template <class Work>
auto computing(Network& network, Work&& work) {
  while (network.awaited()) without_gil([&] { network.wait_for_holders(); });
  const Network::Use use(network);
  return without_gil(work);
}

}  // namespace gdcore::bindings
