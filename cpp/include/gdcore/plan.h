// Plan: a network's computation as data. Operations in order, the inputs of each, and their shapes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/layer.h"

namespace gdcore {

inline constexpr int kBatch = -1, kNothing = -2;  // values of Operation::input and skip that are not indices

/// A layer with its absorbed activation, or Identity.
struct Operation {
  const Layer* layer = nullptr;
  Activation activation;
  int first = 0, last = 0;  // indices of the layers it covers
  int input = kBatch;       // the operation whose output it reads, or the batch
  int skip = kNothing;      // another operation whose output is added to that input
  std::int64_t in = 0, out = 0;
  StatisticsSize statistics = {};
  Computation computation = {};

  /// Whether backward needs the output before the activation.
  bool keeps_pre() const { return last > first && saves_input(activation); }
  std::string describe() const;  // "Dense + ReLU"
};

struct Plan {
  std::vector<Operation> operations;
  std::int64_t in = 0, out = 0;

  /// A chain of bound layers. With `absorb`, layers that can apply the activation that follows them do so. The layers
  /// of a block come before the block, whose operation adds up its input and their output.
  static Plan chain(const std::vector<std::unique_ptr<Layer>>& layers, std::int64_t in, const Parameters& parameters,
                    bool absorb);
  /// Throws std::logic_error unless every operation reads an earlier output of the right shape, and every output but
  /// the last is read.
  void validate() const;
};

}  // namespace gdcore
