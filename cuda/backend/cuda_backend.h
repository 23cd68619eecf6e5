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

  void dense_forward(const DenseForward&) override;
  void dense_backward(const DenseBackward&) override;
  void activation_forward(const Activation&, ConstView x, View y) override;
  void activation_backward(const Activation&, ConstView saved, ConstView dy, View dx) override;
  void dropout(const Dropout&) override;
  void batch_norm_forward(const BatchNormForward&) override;
  void batch_norm_backward(const NormBackward&) override;
  void layer_norm_forward(const LayerNormForward&) override;
  void layer_norm_backward(const NormBackward&) override;
  void column_affine(const ColumnAffine&) override;
  void loss(const LossPass&) override;
  void optimizer_step(const OptimizerPass&) override;
  double sum_of_squares(ConstView x) override;
  void activation_curvature(const Activation&, ConstView saved, ConstView x_dot, ConstView dy, ConstView dy_dot,
                            View dx_dot) override;
  void norm_tangent(const NormTangent&) override;
  void norm_curvature(const NormCurvature&) override;
  void loss_curvature(const LossPass&, ConstView tangent) override;
  void add(View to, ConstView x, double scale) override;
  void lerp(const Lerp&) override;
  void gather(const Gather&) override;
  std::int64_t first_nonfinite(const Source& source) override;
};

}  // namespace gdcore::cuda
