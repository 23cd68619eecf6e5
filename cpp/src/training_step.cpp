#include "gdcore/training_step.h"

#include <cmath>
#include <optional>
#include <utility>

#include "gdcore/check.h"
#include "gdcore/parallel.h"
#include "gdcore/stack_memory.h"

namespace gdcore {

namespace {

/// Discards the saved forward pass on every exit, as the caller owns the batch that it refers to.
struct ForgetAtEnd {
  Executor& executor;
  ~ForgetAtEnd() { executor.forget(); }
};

}  // namespace

TrainingStep::TrainingStep(std::shared_ptr<Network> network, AnyLoss loss, Optimizer optimizer)
    : network_(std::move(network)),
      criterion_(std::move(loss), *network_),
      optimizer_(*network_, std::move(optimizer)),
      row_work_(std::as_const(*network_).parameters().layout.size()) {
  constexpr std::int64_t kOutput = 16;  // of an operation: activations, and access to memory
  for (const Operation& operation : network_->executor().plan().operations) row_work_ += kOutput * operation.out;
}

/// Returns the batch's sums; computes the gradients of their mean with respect to the parameters.
LossSums TrainingStep::differentiate(const Batch& batch, const StepContext& context) {
  Executor& executor = network_->executor();
  const View logits = executor.forward(batch.x, Executor::Mode::train, context);
  const LossSums sums = criterion_.apply(batch, logits, executor.output_gradient(), context.counters);
  if (!std::isfinite(sums.loss)) [[unlikely]] {
    throw DivergenceError(
        join("[Trainer] the loss became ", sums.loss, " at step ", context.step, "; ", diagnosis(*network_)));
  }
  executor.backward({});
  return sums;
}

bool TrainingStep::computes_alone(std::int64_t rows) const {
  constexpr std::int64_t kShared = 1 << 19, kCached = 1 << 18;  // multiply-adds of a forward pass; parameters
  const std::int64_t size = std::as_const(*network_).parameters().layout.size();
  return criterion_.on_device() && size < kCached && rows * row_work_ < kShared;
}

LossSums TrainingStep::run(const Batch& batch, const StepContext& context) {
  Executor& executor = network_->executor();
  const ForgetAtEnd guard{executor};
  const LossSums sums = differentiate(batch, context);
  const NoInterrupt whole;
  optimizer_.update(context);
  executor.commit();
  optimizer_.average_states(context);
  if (context.recorded()) network_->backend().recorder()->advance({context.counters, criterion_.sums(), batch.x.rows});
  return sums;
}

void TrainingStep::check_finite(const Batch& batch, const StepContext& context) {
  const ForgetAtEnd guard{network_->executor()};
  differentiate(batch, context);
  (void)optimizer_.pass(context);
}

StepProgram TrainingStep::program(const Dataset& data, const RowOrder& order, std::int64_t rows,
                                  const StepContext& context, const StackMemory* stack) {
  std::optional<OptimizerPass> pass;
  if (context.recorded()) {
    const OptimizerPass own = optimizer_.pass(context);
    pass.emplace(stack != nullptr ? stack->pass(own) : own);
  }
  return {.x = data.x,
          .y = data.y,
          .weights = data.weights,
          .labels = data.labels,
          .order = order,
          .rows = rows,
          .plan = network_->executor().plan(),
          .parameters = stack != nullptr ? stack->parameters() : std::as_const(*network_).parameters(),
          .precision = network_->precision(),
          .seed = context.seed,
          .loss = std::get<Loss>(criterion_.loss()),
          .class_weights = criterion_.class_weights(),
          .sums = stack != nullptr ? stack->sums() : criterion_.sums(),
          .optimizer = pass,
          .stack = stack != nullptr ? stack->stack() : NetworkStack{}};
}

}  // namespace gdcore
