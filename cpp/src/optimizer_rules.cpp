// Checks of an optimiser's hyperparameters.
#include "gdcore/optimizer_rules.h"

#include <cmath>

#include "gdcore/check.h"

namespace gdcore {

namespace {

void check_numbers(const PerLayer& given, const char* argument, DType dtype) {
  const auto check_one = [&](double value) {
    check(value >= 0.0 && std::isfinite(value), "[Optimizer] ", argument, ": got ", value, "; expected numbers >= 0");
    check(std::isfinite(rounded(value, dtype)), "[Optimizer] ", argument, ": got ", value, ", which is infinite in ",
          name_of(dtype), ", the model's dtype; expected numbers that ", name_of(dtype), " can represent");
  };
  if (const double* one = std::get_if<double>(&given)) check_one(*one);
  if (const auto* list = std::get_if<std::vector<double>>(&given)) {
    for (const double value : *list) check_one(value);
  }
  if (const auto* named = std::get_if<std::vector<std::pair<std::string, double>>>(&given)) {
    for (const auto& [name, value] : *named) check_one(value);
  }
}

void check_clip(const char* name, const std::optional<double>& value, DType dtype) {
  if (!value) return;
  check(*value > 0.0 && std::isfinite(*value), "[Optimizer] ", name, ": got ", *value,
        "; expected a positive number or None");
  check(rounded(*value, dtype) > 0.0, "[Optimizer] ", name, ": got ", *value, ", which is 0 in ", name_of(dtype),
        ", the model's dtype; expected a positive number in ", name_of(dtype));
}

}  // namespace

void check_optimizer(const Optimizer& optimizer, DType dtype) {
  std::visit([&](const auto& rule) { rule.validate(dtype); }, optimizer.rule);
  check_numbers(optimizer.weight_decay, "weight_decay", dtype);
  check_numbers(optimizer.lr_factors, "lr_factors", dtype);
  check_clip("clip_norm", optimizer.clip_norm, dtype);
  check_clip("clip_value", optimizer.clip_value, dtype);
}

}  // namespace gdcore
