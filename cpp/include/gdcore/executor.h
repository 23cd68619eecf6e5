// Executor: runs a plan forward and backward in one workspace. Training, prediction, recorded steps and derivatives
// along directions all use it. The workspace grows to the largest batch so far; smaller batches share it.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/plan.h"

namespace gdcore {

class Executor {
 public:
  /// The purpose of a forward pass. `train` and `differentiate` save what backward needs; `train` alone enables
  /// training behaviour (batch statistics, dropout).
  enum class Mode : std::uint8_t { predict, differentiate, train };

  /// `directions` reserves the memory that tangent() and curvature() need.
  Executor(Plan plan, Backend& backend, const Parameters& parameters, Precision precision, bool directions = false);

  const Plan& plan() const { return plan_; }
  /// Makes the workspace large enough for batches of `rows`; discards the saved forward pass if the workspace moves.
  void reserve(std::int64_t rows);
  /// Changes when the workspace moves.
  std::uint64_t version() const { return version_; }

  /// Names the state of the weights; 0: unknown. Predictions in a known state pack the weights once, from the second
  /// one on.
  void set_weights(std::uint64_t state);
  /// Returns the output (N, out) for x (N, in), valid in the workspace until the next call. If the pass is saved, x
  /// must stay unchanged until the backward pass is done.
  View forward(ConstView x, Mode mode, const StepContext& context);
  /// The buffer for the gradient of the output, (N, out) of the last forward pass; backward() reads it and overwrites
  /// it. Throws std::runtime_error where no forward pass is saved.
  View output_gradient() const;
  /// Computes the gradients of all parameters that are not frozen; writes the gradient of x to dx (N, in) unless null.
  void backward(View dx);
  /// Updates running averages with the statistics of the last training forward pass.
  void commit();
  /// Rows of the last forward pass if backward() may follow, else 0.
  std::int64_t saved_rows() const { return saved_ ? x_.rows : 0; }
  /// Discards the saved forward pass: backward() needs a new one, and the input may be freed.
  void forget() { saved_ = false; }
  /// Whether a backward pass has completed.
  bool has_gradients() const { return has_gradients_; }
  /// The output of an operation in the last forward pass, as long as that pass is saved.
  View output(std::size_t operation) const;

  /// Returns the derivative ẏ (N, out) of the output where the parameters move along `direction`, after forward().
  View tangent(const Parameters& direction);
  /// The buffer for the derivative of the output's gradient, to fill before curvature().
  View output_gradient_tangent() const;
  /// backward() with its derivatives along `direction`, written to the gradients of `direction`.
  void curvature(const Parameters& direction);

 private:
  struct Buffers {  // of one operation: byte offsets into the workspace
    std::size_t y = 0, pre = 0, statistics = 0, y_dot = 0;
    std::size_t sum = 0, sum_dot = 0;  // its input, where that is a sum
    int gradient = 0;                  // index of the buffer with the gradient of its output
  };
  struct Shape {  // of a pass: what its calls depend on besides the batch and the step
    std::int64_t rows = 0;
    Mode mode = Mode::predict;
    std::uint64_t version = 0;
    bool operator==(const Shape&) const = default;
  };
  struct Part {  // of a gradient, and of its derivative where directions are used
    View gradient, gradient_dot;
  };

  void assign_gradients();
  void find_trained();
  View slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const;
  View gradient(const std::vector<std::size_t>& buffers, int number, std::int64_t cols) const;
  bool moves(int number) const { return number >= 0 && moves_[static_cast<std::size_t>(number)] != 0; }
  ConstView read(int number) const;
  ConstView input_dot(std::size_t operation) const;
  void sum(View to, ConstView a, ConstView b) const;
  void add_or_copy(ConstView part, View to, bool adds) const;
  void make_calls();
  void run_backward(View dx, const Parameters* direction);
  void run_operation_backward(std::size_t operation, View dx, View dx_dot, const Parameters* direction);

  Plan plan_;
  Backend& backend_;
  const Parameters& parameters_;
  Precision precision_;
  bool directions_;
  std::vector<Buffers> buffers_;
  std::vector<std::size_t> gradients_, gradients_dot_;  // byte offsets into the workspace, each of the largest width
  int addend_ = 0;                                      // index of the buffer for gradients that are added to others
  std::size_t spare_ = 0;                               // scratch of the same size, where directions are used
  Buffer workspace_;
  std::int64_t capacity_ = 0;
  std::uint64_t version_ = 0;
  std::vector<int> operation_of_;                  // by layer
  std::vector<char> trains_, moves_;               // by operation: see find_trained()
  std::uint64_t trained_for_ = ~std::uint64_t{0};  // freezes() at the last find_trained()
  std::vector<char> is_identity_;                  // by operation: when predicting, its output is its input
  std::vector<char> has_part_;                     // by batch and operation: its gradient already has a part
  std::vector<LayerCall> calls_;                   // by operation
  Shape made_for_;                                 // the pass that they were made for
  std::vector<PackedWeight> packed_;               // by operation
  std::uint64_t weights_ = 0;                      // see set_weights()
  bool packs_ = false;
  // The last forward pass.
  ConstView x_;
  Mode mode_ = Mode::predict;
  StepContext context_;
  bool saved_ = false, has_gradients_ = false;
};

}  // namespace gdcore
