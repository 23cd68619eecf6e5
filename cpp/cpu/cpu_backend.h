// The CPU backend. Each file of this folder is compiled once per instruction set, in its own namespace (GDCORE_ISA);
// cpp/src/cpu_dispatch.cpp selects one at run time. The linker keeps a single copy of an inline function of the
// standard library that is not inlined, possibly one with newer instructions, so no such function may be used here.
#pragma once

#include "gdcore/backend.h"
#include "gdcore/matrix_units.h"

namespace gdcore::GDCORE_ISA {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const MatrixUnits& units) : units_(units) {}
  Device device() const override { return Device::cpu; }
  std::string description() const override;

  void* allocate(std::size_t bytes) override;
  void deallocate(void* data, std::size_t bytes) noexcept override;
  void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) override;

#include "gdcore/backend_overrides.inc"

 private:
  const MatrixUnits units_;
};

}  // namespace gdcore::GDCORE_ISA
