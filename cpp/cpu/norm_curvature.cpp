// Derivatives of norm layers along a direction of the parameters, forward and backward, for second derivatives of the
// loss (formulas: ops.h; method: Pearlmutter 1994). A group shares mean and variance: a row of a layer norm, a column
// of a batch norm, or a column whose statistics are constants, without averages. One source for all three: a block is
// one row, or some columns over all rows, so memory is read along rows in either case.
#include "cpu_backend.h"
#include "gdcore/math.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

constexpr std::int64_t kColumns = 64;  // limit of a block of columns

/// A block's position, with the group and the column of γ of each element.
template <bool ByRow>
struct Block {
  std::int64_t first_row, rows, first_col, cols, width;  // width: of the whole matrix

  static constexpr std::int64_t kGroups = ByRow ? 1 : kColumns;
  std::int64_t groups() const { return ByRow ? 1 : cols; }
  double count() const { return static_cast<double>(ByRow ? cols : rows); }
  std::int64_t statistic(std::int64_t group) const { return ByRow ? first_row : first_col + group; }

  /// Calls visit(element, group within the block, column) for every element.
  template <class Visit>
  GD_INLINE void each(const Visit& visit) const {
    for (std::int64_t r = first_row; r < first_row + rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) visit(r * width + first_col + c, ByRow ? 0 : c, first_col + c);
    }
  }
};

/// Sums of a block by group, later divided to means.
template <bool ByRow>
struct Means {
  double value[Block<ByRow>::kGroups] = {};

  void divide(const Block<ByRow>& block) {
    for (std::int64_t g = 0; g < block.groups(); ++g) value[g] /= block.count();
  }
};

/// Calls body(block) for all blocks of the matrix, on the pool.
template <bool ByRow, class Body>
void over_blocks(std::int64_t rows, std::int64_t cols, const Body& body) {
  if constexpr (ByRow) {
    parallel_for(rows, cols * 8, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) body(Block<true>{r, 1, 0, cols, cols});
    });
  } else {
    parallel_for(cols, rows * 8, kColumns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; c += kColumns) {
        body(Block<false>{0, rows, c, min(kColumns, end - c), cols});
      }
    });
  }
}

template <class T>
GD_INLINE T at(ConstView view, std::int64_t i, T otherwise) {
  return view ? view.as<T>()[i] : otherwise;
}

/// â, and â̇ from the means m(ẋ) and m(â ẋ).
template <class T, bool ByRow, class Call>
struct Normalised {
  const Call& call;
  const Block<ByRow>& block;
  Means<ByRow> plain, along;  // zeros if the statistics are constants or there is no ẋ

  Normalised(const Call& given, const Block<ByRow>& of) : call(given), block(of) {
    if (!call.x_dot || call.over == NormOver::constants) return;
    const T* moved = call.x_dot.template as<T>();
    block.each([&](std::int64_t i, std::int64_t g, std::int64_t) {
      plain.value[g] += static_cast<double>(moved[i]);
      along.value[g] += static_cast<double>(moved[i] * value(i, g));
    });
    plain.divide(block);
    along.divide(block);
  }
  GD_INLINE T rstd(std::int64_t g) const { return at(call.rstd, block.statistic(g), T(1)); }
  GD_INLINE T value(std::int64_t i, std::int64_t g) const {
    return (call.x.template as<T>()[i] - at(call.mean, block.statistic(g), T(0))) * rstd(g);
  }
  GD_INLINE T moved(std::int64_t i, std::int64_t g) const {
    if (!call.x_dot) return T(0);
    const T average = static_cast<T>(plain.value[g]), slope = static_cast<T>(along.value[g]);
    return rstd(g) * (call.x_dot.template as<T>()[i] - average - value(i, g) * slope);
  }
};

template <class T, bool ByRow>
void tangent(const NormTangent& call) {
  T* to = call.y_dot.as<T>();
  over_blocks<ByRow>(call.x.rows, call.x.cols, [&](const Block<ByRow>& block) {
    const Normalised<T, ByRow, NormTangent> a(call, block);
    block.each([&](std::int64_t i, std::int64_t g, std::int64_t c) {
      to[i] = at(call.gamma, c, T(1)) * a.moved(i, g) + at(call.gamma_dot, c, T(0)) * a.value(i, g) +
              at(call.beta_dot, c, T(0));
    });
  });
}

/// dx = r (d - m(d) - â m(d â)) for d = γ dy, and its derivative
/// dẋ = r (ḋ - m(ḋ) - â (m(ḋ â) + m(d â̇)) - â̇ m(d â)) - r m(â ẋ) dx, for ṙ = -r² m(â ẋ).
template <class T, bool ByRow>
void inputs_of_block(const NormCurvature& call, const Normalised<T, ByRow, NormCurvature>& a,
                     const Block<ByRow>& block) {
  const T *dy = call.dy.as<T>(), *dy_dot = call.dy_dot.as<T>(), *moved = call.spare.as<T>();
  const auto d = [&](std::int64_t i, std::int64_t c) { return at(call.gamma, c, T(1)) * dy[i]; };
  const auto d_dot = [&](std::int64_t i, std::int64_t c) {
    return at(call.gamma, c, T(1)) * dy_dot[i] + at(call.gamma_dot, c, T(0)) * dy[i];
  };
  Means<ByRow> plain, along, plain_dot, along_dot;
  if (call.over != NormOver::constants) {
    block.each([&](std::int64_t i, std::int64_t g, std::int64_t c) {
      const double value = static_cast<double>(a.value(i, g));
      plain.value[g] += static_cast<double>(d(i, c));
      along.value[g] += static_cast<double>(d(i, c)) * value;
      plain_dot.value[g] += static_cast<double>(d_dot(i, c));
      along_dot.value[g] +=
          static_cast<double>(d_dot(i, c)) * value + static_cast<double>(d(i, c)) * static_cast<double>(moved[i]);
    });
    for (Means<ByRow>* means : {&plain, &along, &plain_dot, &along_dot}) means->divide(block);
  }
  T *dx = call.dx.as<T>(), *dx_dot = call.dx_dot.as<T>();
  block.each([&](std::int64_t i, std::int64_t g, std::int64_t c) {
    const T value = a.value(i, g), r = a.rstd(g), slope = static_cast<T>(along.value[g]);
    dx[i] = r * (d(i, c) - static_cast<T>(plain.value[g]) - value * slope);
    dx_dot[i] = r * (d_dot(i, c) - static_cast<T>(plain_dot.value[g]) - value * static_cast<T>(along_dot.value[g]) -
                     moved[i] * slope - static_cast<T>(a.along.value[g]) * dx[i]);
  });
}

template <class T, bool ByRow>
void curvature(const NormCurvature& call) {
  T* moved = call.spare.as<T>();
  over_blocks<ByRow>(call.x.rows, call.x.cols, [&](const Block<ByRow>& block) {
    const Normalised<T, ByRow, NormCurvature> a(call, block);
    block.each([&](std::int64_t i, std::int64_t g, std::int64_t) { moved[i] = a.moved(i, g); });
    if (call.dx) inputs_of_block<T, ByRow>(call, a, block);
  });
  // dγ̇ and dβ̇: sums over the rows for every kind of group.
  if (!call.dgamma_dot && !call.dbeta_dot) return;
  over_blocks<false>(call.x.rows, call.x.cols, [&](const Block<false>& block) {
    const T *dy = call.dy.as<T>(), *dy_dot = call.dy_dot.as<T>(), *x = call.x.as<T>();
    Means<false> gamma, beta;
    block.each([&](std::int64_t i, std::int64_t g, std::int64_t c) {
      const std::int64_t group = ByRow ? i / call.x.cols : c;
      const T value = (x[i] - at(call.mean, group, T(0))) * at(call.rstd, group, T(1));
      gamma.value[g] += static_cast<double>(dy_dot[i] * value + dy[i] * moved[i]);
      beta.value[g] += static_cast<double>(dy_dot[i]);
    });
    for (std::int64_t g = 0; g < block.cols; ++g) {
      if (call.dgamma_dot) call.dgamma_dot.as<T>()[block.first_col + g] = static_cast<T>(gamma.value[g]);
      if (call.dbeta_dot) call.dbeta_dot.as<T>()[block.first_col + g] = static_cast<T>(beta.value[g]);
    }
  });
}

}  // namespace

void CpuBackend::norm_tangent(const NormTangent& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    if (call.over == NormOver::rows) return tangent<T, true>(call);
    tangent<T, false>(call);
  });
}

void CpuBackend::norm_curvature(const NormCurvature& call) {
  with_type(call.x.dtype, [&]<class T>(T) {
    if (call.over == NormOver::rows) return curvature<T, true>(call);
    curvature<T, false>(call);
  });
}

}  // namespace gdcore::GDCORE_ISA
