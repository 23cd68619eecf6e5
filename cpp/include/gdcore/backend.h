// Backend: the operations that a device offers. Layers, losses and the trainer know devices only through it. What each
// operation is asked to do is told in ops.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/data.h"
#include "gdcore/memory.h"
#include "gdcore/ops.h"
#include "gdcore/profile.h"
#include "gdcore/step_graph.h"

namespace gdcore {

struct StepProgram;

/// A training step that a backend makes as a whole.
class FusedStep {
 public:
  virtual ~FusedStep() = default;
  /// Asks for the step.
  virtual void run() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  virtual std::string description() const = 0;  // instruction set or device name, for people

  virtual void* allocate(std::size_t bytes) = 0;  // aligned to kAlignment, zeroed
  virtual void deallocate(void* data, std::size_t bytes) noexcept = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) = 0;
  /// Until all that was asked for is done; a device may lag behind the calls.
  virtual void wait() {}
  Profile& profile() { return profile_; }
  /// Marks what the calling thread asks for, until leave(), in the tools that the device's maker has for looking at it.
  virtual void enter(const char*) {}
  virtual void leave() noexcept {}
  /// Null where steps are the host's business.
  virtual StepRecorder* recorder() { return nullptr; }
  /// The step in fewer passes than its operations would take, or null where the backend has nothing better than these.
  virtual std::unique_ptr<FusedStep> fuse(const StepProgram&) { return nullptr; }

  virtual void dense_forward(const DenseForward&) = 0;
  virtual void dense_backward(const DenseBackward&) = 0;
  virtual void activation_forward(const Activation&, ConstView x, View y) = 0;                      // y may be x
  virtual void activation_backward(const Activation&, ConstView saved, ConstView dy, View dx) = 0;  // dx may be dy
  virtual void dropout(const Dropout&) = 0;
  virtual void batch_norm_forward(const BatchNormForward&) = 0;
  virtual void batch_norm_backward(const NormBackward&) = 0;
  virtual void layer_norm_forward(const LayerNormForward&) = 0;
  virtual void layer_norm_backward(const NormBackward&) = 0;
  virtual void column_affine(const ColumnAffine&) = 0;
  virtual void loss(const LossPass&) = 0;
  virtual void optimizer_step(const OptimizerPass&) = 0;
  virtual double sum_of_squares(ConstView x) = 0;
  /// Derivatives along a direction, for second derivatives of the loss: dx_dot = dy_dot f'(saved) + dy f''(saved) ẋ.
  virtual void activation_curvature(const Activation&, ConstView saved, ConstView x_dot, ConstView dy, ConstView dy_dot,
                                    View dx_dot) = 0;
  virtual void norm_tangent(const NormTangent&) = 0;
  virtual void norm_curvature(const NormCurvature&) = 0;
  /// grad = the derivative of the loss's gradient where the logits move along `tangent`; the pass's sums were filled by
  /// `loss` and are only read.
  virtual void loss_curvature(const LossPass&, ConstView tangent) = 0;
  /// to += scale · x
  virtual void add(View to, ConstView x, double scale) = 0;
  virtual void lerp(const Lerp&) = 0;
  /// Rows of the source, converted, into `to` (count, source.cols).
  virtual void gather(const Gather&) = 0;
  /// Flat index of the first NaN or infinity, or -1.
  virtual std::int64_t first_nonfinite(const Source& source) = 0;

 private:
  Profile profile_;
};

/// The backend of a device, made at first use. Throws DeviceError where there is none.
Backend& backend(Device device);

/// The instruction sets of this build that this processor has, the best first. The CPU's backend describes itself by
/// the one that it uses.
std::vector<std::string> instruction_sets();

/// The CUDA backend, from a shared library of its own (cpp/src/cuda_library.cpp); throws DeviceError, saying what is
/// missing and what to do.
Backend& cuda_backend();
/// Why there is no CUDA backend, or an empty text.
std::string cuda_missing();
/// Whether `device="auto"` takes the GPU: there is one, and everything that it needs.
bool has_cuda();

}  // namespace gdcore
