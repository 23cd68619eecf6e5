// Times single operations of the CUDA backend and writes a line of JSON for each: name, time of one call, the bytes or
// operations that it has to do at least (each input read once, each output written once, what is updated both), and
// what a second makes of them.
//
// Usage: gdcore_gpu_kernels [--seconds S] [--tiny]     (GDCORE_CUDA_LIBRARY names another library than the installed)
//
// Calls are recorded as a graph, as training does, and the graph is launched again and again, so that launches from the
// host do not count. A time is the median of five stretches of S seconds. Large arrays are several times the L2 cache.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "gdcore/backend.h"

namespace gdcore::bench {

namespace {

double stretch_seconds = 0.02;
bool tiny = false;

Backend& cuda() { return backend(Device::cuda); }
/// A size, or a small one in its place where only the program itself is tried.
std::int64_t large(std::int64_t size) { return tiny ? std::min<std::int64_t>(size, 70) : size; }

/// A matrix of random numbers in [-1, 1) times `scale` plus `offset`, in the device's memory.
class Array {
 public:
  Array(std::int64_t rows, std::int64_t cols, double scale = 1.0, double offset = 0.0)
      : buffer_(cuda(), bytes(rows, cols)), view_{buffer_.data(), rows, cols, DType::float32} {
    constexpr std::size_t kPattern = 8191 * 64;  // drawn once and repeated
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

/// What one call has to do at least.
struct Work {
  double bytes = 0.0, flop = 0.0;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  cuda().wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of one call, the median of five stretches.
double time_call(const std::function<void()>& call, int calls_in_graph) {
  call();  // memory, heuristics and modules are there when the clock starts
  cuda().wait();
  std::unique_ptr<StepGraph> graph;
  if (StepRecorder* recorder = cuda().recorder()) {
    graph = recorder->record([&] {
      for (int i = 0; i < calls_in_graph; ++i) call();
    });
  }
  const auto repeat = [&](int times) {
    for (int i = 0; i < times; ++i) {
      if (graph) {
        graph->launch();
      } else {
        for (int k = 0; k < calls_in_graph; ++k) call();
      }
    }
  };
  const double once = seconds_of([&] { repeat(1); });
  const int times = std::clamp(static_cast<int>(stretch_seconds / std::max(once, 1e-6)), 1, 10'000);
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) seconds.push_back(seconds_of([&] { repeat(times); }) / times / calls_in_graph);
  std::sort(seconds.begin(), seconds.end());
  return seconds[2];
}

void measure(const std::string& name, const Work& work, const std::function<void()>& call, int calls_in_graph = 8) {
  try {
    const double seconds = time_call(call, tiny ? 1 : calls_in_graph);
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

void measure_copy() {
  const std::int64_t n = large(256 << 20);
  const Array from(1, n), to(1, n);
  measure("copy/" + std::to_string(n), {.bytes = 2 * matrix_bytes(1, n)},
          [&] { cuda().copy(to.view().data, from.view().data, to.view().bytes(), CopyKind::within); });
}

void measure_node() {
  StepRecorder* recorder = cuda().recorder();
  if (recorder == nullptr) return;
  const Buffer counters(cuda(), sizeof(StepCounters)), sums(cuda(), sizeof(LossSums));
  const Advance call{static_cast<StepCounters*>(counters.data()), static_cast<const LossSums*>(sums.data()), 1};
  measure("graph node/advance", {}, [&] { recorder->advance(call); }, 512);
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

void measure_loss(std::int64_t rows, std::int64_t classes) {
  const Array logits(rows, classes, 3.0), grad(rows, classes);
  std::vector<std::int32_t> host;
  for (std::int64_t n = 0; n < rows; ++n) host.push_back(static_cast<std::int32_t>(n * 7 % classes));
  const Buffer labels(cuda(), host.size() * sizeof(std::int32_t)), sums(cuda(), sizeof(LossSums));
  cuda().copy(labels.data(), host.data(), labels.bytes(), CopyKind::to_device);
  const Loss loss = CrossEntropy{};
  const LossPass call{loss,        logits.view(),
                      {},          static_cast<const std::int32_t*>(labels.data()),
                      {},          {},
                      grad.view(), static_cast<LossSums*>(sums.data())};
  measure("cross-entropy/" + shape(rows, classes),
          {.bytes = 2 * matrix_bytes(rows, classes) + 4.0 * static_cast<double>(rows)}, [&] { cuda().loss(call); });
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
  const struct {
    Precision precision;
    const char* name;
  } kinds[] = {{Precision::full, "float32"}, {Precision::tf32, "tf32"}, {Precision::bfloat16, "bfloat16"}};
  for (const auto& kind : kinds) {
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

void run() {
  measure_copy();
  measure_node();
  measure_optimizers();
  for (const bool batch : {false, true}) {
    for (const std::int64_t cols : {1024, 256, 4096, 64, 16384})
      measure_norm(batch, large((64 << 20) / cols), large(cols));
    measure_norm(batch, 64, large(512));
  }
  for (const std::int64_t classes : {10, 100, 1000}) measure_loss(large(100'000'000 / classes), large(classes));
  measure_loss(128, 10);
  measure_elementwise();
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
