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
  /// A computation. Throws std::runtime_error where another one already uses the object.
  class Use {
   public:
    explicit Use(Occupancy& occupancy);
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
  /// are consistent there, and no other thread can enter. `aside` runs the waiting function passed to it. Bindings
  /// release the GIL in it and hold the GIL otherwise, so that no thread runs between `awaited` and the computation
  /// that it precedes.
  bool begin_hold(const std::function<void(const std::function<void()>&)>& aside);
  void end_hold();
  /// Whether another thread holds the arrays or waits to. A computation must then call `wait_for_holders` first.
  bool awaited() const { return holders_ != 0 && user_ != std::this_thread::get_id(); }
  void wait_for_holders();

 private:
  void release();
  void end_waiting();

  std::atomic<bool> in_use_{false};       // by a computation or a hold
  std::atomic<std::thread::id> user_{};   // the thread that uses the object
  std::atomic<int> holders_{0};           // threads that hold, or wait to
  std::atomic<std::int16_t> depth_{0};    // nested holds of the holding thread
  std::atomic<std::int16_t> waiting_{0};  // threads that wait to compute; the next hold lets them run first
  std::mutex mutex_;                      // only for the condition variable
  std::condition_variable released_;
};

}  // namespace gdcore
