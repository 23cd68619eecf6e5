// Data in a device's memory, so that steps need nothing of the host.
#pragma once

#include "gdcore/batch.h"

namespace gdcore {

/// Rows of a dataset copied to a device: next to each other, labels as checked 32-bit numbers, other numbers in their
/// own type or the model's, whichever is smaller.
class ResidentData {
 public:
  /// Rows [first, first + rows) of the dataset, or of `order`. Memory is kept where it is large enough, so that steps
  /// recorded for it stay good.
  void load(const Dataset& data, const std::int64_t* order, std::int64_t first, std::int64_t rows,
            const Network& network);
  const Dataset& data() const { return data_; }

 private:
  Dataset data_;
  Buffer x_, y_, weights_;
};

/// Bytes of a row of the dataset on a device: inputs, targets and weight.
std::size_t resident_row_bytes(const Dataset& data, DType dtype);

/// The whole dataset where the network computes: itself on the CPU or where there is no room for a copy, else its copy,
/// made at the first call.
const Dataset& resident(const Dataset& data, const Network& network);

}  // namespace gdcore
