// The table of backends, and the choice of the CPU's instruction set.
#include <cstdlib>
#include <string_view>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/check.h"

namespace gdcore {

namespace baseline {
Backend* make_backend();
}
#ifdef GDCORE_HAS_X86_ISAS
namespace avx2 {
Backend* make_backend();
}
namespace avx512 {
Backend* make_backend();
}
#endif

namespace {

struct InstructionSet {
  std::string_view name;
  bool available;
  Backend* (*make)();
};

/// All instruction sets of this build, best first.
std::vector<InstructionSet> all_instruction_sets() {
  return {
#ifdef GDCORE_HAS_X86_ISAS
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
       avx512::make_backend},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
       avx2::make_backend},
#endif
      {"baseline", true, baseline::make_backend},
  };
}

/// Creates the backend for the best instruction set of this processor, or for the one that GDCORE_CPU_ISA names.
std::unique_ptr<Backend> make_cpu_backend() {
  const char* wanted = std::getenv("GDCORE_CPU_ISA");
  for (const InstructionSet& set : all_instruction_sets()) {
    const bool named = wanted != nullptr && set.name == wanted;
    check<DeviceError>(!named || set.available, "[backend] GDCORE_CPU_ISA=", set.name,
                       " asks for instructions that this processor lacks; unset it to get the best there are");
    if (named || (wanted == nullptr && set.available)) return std::unique_ptr<Backend>(set.make());
  }
  throw DeviceError(join("[backend] GDCORE_CPU_ISA=", wanted, " is not known; choose avx512, avx2 or baseline"));
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : all_instruction_sets()) {
    if (set.available) names.emplace_back(set.name);
  }
  return names;
}

Backend& backend(Device device) {
  if (device == Device::cuda) return cuda_backend();
  // Never destroyed: daemon threads may still compute while the process ends.
  static Backend* const cpu = make_cpu_backend().release();
  return *cpu;
}

}  // namespace gdcore
