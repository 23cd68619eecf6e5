// Derivative of a norm layer along a direction of the parameters (formula: ops.h; method: Pearlmutter 1994):
// ẏ = γ â̇ + γ̇ â + β̇ with â̇ = rstd (ẋ - m(ẋ) - â m(â ẋ)). x, ẋ, ẏ (N, C); mean and rstd (1, N) over rows, else
// (1, C). ẏ is overwritten. Over rows: one launch that reads x and ẋ twice, from the caches. Over columns: sums of ẋ
// and â ẋ (one launch for few rows, else two), then a map; 20 bytes per element. Constant statistics: the map alone.
#include "backend/cuda_backend.h"
#include "curvature/norm_direction.h"

namespace gdcore::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kRowThreads) norm_tangent_rows_kernel(Norm<T> call) {
  GD_SHARED(double, shared, 2 * kRowThreads / kWarp);
  const RowOfGroup<T> row(call);
  const Group<T> group = row.group(call, shared);
  row.each([&](const PackIndex& index) {
    const Pack<T> x = load_pack(call.x + row.start, index), gamma = load_or(call.gamma, index, T(1)),
                  gamma_dot = load_or(call.gamma_dot, index, T(0)), beta_dot = load_or(call.beta_dot, index, T(0));
    const Pack<T> moved = row.moved(call, group, x, index);
    const Pack<T> out =
        pack_of<T>([&](int i) { return gamma[i] * moved[i] + gamma_dot[i] * group.value(x[i]) + beta_dot[i]; });
    store_pack(call.y_dot + row.start, index, out);
  });
}

template <class T>
struct TangentMap {
  Norm<T> call;
  ColumnMeans<T> means;

  struct Columns {
    ColumnGroups<T> groups;
    Pack<T> gamma, gamma_dot, beta_dot;
  };
  struct Values {
    Pack<T> x, x_dot;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    return {ColumnGroups<T>(call, means, plan, thread), thread.load_columns(plan, call.gamma, T(1)),
            thread.load_columns(plan, call.gamma_dot, T(0)), thread.load_columns(plan, call.beta_dot, T(0))};
  }
  __device__ Values load(const PackIndex& index) const {
    return {load_pack(call.x, index), load_or(call.x_dot, index, T(0))};
  }
  __device__ void store(const Columns& by, const Values& values, const PackIndex& index) const {
    const Pack<T> out = pack_of<T>([&](int i) {
      const T moved = call.x_dot == nullptr ? T(0) : by.groups[i].moved(values.x[i], values.x_dot[i]);
      return by.gamma[i] * moved + by.gamma_dot[i] * by.groups[i].value(values.x[i]) + by.beta_dot[i];
    });
    store_pack(call.y_dot, index, out);
  }
};

template <class T>
void tangent(const NormTangent& given) {
  Norm<T> call = norm_of<T>(given);
  call.beta_dot = given.beta_dot.as<T>();
  call.y_dot = given.y_dot.as<T>();
  if (given.over == NormOver::rows) {
    call.wide = pack_aligned<T>(call.rows, call.cols, call.x, call.gamma, call.x_dot, call.gamma_dot, call.beta_dot,
                                call.y_dot);
    const Shape shape = row_shape(call);
    return launch(norm_tangent_rows_kernel<T>, shape, call);
  }
  const ColumnPlan plan = column_plan(call.rows, call.cols, kPack<T>);
  const bool aligned = plan_aligned<T>(plan, call.x, call.x_dot, call.y_dot);
  ColumnMeans<T> means{};
  if (given.over == NormOver::columns) {
    moved_means(call, plan, aligned, scratch_array<T>(Scratch::second, 2 * call.cols), means);
  }
  launch_map<T>(plan, aligned, TangentMap<T>{call, means});
}

}  // namespace

void CudaBackend::norm_tangent(const NormTangent& call) {
  with_type(call.x.dtype, [&]<class T>(T) { tangent<T>(call); });
}

}  // namespace gdcore::cuda
