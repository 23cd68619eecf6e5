// Backward pass of norm_tangent.cu: dx, and the derivatives of dx, dγ and dβ along the direction (Pearlmutter 1994).
// x, ẋ, dy, dẏ, dx, dẋ, spare (N, C); mean and rstd (1, N) over rows, else (1, C); outputs are overwritten.
//
// Over rows: one launch that reads its inputs three times, from the caches, and writes â̇ to `spare`; one or two more
// launches for γ and β. Over columns γ is constant within a column, so column sums are enough: sums for â̇, sums for
// the backward pass (one launch each for few rows, else two), then a map. Speed matters less here than in training
// steps.
#include "backend/cuda_backend.h"
#include "curvature/norm_direction.h"

namespace gdcore::cuda {

namespace {

/// Means of the backward pass: of d, d â, ḋ and (d â)˙ with d = γ dy.
template <class T>
struct BackwardMeans {
  T plain, along, plain_dot, along_dot;
};

/// dx = r (d - m(d) - â m(d â)) and its derivative
/// dẋ = r (ḋ - m(ḋ) - â m((d â)˙) - â̇ m(d â)) - r m(â ẋ) dx, for ṙ = -r² m(â ẋ).
template <class T>
__device__ __forceinline__ T input_gradient(const Group<T>& group, const BackwardMeans<T>& m, T value, T d) {
  return group.rstd * (d - m.plain - value * m.along);
}
template <class T>
__device__ __forceinline__ T input_gradient_dot(const Group<T>& group, const BackwardMeans<T>& m, T value, T moved,
                                                T d_dot, T dx) {
  return group.rstd * (d_dot - m.plain_dot - value * m.along_dot - moved * m.along - group.along * dx);
}

// ---- Groups are rows ------------------------------------------------------------------------------------------------

/// Writes â̇ to `spare`, dx and its derivative.
template <class T>
__global__ void __launch_bounds__(kRowThreads) norm_curvature_rows_kernel(Norm<T> call) {
  GD_SHARED(double, shared, 4 * kRowThreads / kWarp);
  const RowOfGroup<T> row(call);
  const Group<T> group = row.group(call, shared);
  const auto load_d = [&](const PackIndex& index, Pack<T>& d, Pack<T>& d_dot) {
    const Pack<T> gamma = load_or(call.gamma, index, T(1)), gamma_dot = load_or(call.gamma_dot, index, T(0));
    d = load_pack(call.dy + row.start, index);
    d_dot = load_pack(call.dy_dot + row.start, index);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      d_dot[i] = gamma[i] * d_dot[i] + gamma_dot[i] * d[i];
      d[i] *= gamma[i];
    }
  };
  double sums[4] = {};
  row.each([&](const PackIndex& index) {
    const Pack<T> x = load_pack(call.x + row.start, index), moved = row.moved(call, group, x, index);
    store_pack(call.spare + row.start, index, moved);
    Pack<T> d, d_dot;
    load_d(index, d, d_dot);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      if (!index.exists(i)) continue;
      const double value = static_cast<double>(group.value(x[i])), wide = static_cast<double>(d[i]);
      sums[0] += wide;
      sums[1] += wide * value;
      sums[2] += static_cast<double>(d_dot[i]);
      sums[3] += static_cast<double>(d_dot[i]) * value + wide * static_cast<double>(moved[i]);
    }
  });
  if (call.dx == nullptr) return;
  group_sums(sums, row.across, shared);
  const double count = static_cast<double>(call.cols);
  const BackwardMeans<T> means{static_cast<T>(sums[0] / count), static_cast<T>(sums[1] / count),
                               static_cast<T>(sums[2] / count), static_cast<T>(sums[3] / count)};
  row.each([&](const PackIndex& index) {
    const Pack<T> x = load_pack(call.x + row.start, index), moved = row.moved(call, group, x, index);
    Pack<T> d, d_dot, dx, dx_dot;
    load_d(index, d, d_dot);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const T value = group.value(x[i]);
      dx[i] = input_gradient(group, means, value, d[i]);
      dx_dot[i] = input_gradient_dot(group, means, value, moved[i], d_dot[i], dx[i]);
    }
    store_pack(call.dx + row.start, index, dx);
    store_pack(call.dx_dot + row.start, index, dx_dot);
  });
}

/// Terms of dγ̇ and dβ̇ if groups are rows: dẏ â + dy â̇ and dẏ. Statistics are read per element: a pack may span rows.
template <class T>
struct ParametersOverRows {
  const T *x, *mean, *rstd, *dy, *dy_dot, *moved;
  std::int64_t cols;

  struct Columns {};
  struct Values {
    Pack<T> first, second;
  };
  __device__ Columns columns(const ColumnPlan&, const ColumnThread<T>&) const { return {}; }
  __device__ Values load(const PackIndex& index) const {
    const Pack<T> a = load_pack(x, index), d = load_pack(dy, index), m = load_pack(moved, index);
    Values values{{}, load_pack(dy_dot, index)};
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      if (!index.exists(i)) continue;
      const std::int64_t row = index[i] / cols;
      values.first[i] = values.second[i] * ((a[i] - mean[row]) * rstd[row]) + d[i] * m[i];
    }
    return values;
  }
  __device__ void add(const Columns&, const Values& values, const PackIndex&, Pack<T> (&sums)[2]) const {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      sums[0][i] += values.first[i];
      sums[1][i] += values.second[i];
    }
  }
};

// ---- Groups are columns ---------------------------------------------------------------------------------------------

/// Terms dy, dy â, dẏ and dẏ â + dy â̇.
template <class T>
struct BackwardTerm {
  Norm<T> call;
  ColumnMeans<T> means;

  using Columns = ColumnGroups<T>;
  struct Values {
    Pack<T> x, x_dot, dy, dy_dot;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    return Columns(call, means, plan, thread);
  }
  __device__ Values load(const PackIndex& index) const {
    return {load_pack(call.x, index), load_or(call.x_dot, index, T(0)), load_pack(call.dy, index),
            load_pack(call.dy_dot, index)};
  }
  __device__ void add(const Columns& by, const Values& values, const PackIndex&, Pack<T> (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const T value = by[i].value(values.x[i]), d = values.dy[i], d_dot = values.dy_dot[i];
      sums[0][i] += d;
      sums[1][i] += d * value;
      sums[2][i] += d_dot;
      sums[3][i] += d_dot * value + d * by[i].moved(values.x[i], values.x_dot[i]);
    }
  }
};

template <class T>
struct BackwardFinish {
  ColumnMeans<T> means;
  const T *gamma, *gamma_dot;
  ColumnPair<T> parameters;  // dγ̇ and dβ̇
  double rows;

  __device__ void operator()(std::int64_t c, const double (&sum)[4]) const {
    const double pair[2] = {sum[3], sum[2]};
    parameters(c, pair);
    if (means.d == nullptr) return;
    const double factor = gamma == nullptr ? 1.0 : static_cast<double>(gamma[c]),
                 factor_dot = gamma_dot == nullptr ? 0.0 : static_cast<double>(gamma_dot[c]);
    means.d[c] = static_cast<T>(factor * sum[0] / rows);
    means.d_along[c] = static_cast<T>(factor * sum[1] / rows);
    means.d_dot[c] = static_cast<T>((factor * sum[2] + factor_dot * sum[0]) / rows);
    means.d_along_dot[c] = static_cast<T>((factor * sum[3] + factor_dot * sum[1]) / rows);
  }
};

template <class T>
struct BackwardMap {
  BackwardTerm<T> term;

  struct Columns {
    ColumnGroups<T> groups;
    Pack<T> gamma, gamma_dot, d, d_along, d_dot, d_along_dot;
  };
  using Values = typename BackwardTerm<T>::Values;
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    const auto load = [&](const T* values, T otherwise) { return thread.load_columns(plan, values, otherwise); };
    const ColumnMeans<T>& means = term.means;
    return {term.columns(plan, thread),   load(term.call.gamma, T(1)), load(term.call.gamma_dot, T(0)),
            load(means.d, T(0)),          load(means.d_along, T(0)),   load(means.d_dot, T(0)),
            load(means.d_along_dot, T(0))};
  }
  __device__ Values load(const PackIndex& index) const { return term.load(index); }
  __device__ void store(const Columns& by, const Values& values, const PackIndex& index) const {
    Pack<T> dx, dx_dot;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const Group<T> group = by.groups[i];
      const T value = group.value(values.x[i]), moved = group.moved(values.x[i], values.x_dot[i]);
      const T d = by.gamma[i] * values.dy[i], d_dot = by.gamma[i] * values.dy_dot[i] + by.gamma_dot[i] * values.dy[i];
      const BackwardMeans<T> m{by.d[i], by.d_along[i], by.d_dot[i], by.d_along_dot[i]};
      dx[i] = input_gradient(group, m, value, d);
      dx_dot[i] = input_gradient_dot(group, m, value, moved, d_dot, dx[i]);
    }
    store_pack(term.call.dx, index, dx);
    store_pack(term.call.dx_dot, index, dx_dot);
  }
};

// ---- Rows or columns ------------------------------------------------------------------------------------------------

template <class T>
void curvature_over_rows(Norm<T>& call, const ColumnPair<T>& parameters) {
  call.wide = pack_aligned<T>(call.rows, call.cols, call.x, call.gamma, call.x_dot, call.gamma_dot, call.dy,
                              call.dy_dot, call.dx, call.dx_dot, call.spare);
  const Shape shape = row_shape(call);
  launch(norm_curvature_rows_kernel<T>, shape, call);
  if (parameters.first == nullptr && parameters.second == nullptr) return;
  const ColumnPlan plan = column_plan(call.rows, call.cols, kPack<T>);
  column_sums<T, 2>(plan, plan_aligned<T>(plan, call.x, call.dy, call.dy_dot, call.spare),
                    ParametersOverRows<T>{call.x, call.mean, call.rstd, call.dy, call.dy_dot, call.spare, call.cols},
                    parameters);
}

template <class T>
void curvature_over_columns(const Norm<T>& call, const ColumnPair<T>& parameters, bool averages) {
  const ColumnPlan plan = column_plan(call.rows, call.cols, kPack<T>);
  const bool aligned = plan_aligned<T>(plan, call.x, call.x_dot, call.dy, call.dy_dot, call.dx, call.dx_dot);
  ColumnMeans<T> means{};
  if (averages) {
    T* rows = scratch_array<T>(Scratch::second, 6 * call.cols);
    moved_means(call, plan, aligned, rows, means);
    T** all[] = {&means.d, &means.d_along, &means.d_dot, &means.d_along_dot};
    for (int i = 0; i < 4; ++i) *all[i] = rows + (2 + i) * call.cols;
  }
  const BackwardTerm<T> term{call, means};
  if (averages || parameters.first != nullptr || parameters.second != nullptr) {
    column_sums<T, 4>(plan, aligned, term,
                      BackwardFinish<T>{means, call.gamma, call.gamma_dot, parameters, static_cast<double>(call.rows)});
  }
  if (call.dx != nullptr) launch_map<T>(plan, aligned, BackwardMap<T>{term});
}

template <class T>
void curvature(const NormCurvature& given) {
  Norm<T> call = norm_of<T>(given);
  call.dy = given.dy.as<T>();
  call.dy_dot = given.dy_dot.as<T>();
  call.dx = given.dx.as<T>();
  call.dx_dot = given.dx_dot.as<T>();
  call.spare = given.spare.as<T>();
  const ColumnPair<T> parameters{given.dgamma_dot.as<T>(), given.dbeta_dot.as<T>()};
  if (given.over == NormOver::rows) return curvature_over_rows(call, parameters);
  curvature_over_columns(call, parameters, given.over == NormOver::columns);
}

}  // namespace

void CudaBackend::norm_curvature(const NormCurvature& call) {
  with_type(call.x.dtype, [&]<class T>(T) { curvature<T>(call); });
}

}  // namespace gdcore::cuda
