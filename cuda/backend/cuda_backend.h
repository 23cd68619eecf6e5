// The CUDA backend: one file an operation, of the same name as in cpp/cpu, with launcher and kernels together. Views
// lie in the device's memory; work goes to the calling thread's stream and may lag behind the calls.
#pragma once

#include "gdcore/backend.h"

namespace gdcore::cuda {

class CudaBackend final : public Backend, public StepRecorder {
 public:
  /// Throws DeviceError where there is no device, or a driver or library that it needs is missing.
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
