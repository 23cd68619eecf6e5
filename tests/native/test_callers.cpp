// Promise: threads with limits of their own share the pool. No limit changes another, no caller waits for another, the
// pool has as many workers as one caller asks for, and the results do not depend on any of it.
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "gdcore/parallel.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

using Clock = std::chrono::steady_clock;

/// Waits until `ready` is true, for at most ten seconds; returns whether it is.
template <class Ready>
bool soon(const Ready& ready) {
  for (const auto start = Clock::now(); Clock::now() - start < std::chrono::seconds(10);) {
    if (ready()) return true;
    std::this_thread::yield();
  }
  return ready();
}

/// Calls caller(0) .. caller(count - 1), each in a thread of its own.
template <class Caller>
void in_threads(int count, const Caller& caller) {
  std::vector<std::thread> threads;
  for (int c = 0; c < count; ++c) threads.emplace_back([&caller, c] { caller(c); });
  for (std::thread& thread : threads) thread.join();
}

/// Runs tasks that all wait for each other: true if as many threads as tasks ran them.
bool all_meet(int tasks) {
  std::atomic<int> here{0}, late{0};
  run_tasks(tasks, [&](std::int64_t) {
    ++here;
    if (!soon([&] { return here == tasks; })) ++late;
  });
  return late == 0;
}

/// Whether each task of a job ran once, in at most `limit` threads at a time.
bool within(int limit, std::int64_t tasks) {
  std::vector<int> runs(static_cast<std::size_t>(tasks));  // plain ints: running a task twice would be a race
  std::atomic<int> inside{0}, excess{0};
  run_tasks(tasks, [&](std::int64_t t) {
    if (++inside > limit) ++excess;
    ++runs[static_cast<std::size_t>(t)];
    if (t % 8 == 0) std::this_thread::yield();
    --inside;
  });
  return excess == 0 && std::ranges::all_of(runs, [](int n) { return n == 1; });
}

/// Number of threads of this process that are named as the pool's.
int workers() {
  int count = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(thread.path() / "comm") >> name;
    count += name == "gdcore";
  }
  return count;
}

}  // namespace

TEST_CASE("a limit belongs to its thread, limits nest, and the default changes none") {
  const Threads guard(3);
  {
    const ThreadLimit outer(5);
    CHECK(num_threads() == 5);
    {
      const ThreadLimit inner(1);
      CHECK(num_threads() == 1);
      in_threads(1, [](int) { CHECK(num_threads() == 3); });
      in_threads(1, [](int) { set_num_threads(2); });
      CHECK(num_threads() == 1);
    }
    CHECK(num_threads() == 5);
  }
  CHECK(num_threads() == 2);
  for (const int bad : {-1, 1025}) CHECK_THROWS_AS(ThreadLimit{bad}, std::invalid_argument);
  CHECK(num_threads() == 2);
}

TEST_CASE("a limit of one computes in its own thread, in order") {
  const Threads guard(4);
  CHECK(all_meet(4));
  const ThreadLimit alone(1);
  const auto self = std::this_thread::get_id();
  std::int64_t last = -1;
  bool orderly = true;
  run_tasks(100, [&](std::int64_t t) {
    orderly = orderly && std::this_thread::get_id() == self && t == last + 1;
    last = t;
  });
  CHECK(orderly);
  CHECK(last == 99);
}

TEST_CASE("many callers with different limits at once") {
  const Threads guard(2);
  for (const int callers : {2, 8, 80}) {  // 80: more than the pool has slots for
    std::atomic<int> wrong{0};
    in_threads(callers, [&](int c) {
      const int mine = 1 + c % 5;
      const ThreadLimit limit(mine);
      for (int i = 0; i < (callers > 8 ? 20 : 300); ++i) {
        if (!within(mine, 1 + (7 * i + c) % 23) || num_threads() != mine) ++wrong;
      }
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("two callers have a worker each at the same time") {
  const Threads guard(3);
  CHECK(all_meet(3));  // there are two workers now
  std::atomic<int> here{0}, wrong{0};
  in_threads(2, [&](int) {
    const ThreadLimit two(2);
    run_tasks(2, [&](std::int64_t) {
      ++here;
      if (!soon([&] { return here == 4; })) ++wrong;
    });
  });
  CHECK(wrong == 0);
}

TEST_CASE("a caller without a free worker computes alone and waits for nobody") {
  const Threads guard(2);
  CHECK(all_meet(2));
  CHECK(soon([] { return workers() == 1; }));  // those of larger pools have ended
  std::atomic<int> here{0}, wrong{0};
  std::atomic<bool> done{false};
  std::thread first([&] {
    run_tasks(2, [&](std::int64_t) {  // keeps the only worker until the other caller is done
      ++here;
      if (!soon([&] { return done.load(); })) ++wrong;
    });
  });
  CHECK(soon([&] { return here == 2; }));
  for (int i = 0; i < 100; ++i) CHECK(within(1, 9));
  done = true;
  first.join();
  CHECK(wrong == 0);
}

TEST_CASE("each caller gets the exception of its own task") {
  const Threads guard(3);
  std::atomic<int> wrong{0};
  in_threads(8, [&](int c) {
    const ThreadLimit limit(1 + c % 4);
    for (int i = 0; i < 100; ++i) {
      const int bad = (i + c) % 12;
      try {
        run_tasks(10, [&](std::int64_t t) {
          if (t == bad) throw std::out_of_range(std::to_string(c));
        });
        if (bad < 10) ++wrong;
      } catch (const std::out_of_range& error) {
        if (bad >= 10 || error.what() != std::to_string(c)) ++wrong;
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("nested calls stay in their thread, whatever the limits") {
  const Threads guard(3);
  std::atomic<int> wrong{0};
  in_threads(4, [&](int c) {
    const ThreadLimit limit(2 + c);
    run_tasks(20, [&](std::int64_t) {
      const auto self = std::this_thread::get_id();
      const ThreadLimit inner(4);
      run_tasks(5, [&](std::int64_t) {
        if (std::this_thread::get_id() != self) ++wrong;
      });
    });
  });
  CHECK(wrong == 0);
}

TEST_CASE("the pool grows to the largest limit and shrinks with the default") {
  const Threads guard(1);
  CHECK(soon([] { return workers() == 0; }));
  {
    const ThreadLimit six(6);
    CHECK(all_meet(6));
    CHECK(workers() == 5);
    in_threads(3, [](int) {
      const ThreadLimit three(3);
      CHECK(all_meet(3));
    });
  }
  CHECK(workers() == 5);
  set_num_threads(3);
  CHECK(soon([] { return workers() == 2; }));
  CHECK(all_meet(3));
  const ThreadLimit five(5);
  CHECK(all_meet(5));
}

TEST_CASE("the default may change while callers with limits compute") {
  const Threads guard(2);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread changes([&] {
    for (int i = 0; !stop; ++i) set_num_threads(1 + i % 5);
  });
  in_threads(3, [&](int c) {
    const ThreadLimit limit(2 + c);
    for (int i = 0; i < 200; ++i) {
      if (!within(2 + c, 11)) ++wrong;
    }
  });
  stop = true;
  changes.join();
  CHECK(wrong == 0);
}

TEST_CASE("a task cannot change the default") {
  const Threads guard(3);
  std::atomic<int> refused{0};
  run_tasks(12, [&](std::int64_t) {
    try {
      set_num_threads(2);
    } catch (const std::runtime_error&) {
      ++refused;
    }
  });
  CHECK(refused == 12);
  CHECK(num_threads() == 3);
}

/// Whether a sanitizer is part of this program or loaded into it. They support neither threads in a forked child nor
/// processes short of memory.
bool sanitized() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  return true;
#else
  return dlsym(RTLD_DEFAULT, "__asan_init") != nullptr;
#endif
}

TEST_CASE("a forked child keeps the limit; with too few threads from the system it computes" *
          doctest::skip(sanitized())) {
  const Threads guard(3);
  CHECK(all_meet(3));
  const ThreadLimit forty(40);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);  // a child that hangs must not block the tests
    rlimit memory{};
    getrlimit(RLIMIT_AS, &memory);
    const rlimit none{0, memory.rlim_max};
    bool good = num_threads() == 40 && setrlimit(RLIMIT_AS, &none) == 0 && within(40, 200);
    setrlimit(RLIMIT_AS, &memory);
    good = good && workers() < 39;
    set_num_threads(3);  // the pool tries again
    good = good && num_threads() == 40 && all_meet(40) && within(40, 200);
    _exit(good ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
