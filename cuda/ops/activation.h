// Activations fused into a kernel have one of three types, so that each kernel is compiled three times and not once per
// activation: Identity, ReLU, or AnyActivation, which selects the function at run time.
#pragma once

#include <type_traits>
#include <variant>

#include "backend/runtime.h"
#include "gdcore/activations.h"

namespace gdcore::cuda {

/// Any activation of the variant: its index and its parameter, if it has one. All threads take the same branch.
struct AnyActivation {
  int kind = 0;
  double number = 0.0;

  template <class T>
  __device__ __forceinline__ T value(T a) const {
    return at(a, [](auto f, T x) { return f.value(x); });
  }
  template <class T>
  __device__ __forceinline__ T slope(T saved) const {
    return at(saved, [](auto f, T x) { return f.slope(x); });
  }
  template <class T>
  __device__ __forceinline__ T curvature(T saved) const {
    return at(saved, [](auto f, T x) { return f.curvature(x); });
  }

  /// Calls `work` with the activation itself.
  template <int I = 0, class Work>
  __device__ __forceinline__ auto pick(const Work& work) const {
    using F = std::variant_alternative_t<I, Activation>;
    if constexpr (I + 1 < static_cast<int>(std::variant_size_v<Activation>)) {
      if (kind != I) return pick<I + 1>(work);
    }
    if constexpr (std::is_empty_v<F>) {
      return work(F{});
    } else {
      return work(F{number});
    }
  }

 private:
  /// Returns formula(f, x) for the activation f itself.
  template <class T, class Formula>
  __device__ __forceinline__ T at(T x, Formula) const {
    if constexpr (std::is_same_v<T, double>) {
      return apart<Formula>(*this, x);
    } else {
      return pick([x](auto f) { return Formula{}(f, x); });
    }
  }
  // In float64 the transcendental functions are long: one copy per kernel, not one per element of a pack.
  template <class Formula>
  __device__ __noinline__ static double apart(AnyActivation any, double x) {
    return any.pick([x](auto f) { return Formula{}(f, x); });
  }
};

/// Calls `work` with one of the types that kernels are compiled for: Identity{}, ReLU{} or AnyActivation{...}.
template <class Work>
void with_activation(const Activation& activation, Work&& work) {
  std::visit(
      [&]<class F>(const F& f) {
        if constexpr (std::is_same_v<F, Identity> || std::is_same_v<F, ReLU>) {
          work(f);
        } else if constexpr (std::is_empty_v<F>) {
          work(AnyActivation{static_cast<int>(activation.index())});
        } else {
          const auto& [number] = f;
          work(AnyActivation{static_cast<int>(activation.index()), number});
        }
      },
      activation);
}

}  // namespace gdcore::cuda
