#include "emulation/switch.h"

#include <sys/mman.h>

#include <new>

#ifdef GDCORE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the callee-saved registers; no system call. Floating-point modes are not saved: kernels do not change them.
extern "C" void gdcore_emulation_switch(void** save, void* load);
asm(R"(
.text
.globl gdcore_emulation_switch
.hidden gdcore_emulation_switch
.type gdcore_emulation_switch,@function
gdcore_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gdcore_emulation_switch,.-gdcore_emulation_switch
)");
#endif

namespace gdcore::emulation {

namespace {

#ifdef GDCORE_EMULATION_ASAN
constexpr std::size_t kStack = 256 << 10;
#else
constexpr std::size_t kStack = 64 << 10;
#endif
constexpr std::size_t kGuard = 4096;
// Stacks begin at different offsets of a page: otherwise the stacks of a block would share a few cache sets.
constexpr std::size_t kStagger = 5 * 64, kStaggered = 4096 / kStagger * kStagger;

/// Prepares a new stack so that the first switch to it enters `body`.
void prepare(Fiber& fiber, std::size_t number, void (*body)()) {
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(fiber.low + fiber.size - number * kStagger % kStaggered);
  *--top = nullptr;  // return address, never used: aligns the stack at entry of `body` as the ABI requires
  *--top = reinterpret_cast<void*>(body);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.low;
  fiber.context.uc_stack.ss_size = fiber.size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, body, 0);
#endif
}

}  // namespace

Fiber* FiberPool::take() {
  if (!idle_.empty()) {
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }
  void* base =
      mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  mprotect(base, kGuard, PROT_NONE);
  Fiber* fiber = new Fiber;
  fiber->low = static_cast<char*>(base) + kGuard;
  fiber->size = kStack;
  prepare(*fiber, all_.size(), body_);
  all_.push_back(fiber);
  return fiber;
}

FiberPool::~FiberPool() {
  for (Fiber* fiber : all_) {
#ifdef GDCORE_EMULATION_ASAN
    __asan_unpoison_memory_region(fiber->low, fiber->size);
#endif
    munmap(fiber->low - kGuard, kStack + kGuard);
    delete fiber;
  }
}

void FiberPool::switch_to(Fiber* to) {
  Fiber* from = current_;
  current_ = to;
#ifdef GDCORE_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&from->fake_stack, to->low, to->size);
#endif
#if defined(__x86_64__)
  gdcore_emulation_switch(&from->stack_pointer, to->stack_pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
#ifdef GDCORE_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void FiberPool::started() {
#ifdef GDCORE_EMULATION_ASAN
  const void* low = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &low, &size);
  if (host_.size == 0) {  // the first fiber is entered from the host's stack
    host_.low = const_cast<char*>(static_cast<const char*>(low));
    host_.size = size;
  }
#endif
}

}  // namespace gdcore::emulation
