// Shared code of norm_tangent.cu and norm_curvature.cu (formulas: ops.h): groups with the means m(ẋ) and m(â ẋ). A
// group shares mean and rstd: a row, processed by a few threads or a block, or a column, whose means are column sums.
// With constant statistics the means are zero.
#pragma once

#include "gdcore/backend.h"
#include "primitives/column_map.h"

namespace gdcore::cuda {

template <class T>
struct Norm {
  const T *x = nullptr, *gamma = nullptr, *mean = nullptr, *rstd = nullptr, *x_dot = nullptr, *gamma_dot = nullptr;
  const T *beta_dot = nullptr, *dy = nullptr, *dy_dot = nullptr;
  T *y_dot = nullptr, *dx = nullptr, *dx_dot = nullptr, *spare = nullptr;
  std::int64_t rows = 0, cols = 0;
  int across = 1;  // threads along a row
  bool wide = false;
};

/// Statistics of one group and the means m(ẋ) and m(â ẋ); computes â and â̇.
template <class T>
struct Group {
  T mean, rstd, plain, along;

  __device__ T value(T x) const { return (x - mean) * rstd; }
  __device__ T moved(T x, T x_dot) const { return rstd * (x_dot - plain - value(x) * along); }
};

// ---- Groups are rows ------------------------------------------------------------------------------------------------

inline constexpr int kRowThreads = 256;

/// The row of a group of `across` threads; each thread has every across-th pack.
template <class T>
struct RowOfGroup {
  std::int64_t row, cols, start;
  int lane, across;
  bool wide;

  __device__ explicit RowOfGroup(const Norm<T>& call)
      : row(static_cast<std::int64_t>(blockIdx.x) * (kRowThreads / call.across) + threadIdx.x / call.across),
        cols(row < call.rows ? call.cols : 0),
        start(row * call.cols),
        lane(static_cast<int>(threadIdx.x) % call.across),
        across(call.across),
        wide(call.wide) {}

  template <class Visit>
  __device__ void each(const Visit& visit) const {
    const std::int64_t step = static_cast<std::int64_t>(across) * kPack<T>;
    for (std::int64_t c = 0; c < cols; c += step) {
      const PackIndex index = pack_index<T>(c, cols, lane, wide);
      if (!index.empty()) visit(index);
    }
  }
  /// Returns the row's statistics and the means of ẋ.
  __device__ Group<T> group(const Norm<T>& call, double* shared) const {
    const bool exists = cols > 0;
    Group<T> group{exists ? call.mean[row] : T(0), exists ? call.rstd[row] : T(0), T(0), T(0)};
    if (call.x_dot == nullptr) return group;
    double sums[2] = {};
    each([&](const PackIndex& index) {
      const Pack<T> x = load_pack(call.x + start, index), x_dot = load_pack(call.x_dot + start, index);
#pragma unroll
      for (int i = 0; i < kPack<T>; ++i) {
        if (!index.exists(i)) continue;
        sums[0] += static_cast<double>(x_dot[i]);
        sums[1] += static_cast<double>(x_dot[i] * group.value(x[i]));
      }
    });
    group_sums(sums, across, shared);
    group.plain = static_cast<T>(sums[0] / static_cast<double>(call.cols));
    group.along = static_cast<T>(sums[1] / static_cast<double>(call.cols));
    return group;
  }
  /// Returns â̇ of a pack.
  __device__ Pack<T> moved(const Norm<T>& call, const Group<T>& group, const Pack<T>& x, const PackIndex& index) const {
    if (call.x_dot == nullptr) return {};
    const Pack<T> x_dot = load_pack(call.x_dot + start, index);
    return pack_of<T>([&](int i) { return group.moved(x[i], x_dot[i]); });
  }
};

/// Chooses the number of threads per row; returns the launch shape.
template <class T>
Shape row_shape(Norm<T>& call) {
  call.across = 1;
  while (call.across < kRowThreads && call.across * kPack<T> < call.cols) call.across *= 2;
  return {static_cast<unsigned>(ceil_div(call.rows, kRowThreads / call.across)), kRowThreads};
}

// ---- Groups are columns ---------------------------------------------------------------------------------------------

/// Means of ẋ and â ẋ, and of the backward pass, by column; null if the statistics are constants. In scratch memory.
template <class T>
struct ColumnMeans {
  T *plain, *along, *d, *d_along, *d_dot, *d_along_dot;
};

template <class T>
struct ColumnGroups {
  Pack<T> mean, rstd, plain, along;

  __device__ ColumnGroups(const Norm<T>& call, const ColumnMeans<T>& means, const ColumnPlan& plan,
                          const ColumnThread<T>& thread)
      : mean(thread.load_columns(plan, call.mean, T(0))),
        rstd(thread.load_columns(plan, call.rstd, T(1))),
        plain(thread.load_columns(plan, means.plain, T(0))),
        along(thread.load_columns(plan, means.along, T(0))) {}
  __device__ Group<T> operator[](int i) const { return {mean[i], rstd[i], plain[i], along[i]}; }
};

/// Terms ẋ and â ẋ.
template <class T>
struct MovedTerm {
  Norm<T> call;

  using Columns = ColumnGroups<T>;
  struct Values {
    Pack<T> x, x_dot;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    return Columns(call, {}, plan, thread);
  }
  __device__ Values load(const PackIndex& index) const {
    return {load_pack(call.x, index), load_pack(call.x_dot, index)};
  }
  __device__ void add(const Columns& by, const Values& values, const PackIndex&, Pack<T> (&sums)[2]) const {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      sums[0][i] += values.x_dot[i];
      sums[1][i] += values.x_dot[i] * by[i].value(values.x[i]);
    }
  }
};

template <class T>
struct MovedFinish {
  ColumnMeans<T> means;
  double rows;
  __device__ void operator()(std::int64_t c, const double (&sum)[2]) const {
    means.plain[c] = static_cast<T>(sum[0] / rows);
    means.along[c] = static_cast<T>(sum[1] / rows);
  }
};

/// Computes the means of ẋ, if there is one, in two rows of scratch memory.
template <class T>
void moved_means(const Norm<T>& call, const ColumnPlan& plan, bool aligned, T* rows, ColumnMeans<T>& means) {
  if (call.x_dot == nullptr) return;
  means.plain = rows;
  means.along = rows + call.cols;
  column_sums<T, 2>(plan, aligned, MovedTerm<T>{call}, MovedFinish<T>{means, static_cast<double>(call.rows)});
}

// ---- Rows or columns ------------------------------------------------------------------------------------------------

template <class T, class Call>
Norm<T> norm_of(const Call& call) {
  return {.x = call.x.template as<T>(),
          .gamma = call.gamma.template as<T>(),
          .mean = call.mean.template as<T>(),
          .rstd = call.rstd.template as<T>(),
          .x_dot = call.x_dot.template as<T>(),
          .gamma_dot = call.gamma_dot.template as<T>(),
          .rows = call.x.rows,
          .cols = call.x.cols};
}

}  // namespace gdcore::cuda
