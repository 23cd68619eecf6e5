// The thread pool, and interruption of long computations.
#pragma once

#include <cstdint>
#include <functional>

#include "gdcore/function_ref.h"

namespace gdcore {

inline constexpr int kMostThreads = 1024;

/// Number of threads of this thread's computations: its limit, otherwise the default. The default is OMP_NUM_THREADS,
/// else the number of processors available to this process, until set_num_threads changes it.
int num_threads();
/// Sets the default. Throws std::runtime_error where a poll calls it inside a computation on several threads.
void set_num_threads(int threads);
/// Sets the limit of the calling thread, 0 for none, and returns the previous one. No other thread inherits it.
int exchange_thread_limit(int threads);

/// Limits the computations of the calling thread to this number of threads while it lives.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) : before_(exchange_thread_limit(threads)) {}
  ~ThreadLimit() { exchange_thread_limit(before_); }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int before_;
};

/// Runs task(0) .. task(tasks - 1), in any order, in this thread and in at most num_threads() - 1 workers of the pool,
/// which several threads may use at once. Rethrows what a task throws. The caller defines the split into tasks, so
/// results do not depend on the thread that runs a task. Nested calls, and calls with one thread, run the tasks one
/// after the other, without the pool. Between its own tasks the calling thread polls for interruption, which may throw;
/// the remaining tasks are then not run.
void run_tasks(std::int64_t tasks, FunctionRef<void(std::int64_t)> task);

/// While the scope lives, this thread calls `poll` (which may be empty) between tasks and batches, at most every 20 ms.
/// `poll` may throw.
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

/// While it lives, this thread is not interrupted: for updates that must complete.
class NoInterrupt {
 public:
  NoInterrupt();
  ~NoInterrupt();
  NoInterrupt(const NoInterrupt&) = delete;
  NoInterrupt& operator=(const NoInterrupt&) = delete;

 private:
  std::function<void()>* outer_;
};

/// Polls if 20 ms have passed. Computations inside a signal handler are not interrupted again.
void poll_interrupt();
/// Whether this thread is inside a poll: a signal handler computes in the middle of another computation.
bool inside_interrupt();

}  // namespace gdcore
