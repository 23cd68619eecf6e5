// The loops that measure the machine's limits. Compiled once per instruction set with the flags of cpp/cpu, so that
// they may use the same instructions as the library's kernels.
#pragma once

#include <cstdint>

namespace gdcore::bench {

struct LimitKernels {
  /// Runs `rounds` rounds of independent multiply-adds in registers; returns their sum, so that they are not removed.
  double (*fma32)(std::int64_t rounds);
  double (*fma64)(std::int64_t rounds);
  std::int64_t fma32_flop, fma64_flop;  // operations of one round, a multiply-add counted as two

  // Over n floats, n a multiple of kStreamUnit; all pointers aligned to 64 bytes.
  void (*read)(const float* a, std::int64_t n);                              // Σ a
  void (*read_four)(const float* a, std::int64_t n);                         // the same, in four ranges at once
  void (*copy)(float* to, const float* a, std::int64_t n);                   // to = a
  void (*copy_past)(float* to, const float* a, std::int64_t n);              // the same, stores bypass the cache
  void (*triad)(float* to, const float* a, const float* b, std::int64_t n);  // to = a + 3 b
  void (*triad_past)(float* to, const float* a, const float* b, std::int64_t n);
  void (*update)(float* a, const float* b, std::int64_t n);                            // a = a / 2 + b, in place
  void (*update_three)(float* a, float* b, float* c, const float* d, std::int64_t n);  // three arrays, as in Adam
};

inline constexpr std::int64_t kStreamUnit = 256;

namespace baseline {
LimitKernels limit_kernels();
}
#ifdef GDCORE_HAS_X86_ISAS
namespace avx2 {
LimitKernels limit_kernels();
}
namespace avx512 {
LimitKernels limit_kernels();
}
#endif

}  // namespace gdcore::bench
