// Backend: the operations of a device. Layers, losses and the trainer use devices through it alone. ops.h defines the
// arguments of each operation.
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

/// A training step that a backend runs as a whole.
class FusedStep {
 public:
  virtual ~FusedStep() = default;
  /// Enqueues the step.
  virtual void run() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  virtual std::string description() const = 0;  // instruction set or device name, for display

  virtual void* allocate(std::size_t bytes) = 0;  // aligned to kAlignment, zeroed
  virtual void deallocate(void* data, std::size_t bytes) noexcept = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes, CopyKind kind) = 0;
  /// Waits until all enqueued work is done; a device may run behind the calls.
  virtual void wait() {}
  Profile& profile() { return profile_; }
  /// Marks the work that the calling thread enqueues before leave() with a name, for the device vendor's profiling
  /// tools.
  virtual void enter(const char*) {}
  virtual void leave() noexcept {}
  /// Null where the device cannot record steps.
  virtual StepRecorder* recorder() { return nullptr; }
  /// Returns the step in fewer passes than its operations take, or null where the backend has no fused version.
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
  virtual void copy_columns(const CopyColumns&) = 0;
  virtual void piecewise_forward(const PiecewiseForward&) = 0;
  virtual void piecewise_backward(const PiecewiseBackward&) = 0;
  virtual void embedding_forward(const EmbeddingForward&) = 0;
  virtual void embedding_backward(const EmbeddingBackward&) = 0;
  virtual void periodic_forward(const PeriodicForward&) = 0;
  virtual void periodic_backward(const PeriodicBackward&) = 0;
  virtual void loss(const LossPass&) = 0;
  virtual void optimizer_step(const OptimizerPass&) = 0;
  virtual double sum_of_squares(ConstView x) = 0;
  /// Derivatives along a direction, for second derivatives of the loss: dx_dot = dy_dot f'(saved) + dy f''(saved) ẋ.
  virtual void activation_curvature(const Activation&, ConstView saved, ConstView x_dot, ConstView dy, ConstView dy_dot,
                                    View dx_dot) = 0;
  virtual void norm_tangent(const NormTangent&) = 0;
  virtual void norm_curvature(const NormCurvature&) = 0;
  /// grad = the derivative of the loss's gradient where the logits move along `tangent`. Reads the sums that `loss`
  /// stored for the pass and does not change them.
  virtual void loss_curvature(const LossPass&, ConstView tangent) = 0;
  /// to += scale · x
  virtual void add(View to, ConstView x, double scale) = 0;
  virtual void lerp(const Lerp&) = 0;
  virtual void average(const AveragePass&) = 0;
  /// Writes rows of the source, converted, to `to` (count, source.cols).
  virtual void gather(const Gather&) = 0;
  /// Returns the flat index of the first NaN or infinity, or -1.
  virtual std::int64_t first_nonfinite(const Source& source) = 0;

 private:
  Profile profile_{*this};
};

/// Returns the backend of a device, created at first use. Throws DeviceError where the device is not available.
Backend& backend(Device device);

/// Instruction sets of this build that this processor supports, best first. The description of the CPU backend names
/// the one in use.
std::vector<std::string> instruction_sets();
/// Whether the CPU rounds factors of products to this precision in training steps; if not, it computes in full.
bool cpu_rounds_to(Precision precision);

/// The CUDA backend, loaded from its own shared library (cpp/src/cuda_library.cpp). Throws DeviceError with what is
/// missing and how to fix it.
Backend& cuda_backend();
/// Why there is no CUDA backend, or an empty string.
std::string cuda_missing();
/// Whether `device="auto"` selects the GPU: a GPU and everything it needs are present.
bool has_cuda();

}  // namespace gdcore
