// Fibers: separate stacks on one host thread, and the switch between them.
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
  char* low = nullptr;  // bounds of the stack; those of the host's stack come from AddressSanitizer
  std::size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

/// All fibers of a host thread, reused and freed at its end.
class FiberPool {
 public:
  explicit FiberPool(void (*body)()) : body_(body) {}
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  /// Returns a fiber that waits at the start of its body, or after the switch that followed its give_back().
  Fiber* take();
  void give_back(Fiber* fiber) { idle_.push_back(fiber); }
  /// Switches to a fiber; returns when the calling fiber is resumed.
  void switch_to(Fiber* to);
  /// Must be the first call of a body.
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
