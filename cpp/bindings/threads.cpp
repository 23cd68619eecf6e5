// Numbers of threads, and interruption of computations: by signals, and by a flag that another thread sets.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

std::atomic<unsigned long> main_thread{0};

/// How often set() was called.
using InterruptCount = std::atomic<std::uint64_t>;

struct InterruptFlag {
  std::shared_ptr<InterruptCount> count = std::make_shared<InterruptCount>(0);
};

/// A `with` block of `watched()`: `seen` is the count that its thread has raised KeyboardInterrupt for.
struct Watch {
  std::shared_ptr<InterruptCount> count;
  std::uint64_t seen = 0;
};

thread_local std::vector<Watch> watches;  // the blocks that this thread is in

struct PyWatch {
  std::shared_ptr<InterruptCount> count;

  void enter() const { watches.push_back({count}); }
  void exit(const py::object& /*kind*/, const py::object& /*error*/, const py::object& /*trace*/) const {
    const auto mine = std::ranges::find(watches.rbegin(), watches.rend(), count, &Watch::count);
    check<std::runtime_error>(mine != watches.rend(),
                              "[InterruptFlag.watched] left in a thread that did not enter it; "
                              "expected the thread that did");
    watches.erase(std::next(mine).base());
  }
};

/// Throws KeyboardInterrupt if a flag that this thread watches was set since the last time. A call of set() interrupts
/// a block once, as Ctrl-C does, so that what has to run afterwards can.
void raise_if_set() {
  bool raised = false;
  for (Watch& watch : watches) {
    const std::uint64_t count = watch.count->load(std::memory_order_relaxed);
    raised = raised || count != watch.seen;
    watch.seen = count;
  }
  if (!raised) return;
  const py::gil_scoped_acquire acquire;
  PyErr_SetNone(PyExc_KeyboardInterrupt);
  throw py::error_already_set();
}

}  // namespace

void remember_main_thread() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  pthread_atfork(nullptr, nullptr, [] { main_thread = PyThread_get_thread_ident(); });  // the child's main thread
}

std::function<void()> interrupt_poll() {
  const bool runs_handlers = PyThread_get_thread_ident() == main_thread;
  if (!runs_handlers && watches.empty()) return {};
  raise_if_set();  // short calls, one after the other, are too short for a poll
  return [runs_handlers] {
    raise_if_set();
    if (!runs_handlers) return;
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  };
}

void bind_threads(py::module_& m) {
  const auto checked = [](std::int64_t threads) {
    check(threads >= 1 && threads <= kMostThreads, "[set_num_threads] threads: got ", threads, "; expected 1 to ",
          kMostThreads);
    return static_cast<int>(threads);
  };
  m.def(
      "set_num_threads", [checked](std::int64_t threads) { set_num_threads(checked(threads)); }, py::arg("threads"),
      "Sets the number of threads, 1 to 1024, of the computations of all threads that are not inside a thread_limit. "
      "RuntimeError where a signal handler calls it inside a computation on several threads.");
  m.def(
      "get_num_threads", &num_threads,
      "The number of threads of the computations of the calling thread: that of its innermost thread_limit, otherwise "
      "that of set_num_threads. Initially OMP_NUM_THREADS, otherwise the number of processors that this process may "
      "use.");
  m.def("_limit_threads", &exchange_thread_limit, py::arg("threads"),
        "Sets the limit of the calling thread, 0 for none. Returns the previous one.");
  py::class_<PyWatch>(m, "_InterruptWatch", "The context manager of InterruptFlag.watched().")
      .def("__enter__", &PyWatch::enter)
      .def("__exit__", &PyWatch::exit, py::arg("kind"), py::arg("error"), py::arg("trace"));
  py::class_<InterruptFlag>(m, "InterruptFlag", "Interrupts computations in other threads.")
      .def(py::init<>())
      .def(
          "set", [](const InterruptFlag& self) { self.count->fetch_add(1, std::memory_order_relaxed); },
          "Interrupts every block of watched() once, those that are entered later too. May be called by any thread.")
      .def(
          "watched", [](const InterruptFlag& self) { return PyWatch{self.count}; },
          "A context manager: within the block, gdcore's computations of the thread that entered it raise "
          "KeyboardInterrupt soon after set(), within some 20 ms or when the next one starts, and leave everything as "
          "Ctrl-C does in the main thread. RuntimeError where another thread leaves the block.");
}

}  // namespace gdcore::bindings
