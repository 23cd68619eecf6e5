// All layers. Each is implemented in cpp/layers/<name>.cpp.
#pragma once

#include <optional>
#include <vector>

#include "gdcore/column_layers.h"

namespace gdcore {

/// y = x Wᵀ + b, W (out, in).
struct Dense final : LayerOf<Dense> {
  std::int64_t in_features, out_features;
  bool bias;
  Initializer init;
  std::optional<Initializer> bias_init;  // empty: 0.01 directly before a ReLU, otherwise 0

  Dense(std::int64_t in_features, std::int64_t out_features, bool bias = true, Initializer init = HeNormal{},
        std::optional<Initializer> bias_init = std::nullopt);
  std::string kind() const override { return "Dense"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return in_features; }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  Computation computation(const Parameters& parameters) const override;
  bool absorbs() const override { return true; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  int weight_number_ = -1, bias_number_ = -1;
};

/// A separate activation function; absorbed where it follows a Dense or a norm.
struct ActivationLayer : LayerOf<ActivationLayer> {
  Activation activation;

  explicit ActivationLayer(Activation activation);
  std::string kind() const override { return name_of(activation); }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  const Activation* as_activation() const override { return &activation; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;
};

/// Sets inputs to zero with probability p in training and scales the others by 1 / (1 - p) (Srivastava et al. 2014).
struct DropoutLayer final : LayerOf<DropoutLayer> {
  double p;

  explicit DropoutLayer(double p = 0.5);
  std::string kind() const override { return "Dropout"; }
  bool trains_only() const override { return true; }
  bool couples_rows() const override { return p > 0.0; }  // a row's position in the batch is part of its mask
  Computation computation(const Parameters& parameters) const override;
  void bind(int index, std::int64_t, const Activation*, Parameters&) override { index_ = index; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  void apply(const LayerCall& call, ConstView from, View to) const;
  int index_ = 0;
};

/// The part that both norms share: γ, β and the number of features.
struct Norm {
  std::int64_t features;
  double eps;
  bool affine;

 protected:
  Norm(const char* kind, std::int64_t features, double eps, bool affine);
  std::int64_t check_width(const char* kind, std::int64_t in) const;
  void bind_affine(const char* kind, const std::string& path, int index, Parameters& parameters);
  ConstView gamma(const LayerCall& call) const;
  ConstView beta(const LayerCall& call) const;
  NormBackward backward_pass(const LayerCall& call, ConstView mean, ConstView rstd) const;
  NormTangent tangent_pass(const TangentCall& call, NormOver over, ConstView mean, ConstView rstd) const;
  NormCurvature curvature_pass(const TangentCall& call, NormOver over, ConstView mean, ConstView rstd) const;

 private:
  int gamma_number_ = -1, beta_number_ = -1;
};

/// Ioffe & Szegedy 2015 with the chapter's running averages: decay multiplies the old value, and σ, not σ², is averaged
/// unless `running` is Spread::variance.
struct BatchNorm final : LayerOf<BatchNorm>, Norm {
  double decay;
  Spread running;

  explicit BatchNorm(std::int64_t features, double decay = 0.9, double eps = 1e-5, Spread running = Spread::std,
                     bool affine = true);
  std::string kind() const override { return "BatchNorm"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return features; }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  StatisticsSize statistics(std::int64_t) const override;
  bool absorbs() const override { return true; }
  bool couples_rows() const override { return true; }
  void check_training(std::int64_t rows) const override;
  void commit(const LayerCall& call) const override;
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  View statistic(const LayerCall& call, int number) const;  // 0 mean, 1 rstd, 2 variance
  void recall_statistics(const LayerCall& call) const;      // statistics 0 and 1 from the running averages
  int mean_number_ = -1, spread_number_ = -1;
};

/// Ba, Kiros & Hinton 2016.
struct LayerNorm final : LayerOf<LayerNorm>, Norm {
  explicit LayerNorm(std::int64_t features, double eps = 1e-5, bool affine = true);
  std::string kind() const override { return "LayerNorm"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return features; }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  StatisticsSize statistics(std::int64_t) const override { return {0, 2}; }
  bool absorbs() const override { return true; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  View statistic(const LayerCall& call, int number) const;  // 0 mean, 1 rstd
};

/// y = x ⊙ s with a trained factor per feature, 1 at first.
struct Scale final : LayerOf<Scale> {
  std::int64_t features;

  explicit Scale(std::int64_t features);
  std::string kind() const override { return "Scale"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return features; }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  bool absorbs() const override { return true; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  int number_ = -1;
};

/// Data scaling x̃ = (x - μ) / σ with the training data's μ and σ, saved with the model.
struct Standardizer final : LayerOf<Standardizer> {
  std::int64_t features;          // 0 while unknown
  std::vector<double> mean, std;  // empty while not fitted

  explicit Standardizer(std::int64_t features = 0, std::vector<double> mean = {}, std::vector<double> std = {});
  std::string kind() const override { return "Standardizer"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return features; }
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  Computation computation(const Parameters& parameters) const override;
  /// Computes μ and σ (biased) of every column, in float64 over blocks of rows, three passes. A constant column gets
  /// σ = 1.
  void fit(const Source& source);
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  void scale(const LayerCall& call, ConstView from, View to) const;  // divides by σ, without the shift
  int mean_number_ = -1, std_number_ = -1;
};

/// A block with a skip: y = x + f(x), f the layers inside it (He et al. 2016). Layer numbers count its layers before
/// it.
struct Residual : LayerOf<Residual> {
  std::vector<std::unique_ptr<Layer>> layers;

  explicit Residual(std::vector<std::unique_ptr<Layer>> layers);
  Residual(const Residual& other);
  Residual(Residual&&) = default;
  Residual& operator=(const Residual&) = delete;
  Residual& operator=(Residual&&) = delete;
  std::string kind() const override { return "Residual"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override;
  const std::vector<std::unique_ptr<Layer>>* inner() const override { return &layers; }
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;  // x is the sum
  void backward_impl(const LayerCall& call) const override;
};

/// The number of inputs of a chain of layers, or 0 where no layer determines it.
std::int64_t input_features(const std::vector<std::unique_ptr<Layer>>& layers);

/// Binds a network's layers, also those inside of blocks; checks widths and names. Returns the number of inputs.
std::int64_t bind_all(const std::vector<std::unique_ptr<Layer>>& layers, Parameters& parameters);

}  // namespace gdcore
