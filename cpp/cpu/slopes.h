// Backward of activations inside other layers, compiled once for all of them.
#pragma once

#include <cstdint>

#include "gdcore/activations.h"

namespace gdcore::GDCORE_ISA {

/// dy ← dy f'(saved) for rows of `cols` columns that begin `stride` elements apart. Refers to its activation.
template <class T>
class Slopes {
 public:
  explicit Slopes(const Activation& activation);  // in activation.cpp
  void multiply(const T* saved, T* dy, std::int64_t rows, std::int64_t cols, std::int64_t stride) const {
    multiply_(activation_, saved, dy, rows, cols, stride);
  }

 private:
  const Activation& activation_;
  void (*multiply_)(const Activation&, const T*, T*, std::int64_t, std::int64_t, std::int64_t);
};

}  // namespace gdcore::GDCORE_ISA
