// The table of backends, and the choice of the CPU's instruction set. What each set defines: cpp/cpu/.
#ifdef GDCORE_HAS_X86_ISAS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string_view>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/check.h"
#include "gdcore/instruction_set.h"

namespace gdcore {

namespace {

#ifdef GDCORE_HAS_X86_ISAS
/// Whether the processor has tiles of bfloat16, and Linux permits this process to use them.
bool has_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl, number of the state component
  constexpr unsigned kTiles = 1u << 24, kBfloat16 = 1u << 22;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kTiles) != 0 && (d & kBfloat16) != 0 &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

/// All instruction sets of this build, best first.
std::vector<InstructionSet> all_instruction_sets() {
  std::vector<InstructionSet> sets;
#ifdef GDCORE_HAS_X86_ISAS
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  const MatrixUnits dot_products{nullptr, avx512_bf16::multiply_matrices, 1}, tiles{"amx", amx::multiply_matrices, 3};
  const bool has_bfloat16 = __builtin_cpu_supports("avx512bf16");
  // Not listed: it has not been measured on such a processor yet.
  sets.push_back({"amx", has_avx512 && has_amx(), avx512::functions, tiles, false});
  sets.push_back({"avx512", has_avx512, avx512::functions, has_bfloat16 ? dot_products : MatrixUnits{}});
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  sets.push_back({"avx2", has_avx2, avx2::functions});
#endif
  sets.push_back({"baseline", true, baseline::functions});
  const MatrixUnits emulated{"amx-emulated", amx_emulated::multiply_matrices, 3};
  sets.push_back({emulated.name, true, baseline::functions, emulated, false});
  return sets;
}

/// Returns the best instruction set of this processor, or the one that GDCORE_CPU_ISA names.
const InstructionSet& instruction_set() {
  static const InstructionSet chosen = [] {
    const char* wanted = std::getenv("GDCORE_CPU_ISA");
    for (const InstructionSet& set : all_instruction_sets()) {
      const bool named = wanted != nullptr && set.name == wanted;
      check<DeviceError>(!named || set.available, "[backend] GDCORE_CPU_ISA=", set.name,
                         " is not supported by this processor; unset it to use the best instruction set that is");
      if (named || (wanted == nullptr && set.available && set.listed)) return set;
    }
    throw DeviceError(
        join("[backend] GDCORE_CPU_ISA=", wanted, " is unknown; expected amx, avx512, avx2, baseline or amx-emulated"));
  }();
  return chosen;
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : all_instruction_sets()) {
    if (set.available && set.listed) names.emplace_back(set.name);
  }
  return names;
}

bool cpu_rounds_to(Precision precision) {
  return precision != Precision::full && parts_of(precision) <= instruction_set().units.most_parts;
}

Backend& backend(Device device) {
  if (device == Device::cuda) return cuda_backend();
  // Never destroyed: daemon threads may still compute while the process ends.
  static Backend* const cpu = instruction_set().functions.make_backend(instruction_set().units);
  return *cpu;
}

void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to) {
  instruction_set().functions.fill_order(order, first, count, to);
}

void probabilities(Probabilities kind, ConstView logits, void* to) {
  instruction_set().functions.probabilities(kind, logits, to);
}

}  // namespace gdcore
