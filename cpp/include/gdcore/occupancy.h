// Occupancy: exclusive use of an object, by a computation or by a holder that reads or writes its arrays.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace gdcore {

class Occupancy {
 public:
  /// What a computation is part of. Steps and measurements of a long run, which must not be lost, wait until another
  /// thread's prediction or measurement ends. All else during a computation of another thread is refused.
  enum class Purpose : std::uint8_t { prediction, measuring, training };

  /// A computation. Throws std::runtime_error where another one already uses the object.
  class Use {
   public:
    explicit Use(Occupancy& occupancy, Purpose purpose = Purpose::prediction);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Occupancy& occupancy_;
    bool taken_;
  };

  /// Blocks computations while the calling thread copies or writes the arrays (a hold). `begin_hold` waits until no
  /// other thread computes; threads that start a computation wait for `end_hold`. The holding thread may hold again and
  /// compute. Returns false, without a hold, where this thread is inside a computation (a signal handler): the arrays
  /// are consistent there, and no other thread can enter. `run_blocking` runs the waiting function passed to it.
  /// Bindings release the GIL in it and hold the GIL otherwise, so that no thread runs between `has_other_holder` and
  /// the computation that it precedes.
  bool begin_hold(const std::function<void(const std::function<void()>&)>& run_blocking);
  void end_hold();
  /// Whether another thread holds the arrays or waits to. A computation must then call `wait_for_holders` first.
  bool has_other_holder() const { return holders_ != 0 && user_ != std::this_thread::get_id(); }
  void wait_for_holders();
  /// Whether another thread computes, but does not train. A long run must then take a Turn and wait for its end.
  bool predicts() const { return in_use_ && !trains_ && user_ != std::this_thread::get_id(); }
  void wait_for_prediction();
  /// While a Turn lives, no other computation begins.
  class Turn {
   public:
    explicit Turn(Occupancy& occupancy) : occupancy_(occupancy) { ++occupancy_.holders_; }
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Occupancy& occupancy_;
  };

 private:
  void wake();
  void release();
  void end_waiting();
  template <class Ready>
  void wait_until(const Ready& ready, int most_polls);

  std::atomic<bool> in_use_{false};       // by a computation or a hold
  std::atomic<bool> trains_{false};       // the purpose of that computation is training
  std::atomic<std::thread::id> user_{};   // the thread that uses the object
  std::atomic<int> holders_{0};           // threads that hold, or wait to
  std::atomic<std::int16_t> depth_{0};    // nested holds of the holding thread
  std::atomic<std::int16_t> waiting_{0};  // threads that wait to compute; the next hold lets them run first
  std::mutex mutex_;                      // only for the condition variable
  std::condition_variable released_;
};

}  // namespace gdcore
