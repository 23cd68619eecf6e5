// The update of one weight in all passes of the optimiser: g ← clip(g), decay, rule (optimizer_rules.h).
#pragma once

#include <cstdint>

#include "backend/runtime.h"

namespace gdcore::cuda {

/// Constants of a step for a segment with one rate and one decay.
template <class T, class Rule>
struct UpdateNumbers {
  typename Rule::template Kernel<T> kernel;
  T coupled, shrink;

  /// `step` counts from 1.
  __device__ static UpdateNumbers of(const Rule& rule, double lr, std::int64_t step, double weight_decay,
                                     bool decoupled) {
    return {rule.template at<T>(lr, step), static_cast<T>(decoupled ? 0.0 : weight_decay),
            static_cast<T>(decoupled ? 1.0 - lr * weight_decay : 1.0)};
  }
};

/// Updates one weight and its states; a rule may use fewer than two.
template <class T, class Rule>
__device__ __forceinline__ void update_weight(const UpdateNumbers<T, Rule>& numbers, T clip, T g, T& w, T& first,
                                              T& second) {
  g = g > clip ? clip : (g < -clip ? -clip : g);
  g += numbers.coupled * w;
  w *= numbers.shrink;
  apply_rule(numbers.kernel, w, g, first, second);
}

}  // namespace gdcore::cuda
