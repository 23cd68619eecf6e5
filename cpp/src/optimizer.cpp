// Checks of an optimiser's numbers.
#include "gdcore/optimizer.h"

#include <cmath>

#include "gdcore/check.h"

namespace gdcore {

namespace {

void check_numbers(const PerLayer& given, const char* argument) {
  const auto check_one = [&](double value) {
    check(value >= 0.0 && std::isfinite(value), "[Optimizer] ", argument, " holds ", value, "; expected numbers >= 0");
  };
  if (const double* one = std::get_if<double>(&given)) check_one(*one);
  if (const auto* list = std::get_if<std::vector<double>>(&given)) {
    for (const double value : *list) check_one(value);
  }
  if (const auto* named = std::get_if<std::vector<std::pair<std::string, double>>>(&given)) {
    for (const auto& [name, value] : *named) check_one(value);
  }
}

void check_clip(const char* name, const std::optional<double>& value) {
  check(!value || (*value > 0.0 && std::isfinite(*value)), "[Optimizer] ", name, " is ", value.value_or(0.0),
        "; expected a positive number or None");
}

}  // namespace

void check_positive(const char* kind, const char* name, double value) {
  check(value > 0.0 && std::isfinite(value), "[", kind, "] ", name, " is ", value, "; expected a positive number");
}

void check_share(const char* kind, const char* name, double value) {
  check(value >= 0.0 && value < 1.0, "[", kind, "] ", name, " is ", value, "; expected 0 <= ", name, " < 1");
}

void check_optimizer(const Optimizer& optimizer) {
  std::visit([](const auto& rule) { rule.validate(); }, optimizer.rule);
  check_numbers(optimizer.weight_decay, "weight_decay");
  check_numbers(optimizer.lr_factors, "lr_factors");
  check_clip("clip_norm", optimizer.clip_norm);
  check_clip("clip_value", optimizer.clip_value);
}

}  // namespace gdcore
