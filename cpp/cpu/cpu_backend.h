// The CPU backend. Every file of this folder is compiled once for each instruction set, into a namespace of its own
// (GDCORE_ISA); cpp/src/cpu_dispatch.cpp picks one at run time. To keep the copies apart, nothing here may use inline
// functions of the standard library that are not inlined: views in, loops, views out.
#pragma once

#include "gdcore/backend.h"

namespace gdcore::GDCORE_ISA {

class CpuBackend final : public Backend {
 public:
  Device device() const override { return Device::cpu; }
  std::string description() const override;

  void* allocate(std::size_t bytes) override;
  void deallocate(void* data, std::size_t bytes) noexcept override;
  void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) override;

#include "gdcore/backend_overrides.inc"
};

}  // namespace gdcore::GDCORE_ISA
