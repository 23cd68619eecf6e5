// The update of one weight in all passes of the optimiser: g ← clip(g), decay, rule (optimizer_rules.h). The caller
// moves the average of the weights.
#pragma once

#include <cstdint>

#include "backend/runtime.h"
#include "gdcore/optimizer_rules.h"

namespace gdcore::cuda {

/// Constants of a step for a segment with one rate and one decay.
template <class T, class Rule>
struct UpdateNumbers {
  typename Rule::template Kernel<T> kernel;
  T coupled, shrink;

  /// For weights with a rate factor and a decay of their own; `step` counts from 1.
  __device__ __forceinline__ static UpdateNumbers of(const Rule& rule, const StepRates& rates, double lr_factor,
                                                     std::int64_t step, double weight_decay, bool decoupled) {
    const double lr = rates.lr * lr_factor, decay = weight_decay * rates.decay;
    return {kernel_of<T>(rule, lr, step, rates), static_cast<T>(decoupled ? 0.0 : decay),
            static_cast<T>(decoupled ? 1.0 - lr * decay : 1.0)};
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
