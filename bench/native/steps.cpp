// Whole training steps with Adam: forward, loss, backward, optimiser. The share counts only the multiply-adds of the
// matrix products, so norms, activations, the loss and the optimiser count as lost time.
// allocs_per_step counts allocations from the heap or the system by all threads in steps after the first.
#include <memory>
#include <stdexcept>
#include <vector>

#include "gdcore/layers.h"
#include "gdcore/row_order.h"
#include "gdcore/trainer.h"
#include "support.h"

namespace gdcore::bench {

namespace {

enum class NormKind { none, batch, layer };

struct Net {
  const char* name;
  std::vector<std::int64_t> widths;  // inputs, hidden layers, outputs
  NormKind norm;
  std::int64_t batch;

  std::shared_ptr<Network> make(DType dtype) const {
    std::vector<std::unique_ptr<Layer>> layers;
    for (std::size_t i = 1; i < widths.size(); ++i) {
      layers.push_back(std::make_unique<Dense>(widths[i - 1], widths[i]));
      if (i + 1 == widths.size()) break;
      if (norm == NormKind::batch) layers.push_back(std::make_unique<BatchNorm>(widths[i]));
      if (norm == NormKind::layer) layers.push_back(std::make_unique<LayerNorm>(widths[i]));
      layers.push_back(std::make_unique<ActivationLayer>(ReLU{}));
    }
    return std::make_shared<Network>(std::move(layers), dtype, Device::cpu, 0);
  }
  /// Floating-point operations of the forward products over `rows` rows.
  double forward(std::int64_t rows) const {
    double sum = 0.0;
    for (std::size_t i = 1; i < widths.size(); ++i) sum += 2.0 * static_cast<double>(rows * widths[i - 1] * widths[i]);
    return sum;
  }
  /// Forward and two backward products per layer, without the gradient of the inputs.
  double step() const { return 3 * forward(batch) - 2.0 * static_cast<double>(batch * widths[0] * widths[1]); }
  double parameters() const {
    double sum = 0.0;
    for (std::size_t i = 1; i < widths.size(); ++i) sum += static_cast<double>((widths[i - 1] + 1) * widths[i]);
    return sum;
  }
};

/// Random inputs and labels.
struct Problem {
  Array x;
  std::vector<std::int32_t> labels;
  Dataset data;

  Problem(const Net& net, std::int64_t rows, DType dtype) : x(rows, net.widths.front(), dtype) {
    for (std::int64_t n = 0; n < rows; ++n) labels.push_back(static_cast<std::int32_t>(n * 7 % net.widths.back()));
    const SourceType type = dtype == DType::float32 ? SourceType::f32 : SourceType::f64;
    data = {{x.view().data, type, rows, net.widths.front(), net.widths.front()},
            {labels.data(), SourceType::i32, rows, 1, 1},
            {},
            true};
  }
};

/// So small that weights hardly change when batches are repeated, and no gradient vanishes.
constexpr double kRate = 1e-8;

Optimizer adam() {
  Optimizer optimizer;
  optimizer.rule = Adam{};
  return optimizer;
}

/// Checks that the counter counts; otherwise it would never report an allocation.
void check_counter() {
  const std::int64_t before = allocations();
  const Array from_heap(1, 1), from_system(1, 1 << 20);
  if (allocations() - before < 2) throw std::logic_error("[bench] the counter of allocations does not count");
}

/// Measures calls of `step` after some unmeasured ones, and counts allocations.
template <class Step>
void measure_steps(const Run& run, const Step& step) {
  check_counter();
  for (int i = 0; i < 10; ++i) step();
  run(step);
  // Counted outside the timing, over identical steps.
  constexpr int kCounted = 5;
  const std::int64_t before = allocations();
  for (int i = 0; i < kCounted; ++i) step();
  run.state().counters["allocs_per_step"] = static_cast<double>(allocations() - before) / kCounted;
}

void add_step(const Net& net, DType dtype = DType::float32) {
  const Work work{.flop = net.step(), .footprint = 16.0 * net.parameters(), .dtype = dtype};
  add(name("step", net.name, net.batch, name_of(dtype)), work, [=](const Run& run) {
    const Problem problem(net, net.batch, dtype);
    Trainer trainer(net.make(dtype), CrossEntropy{}, adam());
    measure_steps(run, [&] { trainer.step(problem.data, kRate); });
  });
}

/// Steps of an epoch over 16 shuffled batches, as in Trainer.fit: including the gathering of rows.
void add_epoch(const Net& net) {
  constexpr std::int64_t kBatches = 16;
  const Work work{.flop = net.step(), .footprint = 16.0 * net.parameters()};
  add(name("epoch-step", net.name, net.batch, "float32"), work, [=](const Run& run) {
    const std::int64_t rows = net.batch * kBatches;
    const Problem problem(net, rows, DType::float32);
    Trainer trainer(net.make(DType::float32), CrossEntropy{}, adam());
    const Permutation permutation = Permutation::of(rows, 1, 0);
    const StepRates rates = kRate;
    LossSums sums;
    std::int64_t next = 0;
    measure_steps(run, [&] {
      trainer.run(problem.data, {{nullptr, &permutation}, rows, net.batch, next, next + 1}, {&rates, 1}, 1e9, sums);
      next = (next + 1) % kBatches;
    });
  });
}

/// Forward and loss over one batch, without training.
void add_evaluation(const Net& net) {
  const Work work{.flop = net.forward(net.batch), .footprint = 4.0 * net.parameters()};
  add(name("evaluate", net.name, net.batch, "float32"), work, [=](const Run& run) {
    const Problem problem(net, net.batch, DType::float32);
    Trainer trainer(net.make(DType::float32), CrossEntropy{}, adam());
    measure_steps(run, [&] {
      benchmark::DoNotOptimize(trainer.evaluate(problem.data, {nullptr, net.batch, net.batch, 0, 1}, nullptr));
    });
  });
}

}  // namespace

void add_steps() {
  const Net nets[] = {{"64-32-10", {64, 32, 10}, NormKind::none, 32},
                      {"784-128-10", {784, 128, 10}, NormKind::none, 64},
                      {"784-512-512-10-batch-norm", {784, 512, 512, 10}, NormKind::batch, 128},
                      {"784-512-512-10-layer-norm", {784, 512, 512, 10}, NormKind::layer, 128},
                      {"1024x4-10", {1024, 1024, 1024, 1024, 10}, NormKind::none, 1024},
                      {"256x9-10-batch-norm", {256, 256, 256, 256, 256, 256, 256, 256, 256, 10}, NormKind::batch, 256}};
  for (const Net& net : nets) {
    add_step(net);
    add_epoch(net);
    add_evaluation(net);
  }
  add_step(nets[2], DType::float64);
  add_step({"33-17-3", {33, 17, 3}, NormKind::none, 1});           // single rows
  add_step({"1023-511-7", {1023, 511, 7}, NormKind::layer, 101});  // odd sizes
}

}  // namespace gdcore::bench
