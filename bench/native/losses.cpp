// Losses with the gradient of the outputs, and without it for evaluation.
#include <vector>

#include "support.h"

namespace gdcore::bench {

namespace {

struct Kind {
  const char* name;
  Loss loss;
  bool labels = false;         // integer labels instead of a target for each output
  bool class_weights = false;  // one for each output
};

void add_loss(const Kind& kind, std::int64_t rows, std::int64_t cols, bool with_grad, DType dtype = DType::float32) {
  // Reads logits and targets (or one label of 4 bytes per row), writes the gradient.
  const double bytes = static_cast<double>(rows * cols) * static_cast<double>(size_of(dtype));
  const double moved = bytes * (1 + !kind.labels + with_grad) + (kind.labels ? 4.0 * static_cast<double>(rows) : 0.0);
  const Work work{.bytes = moved, .only_reads = !with_grad, .dtype = dtype};
  const char* pass = with_grad ? "loss/gradient" : "loss/value";
  add(name(pass, kind.name, shape(rows, cols), name_of(dtype)), work, [=](const Run& run) {
    const Array logits(rows, cols, dtype, 3.0), grad(with_grad ? rows : 1, cols, dtype);
    const Array targets(kind.labels ? 1 : rows, cols, dtype, 0.5, 0.5), weights(1, cols, dtype, 0.5, 1.0);
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < rows; ++n) labels.push_back(static_cast<std::int32_t>(n * 7 % cols));
    LossSums sums;
    const LossPass call{kind.loss,
                        logits.view(),
                        kind.labels ? ConstView{} : ConstView(targets.view()),
                        kind.labels ? labels.data() : nullptr,
                        {},
                        kind.class_weights ? ConstView(weights.view()) : ConstView{},
                        with_grad ? grad.view() : View{},
                        &sums};
    run([&] {
      cpu().loss(call);
      benchmark::DoNotOptimize(sums.loss);
    });
  });
}

}  // namespace

void add_losses() {
  const Kind kinds[] = {{"MeanSquaredError", MeanSquaredError{}},
                        {"CrossEntropy-labels", CrossEntropy{}, true},
                        {"CrossEntropy-smoothed", CrossEntropy{{}, 0.1}, true},
                        {"CrossEntropy-weighted", CrossEntropy{}, true, true},
                        {"CrossEntropy-soft", CrossEntropy{}},
                        {"BinaryCrossEntropy", BinaryCrossEntropy{}},
                        {"BinaryCrossEntropy-weighted", BinaryCrossEntropy{}, false, true},
                        {"CrossEntropy-focal", CrossEntropy{{}, 0.0, 2.0}, true},
                        {"BinaryCrossEntropy-focal", BinaryCrossEntropy{{}, {}, 2.0}},
                        {"Huber", Huber{}},
                        {"Poisson", Poisson{}}};
  struct Shape {
    std::int64_t rows, cols;
  };
  for (const Kind& kind : kinds) {
    for (const Shape& s : {Shape{32, 10}, Shape{1024, 10}, Shape{1024, 1000}, Shape{131072, 1000}}) {
      add_loss(kind, s.rows, s.cols, true);
    }
    add_loss(kind, 1024, 10, false);
  }
  add_loss(kinds[0], 65536, 1, true);  // regression with one output
  add_loss(kinds[5], 65536, 1, true);  // two classes
  add_loss(kinds[1], 1024, 10, true, DType::float64);
}

}  // namespace gdcore::bench
