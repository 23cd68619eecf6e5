#include <algorithm>
#include <numeric>

#include "gdcore/check.h"
#include "gdcore/column_layers.h"

namespace gdcore {

ColumnLayer::ColumnLayer(const char* kind, ColumnChoice choice) : ColumnChoice(std::move(choice)) {
  check(features >= 0, "[", kind, "] features: got ", features, "; expected the number of inputs, or 0 if unknown");
  if (!columns) return;
  check(!columns->empty(), "[", kind, "] columns: got none; expected at least one, or None for all");
  std::vector<std::int64_t> sorted = *columns;
  std::ranges::sort(sorted);
  check(sorted.front() >= 0, "[", kind, "] columns: got ", sorted.front(), "; expected numbers from 0");
  const auto twice = std::ranges::adjacent_find(sorted);
  check(twice == sorted.end(), "[", kind, "] columns: got ", twice == sorted.end() ? 0 : *twice,
        " more than once; expected different columns");
  check(features == 0 || sorted.back() < features, "[", kind, "] columns: got ", sorted.back(), "; expected 0 to ",
        features - 1);
}

/// The number of inputs, where it is known for `chosen` columns (0: unknown).
std::int64_t ColumnLayer::known_features(std::int64_t chosen) const {
  if (features > 0) return features;
  return columns || !names.empty() ? 0 : chosen;
}

void ColumnLayer::check_choice(const char* kind, std::int64_t in, std::int64_t chosen) const {
  check(names.empty(), "[", kind, "] columns: got the name \"", names.empty() ? "" : names.front(),
        "\" for a model that does not know its columns' names; expected feature_names=[...] of the model, a frame for "
        "fit, or numbers of columns");
  check(in == 0 || features == 0 || in == features, "[", kind, "] features: got ", features, "; expected ", in,
        ", the number of outputs of the previous layer");
  if (in == 0) return;
  if (columns) {
    const std::int64_t last = std::ranges::max(*columns);
    check(last < in, "[", kind, "] columns: got ", last, "; expected 0 to ", in - 1, ", as the input has ", in,
          " columns");
  } else {
    check(chosen == 0 || chosen == in, "[", kind, "] columns: got None, which means all columns, for ", chosen,
          " columns; expected ", in, ", the number of inputs, or the numbers of the columns");
  }
}

std::int64_t ColumnLayer::number(std::size_t chosen) const {
  return columns ? (*columns)[chosen] : static_cast<std::int64_t>(chosen);
}

std::vector<std::int64_t> ColumnLayer::kept_columns(std::int64_t in) const {
  std::vector<std::int64_t> kept;
  if (!columns) return kept;
  std::vector<bool> chosen(static_cast<std::size_t>(in));
  for (const std::int64_t column : *columns) chosen[static_cast<std::size_t>(column)] = true;
  for (std::int64_t c = 0; c < in; ++c) {
    if (!chosen[static_cast<std::size_t>(c)]) kept.push_back(c);
  }
  return kept;
}

std::vector<std::int64_t> ColumnLayer::origins_of(const std::vector<std::int64_t>& in, std::int64_t outputs) const {
  std::vector<std::int64_t> out;
  for (const std::int64_t c : kept_columns(std::ssize(in))) out.push_back(in[static_cast<std::size_t>(c)]);
  out.resize(static_cast<std::size_t>(outputs), -1);
  return out;
}

void ColumnLayer::arrange(std::int64_t in, const std::vector<std::int64_t>& widths) {
  kept_.clear();
  encoded_.clear();
  std::int64_t out = 0;
  for (const std::int64_t c : kept_columns(in)) {
    if (!kept_.empty() && kept_.back().from + kept_.back().count == c) {
      ++kept_.back().count;
    } else {
      kept_.push_back({c, out, 1});
    }
    ++out;
  }
  for (std::size_t i = 0; i < widths.size(); ++i) {
    encoded_.push_back({number(i), out, widths[i]});
    out += widths[i];
  }
}

void ColumnLayer::pass_on(Backend& backend, ConstView x, View y) const {
  if (!kept_.empty()) backend.copy_columns({x, kept_, y});
}

void ColumnLayer::pass_back(Backend& backend, ConstView dy, View dx) const {
  if (!kept_.empty()) backend.copy_columns({dy, kept_, dx, true});
}

}  // namespace gdcore
