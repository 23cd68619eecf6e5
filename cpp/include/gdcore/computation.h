// A layer's computation as data, for backends that fuse several operations.
#pragma once

#include <cstdint>
#include <variant>

namespace gdcore {

/// A computation that only the layer's own methods describe.
struct OtherComputation {
  bool operator==(const OtherComputation&) const = default;
};

/// x Wᵀ + b, with the offsets of W and b in the parameter arena. bias = -1: no bias.
struct DenseComputation {
  std::int64_t weight, bias;
  bool operator==(const DenseComputation&) const = default;
};

/// Dropout of `stream`; see Dropout in ops.h.
struct DropoutComputation {
  double p;
  std::uint64_t stream;
  bool operator==(const DropoutComputation&) const = default;
};

/// (x - mean) / std, with the offsets of mean and std in the state arena.
struct StandardizerComputation {
  std::int64_t mean, std;
  bool operator==(const StandardizerComputation&) const = default;
};

using Computation = std::variant<OtherComputation, DenseComputation, DropoutComputation, StandardizerComputation>;

}  // namespace gdcore
