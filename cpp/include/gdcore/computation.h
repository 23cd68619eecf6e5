// What a layer computes, as data: for a backend that makes several operations at once.
#pragma once

#include <cstdint>
#include <variant>

namespace gdcore {

/// Known to its layer alone.
struct OtherComputation {};

/// x Wᵀ + b; where W and b begin in the arena of the parameters. A bias of -1 is none.
struct DenseComputation {
  std::int64_t weight, bias;
};

/// Dropout of `stream`; see Dropout in ops.h.
struct DropoutComputation {
  double p;
  std::uint64_t stream;
};

/// (x - mean) / std; where both begin in the arena of the states.
struct StandardizerComputation {
  std::int64_t mean, std;
};

using Computation = std::variant<OtherComputation, DenseComputation, DropoutComputation, StandardizerComputation>;

}  // namespace gdcore
