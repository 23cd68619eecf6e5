// Profile: calls, time and work of operations, by name. Each backend has one. It collects between start() and stop();
// otherwise a scope costs one atomic load.
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

/// The minimum work of an operation.
struct Cost {
  double operations = 0.0;  // multiplications and additions of matrix products; 0: none
  double bytes = 0.0;       // read and written
};

class Profile {
 public:
  explicit Profile(Backend& backend) : backend_(backend) {}

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
  /// Returns everything collected so far. Values only grow: the difference of two calls is the work between them.
  Rows rows() const;
  /// The backend whose operations are counted.
  Backend& backend() const { return backend_; }

 private:
  Backend& backend_;
  std::atomic<int> users_{0};
  mutable std::mutex mutex_;
  Rows rows_;
};

/// Times an operation until the end of the scope. Steps that are being recorded do not run and are not timed.
class Profiled {
 public:
  struct Operation {
    std::string name;
    Cost cost;
  };

  /// `describe()` returns the Operation. It is called only while the profile collects.
  template <class Describe>
  Profiled(Profile& profile, const Describe& describe) {
    if (profile.collects()) [[unlikely]]
      begin(profile, describe());
  }
  ~Profiled() {
    if (running_ != nullptr) [[unlikely]]
      end();
  }
  Profiled(const Profiled&) = delete;
  Profiled& operator=(const Profiled&) = delete;

 private:
  struct Running {
    Profile& profile;
    Operation operation;
    std::chrono::steady_clock::time_point start;
  };
  void begin(Profile& profile, Operation operation);
  void end() noexcept;

  std::unique_ptr<Running> running_;  // null: not collecting
};

}  // namespace gdcore
