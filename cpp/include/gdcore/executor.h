// Executor: runs a plan, forward and back, over one workspace. Training, prediction, recorded steps and derivatives
// along directions all go through it. The workspace grows to the largest batch seen and serves every smaller one.
#pragma once

#include <cstdint>
#include <vector>

#include "gdcore/plan.h"

namespace gdcore {

class Executor {
 public:
  /// What a forward pass is for. `train` and `differentiate` keep what the way back needs; `train` alone lets layers
  /// that behave differently in training do so.
  enum class Mode : std::uint8_t { predict, differentiate, train };

  /// `directions`: whether tangent() and curvature() are wanted, which need memory of their own.
  Executor(Plan plan, Backend& backend, const Parameters& parameters, Precision precision, bool directions = false);

  const Plan& plan() const { return plan_; }
  /// Makes the workspace large enough for batches of `rows`; ends the last forward pass if it moves.
  void reserve(std::int64_t rows);
  /// Changes with the place of the workspace.
  std::uint64_t version() const { return version_; }

  /// The output (N, out) for x (N, in), in the workspace until the next call. Where something is kept, x must stay as
  /// it is until the way back is done.
  View forward(ConstView x, Mode mode, const StepContext& context);
  /// Where the gradient of the output belongs before backward(): (N, out) of the last forward pass, which backward()
  /// overwrites. Throws std::runtime_error where no forward pass is kept.
  View output_gradient() const;
  /// Gradients of all parameters that are not frozen; the gradient of x into dx (N, in) unless that is null.
  void backward(View dx);
  /// Moves the running averages of the last forward pass in training.
  void commit();
  /// Rows of the last forward pass if the way back may follow, else 0.
  std::int64_t kept_rows() const { return kept_ ? x_.rows : 0; }
  /// Ends the last forward pass: backward() needs another, and its input may go.
  void forget() { kept_ = false; }
  /// Whether there has been a whole backward pass.
  bool has_gradients() const { return has_gradients_; }
  /// What an operation gave in the last forward pass, as long as that is kept.
  View output(std::size_t operation) const;

  /// The derivative ẏ (N, out) of the output where the parameters move along `direction`, after forward().
  View tangent(const Parameters& direction);
  /// Where the derivative of the output's gradient belongs before curvature().
  View output_gradient_tangent() const;
  /// backward() with its derivatives: those of the gradients along `direction` lie where that has its gradients.
  void curvature(const Parameters& direction);

 private:
  struct Buffers {  // of an operation: bytes into the workspace
    std::size_t y = 0, pre = 0, statistics = 0, y_dot = 0;
    std::size_t sum = 0, sum_dot = 0;  // what it reads, where that is a sum
    int gradient = 0;                  // which of the gradients' buffers holds that of its output
  };
  struct Part {  // of a gradient, and of its derivative where directions are wanted
    View gradient, gradient_dot;
  };

  void assign_gradients();
  void find_trained();
  View slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const;
  View gradient(int buffer, std::int64_t cols) const;
  View gradient_dot(int buffer, std::int64_t cols) const;
  bool moves(int number) const { return number >= 0 && moves_[static_cast<std::size_t>(number)] != 0; }
  ConstView read(int number) const;
  ConstView input_dot(std::size_t operation) const;
  void sum(View to, ConstView a, ConstView b) const;
  void hand_back(ConstView part, View to, bool adds) const;
  LayerCall call(std::size_t operation) const;
  void go_back(View dx, const Parameters* direction);
  void back_through(std::size_t operation, View dx, View dx_dot, const Parameters* direction);

  Plan plan_;
  Backend& backend_;
  const Parameters& parameters_;
  Precision precision_;
  bool directions_;
  std::vector<Buffers> buffers_;
  std::vector<std::size_t> gradients_, gradients_dot_;  // bytes into the workspace, each as wide as the widest
  int addend_ = 0;                                      // the one of them for gradients that are added to others
  std::size_t spare_ = 0;                               // as wide, where directions are wanted
  Buffer workspace_;
  std::int64_t capacity_ = 0;
  std::uint64_t version_ = 0;
  std::vector<int> operation_of_;                  // a layer
  std::vector<char> trains_, moves_;               // of each operation: see find_trained()
  std::uint64_t trained_for_ = ~std::uint64_t{0};  // the freezes that they were found for
  std::vector<char> hands_through_;                // of each operation: its output is what it reads, when predicting
  std::vector<char> has_part_;                     // of the batch and each operation: its gradient has a part already
  // The last forward pass.
  ConstView x_;
  Mode mode_ = Mode::predict;
  StepContext context_;
  bool kept_ = false, has_gradients_ = false;
};

}  // namespace gdcore
