// Optimiser rules (chapter, slides 13, 26 and 29-31): one struct each, written once for host and device.
//
// `at<T>(lr, step)` computes the constants of one segment of weights in one step (counted from 1): the rule's Kernel. A
// rule whose momentum may follow a schedule takes the step's StepRates as a third argument (kernel_of).
// The kernel updates one weight from its gradient and its states, which all start at zero. Backends call it through
// apply_rule, which keeps subnormal numbers out of the states. validate() throws where a hyperparameter is out of
// range, exactly or rounded to the model's dtype. `squares` marks the states that are sums or averages of squares and
// so never negative. To add a rule: a struct here, an entry in the variant and a binding; no backend changes.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gdcore/check.h"
#include "gdcore/math.h"
#include "gdcore/step_rates.h"

namespace gdcore {

inline constexpr int kMaxStates = 2;

namespace math {
GD_FORMULA float sqrt(float x) { return ::sqrtf(x); }
GD_FORMULA double sqrt(double x) { return ::sqrt(x); }
}  // namespace math

/// 1 - β^τ for β in [0, 1). Without the power where it is below 2^-54 and the difference rounds to 1, as β^τ is at most
/// e^(-τ (1 - β)).
GD_FORMULA double less_power(double beta, double tau) {
  return tau * (1 - beta) > 37.5 ? 1.0 : 1 - std::pow(beta, tau);
}

/// x, or 0 where x is subnormal. Tests the bits, because arithmetic with subnormal numbers is slow.
GD_FORMULA float flushed(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? 0u : bits);
}
GD_FORMULA double flushed(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  return std::bit_cast<double>((bits & 0x7ff0000000000000u) == 0 ? std::uint64_t{0} : bits);
}

/// Updates one weight and its states with a rule's kernel. With zero gradients, a state shrinks by the same factor each
/// step and would end at a subnormal number, where processors are up to a hundred times slower. States are therefore
/// written as zero where they are subnormal. Nothing else is flushed.
template <class T, class Kernel>
GD_FORMULA void apply_rule(const Kernel& kernel, T& w, T g, T& first, T& second) {
  kernel(w, g, first, second);
  first = flushed(first);
  second = flushed(second);
}

/// w ← w - ηg
struct SGD {
  static constexpr const char* name = "SGD";
  static constexpr int states = 0;
  void validate(DType) const {}
  template <class T>
  struct Kernel {
    T lr;
    GD_FORMULA void operator()(T& w, T g, T&, T&) const { w -= lr * g; }
  };
  template <class T>
  GD_FORMULA Kernel<T> at(double lr, std::int64_t) const {
    return {T(lr)};
  }
  bool operator==(const SGD&) const = default;
};

/// v ← μv - ηg; w ← w + v. With `nesterov`: w ← w + μv - ηg (Sutskever et al. 2013, in the weights that are used).
/// The velocity includes the rate, so that a change of η does not rescale past steps.
struct Momentum {
  static constexpr const char* name = "Momentum";
  static constexpr int states = 1;
  double momentum = 0.9;
  bool nesterov = false;
  void validate(DType dtype) const { check_share(name, "momentum", momentum, dtype); }
  template <class T>
  struct Kernel {
    T lr, momentum, ahead, now;  // the update is ahead·v - now·g
    GD_FORMULA void operator()(T& w, T g, T& v, T&) const {
      v = momentum * v - lr * g;
      w += ahead * v - now * g;
    }
  };
  template <class T>
  GD_FORMULA Kernel<T> at(double lr, std::int64_t, const StepRates& rates) const {
    const T mu = T(rates.momentum < 0 ? momentum : rates.momentum);
    return {T(lr), mu, nesterov ? mu : T(1), nesterov ? T(lr) : T(0)};
  }
  bool operator==(const Momentum&) const = default;
};

/// r ← r + g²; w ← w - η g / (√r + δ) (Duchi et al. 2011)
struct AdaGrad {
  static constexpr const char* name = "AdaGrad";
  static constexpr int states = 1;
  static constexpr std::array<bool, 1> squares{true};
  double eps = 1e-8;
  void validate(DType dtype) const { check_positive(name, "eps", eps, dtype); }
  template <class T>
  struct Kernel {
    T lr, eps;
    GD_FORMULA void operator()(T& w, T g, T& r, T&) const {
      r += g * g;
      w -= lr * g / (math::sqrt(r) + eps);
    }
  };
  template <class T>
  GD_FORMULA Kernel<T> at(double lr, std::int64_t) const {
    return {T(lr), T(eps)};
  }
  bool operator==(const AdaGrad&) const = default;
};

/// r ← βr + (1-β)g²; w ← w - η g / (√r + δ) (Hinton 2012)
struct RMSProp {
  static constexpr const char* name = "RMSProp";
  static constexpr int states = 1;
  static constexpr std::array<bool, 1> squares{true};
  double beta = 0.9, eps = 1e-8;
  void validate(DType dtype) const {
    check_share(name, "beta", beta, dtype);
    check_positive(name, "eps", eps, dtype);
  }
  template <class T>
  struct Kernel {
    T lr, beta, rest, eps;
    GD_FORMULA void operator()(T& w, T g, T& r, T&) const {
      r = beta * r + rest * (g * g);
      w -= lr * g / (math::sqrt(r) + eps);
    }
  };
  template <class T>
  GD_FORMULA Kernel<T> at(double lr, std::int64_t) const {
    return {T(lr), T(beta), T(1 - beta), T(eps)};
  }
  bool operator==(const RMSProp&) const = default;
};

/// s ← β₁s + (1-β₁)g; r ← β₂r + (1-β₂)g²; w ← w - η ŝ / (√r̂ + δ), ŝ = s / (1-β₁^τ), r̂ = r / (1-β₂^τ)
/// (Kingma & Ba 2014). `decoupled`: weight decay shrinks w itself (Loshchilov & Hutter 2019). Where β₁ follows a
/// schedule, β₁^τ is the product of the β₁ of all steps, the weight that s still gives to its initial zero.
struct Adam {
  static constexpr const char* name = "Adam";
  static constexpr int states = 2;
  static constexpr std::array<bool, 2> squares{false, true};
  std::pair<double, double> betas{0.9, 0.99};
  double eps = 1e-8;
  bool decoupled = false;
  void validate(DType dtype) const {
    check_share(name, "betas", betas.first, dtype);
    check_share(name, "betas", betas.second, dtype);
    check_positive(name, "eps", eps, dtype);
  }
  template <class T>
  struct Kernel {
    T rate, beta1, rest1, beta2, rest2, correction, eps;
    GD_FORMULA void operator()(T& w, T g, T& s, T& r) const {
      s = beta1 * s + rest1 * g;
      r = beta2 * r + rest2 * (g * g);
      w -= rate * s / (math::sqrt(r * correction) + eps);
    }
  };
  template <class T>
  GD_FORMULA Kernel<T> at(double lr, std::int64_t step, const StepRates& rates) const {
    const bool own = rates.momentum < 0;
    const double beta1 = own ? betas.first : rates.momentum, beta2 = betas.second;
    const double tau = static_cast<double>(step), unbiased = own ? less_power(beta1, tau) : rates.unbiased;
    return {T(lr / unbiased), T(beta1), T(1 - beta1), T(beta2), T(1 - beta2), T(1 / less_power(beta2, tau)), T(eps)};
  }
  bool operator==(const Adam&) const = default;
};

using OptimizerRule = std::variant<SGD, Momentum, AdaGrad, RMSProp, Adam>;

/// Returns the rule's constants for weights with the learning rate `lr`.
template <class T, class Rule>
GD_FORMULA auto kernel_of(const Rule& rule, double lr, std::int64_t step, const StepRates& rates) {
  if constexpr (requires { rule.template at<T>(lr, step, rates); }) {
    return rule.template at<T>(lr, step, rates);
  } else {
    return rule.template at<T>(lr, step);
  }
}

/// A moving average after a value has moved: average + rate (value - average), and the value itself at rate 1.
template <class T>
GD_FORMULA T averaged(T average, T value, T rate) {
  return rate == T(1) ? value : average + rate * (value - average);
}

inline int state_count(const OptimizerRule& rule) {
  return std::visit([](const auto& r) { return r.states; }, rule);
}

/// Whether weight decay shrinks the weights directly instead of adding to the gradient: a rule's member `decoupled`.
inline bool decouples_decay(const OptimizerRule& rule) {
  return std::visit(
      [](const auto& r) {
        if constexpr (requires { r.decoupled; }) {
          return r.decoupled;
        } else {
          return false;
        }
      },
      rule);
}

/// Whether a state of a rule is a sum or an average of squares, which is never negative: a rule's member `squares`.
inline bool is_of_squares(const OptimizerRule& rule, int state) {
  return std::visit(
      [&](const auto& r) {
        if constexpr (requires { r.squares; }) {
          return r.squares[static_cast<std::size_t>(state)];
        } else {
          return false;
        }
      },
      rule);
}

/// One number for all layers, one per layer with weights, or by layer name ("layers.0"). Monostate: the default.
using PerLayer = std::variant<std::monostate, double, std::vector<double>, std::vector<std::pair<std::string, double>>>;

/// A rule with the options that are not part of its formula.
struct Optimizer {
  OptimizerRule rule;
  PerLayer weight_decay;
  bool decay_biases = false;  // biases, γ and β too
  PerLayer lr_factors;
  std::optional<double> clip_norm, clip_value;
};

/// Throws std::invalid_argument where a hyperparameter is out of range for a model of `dtype`.
void check_optimizer(const Optimizer& optimizer, DType dtype);

/// A range of the arena with one rate and one decay.
struct Segment {
  std::int64_t begin = 0, count = 0;
  double lr_factor = 1.0, weight_decay = 0.0;  // of them, before the factors of the step
};

}  // namespace gdcore
