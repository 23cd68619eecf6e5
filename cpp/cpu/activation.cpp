// Activation layers: forward y = f(a), backward dx = dy f'(saved), and the derivative of dx along a direction.
// Elementwise; bytes per element in float32: 8 forward, 12 backward, 20 for the derivative.
#include <variant>

#include "cpu_backend.h"
#include "loops.h"
#include "slopes.h"

namespace gdcore::GDCORE_ISA {

inline constexpr std::int64_t kCost = 4;  // some activations are transcendental

void CpuBackend::activation_forward(const Activation& activation, ConstView x, View y) {
  with_type(x.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          const T* from = x.as<T>();
          T* to = y.as<T>();
          const bool around = to != from && beyond_cache(x.size(), sizeof(T));
          parallel_for(x.size(), kCost, 64, [=](std::int64_t begin, std::int64_t end) {
            fill(to, begin, end, around,
                 [=](std::int64_t i) __attribute__((always_inline)) { return f.value(from[i]); });
          });
        },
        activation);
  });
}

void CpuBackend::activation_backward(const Activation& activation, ConstView saved, ConstView dy, View dx) {
  with_type(dy.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          const T *kept = saved.as<T>(), *from = dy.as<T>();
          T* to = dx.as<T>();
          const bool around = to != from && to != kept && beyond_cache(dy.size(), sizeof(T));
          parallel_for(dy.size(), kCost, 64, [=](std::int64_t begin, std::int64_t end) {
            fill(to, begin, end, around,
                 [=](std::int64_t i) __attribute__((always_inline)) { return from[i] * f.slope(kept[i]); });
          });
        },
        activation);
  });
}

void CpuBackend::activation_curvature(const Activation& activation, ConstView saved, ConstView x_dot, ConstView dy,
                                      ConstView dy_dot, View dx_dot) {
  with_type(dy.dtype, [&]<class T>(T) {
    std::visit(
        [&](const auto& f) {
          const T *kept = saved.as<T>(), *moved = x_dot.as<T>(), *g = dy.as<T>(), *g_dot = dy_dot.as<T>();
          T* to = dx_dot.as<T>();
          parallel_for(dy.size(), kCost, 64, [=](std::int64_t begin, std::int64_t end) {
            fill(to, begin, end, false, [=](std::int64_t i) __attribute__((always_inline)) {
              return g_dot[i] * f.slope(kept[i]) + g[i] * f.curvature(kept[i]) * moved[i];
            });
          });
        },
        activation);
  });
}

template <class T>
Slopes<T>::Slopes(const Activation& activation) {
  std::visit(
      [&]<class Function>(const Function& function) {
        function_ = &function;
        multiply_ = [](const void* given, const T* saved, T* dy, std::int64_t rows, std::int64_t cols,
                       std::int64_t stride) {
          const Function& f = *static_cast<const Function*>(given);
          for (std::int64_t r = 0; r < rows; ++r, saved += stride, dy += stride) {
#pragma omp simd
            for (std::int64_t c = 0; c < cols; ++c) dy[c] *= f.slope(saved[c]);
          }
        };
      },
      activation);
}
template class Slopes<float>;
template class Slopes<double>;

}  // namespace gdcore::GDCORE_ISA
