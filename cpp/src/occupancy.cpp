#include "gdcore/occupancy.h"

#include <chrono>
#include <limits>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {
constexpr std::chrono::milliseconds kPollTime{20};  // interval at which a waiting thread polls for signals
constexpr int kMostPolls = 50;                      // intervals that a hold waits for threads that want to compute
constexpr int kNoLimit = std::numeric_limits<int>::max();
thread_local const Occupancy* waited_for = nullptr;
}  // namespace

/// Wakes all threads that wait, for any reason.
void Occupancy::wake() {
  const std::lock_guard lock(mutex_);
  released_.notify_all();
}

/// Waits until `ready` is true or the intervals are over; signals are handled after each.
template <class Ready>
void Occupancy::wait_until(const Ready& ready, int most_polls) {
  for (int poll = 0; poll < most_polls && !ready(); ++poll) {
    std::unique_lock lock(mutex_);
    released_.wait_for(lock, kPollTime, ready);
    lock.unlock();
    poll_interrupt();
  }
}

Occupancy::Use::Use(Occupancy& occupancy, Purpose purpose)
    : occupancy_(occupancy), taken_(occupancy.depth_ == 0 || occupancy.user_ != std::this_thread::get_id()) {
  occupancy.end_waiting();
  if (!taken_) return;
  check<std::runtime_error>(!occupancy_.in_use_.exchange(true),
                            "[Network] the model is in use by another thread; give each thread its own model, or share "
                            "model.predictor(), which only predicts");
  occupancy_.user_ = std::this_thread::get_id();
  occupancy_.trains_ = purpose == Purpose::training;
}

Occupancy::Use::~Use() {
  if (taken_) occupancy_.release();
}

Occupancy::Turn::~Turn() {
  --occupancy_.holders_;
  occupancy_.wake();
}

void Occupancy::release() {
  user_ = std::thread::id();
  trains_ = false;
  in_use_ = false;
  if (holders_ != 0) wake();
}

bool Occupancy::begin_hold(const std::function<void(const std::function<void()>&)>& run_blocking) {
  const std::thread::id self = std::this_thread::get_id();
  if (user_ == self) {
    if (depth_ > 0) ++depth_;
    return depth_ > 0;
  }
  if (waiting_ > 0) {  // otherwise a loop of holds would never let them run
    run_blocking([this] { wait_until([this] { return waiting_ == 0; }, kMostPolls); });
  }
  ++holders_;
  try {
    run_blocking([this] {
      while (in_use_.exchange(true)) wait_until([this] { return !in_use_; }, 1);
    });
  } catch (...) {
    --holders_;
    throw;
  }
  user_ = self;
  depth_ = 1;
  return true;
}

void Occupancy::end_hold() {
  if (--depth_ > 0) return;
  --holders_;
  release();
  wake();  // threads that wait to compute
}

void Occupancy::wait_for_holders() {
  if (waited_for != this) {
    ++waiting_;
    waited_for = this;
  }
  try {
    wait_until([this] { return !has_other_holder(); }, kNoLimit);
  } catch (...) {
    end_waiting();
    throw;
  }
}

void Occupancy::wait_for_prediction() {
  wait_until([this] { return !predicts(); }, kNoLimit);
}

/// Ends the thread's wait to compute with this object: it computes now, or gave up.
void Occupancy::end_waiting() {
  if (waited_for != this) return;
  waited_for = nullptr;
  --waiting_;
  wake();
}

}  // namespace gdcore
