// What cpp/cpu defines for each instruction set, in a namespace of its own. cpp/src/cpu_dispatch.cpp selects one.
#pragma once

#include <string_view>

#include "gdcore/backend.h"
#include "gdcore/matrix_units.h"
#include "gdcore/row_order.h"

namespace gdcore {

struct CpuFunctions {
  Backend* (*make_backend)(const MatrixUnits&);
  decltype(&gdcore::fill_order) fill_order;
  decltype(&gdcore::probabilities) probabilities;
};

struct InstructionSet {
  std::string_view name;
  bool available;
  const CpuFunctions& functions;
  MatrixUnits units = {};
  bool listed = true;  // otherwise it is used only where GDCORE_CPU_ISA names it
};

namespace baseline {
extern const CpuFunctions functions;
}
namespace avx2 {
extern const CpuFunctions functions;
}
namespace avx512 {
extern const CpuFunctions functions;
}

namespace amx_emulated {
void multiply_matrices(const MatrixProduct&);
}
namespace amx {
void multiply_matrices(const MatrixProduct&);
}
namespace avx512_bf16 {
void multiply_matrices(const MatrixProduct&);
}

}  // namespace gdcore
