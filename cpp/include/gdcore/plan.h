// Plan: what a network computes, as data. Operations in their order, what each reads, and their shapes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/layer.h"

namespace gdcore {

inline constexpr int kBatch = -1, kNothing = -2;  // where else an operation is named by its number

/// A layer, with the activation that it absorbed: Identity where there is none.
struct Operation {
  const Layer* layer = nullptr;
  Activation activation;
  int first = 0, last = 0;  // indices of the layers it stands for
  int input = kBatch;       // the operation whose output it reads, or the batch,
  int skip = kNothing;      // and another one whose output is added to that
  std::int64_t in = 0, out = 0;
  StatisticsSize statistics = {};
  Computation computation = {};

  /// Whether its slope is computed from its output before the activation.
  bool keeps_pre() const { return last > first && saves_input(activation); }
  std::string describe() const;  // "Dense + ReLU"
};

struct Plan {
  std::vector<Operation> operations;
  std::int64_t in = 0, out = 0;

  /// Bound layers one behind the other. Where `absorb`, layers that can take over the activation behind them do.
  static Plan chain(const std::vector<std::unique_ptr<Layer>>& layers, std::int64_t in, const Parameters& parameters,
                    bool absorb);
  /// Throws std::logic_error unless every operation reads what fits and was computed before, and every output but the
  /// last is read.
  void validate() const;
};

}  // namespace gdcore
