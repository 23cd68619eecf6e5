// Fibers: stacks of their own on one host thread, and the switch from one to another.
#pragma once

#include <cstddef>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace gdcore::emulation {

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  char* low = nullptr;  // the stack's bounds; of the host's own they are what AddressSanitizer tells
  std::size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

/// All fibers of a host thread; they are kept, and given back when it ends.
class FiberPool {
 public:
  explicit FiberPool(void (*body)()) : body_(body) {}
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  /// One that waits at the start of its body, or where it last switched away after give_back().
  Fiber* take();
  void give_back(Fiber* fiber) { idle_.push_back(fiber); }
  /// Returns when somebody switches back to the fiber that calls.
  void switch_to(Fiber* to);
  /// To be called first by a body.
  void started();

  Fiber* current() const { return current_; }
  Fiber* host() { return &host_; }

 private:
  void (*body_)();
  Fiber host_;
  Fiber* current_ = &host_;
  std::vector<Fiber*> all_, idle_;
};

}  // namespace gdcore::emulation
