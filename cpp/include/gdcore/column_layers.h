// Layers that encode chosen columns of their input. Their output is [the other columns, in their order | the new
// columns of each chosen column, in the order in which they were chosen], so that such layers can follow one another.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gdcore/layer.h"

namespace gdcore {

/// Which columns a layer encodes.
struct ColumnChoice {
  std::int64_t features = 0;                         // of the input; 0: those of the layer before
  std::optional<std::vector<std::int64_t>> columns;  // their numbers; empty: all
  std::vector<std::string> names;                    // instead of numbers, until a model knows them
};

/// The part that the layers of columns share.
struct ColumnLayer : ColumnChoice {
 protected:
  ColumnLayer(const char* kind, ColumnChoice choice);

  std::int64_t known_features(std::int64_t chosen) const;
  /// Throws unless the choice fits `in` inputs and `chosen` columns, where these are known (not 0).
  void check_choice(const char* kind, std::int64_t in, std::int64_t chosen) const;
  /// The number of a chosen column.
  std::int64_t number(std::size_t chosen) const;
  std::vector<std::int64_t> kept_columns(std::int64_t in) const;
  std::vector<std::int64_t> origins_of(const std::vector<std::int64_t>& in, std::int64_t outputs) const;
  /// Arranges the columns for `in` inputs and the widths of the chosen columns' encodings.
  void arrange(std::int64_t in, const std::vector<std::int64_t>& widths);
  /// Copies the columns that are passed on: from x to y, or zeros where x is null.
  void pass_on(Backend& backend, ConstView x, View y) const;
  /// The same from dy to dx.
  void pass_back(Backend& backend, ConstView dy, View dx) const;

  std::vector<ColumnRun> kept_;
  std::vector<EncodedColumn> encoded_;
};

/// Piecewise-linear encoding of numbers (Gorishniy et al. 2022). Its bins are not trained.
struct PiecewiseLinear : LayerOf<PiecewiseLinear>, ColumnLayer {
  std::vector<std::vector<double>> edges;  // of each chosen column, increasing; empty while not fitted
  bool clip;                               // whether the first and last bin limit their output on both sides too

  explicit PiecewiseLinear(ColumnChoice choice, std::vector<std::vector<double>> edges = {}, bool clip = false);
  std::string kind() const override { return "PiecewiseLinear"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return known_features(std::ssize(edges)); }
  std::int64_t added_features() const override;
  std::vector<std::int64_t> origins(const std::vector<std::int64_t>& in) const override;
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  std::vector<std::int64_t> widths() const;
  void encode(const LayerCall& call, ConstView x_dot, View y) const;
  void decode(const LayerCall& call, ConstView dy, View dx) const;
  int start_number_ = -1, width_number_ = -1;
};

/// Embedding of categories: rows of a trained table by the codes in a column; or one-hot codes.
struct Embedding : LayerOf<Embedding>, ColumnLayer {
  std::vector<std::int64_t> sizes, dims;  // of each chosen column; dim 0: one-hot
  Initializer init;

  Embedding(ColumnChoice choice, std::vector<std::int64_t> sizes, std::vector<std::int64_t> dims,
            Initializer init = Normal{1.0});
  std::string kind() const override { return "Embedding"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return known_features(std::ssize(sizes)); }
  std::int64_t added_features() const override;
  std::vector<std::int64_t> origins(const std::vector<std::int64_t>& in) const override;
  std::vector<CodeColumn> codes() const override;
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  std::vector<std::int64_t> widths() const;
  void look_up(const LayerCall& call, const Parameters& tables, bool one_hot, View y) const;
  void collect(const LayerCall& call, ConstView dy, const Parameters& gradients) const;
  void pass_gradient(const LayerCall& call, ConstView dy, View dx) const;
  std::vector<int> table_numbers_;  // -1: one-hot
  std::vector<ColumnRun> codes_;    // the columns of codes, whose gradient is 0
};

/// Periodic embedding of numbers; see encodings.h.
struct Periodic : LayerOf<Periodic>, ColumnLayer {
  /// "pbld": x itself, then a linear map of cosines with phases (Holzmüller et al. 2024). "plr": ReLU of a linear map
  /// of sines and cosines (Gorishniy et al. 2022).
  enum class Kind : std::uint8_t { pbld, plr };
  std::int64_t frequencies, dim;  // of a column
  double sigma;                   // standard deviation of the initial frequencies
  Kind form;

  Periodic(ColumnChoice choice, std::int64_t frequencies = 16, std::int64_t dim = 4, double sigma = 0.1,
           Kind form = Kind::pbld);
  std::string kind() const override { return "Periodic"; }
  std::int64_t output_features(std::int64_t in) const override;
  std::int64_t input_features() const override { return known_features(0); }
  std::int64_t added_features() const override;
  std::vector<std::int64_t> origins(const std::vector<std::int64_t>& in) const override;
  void bind(int index, std::int64_t in, const Activation* next, Parameters& parameters) override;
  void tangent(const TangentCall& call) const override;
  void curvature(const TangentCall& call) const override;

 protected:
  void forward_impl(const LayerCall& call) const override;
  void backward_impl(const LayerCall& call) const override;

 private:
  std::int64_t chosen(std::int64_t in) const;
  PeriodicShape shape() const;
  PeriodicWeights weights(const Parameters& parameters) const;
  PeriodicWeights gradients(const Parameters& parameters) const;
  int frequency_number_ = -1, phase_number_ = -1, weight_number_ = -1, bias_number_ = -1;
};

}  // namespace gdcore
