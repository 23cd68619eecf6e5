// The optimiser's single pass over the arena: g ← clip(g · grad_scale), decay, rule (optimizer_rules.h), moving average
// of the weights; and sums of squares, additions, averages. Bytes per parameter in float32: SGD 12, Momentum, AdaGrad
// and RMSProp 20, Adam 28; with a moving average 8 more.
#include <limits>
#include <variant>

#include "cpu_backend.h"
#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

template <class T>
struct Update {  // a range with one rate and one decay
  T *w, *s, *r, *average;
  const T* g;
  T grad_scale, clip, coupled, shrink, average_rate;

  /// Whether the rule alone changes the weights.
  bool is_plain() const {
    return grad_scale == T(1) && clip == std::numeric_limits<T>::infinity() && coupled == T(0) && shrink == T(1);
  }
};

/// Plain: see Update::is_plain. The operations left out would take a quarter of Adam's time on data in the caches.
template <class T, int States, bool Averages, bool Plain, class Kernel>
GD_INLINE void update(const Update<T>& u, const Kernel& kernel, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    T w = u.w[i], g = u.g[i];
    if constexpr (!Plain) {
      g *= u.grad_scale;
      g = u.clip < g ? u.clip : g;  // min and max in this order of operands keep NaN
      g = -u.clip > g ? -u.clip : g;
      g += u.coupled * w;
      w *= u.shrink;
    }
    T s = T(0), r = T(0);
    if constexpr (States > 0) s = u.s[i];
    if constexpr (States > 1) r = u.r[i];
    apply_rule(kernel, w, g, s, r);
    u.w[i] = w;
    if constexpr (Averages) u.average[i] = averaged(u.average[i], w, u.average_rate);
    if constexpr (States > 0) u.s[i] = s;
    if constexpr (States > 1) u.r[i] = r;
  }
}

template <class T, class Rule>
void step(const OptimizerPass& call, const Rule& rule) {
  const bool decoupled = decouples_decay(call.rule), averages = call.average && call.rates.average != 0.0;
  parallel_for(call.parameters.size(), 1 + Rule::states + averages, 64, [&](std::int64_t begin, std::int64_t end) {
    for (const Segment& segment : call.segments) {
      const std::int64_t first = max(begin, segment.begin), last = min(end, segment.begin + segment.count);
      if (first >= last) continue;
      const double lr = call.rates.lr * segment.lr_factor, decay = segment.weight_decay * call.rates.decay;
      const auto kernel = kernel_of<T>(rule, lr, call.step, call.rates);
      const Update<T> u{call.parameters.as<T>(),
                        call.states[0].as<T>(),
                        call.states[1].as<T>(),
                        call.average.as<T>(),
                        call.gradients.as<T>(),
                        static_cast<T>(call.grad_scale),
                        static_cast<T>(call.clip_value),
                        static_cast<T>(decoupled ? 0.0 : decay),
                        static_cast<T>(decoupled ? 1.0 - lr * decay : 1.0),
                        static_cast<T>(call.rates.average)};
      if (averages) {
        update<T, Rule::states, true, false>(u, kernel, first, last);
      } else if (u.is_plain()) {
        update<T, Rule::states, false, true>(u, kernel, first, last);
      } else {
        update<T, Rule::states, false, false>(u, kernel, first, last);
      }
    }
  });
}

}  // namespace

void CpuBackend::optimizer_step(const OptimizerPass& call) {
  with_type(call.parameters.dtype,
            [&]<class T>(T) { std::visit([&](const auto& rule) { step<T>(call, rule); }, call.rule); });
}

double CpuBackend::sum_of_squares(ConstView x) {
  double result = 0.0;
  with_type(x.dtype, [&]<class T>(T) {
    const T* data = x.as<T>();
    result = ordered_sum<double>(x.size(), 1, [=](std::int64_t begin, std::int64_t end) {
      const T* part = data + begin;
      // In double: the square of a float32 gradient may overflow, the sum must not.
      return row_sum<double>(
          end - begin, [=](std::int64_t i) { return static_cast<double>(part[i]) * static_cast<double>(part[i]); });
    });
  });
  return result;
}

void CpuBackend::add(View to, ConstView x, double scale) {
  with_type(to.dtype, [&]<class T>(T) {
    T* sum = to.as<T>();
    const T *from = x.as<T>(), factor = static_cast<T>(scale);
    parallel_for(to.size(), 1, 64, [=](std::int64_t begin, std::int64_t end) {
      fill(sum, begin, end, false,
           [=](std::int64_t i) __attribute__((always_inline)) { return sum[i] + factor * from[i]; });
    });
  });
}

void CpuBackend::lerp(const Lerp& call) {
  const double decay = call.decay;
  with_type(call.average.dtype, [&]<class T>(T) {
    T* to = call.average.as<T>();
    const T* from = call.value.as<T>();
    for (std::int64_t i = 0; i < call.average.size(); ++i) {
      const double v = static_cast<double>(from[i]);
      to[i] = static_cast<T>(decay * static_cast<double>(to[i]) + (1.0 - decay) * (call.root ? math::sqrt(v) : v));
    }
  });
}

void CpuBackend::average(const AveragePass& call) {
  with_type(call.average.dtype, [&]<class T>(T) {
    T* to = call.average.as<T>();
    const T *from = call.value.as<T>(), rate = static_cast<T>(call.rate);
    for (std::int64_t i = 0; i < call.average.size(); ++i) to[i] = averaged(to[i], from[i], rate);
  });
}

}  // namespace gdcore::GDCORE_ISA
