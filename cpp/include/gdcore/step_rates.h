// StepRates: the numbers of one training step that may follow schedules.
#pragma once

namespace gdcore {

struct StepRates {
  double lr = 0.0;
  double decay = 1.0;      // factor on every weight decay
  double dropout = 1.0;    // factor on every dropout rate
  double momentum = -1.0;  // replaces Momentum's μ or Adam's β₁; negative: the rule's own
  double unbiased = 1.0;   // with `momentum`: 1 - Π β₁ over all steps up to this one, for Adam's bias correction
  double average = 0.0;    // rate of the weights' moving average (weight_average.h); 0: it does not change

  constexpr StepRates() = default;
  /// Only the learning rate differs from the defaults.
  constexpr StepRates(double rate) : lr(rate) {}
};

}  // namespace gdcore
