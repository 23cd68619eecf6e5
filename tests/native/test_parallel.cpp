// The thread pool: every task once, nested and concurrent use, interruption, fork.
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "gdcore/parallel.h"
#include "gdcore/scratch.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

void pause(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

pid_t this_thread() { return static_cast<pid_t>(syscall(SYS_gettid)); }

/// Lets the calling thread run on one processor while it lives.
struct Pinned {
  cpu_set_t before;
  explicit Pinned(int processor) {
    REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  }
  ~Pinned() { sched_setaffinity(0, sizeof before, &before); }
};

/// Returns once a thread of this process sleeps or has ended.
void wait_until_asleep(pid_t thread) {
  for (char state = 'R'; state != 'S'; pause(1)) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string text;
    if (!std::getline(file, text)) return;
    state = text[text.rfind(')') + 2];
  }
}

/// Runs `tasks` tasks that each count themselves; returns whether each ran exactly once.
bool each_once(std::int64_t tasks) {
  std::vector<int> runs(static_cast<std::size_t>(tasks));  // plain ints: running a task twice would be a race
  run_tasks(tasks, [&](std::int64_t t) { ++runs[static_cast<std::size_t>(t)]; });
  for (const int n : runs) {
    if (n != 1) return false;
  }
  return true;
}

/// A product large enough for the pool.
struct Product {
  Array<float> x{90, 120}, w{110, 120}, y{90, 110};
  Product() {
    x.random(1);
    w.random(2);
  }
  Array<float>& run() {
    y.poison();
    cpu().dense_forward({x.view(), w.view(), {}, Tanh{}, y.view(), {}});
    return y;
  }
};

Array<float> product() { return std::move(Product().run()); }

}  // namespace

TEST_CASE("every task runs exactly once") {
  for (const int threads : {1, 2, 3, 7}) {
    const Threads guard(threads);
    CHECK(num_threads() == threads);
    for (const std::int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) CHECK(each_once(tasks));
  }
}

TEST_CASE("many small jobs, one right after the other and with pauses in which the workers sleep") {
  for (const int threads : {2, 3, 7}) {
    const Threads guard(threads);
    std::int64_t total[8] = {};
    for (int job = 0; job < 3000; ++job) {
      run_tasks(8, [&](std::int64_t t) { total[t] += t; });
      if (job % 300 == 0) pause(1);
    }
    for (std::int64_t t = 0; t < 8; ++t) CHECK(total[t] == 3000 * t);
  }
}

TEST_CASE("a worker that slept on its caller's processor wakes on another one, and may then run on all as before") {
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  if (CPU_COUNT(&allowed) < 2) return;
  const Threads guard(2);
  pid_t worker = 0;
  int processor = -1;
  const auto meet = [&] {  // both threads have a task at the same time
    std::atomic<int> met{0};
    const pid_t caller = this_thread();
    run_tasks(2, [&](std::int64_t) {
      ++met;
      while (met < 2) std::this_thread::yield();
      if (this_thread() == caller) return;
      worker = this_thread();
      processor = sched_getcpu();
    });
  };
  constexpr int kRounds = 10;
  int elsewhere = 0;
  for (int round = 0; round < kRounds; ++round) {
    meet();
    wait_until_asleep(worker);
    const int before = processor;
    {
      const Pinned caller(before);  // it goes where the worker was
      meet();
    }
    elsewhere += processor != before;
    cpu_set_t now;
    if (sched_getaffinity(worker, sizeof now, &now) != 0) continue;  // it has ended: there were more than wanted
    CHECK(CPU_EQUAL(&now, &allowed));
  }
  CHECK(elsewhere >= kRounds / 2);  // the system may move a thread again where other programs run
}

TEST_CASE("what a job writes is seen by the next job and by the caller") {
  const Threads guard(3);
  std::vector<std::int64_t> values(32, 0);
  for (int job = 0; job < 1000; ++job) {
    // Each task reads what another task wrote in the previous job.
    const std::vector<std::int64_t> before = values;
    run_tasks(32, [&](std::int64_t t) {
      values[static_cast<std::size_t>(t)] = before[static_cast<std::size_t>((t + 13) % 32)] + 1;
    });
  }
  for (const std::int64_t value : values) CHECK(value == 1000);
}

TEST_CASE("nested calls run their tasks in the same thread, in order") {
  for (const int threads : {1, 2, 3}) {
    const Threads guard(threads);
    std::vector<std::int64_t> sums(20, 0);
    std::atomic<int> strangers{0}, disordered{0};
    run_tasks(20, [&](std::int64_t t) {
      const auto self = std::this_thread::get_id();
      std::int64_t last = -1;
      run_tasks(10, [&](std::int64_t u) {
        if (std::this_thread::get_id() != self) ++strangers;
        if (u != last + 1) ++disordered;
        last = u;
        sums[static_cast<std::size_t>(t)] += u;
      });
    });
    for (const std::int64_t sum : sums) CHECK(sum == 45);
    CHECK(strangers == 0);
    CHECK(disordered == 0);
  }
}

TEST_CASE("several threads may compute at once") {
  const Threads guard(3);
  const Array<float> expected = product();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        if (!product().same_bits(expected)) ++wrong;
        if (!each_once(50)) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("the number of threads may change while others compute; a bad one changes nothing") {
  const Threads guard(2);
  const Array<float> expected = product();
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread caller([&] {
    while (!stop) {
      if (!product().same_bits(expected)) ++wrong;
    }
  });
  for (int i = 0; i < 60; ++i) {
    set_num_threads(1 + i % 4);
    CHECK(each_once(9));
  }
  stop = true;
  caller.join();
  CHECK(wrong == 0);
  set_num_threads(2);
  for (const int bad : {0, -1, 1025}) CHECK_THROWS_AS(set_num_threads(bad), std::invalid_argument);
  CHECK(num_threads() == 2);
}

TEST_CASE("an interruption skips the tasks that are left, and the pool works on") {
  for (const int threads : {1, 2, 3}) {
    const Threads guard(threads);
    const Array<float> expected = product();
    std::atomic<int> ran{0};
    {
      const InterruptScope scope([] { throw Interrupted(); });
      CHECK_THROWS_AS(run_tasks(1000,
                                [&](std::int64_t) {
                                  ++ran;
                                  pause(2);
                                }),
                      Interrupted);
    }
    CHECK(ran >= 1);
    CHECK(ran < 1000);
    CHECK(each_once(100));
    CHECK(product().same_bits(expected));
  }
}

TEST_CASE("only the caller polls, at most every 20 ms, and not after the scope") {
  const Threads guard(3);
  const auto self = std::this_thread::get_id();
  int polls = 0;
  std::atomic<int> strangers{0};
  const auto start = std::chrono::steady_clock::now();
  {
    const InterruptScope scope([&] {
      if (std::this_thread::get_id() != self) ++strangers;
      ++polls;
    });
    run_tasks(200, [&](std::int64_t) { pause(1); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    CHECK(polls >= 1);
    CHECK(polls <= static_cast<int>(seconds / 0.02) + 1);
  }
  CHECK(strangers == 0);
  const int before = polls;
  pause(25);
  poll_interrupt();
  CHECK(polls == before);
}

TEST_CASE("scopes nest, and NoInterrupt holds interruption off") {
  int outer = 0, inner = 0;
  const InterruptScope first([&] { ++outer; });
  {
    const InterruptScope second([&] { ++inner; });
    pause(21);
    poll_interrupt();
    CHECK(inner == 1);
    CHECK(outer == 0);
    {
      const NoInterrupt whole;
      {
        const NoInterrupt again;
        pause(21);
        poll_interrupt();
      }
      poll_interrupt();
      CHECK(inner == 1);
    }
    poll_interrupt();
    CHECK(inner == 2);
  }
  pause(21);
  poll_interrupt();
  CHECK(outer == 1);
  CHECK(inner == 2);
}

TEST_CASE("an exception passes NoInterrupt and scopes, which put back what was before") {
  int polls = 0;
  const InterruptScope scope([&] { ++polls; });
  CHECK_THROWS_AS(([&] {
                    const InterruptScope inner([] {});
                    const NoInterrupt whole;
                    throw Interrupted();
                  }()),
                  Interrupted);
  pause(21);
  poll_interrupt();
  CHECK(polls == 1);
}

#ifdef __SANITIZE_THREAD__
constexpr bool kForks = false;  // ThreadSanitizer supports no threads in a forked child
#else
constexpr bool kForks = true;
#endif

TEST_CASE("a forked child computes, while and after others did in the parent" * doctest::skip(!kForks)) {
  const Threads guard(3);
  const Array<float> expected = product();
  std::atomic<bool> stop{false};
  // While the process forks, no other thread may allocate or start: the locks inside AddressSanitizer are not safe
  // across a fork. So all three threads wait for each other here and allocate their scratch memory in advance.
  Product mine, its;
  const auto prepare = [] {
    for (const Scratch use : {Scratch::pack_a, Scratch::pack_b, Scratch::partial}) scratch(use, 1 << 20);
  };
  std::atomic<int> met{0};
  run_tasks(3, [&](std::int64_t) {
    prepare();
    ++met;
    while (met < 3) std::this_thread::yield();
  });
  std::atomic<bool> started{false};
  std::thread busy([&] {
    prepare();
    while (!stop) {
      its.run();
      started = true;
    }
  });
  while (!started) std::this_thread::yield();
  for (int round = 0; round < 5; ++round) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(30);  // a child that hangs must not block the tests
      bool good = mine.run().same_bits(expected) && each_once(100);
      set_num_threads(2);
      good = good && mine.run().same_bits(expected);
      _exit(good ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(mine.run().same_bits(expected));
  }
  stop = true;
  busy.join();
}
