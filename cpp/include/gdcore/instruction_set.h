// What cpp/cpu defines for each instruction set, in a namespace of its own.
#pragma once

#include "gdcore/backend.h"
#include "gdcore/matrix_units.h"
#include "gdcore/row_order.h"

namespace gdcore {

struct CpuFunctions {
  Backend* (*make_backend)(const MatrixUnits&);
  decltype(&gdcore::fill_order) fill_order;
  decltype(&gdcore::probabilities) probabilities;
};

}  // namespace gdcore
