// The thread pool. Workers spin for a short while after a job, because the next one usually follows within
// microseconds, and then sleep. A forked child has no workers and starts its own at first use.
#include "gdcore/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "gdcore/check.h"

namespace gdcore {

namespace {

using Clock = std::chrono::steady_clock;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

thread_local bool inside_task = false;    // this thread runs a task
thread_local bool owns_pool = false;      // this thread is inside Pool::run, where a signal handler may call anything
thread_local bool forked_inside = false;  // this thread is the child of a fork inside Pool::run
thread_local bool inside_poll = false;    // this thread is inside a poll: a signal handler may run
thread_local std::function<void()>* interrupt_poll = nullptr;
thread_local Clock::time_point next_poll;

/// Sets a flag during its lifetime.
struct Flag {
  bool& flag;
  const bool before = std::exchange(flag, true);
  ~Flag() { flag = before; }
};

/// One run_tasks call. Workers that wake late find no tasks left and touch nothing else.
struct Job {
  FunctionRef<void(std::int64_t)> task;
  std::int64_t tasks;
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> cancelled{false};
  std::mutex failure_mutex{};
  std::exception_ptr failure{};  // the first exception of a task, for example std::bad_alloc

  bool run_one() {
    const std::int64_t t = next.fetch_add(1, std::memory_order_relaxed);
    if (t >= tasks) return false;
    if (cancelled.load(std::memory_order_relaxed)) return true;
    try {
      task(t);
    } catch (...) {
      cancel(std::current_exception());
    }
    return true;
  }
  void cancel(std::exception_ptr reason) {
    const std::lock_guard lock(failure_mutex);
    if (!failure) failure = std::move(reason);
    cancelled.store(true, std::memory_order_relaxed);
  }
};

class Pool {
 public:
  explicit Pool(int threads) {
    workers_.reserve(static_cast<std::size_t>(threads));
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The system allows no more threads: the existing ones run all tasks, with the same results.
    }
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      ticket_.fetch_add(1, std::memory_order_seq_cst);
    }
    wake_.notify_all();
  }

  /// One caller at a time: the owner of PoolState::use.
  void run(Job& job) {
    job_.store(&job, std::memory_order_seq_cst);
    ticket_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      const std::lock_guard lock(mutex_);
      wake_.notify_all();
    }
    try {
      while (job.run_one()) {
        poll_interrupt();
        if (forked_inside) break;
      }
    } catch (...) {
      job.cancel(std::current_exception());
    }
    if (forked_inside) {  // a signal handler forked: the child has no workers, and their tasks are lost
      forked_inside = false;
      if (job.failure) std::rethrow_exception(job.failure);
      throw std::runtime_error(
          "[run_tasks] a signal handler forked this process during a computation, which the child cannot continue; "
          "fork in a handler only to execute another program");
    }
    // From here no worker can start this job; waits for those that did.
    job_.store(nullptr, std::memory_order_seq_cst);
    for (int spins = 0; busy_.load(std::memory_order_seq_cst) > 0; ++spins) {
      relax();
      if (spins > 2000) std::this_thread::yield();
    }
    if (job.failure) std::rethrow_exception(job.failure);
  }

 private:
  void work() {
    std::uint64_t seen = 0;
    while (true) {
      wait_for_ticket(seen);
      seen = ticket_.load(std::memory_order_seq_cst);
      if (stop_.load(std::memory_order_relaxed)) return;
      busy_.fetch_add(1, std::memory_order_seq_cst);
      if (Job* job = job_.load(std::memory_order_seq_cst)) {
        while (job->run_one()) {
        }
      }
      busy_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  void wait_for_ticket(std::uint64_t seen) {
    constexpr auto kSpin = std::chrono::microseconds(50);
    const auto start = Clock::now();
    do {
      for (int i = 0; i < 64; ++i) {
        if (ticket_.load(std::memory_order_relaxed) != seen) return;
        relax();
      }
    } while (Clock::now() - start < kSpin);
    std::unique_lock lock(mutex_);
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return ticket_.load(std::memory_order_seq_cst) != seen; });
    sleeping_.fetch_sub(1, std::memory_order_seq_cst);
  }

  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<int> busy_{0}, sleeping_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::jthread> workers_;  // joined first
};

int default_threads() {
  if (const char* given = std::getenv("OMP_NUM_THREADS")) {
    const int threads = std::atoi(given);  // "4,2" means 4 at the outermost level
    if (threads > 0) return threads;
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// The pool and its lock. Deliberately never destroyed: workers may outlive static destructors, and a forked child must
/// not join threads that it does not have.
struct PoolState {
  std::mutex use;  // locked while a job runs and while the pool is replaced
  std::atomic<int> threads{default_threads()};
  Pool* pool = nullptr;
};

PoolState& state() {
  static PoolState* const instance = [] {
    const auto before = [] {
      if (!owns_pool) state().use.lock();
    };
    const auto parent = [] {
      if (!owns_pool) state().use.unlock();
    };
    const auto child = [] {
      state().pool = nullptr;  // the threads exist only in the parent
      forked_inside = owns_pool;
      if (!owns_pool) state().use.unlock();
    };
    pthread_atfork(before, parent, child);
    return new PoolState();  // never deleted, see above
  }();
  return *instance;
}

}  // namespace

int num_threads() { return state().threads.load(std::memory_order_relaxed); }

void set_num_threads(int threads) {
  check(threads >= 1 && threads <= 1024, "[set_num_threads] threads: got ", threads, "; expected 1 to 1024");
  check<std::runtime_error>(!owns_pool, "[set_num_threads] called during a computation; call it outside of one");
  const std::lock_guard lock(state().use);
  delete state().pool;
  state().pool = nullptr;
  state().threads = threads;
}

void run_tasks(std::int64_t tasks, FunctionRef<void(std::int64_t)> task) {
  PoolState& s = state();
  const auto guarded = [&](std::int64_t t) {
    const Flag inside{inside_task};
    task(t);
  };
  std::unique_lock lock(s.use, std::defer_lock);
  if (tasks <= 1 || num_threads() == 1 || inside_task || owns_pool || !lock.try_lock()) {
    const bool nested = inside_task;
    for (std::int64_t t = 0; t < tasks; ++t) {
      task(t);
      if (!nested && t + 1 < tasks) poll_interrupt();
    }
    return;
  }
  if (s.pool == nullptr) s.pool = new Pool(num_threads());
  const Flag owner{owns_pool};
  Job job{guarded, tasks};
  s.pool->run(job);
}

InterruptScope::InterruptScope(std::function<void()> poll) : poll_(std::move(poll)), outer_(interrupt_poll) {
  interrupt_poll = poll_ ? &poll_ : nullptr;
  next_poll = Clock::now() + std::chrono::milliseconds(20);
}

InterruptScope::~InterruptScope() { interrupt_poll = outer_; }

NoInterrupt::NoInterrupt() : outer_(interrupt_poll) { interrupt_poll = nullptr; }
NoInterrupt::~NoInterrupt() { interrupt_poll = outer_; }

void poll_interrupt() {
  if (interrupt_poll == nullptr || inside_poll) return;
  const auto now = Clock::now();
  if (now < next_poll) return;
  next_poll = now + std::chrono::milliseconds(20);
  const Flag inside{inside_poll};
  (*interrupt_poll)();
}

bool inside_interrupt() { return inside_poll; }

}  // namespace gdcore
