// Layer: public forward() and backward() check, virtual *_impl() compute through the backend.
//
// A layer object describes itself (its public fields) and, once a network has bound it, holds the numbers of its
// parameters. Everything a batch needs lies in the network's workspace and comes with each call.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gdcore/backend.h"
#include "gdcore/computation.h"
#include "gdcore/parameters.h"

namespace gdcore {

/// One call of one layer.
struct LayerCall {
  Backend& backend;
  const Parameters& parameters;
  Activation activation;  // absorbed from the layer behind; Identity where there is none
  ConstView x;            // (N, in)
  View y;                 // (N, out)
  View pre;               // (N, out), where the absorbed activation saves its input
  View statistics;        // as asked for by Layer::statistics
  View dy, dx;            // backward only; dy may be overwritten, a null dx is not wanted
  bool training = false;
  StepContext context = {};
  Precision precision = Precision::full;

  /// What the absorbed activation's slope is computed from.
  ConstView saved() const { return pre ? ConstView(pre) : ConstView(y); }
};

/// One layer along a direction of the parameters; a dot is a derivative along it. Forward ẏ from ẋ, and back dẋ and the
/// derivatives of the parameters' gradients (Pearlmutter 1994), which lie where `direction` has its gradients. `layer`
/// is the call of the layer itself, with no activation absorbed; its parameters' gradients serve as scratch memory.
struct TangentCall {
  const LayerCall& layer;
  const Parameters& direction;
  ConstView x_dot;  // null: zero
  View y_dot;
  View dy_dot, dx_dot;  // backward only; dx_dot is wanted if layer.dx is
  View spare;           // (N, in or out)
};

/// Throws unless a layer may have this width.
void check_width(const char* kind, const char* argument, std::int64_t width);

/// Numbers kept from forward to backward: a fixed count and a count for each row.
struct StatisticsSize {
  std::int64_t fixed = 0, per_row = 0;
};

class Layer {
 public:
  std::string name;  // what its parameters are called by; without one, its number

  virtual ~Layer() = default;
  /// What the names of its parameters begin with, before a dot: its name, or "layers.<index>".
  std::string path(int index) const;
  virtual std::unique_ptr<Layer> clone() const = 0;
  virtual std::string kind() const = 0;  // "Dense"

  /// The number of outputs for `in` inputs (0: any, the first layer's input is not known); throws where they do not
  /// fit.
  virtual std::int64_t output_features(std::int64_t in) const { return in; }
  /// Inputs the layer insists on, or 0.
  virtual std::int64_t input_features() const { return 0; }
  /// Registers parameters and states under path(index).
  virtual void bind(int /*index*/, std::int64_t /*in*/, Parameters&) {}
  virtual StatisticsSize statistics(std::int64_t /*in*/) const { return {}; }

  /// A layer that can take over the activation behind it; a layer that is nothing but an activation.
  virtual bool absorbs() const { return false; }
  virtual const Activation* as_activation() const { return nullptr; }
  /// A layer that hands its input through unchanged when predicting.
  virtual bool trains_only() const { return false; }
  /// A layer whose outputs in training depend on which rows are computed together.
  virtual bool couples_rows() const { return false; }

  /// What it computes beside an absorbed activation, if others can compute it too.
  virtual Computation computation(const Parameters&) const { return OtherComputation{}; }

  /// Throws where it cannot train with batches of so many rows.
  virtual void check_training(std::int64_t /*rows*/) const {}
  void forward(const LayerCall& call) const;
  void backward(const LayerCall& call) const;
  /// ẏ from ẋ and the direction, after forward(). A layer without this and the next trains, but has no curvature.
  virtual void tangent(const TangentCall& call) const;
  /// dx, dẋ and the derivatives of the gradients, from dy and dẏ.
  virtual void curvature(const TangentCall& call) const;
  /// Moves running averages after a finished forward pass in training.
  virtual void commit(const LayerCall&) const {}

 protected:
  virtual void forward_impl(const LayerCall& call) const = 0;
  virtual void backward_impl(const LayerCall& call) const = 0;
};

}  // namespace gdcore
