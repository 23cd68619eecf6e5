// The thread pool. Several threads share its workers: each call has a slot, in which free workers find its tasks.
// Workers spin for a short while after a job, because the next one usually follows within microseconds, and then sleep.
// A forked child has no workers and starts its own at first use.
#include "gdcore/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
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

thread_local int limit = 0;               // of this thread's computations; 0: the default
thread_local bool inside_task = false;    // this thread runs a task
thread_local bool inside_job = false;     // this thread is inside Pool::run, where a signal handler may call anything
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

/// One run_tasks call. It lives on its caller's stack.
struct Job {
  FunctionRef<void(std::int64_t)> task;
  std::int64_t tasks;
  int helpers;  // the most workers that may join the caller
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> cancelled{false};
  std::mutex failure_mutex{};
  std::exception_ptr failure{};  // the first exception of a task, for example std::bad_alloc

  bool run_one() {
    const std::int64_t t = next.fetch_add(1, std::memory_order_relaxed);
    if (t >= tasks) return false;
    if (cancelled.load(std::memory_order_relaxed)) return true;
    try {
      const Flag inside{inside_task};
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

/// Where workers find the job of one caller. A worker counts itself before it reads `job`; the caller removes the job
/// and then waits until no worker is counted, so a worker that comes late finds no job and touches nothing else.
struct alignas(64) Slot {
  std::atomic<bool> taken{false};  // by a caller
  std::atomic<int> inside{0};      // workers
  std::atomic<Job*> job{nullptr};
};

/// A worker that sleeps, and the processor where it fell asleep.
struct Sleeper {
  pid_t thread;
  int processor;
};

/// While it lives, sleepers do not wake on the processor of the calling thread: of many, those that slept there. Then
/// they may run where they might before, unless somebody else has changed that meanwhile.
class KeepApart {
 public:
  KeepApart(const std::vector<Sleeper>& sleepers, int here) {
    for (const Sleeper& each : sleepers) {
      if (count_ == kMost) break;
      if (each.processor != here && sleepers.size() > kMost) continue;
      Moved& moved = moved_[count_];
      moved.thread = each.thread;
      if (sched_getaffinity(each.thread, sizeof moved.allowed, &moved.allowed) != 0) continue;
      if (!CPU_ISSET(here, &moved.allowed)) continue;
      moved.others = moved.allowed;
      CPU_CLR(here, &moved.others);
      count_ += sched_setaffinity(each.thread, sizeof moved.others, &moved.others) == 0;  // fails where none is left
    }
  }
  ~KeepApart() {
    for (int i = 0; i < count_; ++i) {
      const Moved& moved = moved_[i];
      cpu_set_t now;
      if (sched_getaffinity(moved.thread, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &moved.others)) continue;
      sched_setaffinity(moved.thread, sizeof moved.allowed, &moved.allowed);
    }
  }
  KeepApart(const KeepApart&) = delete;
  KeepApart& operator=(const KeepApart&) = delete;

 private:
  static constexpr int kMost = 4;
  struct Moved {
    pid_t thread;
    cpu_set_t allowed, others;
  };
  Moved moved_[kMost];
  int count_ = 0;
};

class Pool {
 public:
  /// Runs the job in this thread and in workers that are free. Throws what a task or a poll throws.
  void run(Job& job) {
    if (job.helpers > wanted_.load(std::memory_order_relaxed)) grow(job.helpers);
    Slot* const slot = take_slot();  // null: there are too many callers, and this one computes alone
    if (slot != nullptr) open(*slot, job);
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
    if (slot != nullptr) close(*slot, job);
    if (job.failure) std::rethrow_exception(job.failure);
  }

  /// Ends the workers above this number as soon as they are idle.
  void shrink(int workers) {
    const std::lock_guard lock(mutex_);
    wanted_ = std::min(workers, alive_.load());
    notify(claim_locked(sleeping_));
  }

 private:
  void grow(int workers) {
    const std::lock_guard lock(mutex_);
    if (workers <= wanted_) return;
    wanted_ = workers;
    try {
      sleepers_.reserve(static_cast<std::size_t>(workers));
      for (; alive_ < workers; ++alive_) std::thread([this] { work(); }).detach();
    } catch (const std::exception&) {
      // The system allows no more threads: the existing ones run all tasks, with the same results.
    }
  }

  Slot* take_slot() {
    thread_local unsigned mine = 0;  // the last one: its cache line is near, and other callers have their own
    for (unsigned i = 0; i < kSlots; ++i, mine = (mine + 1) % kSlots) {
      Slot& slot = slots_[mine];
      if (!slot.taken.load(std::memory_order_relaxed) && !slot.taken.exchange(true)) return &slot;
    }
    return nullptr;
  }

  std::uint64_t bit(const Slot& slot) const { return std::uint64_t{1} << (&slot - slots_); }

  void open(Slot& slot, Job& job) {
    slot.job.store(&job, std::memory_order_release);
    open_.fetch_or(bit(slot));
    const int places = places_.fetch_add(job.helpers) + job.helpers, asleep = sleeping_;
    if (asleep == 0) return;
    const int missing = std::min(job.helpers, places - (alive_ - asleep));
    if (missing <= 0) return;
    const std::lock_guard alone(waking_mutex_);  // another caller would take the masks of KeepApart for the usual ones
    std::unique_lock lock(mutex_);
    waker_ = sched_getcpu();
    std::optional<KeepApart> apart;
    if (wakes_behind_) apart.emplace(sleepers_, waker_);
    const int woken = claim_locked(missing);
    lock.unlock();  // a worker that had to wait for it would be woken twice
    notify(woken);
  }

  void close(Slot& slot, const Job& job) {
    withdraw(slot);
    places_.fetch_sub(job.helpers);
    slot.job.store(nullptr);  // from here no worker can join; waits for those that did
    for (int spins = 0; slot.inside.load() > 0; ++spins) {
      relax();
      if (spins > 2000) std::this_thread::yield();
    }
    slot.taken.store(false, std::memory_order_release);
  }

  /// Offers the slot to no more workers.
  void withdraw(const Slot& slot) {
    if ((open_.load(std::memory_order_relaxed) & bit(slot)) != 0) open_.fetch_and(~bit(slot));
  }

  /// Runs tasks of the slot's job until none is left; returns whether the job had a place for this worker.
  bool help(Slot& slot) {
    const int before = slot.inside.fetch_add(1);
    Job* const job = slot.job.load();
    const bool joins = job != nullptr && before < job->helpers;
    if (job != nullptr && before + 1 >= job->helpers) withdraw(slot);  // no place is left
    if (joins) {
      while (job->run_one()) {
      }
      withdraw(slot);
    }
    slot.inside.fetch_sub(1);
    return joins;
  }

  void work() {
    constexpr auto kSpin = std::chrono::microseconds(50);
    pthread_setname_np(pthread_self(), "gdcore");
    int turn = 0;  // slots from here on come first, so that none waits for ever
    auto idle_since = Clock::now();
    while (true) {
      for (int i = 0; i < 64; ++i) {
        if (const std::uint64_t open = open_.load(std::memory_order_relaxed); open != 0) {
          const int next = (std::countr_zero(std::rotr(open, turn)) + turn) % kSlots;
          turn = next + 1;
          if (help(slots_[next])) idle_since = Clock::now();
        }
        relax();
      }
      if (Clock::now() - idle_since < kSpin) continue;
      if (!sleep()) return;
      idle_since = Clock::now();
    }
  }

  /// Returns true when there is work, and false if there are more workers than wanted and this one ends.
  bool sleep() {
    std::unique_lock lock(mutex_);
    if (alive_ > wanted_) {
      --alive_;
      return false;
    }
    ++sleeping_;
    if (open_ != 0) {  // opened by a caller that did not see this worker asleep
      --sleeping_;
      return true;
    }
    const auto self = static_cast<pid_t>(syscall(SYS_gettid));
    sleepers_.push_back({self, sched_getcpu()});
    wake_.wait(lock, [this] { return wakings_ > 0; });
    std::erase_if(sleepers_, [self](const Sleeper& each) { return each.thread == self; });
    wakes_behind_ = wakes_behind_ || sched_getcpu() == waker_;
    --wakings_;
    return true;
  }

  /// Chooses this number of workers, or all that sleep, to be woken; returns how many.
  int claim_locked(int workers) {
    workers = std::min(workers, sleeping_.load());
    sleeping_ -= workers;
    wakings_ += workers;
    return workers;
  }

  void notify(int workers) {
    if (workers == 1) {
      wake_.notify_one();
    } else if (workers > 1) {
      wake_.notify_all();
    }
  }

  static constexpr int kSlots = 64;
  Slot slots_[kSlots];
  alignas(64) std::atomic<std::uint64_t> open_{0};  // slots whose job has tasks and a place for a worker
  alignas(64) std::atomic<int> places_{0};          // sum of the helpers of all jobs
  std::atomic<int> alive_{0}, sleeping_{0};         // workers; changed under the mutex, as the members below
  std::atomic<int> wanted_{0};                      // number of workers that the pool tries to have
  int wakings_ = 0;                                 // workers that were woken and do not know yet
  std::vector<Sleeper> sleepers_;                   // workers that wait, woken or not
  int waker_ = -1;                                  // processor of the last caller that woke workers
  // Whether a worker woke there. On some machines, above all virtual ones, the system looks for no idle processor and
  // wakes a thread where it slept or where its caller runs, behind which it then waits for milliseconds.
  bool wakes_behind_ = false;
  std::mutex mutex_, waking_mutex_;
  std::condition_variable wake_;
};

/// Deliberately never destroyed: workers may outlive static destructors. A forked child abandons its copy.
std::atomic<Pool*> current_pool{nullptr};

[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] {
  current_pool = nullptr;  // the workers exist only in the parent
  forked_inside = inside_job;
});

Pool& pool() {
  Pool* found = current_pool.load();
  if (found != nullptr) return *found;
  auto made = std::make_unique<Pool>();
  return current_pool.compare_exchange_strong(found, made.get()) ? *made.release() : *found;
}

int available_threads() {
  if (const char* given = std::getenv("OMP_NUM_THREADS")) {
    const int threads = std::atoi(given);  // "4,2" means 4 at the outermost level
    if (threads > 0) return std::min(threads, kMostThreads);
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::clamp(CPU_COUNT(&allowed), 1, kMostThreads);
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostThreads);
}

std::atomic<int>& default_threads() {
  static std::atomic<int> threads{available_threads()};
  return threads;
}

}  // namespace

int num_threads() { return limit > 0 ? limit : default_threads().load(std::memory_order_relaxed); }

void set_num_threads(int threads) {
  check(threads >= 1 && threads <= kMostThreads, "[set_num_threads] threads: got ", threads, "; expected 1 to ",
        kMostThreads);
  check<std::runtime_error>(!inside_job && !inside_task,
                            "[set_num_threads] called during a computation; call it outside of one");
  default_threads() = threads;
  if (Pool* const used = current_pool) used->shrink(threads - 1);
}

int exchange_thread_limit(int threads) {
  check(threads >= 0 && threads <= kMostThreads, "[thread_limit] threads: got ", threads, "; expected 1 to ",
        kMostThreads);
  return std::exchange(limit, threads);
}

void run_tasks(std::int64_t tasks, FunctionRef<void(std::int64_t)> task) {
  const int threads = tasks <= 1 || inside_task || inside_job ? 1 : num_threads();
  if (threads == 1) {
    for (std::int64_t t = 0; t < tasks; ++t) {
      task(t);
      if (!inside_task && t + 1 < tasks) poll_interrupt();
    }
    return;
  }
  const Flag inside{inside_job};
  Job job{task, tasks, static_cast<int>(std::min<std::int64_t>(tasks, threads)) - 1};
  pool().run(job);
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
