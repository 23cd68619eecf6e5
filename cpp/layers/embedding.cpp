#include <algorithm>
#include <array>
#include <numeric>

#include "gdcore/check.h"
#include "gdcore/column_layers.h"

namespace gdcore {

Embedding::Embedding(ColumnChoice choice, std::vector<std::int64_t> sizes, std::vector<std::int64_t> dims,
                     Initializer init)
    : ColumnLayer("Embedding", std::move(choice)), sizes(std::move(sizes)), dims(std::move(dims)), init(init) {
  const std::int64_t chosen = columns ? std::ssize(*columns) : std::ssize(names);
  const std::int64_t expected = chosen > 0 ? chosen : features > 0 ? features : std::ssize(this->sizes);
  check(!this->sizes.empty() && std::ssize(this->sizes) == expected, "[Embedding] sizes: got ", this->sizes.size(),
        " numbers; expected ", std::max<std::int64_t>(expected, 1), ", one for each column");
  check(this->dims.size() == this->sizes.size(), "[Embedding] dim: got ", this->dims.size(), " numbers; expected ",
        this->sizes.size(), ", one for each column, or one for all");
  for (std::size_t i = 0; i < this->sizes.size(); ++i) {
    check_width("Embedding", join("sizes[", i, "]").c_str(), this->sizes[i]);
    if (this->dims[i] != 0) check_width("Embedding", "dim", this->dims[i]);
  }
}

std::vector<std::int64_t> Embedding::widths() const {
  std::vector<std::int64_t> wide = dims;
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = dims[i] == 0 ? sizes[i] : dims[i];
  return wide;
}

std::int64_t Embedding::output_features(std::int64_t in) const {
  check_choice("Embedding", in, std::ssize(sizes));
  return in + added_features();
}

std::int64_t Embedding::added_features() const {
  const std::vector<std::int64_t> wide = widths();
  return std::accumulate(wide.begin(), wide.end(), -std::ssize(wide));
}

std::vector<std::int64_t> Embedding::origins(const std::vector<std::int64_t>& in) const {
  return origins_of(in, output_features(std::ssize(in)));
}

std::vector<CodeColumn> Embedding::codes() const {
  std::vector<CodeColumn> found;
  for (std::size_t i = 0; i < sizes.size(); ++i) found.push_back({number(i), sizes[i]});
  return found;
}

void Embedding::bind(int index, std::int64_t in, const Activation*, Parameters& parameters) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  arrange(in, widths());
  table_numbers_.clear();
  codes_.clear();
  for (const EncodedColumn& own : encoded_) codes_.push_back({0, own.column, 1});
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    check(sizes[i] <= kMost || parameters.layout.dtype() == DType::float64, "[Embedding] sizes[", i, "]: got ",
          sizes[i], "; expected at most ", kMost,
          ", as float32, the model's dtype, holds no larger whole numbers "
          "exactly; or dtype=\"float64\"");
    table_numbers_.push_back(dims[i] == 0 ? -1
                                          : parameters.layout.add({.name = join(path(index), ".table", i),
                                                                   .layer = index,
                                                                   .rows = sizes[i],
                                                                   .cols = dims[i],
                                                                   .is_weight = true,
                                                                   .initializer = init,
                                                                   .fan_in = sizes[i],
                                                                   .fan_out = dims[i]}));
  }
}

/// Writes the rows of `tables` by the codes in x, and one-hot codes, or zeros where not `one_hot`.
void Embedding::look_up(const LayerCall& call, const Parameters& tables, bool one_hot, View y) const {
  std::array<EmbeddedColumn, kEmbeddedAtOnce> some;
  for (std::size_t first = 0; first < encoded_.size(); first += kEmbeddedAtOnce) {
    const std::size_t count = std::min(kEmbeddedAtOnce, encoded_.size() - first);
    std::size_t used = 0;
    for (std::size_t i = first; i < first + count; ++i) {
      const EncodedColumn& own = encoded_[i];
      const bool has_table = table_numbers_[i] >= 0;
      if (!has_table && !one_hot) {
        const ColumnRun zeros{0, own.out, own.width};
        call.backend.copy_columns({{}, {&zeros, 1}, y});
        continue;
      }
      some[used++] = {own.column, own.out, sizes[i], own.width, has_table ? tables.value(table_numbers_[i]) : View{}};
    }
    if (used > 0) call.backend.embedding_forward({call.x, {some.data(), used}, y});
  }
}

/// Writes the tables' gradients, except those of frozen tables.
void Embedding::collect(const LayerCall& call, ConstView dy, const Parameters& gradients) const {
  std::array<EmbeddedColumn, kEmbeddedAtOnce> some;
  for (std::size_t first = 0; first < encoded_.size(); first += kEmbeddedAtOnce) {
    const std::size_t count = std::min(kEmbeddedAtOnce, encoded_.size() - first);
    std::size_t used = 0;
    for (std::size_t i = first; i < first + count; ++i) {
      const EncodedColumn& own = encoded_[i];
      const int table = table_numbers_[i];
      if (table < 0 || gradients.frozen(table)) continue;
      some[used++] = {own.column, own.out, sizes[i], own.width, gradients.gradient(table)};
    }
    if (used > 0) call.backend.embedding_backward({call.x, {some.data(), used}, dy});
  }
}

/// The gradient of the columns that are passed on; that of codes is 0.
void Embedding::pass_gradient(const LayerCall& call, ConstView dy, View dx) const {
  pass_back(call.backend, dy, dx);
  call.backend.copy_columns({{}, codes_, dx});
}

void Embedding::forward_impl(const LayerCall& call) const {
  pass_on(call.backend, call.x, call.y);
  look_up(call, call.parameters, true, call.y);
}

void Embedding::backward_impl(const LayerCall& call) const {
  collect(call, call.dy, call.parameters);
  if (call.dx) pass_gradient(call, call.dy, call.dx);
}

void Embedding::tangent(const TangentCall& call) const {
  pass_on(call.layer.backend, call.x_dot, call.y_dot);
  look_up(call.layer, call.direction, false, call.y_dot);
}

void Embedding::curvature(const TangentCall& call) const {
  collect(call.layer, call.dy_dot, call.direction);
  if (!call.layer.dx) return;
  pass_gradient(call.layer, call.dy_dot, call.dx_dot);
  pass_gradient(call.layer, call.layer.dy, call.layer.dx);
}

}  // namespace gdcore
