// Arguments of the operations on chosen columns, as ops.h has them for the others. Their outputs are [columns that are
// passed on | new columns of each chosen column]; copy_columns writes the former, the encodings the latter.
#pragma once

#include <cstdint>
#include <span>

#include "gdcore/tensor.h"

namespace gdcore {

/// Columns [from, from + count) of one matrix and columns [to, to + count) of another.
struct ColumnRun {
  std::int64_t from, to, count;
};

/// y[:, to + i] = x[:, from + i] for each run, zeros where x is null. `back` exchanges the roles of `from` and `to`.
/// Other columns of y are left unchanged.
struct CopyColumns {
  ConstView x;
  std::span<const ColumnRun> runs;
  View y;
  bool back = false;
};

/// A column of the input, and the columns [out, out + width) of the output that are made of it.
struct EncodedColumn {
  std::int64_t column, out, width;
};

/// Piecewise-linear encoding (Gorishniy et al. 2022). Bin j of a column begins at start[j] and is width[j] wide; its
/// output is t = (x - start) / width, limited to at least 0 except in a column's first bin, and to at most 1 except in
/// its last; with `clip` in all. Bins are numbered over all columns, in order.
struct PiecewiseForward {
  ConstView x, start, width;  // (N, in), (1, bins), (1, bins)
  std::span<const EncodedColumn> columns;
  bool clip;
  View y;
  ConstView x_dot = {};  // where given, y receives the derivative along it
};

/// dx[:, column] = Σ dy / width over the column's bins whose output is not limited; a bin includes its start and not
/// its end.
struct PiecewiseBackward {
  ConstView x, start, width;
  std::span<const EncodedColumn> columns;
  bool clip;
  ConstView dy;
  View dx;
};

inline constexpr std::size_t kEmbeddedAtOnce = 32;  // columns of one embedding operation

/// A column of category codes 0 to size - 1, and its table (size, width). Without a table the output is 1 in the
/// column of the code and 0 elsewhere; width = size.
struct EmbeddedColumn {
  std::int64_t column, out, size, width;
  View table;
};

/// y[n, out : out + width] = table[x[n, column]]. Values that are no code give NaN: callers have refused them.
struct EmbeddingForward {
  ConstView x;
  std::span<const EmbeddedColumn> columns;  // at most kEmbeddedAtOnce
  View y;
};

/// table[k] = Σ dy[n, out : out + width] over the rows n with code k, in the order of the rows. Columns without a table
/// are skipped.
struct EmbeddingBackward {
  ConstView x;
  std::span<const EmbeddedColumn> columns;
  ConstView dy;
};

/// Sizes of a periodic embedding; see encodings.h for its formula.
struct PeriodicShape {
  std::span<const EncodedColumn> columns;
  std::int64_t frequencies, outputs;  // of a column; outputs without x itself
  bool sines;                         // sines beside the cosines
  bool identity;                      // x itself is a column's first output
  bool relu;                          // ReLU on the outputs other than x

  std::int64_t waves() const { return sines ? 2 * frequencies : frequencies; }
  std::int64_t count() const { return static_cast<std::int64_t>(columns.size()); }
};

/// frequency, phase (columns, frequencies), weight (columns · outputs, waves), bias (1, columns · outputs). A null
/// phase is 0. As gradients, null views are skipped.
struct PeriodicWeights {
  View frequency, phase, weight, bias;
};

/// The direction of PeriodicForward and PeriodicBackward; a dot is the derivative along it. A null x_dot is 0.
struct PeriodicDirection {
  ConstView x_dot;
  PeriodicWeights weights;
  ConstView dy_dot = {};
  View dx_dot = {};
};

struct PeriodicForward {
  PeriodicShape shape;
  ConstView x;
  PeriodicWeights weights;
  View y;
  const PeriodicDirection* direction = nullptr;  // where given, y receives the derivative along it
};

/// Writes dx[:, column] unless dx is null. With a direction, dx_dot as well, and the derivatives of the gradients
/// instead of the gradients.
struct PeriodicBackward {
  PeriodicShape shape;
  ConstView x;
  PeriodicWeights weights;
  ConstView y, dy;
  View dx;
  PeriodicWeights gradients;
  const PeriodicDirection* direction = nullptr;
};

}  // namespace gdcore
