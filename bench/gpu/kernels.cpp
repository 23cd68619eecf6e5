// Times single operations of the CUDA backend and writes a line of JSON for each: name, time of one call, the least
// bytes or floating-point operations (each input read once, each output written once, updated arrays both), and the
// rates.
//
// Usage: gdcore_gpu_kernels [--seconds S] [--tiny]     (GDCORE_CUDA_LIBRARY: a library other than the installed one)
//
// Calls are recorded as a graph, as in training, and the graph is launched repeatedly, so that launches from the host
// do not count: a graph of a short operation has so many calls that it takes longer than its launch. A time is the
// median of five measurements of S seconds. Large arrays are several times the L2 cache.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gdcore/step_program.h"

namespace gdcore::bench {

namespace {

double stretch_seconds = 0.02;
bool tiny = false;

Backend& cuda() { return backend(Device::cuda); }
/// Returns the size, limited to 70 with --tiny, which only tests the program.
std::int64_t large(std::int64_t size) { return tiny ? std::min<std::int64_t>(size, 70) : size; }

/// A matrix of random values in [-1, 1) times `scale` plus `offset`, in device memory.
class Array {
 public:
  Array(std::int64_t rows, std::int64_t cols, double scale = 1.0, double offset = 0.0)
      : buffer_(cuda(), bytes(rows, cols)), view_{buffer_.data(), rows, cols, DType::float32} {
    constexpr std::size_t kPattern = 8191 * 64;  // generated once and repeated
    std::vector<float> numbers(std::min(kPattern, static_cast<std::size_t>(rows * cols)));
    std::uint64_t state = 88172645463325252u;
    for (float& number : numbers) {  // xorshift
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      number = static_cast<float>(offset + scale * (static_cast<double>(state >> 11) * 0x1p-52 - 1.0));
    }
    for (std::size_t done = 0; done < view_.bytes();) {
      const std::size_t count = std::min(numbers.size() * sizeof(float), view_.bytes() - done);
      cuda().copy(static_cast<char*>(view_.data) + done, numbers.data(), count, CopyKind::to_device);
      done += count;
    }
  }
  View view() const { return view_; }

 private:
  static std::size_t bytes(std::int64_t rows, std::int64_t cols) {
    return static_cast<std::size_t>(rows * cols) * sizeof(float);
  }
  Buffer buffer_;
  View view_;
};

/// The least work of one call.
struct Work {
  double bytes = 0.0, flop = 0.0;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  cuda().wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr int kMostCalls = 64;

/// Returns the seconds of one call, the median of five measurements. `before` prepares kMostCalls calls.
double time_call(const std::function<void()>& call, const std::function<void()>& before) {
  before();
  call();  // allocates memory, runs heuristics and loads modules before the timing
  cuda().wait();
  const int calls = tiny ? 1 : seconds_of(call) < 1e-4 ? kMostCalls : 8;
  const std::unique_ptr<StepGraph> graph = cuda().recorder()->record([&] {
    before();
    for (int i = 0; i < calls; ++i) call();
  });
  const auto repeat = [&](int times) {
    for (int i = 0; i < times; ++i) graph->launch();
  };
  repeat(1);  // uploads the graph to the device
  cuda().wait();
  const double once = seconds_of([&] { repeat(1); });
  const int times = std::clamp(static_cast<int>(stretch_seconds / std::max(once, 1e-6)), 1, 10'000);
  std::vector<double> seconds;
  for (int i = 0; i < (tiny ? 1 : 5); ++i) seconds.push_back(seconds_of([&] { repeat(times); }) / times / calls);
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void measure(
    const std::string& name, const Work& work, const std::function<void()>& call,
    const std::function<void()>& before = [] {}) {
  try {
    const double seconds = time_call(call, before);
    std::printf("{\"name\": \"%s\", \"microseconds\": %.4g, \"bytes\": %.6g, \"flop\": %.6g, ", name.c_str(),
                1e6 * seconds, work.bytes, work.flop);
    std::printf("\"gigabytes_per_second\": %.5g, \"teraflops\": %.5g}\n", 1e-9 * work.bytes / seconds,
                1e-12 * work.flop / seconds);
  } catch (const std::exception& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '"', '\'');
    std::replace(text.begin(), text.end(), '\n', ' ');
    std::printf("{\"name\": \"%s\", \"failed\": \"%s\"}\n", name.c_str(), text.c_str());
  }
  std::fflush(stdout);
}

std::string shape(std::int64_t rows, std::int64_t cols) { return std::to_string(rows) + "x" + std::to_string(cols); }
double matrix_bytes(std::int64_t rows, std::int64_t cols) { return 4.0 * static_cast<double>(rows * cols); }

constexpr struct {
  Precision precision;
  const char* name;
} kPrecisions[] = {{Precision::full, "float32"}, {Precision::tf32, "tf32"}, {Precision::bfloat16, "bfloat16"}};

/// Copies `count` values to the device.
template <class T>
Buffer numbers(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& number) {
  std::vector<T> host;
  for (std::int64_t i = 0; i < count; ++i) host.push_back(static_cast<T>(number(i)));
  Buffer buffer(cuda(), host.size() * sizeof(T));
  cuda().copy(buffer.data(), host.data(), buffer.bytes(), CopyKind::to_device);
  return buffer;
}

void measure_copy() {
  const std::int64_t n = large(256 << 20);
  const Array from(1, n), to(1, n);
  measure("copy/" + std::to_string(n), {.bytes = 2 * matrix_bytes(1, n)},
          [&] { cuda().copy(to.view().data, from.view().data, to.view().bytes(), CopyKind::within); });
}

void measure_node() {
  const Buffer counters(cuda(), sizeof(StepCounters)), sums(cuda(), sizeof(LossSums));
  const Advance call{static_cast<StepCounters*>(counters.data()), static_cast<const LossSums*>(sums.data()), 1};
  measure("graph node/advance", {}, [&] { cuda().recorder()->advance(call); });
}

void measure_optimizers() {
  const struct {
    OptimizerRule rule;
    const char* name;
  } kinds[] = {
      {Adam{}, "Adam"}, {SGD{}, "SGD"}, {Momentum{}, "Momentum"}, {AdaGrad{}, "AdaGrad"}, {RMSProp{}, "RMSProp"}};
  for (const std::int64_t wanted : {100'000'000, 1'000'000, 10'000}) {
    const std::int64_t n = large(wanted);
    const Array parameters(1, n), gradients(1, n, 0.4, 0.5), first(1, n, 0.0), second(1, n, 0.0);
    const std::vector<Segment> segments{{0, n, 1.0, 0.0}};
    for (const auto& kind : kinds) {
      OptimizerPass pass{kind.rule, parameters.view(), gradients.view(), {}, segments, 1e-6, 1};
      const int states = state_count(kind.rule);
      if (states > 0) pass.states[0] = first.view();
      if (states > 1) pass.states[1] = second.view();
      measure(std::string("optimizer/") + kind.name + "/" + std::to_string(n),
              {.bytes = (3 + 2 * states) * matrix_bytes(1, n)}, [&] { cuda().optimizer_step(pass); });
    }
  }
}

void measure_norm(bool batch, std::int64_t rows, std::int64_t cols) {
  const Array x(rows, cols), y(rows, cols), dy(rows, cols), gamma(1, cols), beta(1, cols), dgamma(1, cols),
      dbeta(1, cols);
  const std::int64_t groups = batch ? cols : rows;
  const Array mean(1, groups), rstd(1, groups), variance(1, groups);
  const std::string kind = batch ? "batch-norm/" : "layer-norm/";
  const double once = matrix_bytes(rows, cols);
  measure(kind + "forward/" + shape(rows, cols), {.bytes = 2 * once}, [&] {
    if (batch) {
      cuda().batch_norm_forward({x.view(),
                                 gamma.view(),
                                 beta.view(),
                                 1e-5,
                                 Identity{},
                                 y.view(),
                                 mean.view(),
                                 rstd.view(),
                                 variance.view(),
                                 {}});
    } else {
      cuda().layer_norm_forward(
          {x.view(), gamma.view(), beta.view(), 1e-5, Identity{}, y.view(), mean.view(), rstd.view(), {}});
    }
  });
  measure(kind + "backward/" + shape(rows, cols), {.bytes = 3 * once}, [&] {
    const NormBackward call{x.view(),  gamma.view(), mean.view(),   rstd.view(),  Identity{}, {},
                            dy.view(), y.view(),     dgamma.view(), dbeta.view(), false};
    batch ? cuda().batch_norm_backward(call) : cuda().layer_norm_backward(call);
  });
}

void measure_loss(const char* name, const Loss& loss, std::int64_t rows, std::int64_t outputs) {
  const bool has_labels = std::holds_alternative<CrossEntropy>(loss);
  const Array logits(rows, outputs, 3.0), grad(rows, outputs), targets(has_labels ? 1 : rows, outputs, 0.5, 0.5);
  const Buffer labels = numbers<std::int32_t>(rows, [&](std::int64_t n) { return n * 7 % outputs; });
  const Buffer sums(cuda(), sizeof(LossSums));
  LossPass call{.loss = loss,
                .logits = logits.view(),
                .targets = targets.view(),
                .labels = nullptr,
                .weights = {},
                .class_weights = {},
                .grad = grad.view(),
                .sums = static_cast<LossSums*>(sums.data())};
  if (has_labels) {
    call.targets = {};
    call.labels = static_cast<const std::int32_t*>(labels.data());
  }
  const double read = has_labels ? 4.0 * static_cast<double>(rows) : matrix_bytes(rows, outputs);
  measure(std::string(name) + "/" + shape(rows, outputs), {.bytes = 2 * matrix_bytes(rows, outputs) + read},
          [&] { cuda().loss(call); });
}

void measure_losses() {
  for (const std::int64_t classes : {10, 100, 1000}) {
    measure_loss("cross-entropy", CrossEntropy{}, large(100'000'000 / classes), large(classes));
  }
  measure_loss("cross-entropy", CrossEntropy{}, 128, 10);
  for (const std::int64_t outputs : {1, 100}) {
    measure_loss("mean-squared-error", MeanSquaredError{}, large(100'000'000 / outputs), large(outputs));
    measure_loss("binary-cross-entropy", BinaryCrossEntropy{}, large(100'000'000 / outputs), large(outputs));
  }
}

/// Gathers rows in scattered order from a source several times the L2 cache.
void measure_gather(std::int64_t batch, std::int64_t cols) {
  const std::int64_t rows = std::max<std::int64_t>(large((256 << 20) / (4 * cols)), batch);
  const Array source(rows, cols), to(batch, cols);
  const Buffer order = numbers<std::int64_t>(batch, [&](std::int64_t i) { return i * 7919 % rows; });
  const Gather call{.source = {source.view().data, SourceType::f32, rows, cols, cols, Device::cuda},
                    .order = static_cast<const std::int64_t*>(order.data()),
                    .count = batch,
                    .to = to.view().data};
  measure("gather/" + shape(batch, cols), {.bytes = 2 * matrix_bytes(batch, cols) + 8.0 * static_cast<double>(batch)},
          [&] { cuda().gather(call); });
}

void measure_elementwise() {
  const std::int64_t n = large(100'000'000);
  const Array x(1, n), y(1, n);
  measure("activation/GELU/forward/" + std::to_string(n), {.bytes = 2 * matrix_bytes(1, n)},
          [&] { cuda().activation_forward(GELU{}, x.view(), y.view()); });
  measure("dropout/" + std::to_string(n), {.bytes = 2 * matrix_bytes(1, n)},
          [&] { cuda().dropout({x.view(), y.view(), 0.5, 1, 2}); });
}

void measure_dense(std::int64_t rows, std::int64_t in, std::int64_t out) {
  const Array x(rows, in), weight(out, in, 0.1), bias(1, out), y(rows, out), dx(rows, in), dweight(out, in),
      dbias(1, out);
  const double flop = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
  for (const auto& kind : kPrecisions) {
    const std::string size = shape(rows, in) + "x" + std::to_string(out) + "/" + kind.name;
    measure("dense/forward/" + size, {.flop = flop}, [&] {
      cuda().dense_forward({x.view(), weight.view(), bias.view(), ReLU{}, y.view(), {}, kind.precision});
    });
    measure("dense/backward/" + size, {.flop = 2 * flop}, [&] {
      cuda().dense_backward({x.view(), weight.view(), ReLU{}, y.view(), y.view(), dx.view(), dweight.view(),
                             dbias.view(), kind.precision});
    });
  }
}

/// Makes the plan of a network with two hidden layers and ten classes; returns the size of its arena.
std::int64_t perceptron(std::int64_t width, Plan& plan) {
  std::int64_t size = 0;
  const auto take = [&](std::int64_t count) { return std::exchange(size, size + (count + 63) / 64 * 64); };
  for (const std::int64_t out : {width, width, std::int64_t{10}}) {
    const std::int64_t weight = take(width * out), bias = take(out);
    plan.operations.push_back({.activation = out == width ? Activation{ReLU{}} : Activation{Identity{}},
                               .input = static_cast<int>(plan.operations.size()) - 1,
                               .in = width,
                               .out = out,
                               .computation = DenseComputation{weight, bias}});
  }
  plan.in = width;
  plan.out = 10;
  return size;
}

/// Whole steps in two launches. Each step reads the rows after those of the previous one; a graph starts at the first.
void measure_fused_mlp(std::int64_t batch, std::int64_t width) {
  const std::int64_t rows = kMostCalls * batch;
  Plan plan;
  const std::int64_t n = perceptron(width, plan);
  const Parameters none(DType::float32);
  const Array x(rows, width), parameters(1, n, 0.2), gradients(1, n), first(1, n, 0.0), second(1, n, 0.0);
  const Buffer labels = numbers<std::int32_t>(rows, [](std::int64_t i) { return i % 10; });
  const Buffer counters(cuda(), sizeof(StepCounters)), zeros(cuda(), sizeof(StepCounters));
  const Buffer rates(cuda(), kMostCalls * sizeof(StepRates)), sums(cuda(), sizeof(LossSums));
  const std::vector<StepRates> still(kMostCalls);  // rates of zero
  cuda().copy(rates.data(), still.data(), rates.bytes(), CopyKind::to_device);
  const std::vector<Segment> segments{{0, n, 1.0, 0.0}};
  const OptimizerRule rule = Adam{};
  const Loss loss = CrossEntropy{};
  OptimizerPass pass{rule, parameters.view(), gradients.view(), {first.view(), second.view()}, segments, 0.0, 1};
  pass.counters = static_cast<StepCounters*>(counters.data());
  pass.schedule = static_cast<const StepRates*>(rates.data());
  const double weights = static_cast<double>(2 * width * width + 10 * width);
  const double flop = 2.0 * static_cast<double>(batch) * (3.0 * weights - static_cast<double>(width * width));
  const auto restart = [&] { cuda().copy(counters.data(), zeros.data(), counters.bytes(), CopyKind::within); };
  for (const auto& kind : kPrecisions) {
    const auto step = cuda().fuse({.x = {x.view().data, SourceType::f32, rows, width, width, Device::cuda},
                                   .y = {labels.data(), SourceType::i32, rows, 1, 1, Device::cuda},
                                   .weights = {},
                                   .labels = true,
                                   .order = {},
                                   .rows = batch,
                                   .plan = plan,
                                   .parameters = none,
                                   .precision = kind.precision,
                                   .seed = 0,
                                   .loss = loss,
                                   .class_weights = {},
                                   .sums = static_cast<LossSums*>(sums.data()),
                                   .optimizer = pass});
    if (step == nullptr) continue;  // too much work for a fused step
    restart();
    measure(
        "fused MLP step/" + std::to_string(width) + "x3/" + std::to_string(batch) + "/" + kind.name, {.flop = flop},
        [&] { step->run(); }, restart);
  }
}

void run() {
  measure_copy();
  measure_node();
  measure_optimizers();
  for (const bool batch : {false, true}) {
    for (const std::int64_t cols : {1024, 256, 4096, 64, 16384})
      measure_norm(batch, large((64 << 20) / cols), large(cols));
    measure_norm(batch, 64, large(512));
  }
  measure_losses();
  measure_elementwise();
  measure_gather(large(65'536), large(784));
  measure_gather(large(1'000'000), 32);
  measure_gather(128, large(784));
  for (const std::int64_t width : {32, 64, 128}) {
    measure_fused_mlp(tiny ? 20 : 64, width);
    if (!tiny) measure_fused_mlp(16'384, width);
  }
  measure_dense(large(8192), large(8192), large(8192));
  measure_dense(large(1024), large(1024), large(1024));
}

}  // namespace

}  // namespace gdcore::bench

int main(int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--tiny") {
      gdcore::bench::tiny = true;
    } else if (argument == "--seconds" && i + 1 < count) {
      gdcore::bench::stretch_seconds = std::atof(arguments[++i]);
    } else {
      std::fprintf(stderr, "usage: %s [--seconds S] [--tiny]\n", arguments[0]);
      return 2;
    }
  }
  try {
    gdcore::bench::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
