// The CUDA backend: one file per operation, with the same name as in cpp/cpu, launcher and kernels together. Views are
// in device memory; work is asynchronous, on the calling thread's stream.
#pragma once

#include "gdcore/backend.h"

namespace gdcore::cuda {

class CudaBackend final : public Backend, public StepRecorder {
 public:
  /// Throws DeviceError if there is no device, or a required driver or library is missing.
  CudaBackend();

  Device device() const override { return Device::cuda; }
  std::string description() const override;

  void* allocate(std::size_t bytes) override;
  void deallocate(void* data, std::size_t bytes) noexcept override;
  void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) override;
  void wait() override;

  void enter(const char* name) override;
  void leave() noexcept override;

  StepRecorder* recorder() override { return this; }
  bool recording() const override;
  std::unique_ptr<FusedStep> fuse(const StepProgram&) override;
  std::unique_ptr<StepGraph> record(FunctionRef<void()> steps) override;
  void advance(const Advance&) override;
  std::size_t free_bytes() override;

#include "gdcore/backend_overrides.inc"
};

}  // namespace gdcore::cuda
