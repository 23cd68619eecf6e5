// Occupancy: who computes with an object, and who holds its arrays meanwhile.
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
  /// Guards against use from two threads at once; the second caller gets an error.
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

  /// Keeps the arrays as they are for somebody who copies or writes them: `begin_hold` waits until no other thread
  /// computes, and threads that want to compute wait for `end_hold`. The thread that holds may hold again and compute.
  /// False, and nothing is held, where this thread is in the middle of a computation (a signal handler): the arrays
  /// are whole there, and nobody else can come. `aside` calls what it is given, which waits: bindings release the GIL
  /// for it, and hold it outside, so that no thread comes between `awaited` and the computation it was asked for.
  bool begin_hold(const std::function<void(const std::function<void()>&)>& aside);
  void end_hold();
  /// Whether another thread holds the arrays, or waits to: then `wait_for_holders` comes before a computation.
  bool awaited() const { return holders_ != 0 && user_ != std::this_thread::get_id(); }
  void wait_for_holders();

 private:
  void release();
  void end_waiting();

  std::atomic<bool> in_use_{false};       // by a computation or a hold,
  std::atomic<std::thread::id> user_{};   // of this thread
  std::atomic<int> holders_{0};           // threads that hold, or wait to
  std::atomic<std::int16_t> depth_{0};    // holds of the thread that does
  std::atomic<std::int16_t> waiting_{0};  // threads that want to compute; the next hold lets them come first
  std::mutex mutex_;                      // for the condition alone
  std::condition_variable released_;
};

}  // namespace gdcore
