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

namespace {

template <class T, std::size_t Which>
void multiply_by_slope(const Activation& activation, const T* saved, T* dy, std::int64_t rows, std::int64_t cols,
                       std::int64_t stride) {
  const auto f = *std::get_if<Which>(&activation);
  for (std::int64_t r = 0; r < rows; ++r, saved += stride, dy += stride) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) dy[c] *= f.slope(saved[c]);
  }
}

template <class T, class Which = std::make_index_sequence<std::variant_size_v<Activation>>>
constexpr auto kMultiply = nullptr;
template <class T, std::size_t... Which>
constexpr decltype(&multiply_by_slope<T, 0>) kMultiply<T, std::index_sequence<Which...>>[] = {
    &multiply_by_slope<T, Which>...};

}  // namespace

template <class T>
Slopes<T>::Slopes(const Activation& activation)
    : activation_(activation), multiply_(kMultiply<T>[activation.index()]) {}
template class Slopes<float>;
template class Slopes<double>;

}  // namespace gdcore::GDCORE_ISA
