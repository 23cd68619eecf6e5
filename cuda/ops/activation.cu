// Activation layers: forward y = f(a), backward dx = dy f'(saved), and the derivative of dx along a direction.
// Elementwise; bytes per element in float32: 8 forward, 12 backward, 20 for the derivative. Outputs are overwritten and
// may be an input. `saved` is the output, or the pre-activation if the activation saves its input.
#include <type_traits>
#include <variant>

#include "backend/cuda_backend.h"
#include "ops/activation.h"
#include "primitives/elementwise.h"

namespace gdcore::cuda {

namespace {

/// Calls `work` with the activation type of these kernels. float32 has a kernel for each activation, as a lookup at run
/// time would take longer than the memory access; float64 has the three types of activation.h.
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
