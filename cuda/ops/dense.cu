// Dense layer: y = f(x Wᵀ + b), x (N, in), W (out, in), y (N, out); backward: dy ← dy f'(saved), db = Σ_n dy_n,
// dW = dyᵀ x and dx = dy W. Outputs are overwritten. Saved for backward: x, and y or the pre-activation.
//
// cuBLASLt computes the products (matmul.h) and adds the bias, with and without an activation, so that its kernel, and
// with it the bits of y, do not depend on the activation. A pass over y applies f: 8 bytes per element in float32, 12
// if the pre-activation is saved. cuBLASLt could apply ReLU as well, but may turn NaN into 0, which would hide a
// diverging training. Backward: one pass multiplies dy by the slope and sums its columns (column_sums.h): 12 bytes per
// element, 4 without an activation.
#include <variant>

#include "backend/cuda_backend.h"
#include "matmul/matmul.h"
#include "ops/activation.h"
#include "primitives/column_map.h"

namespace gdcore::cuda {

namespace {

/// y ← f(y + b); also writes y + b to `pre` unless that is null.
template <class T, class F>
struct BiasAndActivation {
  T* y;
  T* pre;
  const T* bias;  // null: none, or already added
  F f;

  struct Columns {
    Pack<T> bias;
  };
  struct Values {
    Pack<T> y;
  };
  __device__ Columns columns(const ColumnPlan& plan, const ColumnThread<T>& thread) const {
    return {thread.load_columns(plan, bias, -T(0))};  // x + -0 equals x, even for x = -0
  }
  __device__ Values load(const PackIndex& index) const { return {load_pack(y, index)}; }
  __device__ void store(const Columns& columns, Values& values, const PackIndex& index) const {
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) values.y[i] += columns.bias[i];
    if (pre != nullptr) store_pack(pre, index, values.y);
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) values.y[i] = f.value(values.y[i]);
    store_pack(y, index, values.y);
  }
};

template <class T>
void finish(const DenseForward& call, const void* bias) {
  with_activation(call.activation, [&]<class F>(const F& f) {
    const BiasAndActivation<T, F> map{call.y.as<T>(), call.pre.as<T>(), static_cast<const T*>(bias), f};
    const ColumnPlan plan = map_plan(call.y.rows, call.y.cols, kPack<T>);
    launch_map<T>(plan, plan_aligned<T>(plan, map.y, map.pre), map);
  });
}

template <class T>
struct BiasGradient {
  T* dbias;
  __device__ void operator()(std::int64_t column, const double (&sum)[1]) const {
    dbias[column] = static_cast<T>(sum[0]);
  }
};

/// dy ← dy f'(saved) and db = the column sums of dy, in one pass.
template <class T>
void slope_and_bias(const DenseBackward& call) {
  with_activation(call.activation, [&]<class F>(const F& f) {
    const SlopeTerm<T, F> term{call.dy.as<T>(), call.saved.as<T>(), f};
    const ColumnPlan plan = column_plan(call.dy.rows, call.dy.cols, kPack<T>);
    column_sums<T, 1>(plan, plan_aligned<T>(plan, term.dy, term.saved), term, BiasGradient<T>{call.dbias.as<T>()});
  });
}

}  // namespace

void CudaBackend::dense_forward(const DenseForward& call) {
  const bool identity = std::holds_alternative<Identity>(call.activation);
  const bool bias_is_in = matmul({.m = call.y.rows,
                                  .n = call.y.cols,
                                  .k = call.x.cols,
                                  .a = {call.x.data},
                                  .b = {call.weight.data, true},
                                  .c = call.y.data,
                                  .dtype = call.y.dtype,
                                  .precision = call.precision,
                                  .bias = call.bias.data});
  const void* bias = bias_is_in ? nullptr : call.bias.data;
  if (identity && !call.pre && bias == nullptr) return;
  with_type(call.y.dtype, [&]<class T>(T) { finish<T>(call, bias); });
}

void CudaBackend::dense_backward(const DenseBackward& call) {
  if (call.dbias) {
    with_type(call.dy.dtype, [&]<class T>(T) { slope_and_bias<T>(call); });
  } else if (!std::holds_alternative<Identity>(call.activation)) {
    activation_backward(call.activation, call.saved, call.dy, call.dy);
  }
  const std::int64_t rows = call.dy.rows, out = call.weight.rows, in = call.weight.cols;
  if (call.dweight) {
    matmul({.m = out,
            .n = in,
            .k = rows,
            .a = {call.dy.data, true},
            .b = {call.x.data},
            .c = call.dweight.data,
            .dtype = call.dy.dtype,
            .precision = call.precision});
  }
  if (call.dx) {
    matmul({.m = rows,
            .n = in,
            .k = out,
            .a = {call.dy.data},
            .b = {call.weight.data},
            .c = call.dx.data,
            .dtype = call.dy.dtype,
            .precision = call.precision});
  }
}

}  // namespace gdcore::cuda
