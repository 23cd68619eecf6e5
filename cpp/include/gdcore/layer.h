// Layer: public forward() and backward() check arguments; virtual *_impl() compute through the backend.
//
// A layer object holds its configuration (public fields) and, once bound to a network, the indices of its parameters.
// Memory for a batch lies in the network's workspace and is passed with each call.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/computation.h"
#include "gdcore/parameters.h"

namespace gdcore {

/// One call of one layer.
struct LayerCall {
  Backend& backend;
  const Parameters& parameters;
  Activation activation;  // absorbed from the next layer, or Identity
  ConstView x;            // (N, in)
  View y;                 // (N, out)
  View pre;               // (N, out), where the absorbed activation saves its input
  View statistics;        // sized by Layer::statistics
  View dy, dx;            // backward only; dy may be overwritten, a null dx is skipped
  bool training = false;
  StepContext context = {};
  Precision precision = Precision::full;
  PackedWeight* packed = nullptr;  // of a layer with a matrix product, where predictions repeat

  /// The values from which the absorbed activation's slope is computed.
  ConstView saved() const { return pre ? ConstView(pre) : ConstView(y); }
};

/// One layer along a direction of the parameters; a dot is the derivative along it. Forward computes ẏ from ẋ. Backward
/// computes dẋ and the derivatives of the parameters' gradients (Pearlmutter 1994), and writes the latter to the
/// gradients of `direction`. `layer` is the call of the layer itself, with no activation absorbed; its parameters'
/// gradients serve as scratch memory.
struct TangentCall {
  const LayerCall& layer;
  const Parameters& direction;
  ConstView x_dot;  // null: zero
  View y_dot;
  View dy_dot, dx_dot;  // backward only; dx_dot is null where layer.dx is
  View spare;           // (N, in or out)
};

/// Throws unless the width is valid for a layer.
void check_width(const char* kind, const char* argument, std::int64_t width);

/// Element count of the values saved from forward to backward: fixed, and per row.
struct StatisticsSize {
  std::int64_t fixed = 0, per_row = 0;
};

class Layer {
 public:
  std::string name;   // what its parameters are called by; without one, its place
  std::string place;  // in a network: "layers.<number>", or in a block "<path of the block>.<number>"

  virtual ~Layer() = default;
  /// What the names of its parameters begin with, before a dot: its name, its place, or "layers.<index>".
  std::string path(int index) const;
  virtual std::unique_ptr<Layer> clone() const = 0;
  virtual std::string kind() const = 0;  // "Dense"

  /// Returns the number of outputs for `in` inputs (0: any, the first layer's input is not known). Throws where `in`
  /// does not fit.
  virtual std::int64_t output_features(std::int64_t in) const { return in; }
  /// The number of inputs that the layer requires, or 0 for any.
  virtual std::int64_t input_features() const { return 0; }
  /// The number of outputs less that of inputs, where it does not depend on the latter.
  virtual std::int64_t added_features() const { return 0; }
  /// For each output, the entry of `in`, which has one for each input, whose column it passes on unchanged, or -1.
  virtual std::vector<std::int64_t> origins(const std::vector<std::int64_t>& in) const;
  /// The inputs that are category codes. They must come from the network's input unchanged.
  virtual std::vector<CodeColumn> codes() const { return {}; }
  /// The layers inside a block, or null.
  virtual const std::vector<std::unique_ptr<Layer>>* inner() const { return nullptr; }
  /// Registers parameters and states under path(index). `next` is the activation that follows directly, or null.
  virtual void bind(int /*index*/, std::int64_t /*in*/, const Activation* /*next*/, Parameters&) {}
  virtual StatisticsSize statistics(std::int64_t /*in*/) const { return {}; }

  /// Whether the layer can also apply the activation that follows it.
  virtual bool absorbs() const { return false; }
  /// The function of a layer that is only an activation, else null.
  virtual const Activation* as_activation() const { return nullptr; }
  /// Whether the layer returns its input unchanged when predicting.
  virtual bool trains_only() const { return false; }
  /// Whether outputs in training depend on which rows are computed together.
  virtual bool couples_rows() const { return false; }

  /// The computation without an absorbed activation, as data, where such a description exists.
  virtual Computation computation(const Parameters&) const { return OtherComputation{}; }

  /// Throws where the layer cannot train with batches of this many rows.
  virtual void check_training(std::int64_t /*rows*/) const {}
  void forward(const LayerCall& call) const;
  void backward(const LayerCall& call) const;
  /// Computes ẏ from ẋ and the direction, after forward(). A layer without tangent() and curvature() can be trained but
  /// has no second derivatives.
  virtual void tangent(const TangentCall& call) const;
  /// Computes dx, dẋ and the derivatives of the gradients, from dy and dẏ.
  virtual void curvature(const TangentCall& call) const;
  /// Updates running averages after a completed training forward pass.
  virtual void commit(const LayerCall&) const {}

 protected:
  virtual void forward_impl(const LayerCall& call) const = 0;
  virtual void backward_impl(const LayerCall& call) const = 0;
};

/// CRTP base with the code that every layer class repeats.
template <class Self>
struct LayerOf : Layer {
  std::unique_ptr<Layer> clone() const override { return std::make_unique<Self>(static_cast<const Self&>(*this)); }
};

}  // namespace gdcore
