// Data in device memory, so that steps need nothing from the host.
#pragma once

#include "gdcore/batch.h"

namespace gdcore {

/// Rows of a dataset copied to a device, contiguous: labels as checked 32-bit integers, other values in their own type
/// or the model's, whichever is smaller.
class ResidentData {
 public:
  /// Copies rows [first, first + rows) of the dataset, or of `order`. Reuses memory that is large enough, so that steps
  /// recorded for it stay valid.
  void load(const Dataset& data, const std::int64_t* order, std::int64_t first, std::int64_t rows,
            const Network& network);
  const Dataset& data() const { return data_; }

 private:
  Dataset data_;
  Buffer x_, y_, weights_;
};

/// Bytes of a row of the dataset on a device: inputs, targets and weight.
std::size_t resident_row_bytes(const Dataset& data, DType dtype);

/// Returns the dataset where the network computes: the dataset itself on the CPU or where a copy does not fit, else its
/// copy on the device, made at the first call.
const Dataset& resident(const Dataset& data, const Network& network);

}  // namespace gdcore
