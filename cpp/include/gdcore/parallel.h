// The one thread pool, and interruption.
#pragma once

#include <cstdint>
#include <functional>

#include "gdcore/function_ref.h"

namespace gdcore {

/// Number of threads: at first OMP_NUM_THREADS, else the processors this process may use.
int num_threads();
void set_num_threads(int threads);

/// Runs task(0) .. task(tasks - 1), in any order, on the pool. What a task throws comes out here. The split into tasks
/// is the caller's, so results do not depend on which thread ran what. Nested calls, and calls while another thread
/// uses the pool, run the tasks one after the other. Between its own tasks the calling thread polls for interruption,
/// which may throw; then the remaining tasks are not run.
void run_tasks(std::int64_t tasks, FunctionRef<void(std::int64_t)> task);

/// While it lives, `poll` (which may be empty) is called by this thread, at most every 20 ms, between tasks and
/// batches. It may throw.
class InterruptScope {
 public:
  explicit InterruptScope(std::function<void()> poll);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  std::function<void()> poll_;
  std::function<void()>* outer_;
};

/// While it lives, nothing is interrupted: for updates that must be whole.
class NoInterrupt {
 public:
  NoInterrupt();
  ~NoInterrupt();
  NoInterrupt(const NoInterrupt&) = delete;
  NoInterrupt& operator=(const NoInterrupt&) = delete;

 private:
  std::function<void()>* outer_;
};

/// Polls if it is time. A signal handler's own computations are not interrupted in their turn.
void poll_interrupt();
/// Whether this thread is inside a poll, computing for a signal handler in the middle of another computation.
bool inside_interrupt();

}  // namespace gdcore
