// BatchRange: how an epoch is divided into batches, the last one and a single row that is left included.
#pragma once

#include <cstdint>

#include "gdcore/row_order.h"

namespace gdcore {

/// Batches [first, last) of an epoch of `count` rows in an order, each of batch_size rows. A smaller last batch has the
/// remaining rows; where `joins` is set, a single remaining row joins the batch before.
struct BatchRange {
  RowOrder order;
  std::int64_t count = 0, batch_size = 0, first = 0, last = 0;
  bool joins = false;

  /// The number of batches that have batch_size rows.
  std::int64_t whole_batches() const {
    const std::int64_t whole = count / batch_size;
    return joins && batch_size > 1 && whole > 0 && count % batch_size == 1 ? whole - 1 : whole;
  }
  /// The number of batches of an epoch.
  std::int64_t batches(bool drop_last) const {
    const std::int64_t whole = count / batch_size;
    return drop_last || whole * batch_size == count || whole_batches() < whole ? whole : whole + 1;
  }
  /// The position in the order of the batch's first row, and its number of rows.
  std::int64_t first_row(std::int64_t batch) const { return batch <= whole_batches() ? batch * batch_size : count; }
  std::int64_t rows_of(std::int64_t batch) const { return first_row(batch + 1) - first_row(batch); }
};

}  // namespace gdcore
