// Activations on their own: y = f(a); dx = dy f'(saved); and the derivative of dx along a direction. Elementwise, 8
// (12, 20) bytes an element in float32. Outputs are overwritten and may lie where an input does; `saved` is the output,
// or the pre-activation where the activation saves its input.
#include <type_traits>
#include <variant>

#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/elementwise.h"

namespace gdcore::cuda {

namespace {

/// Calls `work` with the activation as these kernels are compiled: float32 for each one, as looking it up would cost
/// more than the memory takes; float64 for the three types of activation.h.
template <class T, class Work>
void with_function(const Activation& activation, Work&& work) {
  if constexpr (std::is_same_v<T, float>) {
    std::visit(work, activation);
  } else {
    with_activation(activation, work);
  }
}

template <class F>
struct Forward {
  F f;
  template <class T>
  __device__ T operator()(T a) const {
    return f.value(a);
  }
};

template <class F>
struct Backward {
  F f;
  template <class T>
  __device__ T operator()(T saved, T dy) const {
    return dy * f.slope(saved);
  }
};

template <class F>
struct Curvature {
  F f;
  template <class T>
  __device__ T operator()(T saved, T x_dot, T dy, T dy_dot) const {
    return dy_dot * f.slope(saved) + dy * f.curvature(saved) * x_dot;
  }
};

}  // namespace

void CudaBackend::activation_forward(const Activation& activation, ConstView x, View y) {
  with_type(x.dtype, [&]<class T>(T) {
    with_function<T>(activation,
                     [&]<class F>(const F& f) { elementwise(x.size(), Forward<F>{f}, y.as<T>(), x.as<T>()); });
  });
}

void CudaBackend::activation_backward(const Activation& activation, ConstView saved, ConstView dy, View dx) {
  with_type(dy.dtype, [&]<class T>(T) {
    with_function<T>(activation, [&]<class F>(const F& f) {
      elementwise(dy.size(), Backward<F>{f}, dx.as<T>(), saved.as<T>(), dy.as<T>());
    });
  });
}

void CudaBackend::activation_curvature(const Activation& activation, ConstView saved, ConstView x_dot, ConstView dy,
                                       ConstView dy_dot, View dx_dot) {
  with_type(dy.dtype, [&]<class T>(T) {
    with_activation(activation, [&]<class F>(const F& f) {
      elementwise(dy.size(), Curvature<F>{f}, dx_dot.as<T>(), saved.as<T>(), x_dot.as<T>(), dy.as<T>(), dy_dot.as<T>());
    });
  });
}

}  // namespace gdcore::cuda
