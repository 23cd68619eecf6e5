// Profile: how often operations ran, how long they took and what they had to do, by name. Each backend has one. It
// collects while somebody wants it to; otherwise a scope costs a look at one number.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace gdcore {

class Backend;

/// What an operation has to do at least.
struct Cost {
  double operations = 0.0;  // multiplications and additions of matrix products; 0: none
  double bytes = 0.0;       // read and written
};

class Profile {
 public:
  struct Row {
    std::int64_t calls = 0;
    double seconds = 0.0;
    Cost cost;
  };
  using Rows = std::map<std::string, Row>;

  bool collects() const { return users_.load(std::memory_order_relaxed) > 0; }
  void start() { ++users_; }
  void stop() { --users_; }
  void add(const std::string& name, double seconds, const Cost& cost);
  /// All that was collected so far. It only grows: who wants a part of it takes the difference.
  Rows rows() const;

 private:
  std::atomic<int> users_{0};
  mutable std::mutex mutex_;
  Rows rows_;
};

/// From here to the end of the scope an operation runs. Steps that are being recorded do not run: they are left out.
class Profiled {
 public:
  struct Operation {
    std::string name;
    Cost cost;
  };

  /// `describe()` returns the Operation. It is called where the backend's profile collects.
  template <class Describe>
  Profiled(Backend& backend, const Profile& profile, const Describe& describe) {
    if (profile.collects()) [[unlikely]]
      begin(backend, describe());
  }
  ~Profiled() {
    if (running_ != nullptr) [[unlikely]]
      end();
  }
  Profiled(const Profiled&) = delete;
  Profiled& operator=(const Profiled&) = delete;

 private:
  struct Running {
    Backend& backend;
    Operation operation;
    std::chrono::steady_clock::time_point start;
  };
  void begin(Backend& backend, Operation operation);
  void end() noexcept;

  std::unique_ptr<Running> running_;  // null: nobody collects
};

}  // namespace gdcore
