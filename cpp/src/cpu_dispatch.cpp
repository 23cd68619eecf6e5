// The table of backends, and the choice of the CPU's instruction set. What each set defines: cpp/cpu/.
#include <cstdlib>
#include <string_view>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/check.h"

namespace gdcore {

namespace baseline {
Backend* make_backend();
void fill_order(const RowOrder&, std::int64_t first, std::int64_t count, std::int64_t* to);
void probabilities(Probabilities, ConstView logits, void* to);
}  // namespace baseline
#ifdef GDCORE_HAS_X86_ISAS
namespace avx2 {
Backend* make_backend();
void fill_order(const RowOrder&, std::int64_t first, std::int64_t count, std::int64_t* to);
void probabilities(Probabilities, ConstView logits, void* to);
}  // namespace avx2
namespace avx512 {
Backend* make_backend();
void fill_order(const RowOrder&, std::int64_t first, std::int64_t count, std::int64_t* to);
void probabilities(Probabilities, ConstView logits, void* to);
}  // namespace avx512
#endif

namespace {

struct InstructionSet {
  std::string_view name;
  bool available;
  Backend* (*make)();
  decltype(&gdcore::fill_order) fill_order;
  decltype(&gdcore::probabilities) probabilities;
};

/// All instruction sets of this build, best first.
std::vector<InstructionSet> all_instruction_sets() {
  return {
#ifdef GDCORE_HAS_X86_ISAS
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
       avx512::make_backend, avx512::fill_order, avx512::probabilities},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
       avx2::make_backend, avx2::fill_order, avx2::probabilities},
#endif
      {"baseline", true, baseline::make_backend, baseline::fill_order, baseline::probabilities},
  };
}

/// Returns the best instruction set of this processor, or the one that GDCORE_CPU_ISA names.
const InstructionSet& instruction_set() {
  static const InstructionSet chosen = [] {
    const char* wanted = std::getenv("GDCORE_CPU_ISA");
    for (const InstructionSet& set : all_instruction_sets()) {
      const bool named = wanted != nullptr && set.name == wanted;
      check<DeviceError>(!named || set.available, "[backend] GDCORE_CPU_ISA=", set.name,
                         " is not supported by this processor; unset it to use the best instruction set that is");
      if (named || (wanted == nullptr && set.available)) return set;
    }
    throw DeviceError(join("[backend] GDCORE_CPU_ISA=", wanted, " is unknown; expected avx512, avx2 or baseline"));
  }();
  return chosen;
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
  static Backend* const cpu = instruction_set().make();
  return *cpu;
}

void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to) {
  instruction_set().fill_order(order, first, count, to);
}

void probabilities(Probabilities kind, ConstView logits, void* to) {
  instruction_set().probabilities(kind, logits, to);
}

}  // namespace gdcore
