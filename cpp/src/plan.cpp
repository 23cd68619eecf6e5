#include "gdcore/plan.h"

#include "gdcore/check.h"

namespace gdcore {

std::string Operation::describe() const {
  std::string text = layer->kind();
  if (last > first) text += std::string(" + ") + name_of(activation);
  return text;
}

namespace {

/// Appends the operations of a chain of layers; `number` counts layers, those inside a block before the block.
void append(Plan& plan, const std::vector<std::unique_ptr<Layer>>& layers, const Parameters& parameters, bool absorb,
            int& number) {
  const auto current = [&] { return static_cast<int>(plan.operations.size()) - 1; };  // kBatch at first
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = *layers[i];
    const Activation* next = i + 1 < layers.size() ? layers[i + 1]->as_activation() : nullptr;
    const bool absorbs = absorb && layer.absorbs() && next != nullptr;
    const int before = current();
    if (layer.inner() != nullptr) append(plan, *layer.inner(), parameters, absorb, number);
    const int first = number;
    number += absorbs ? 2 : 1;
    plan.operations.push_back({.layer = &layer,
                               .activation = absorbs ? *next : Identity{},
                               .first = first,
                               .last = number - 1,
                               .input = current(),
                               .skip = layer.inner() != nullptr ? before : kNothing,
                               .in = plan.out,
                               .out = layer.output_features(plan.out),
                               .statistics = layer.statistics(plan.out),
                               .computation = layer.computation(parameters)});
    plan.out = plan.operations.back().out;
    if (absorbs) ++i;
  }
}

}  // namespace

Plan Plan::chain(const std::vector<std::unique_ptr<Layer>>& layers, std::int64_t in, const Parameters& parameters,
                 bool absorb) {
  Plan plan{.operations = {}, .in = in, .out = in};
  int number = 0;
  append(plan, layers, parameters, absorb, number);
  return plan;
}

void Plan::validate() const {
  std::vector<bool> read(operations.size());
  const auto check_input = [&](std::size_t i, int input) {
    check<std::logic_error>(input >= kBatch && input < static_cast<int>(i), "[plan] operation ", i, " reads ", input);
    const auto from = static_cast<std::size_t>(input);
    const std::int64_t width = input == kBatch ? in : operations[from].out;
    check<std::logic_error>(operations[i].in == width, "[plan] operation ", i, " has ", operations[i].in,
                            " input columns; its input has ", width);
    if (input != kBatch) read[from] = true;
  };
  for (std::size_t i = 0; i < operations.size(); ++i) {
    check_input(i, operations[i].input);
    if (operations[i].skip != kNothing) check_input(i, operations[i].skip);
  }
  for (std::size_t i = 0; i + 1 < operations.size(); ++i) {
    check<std::logic_error>(read[i], "[plan] no operation reads the output of operation ", i);
  }
  check<std::logic_error>(!operations.empty() && operations.back().out == out,
                          "[plan] the last operation does not compute the output of width ", out);
}

}  // namespace gdcore
