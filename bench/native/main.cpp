// The benchmarks' main function: measures the machine's limits, runs the benchmarks, measures the limits again, prints
// a table and, with --benchmark_out=FILE, writes Google Benchmark's JSON with the limits in its context.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gdcore/parallel.h"
#include "support.h"

namespace gdcore::bench {

namespace {

/// Prints a line per benchmark: time, rate, share of the limit, and the name of the limit.
class Table final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    std::printf("%-62s %12s %9s %8s %7s  %s\n", "benchmark", "time in us", "GFLOP/s", "GB/s", "share", "of");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) print(run);
    std::fflush(stdout);
  }

 private:
  static void print(const Run& run) {
    const auto counter = [&](const char* name) {
      const auto found = run.counters.find(name);
      return found == run.counters.end() ? -1.0 : found->second.value;
    };
    const auto number = [](int width, int digits, double value) {
      if (value < 0.0) {
        std::printf(" %*s", width, "");
      } else {
        std::printf(" %*.*f", width, digits, value);
      }
    };
    std::string name = run.benchmark_name();
    const std::size_t suffix = name.find("/real_time");
    if (suffix != std::string::npos) name.erase(suffix, std::strlen("/real_time"));
    std::printf("%-62s", name.c_str());
    number(12, 2, run.GetAdjustedRealTime() * 1e6 / benchmark::GetTimeUnitMultiplier(run.time_unit));
    number(9, 1, counter("GFLOP/s"));
    number(8, 1, counter("GB/s"));
    number(6, 1, counter("peak"));
    std::printf("%%  %s", run.report_label.c_str());
    if (counter("allocs_per_step") > 0.0) std::printf("  ALLOCATES %g times a step", counter("allocs_per_step"));
    std::printf("\n");
  }
};

std::string text(double value, double unit) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4g", value / unit);
  return buffer;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

struct Figure {
  std::string name;
  double value;
};

std::vector<Figure> figures(const Limits& limits) {
  std::vector<Figure> all = {{"fma_float32_gflops", limits.fma32}, {"fma_float64_gflops", limits.fma64}};
  for (const Bandwidth& level : limits.levels) {
    all.push_back({level.level + "_gbs", level.mixed});
    all.push_back({level.level + "_read_gbs", level.read});
  }
  return all;
}

void describe(const std::string& key, const std::string& value) {
  benchmark::AddCustomContext(key, value);
  std::printf("%s: %s\n", key.c_str(), value.c_str());
}

/// Writes the limits at the start to the JSON's context and prints them.
void describe_start(const Limits& start) {
  describe("cpu_model", cpu_model());
  describe("isa", meter().isa());
  describe("threads", std::to_string(meter().threads()));
  for (const Bandwidth& level : start.levels) describe(level.level + "_working_set_kib", text(level.bytes, 1024.0));
  for (const Bandwidth& level : start.levels) {
    std::string loops;
    for (const auto& [name, rate] : level.loops) loops += (loops.empty() ? "" : ", ") + name + " " + text(rate, 1e9);
    describe(level.level + "_loops_gbs", loops);
  }
  for (const Figure& figure : figures(start)) describe(figure.name, text(figure.value, 1e9));
  std::printf("\n");
}

/// Writes and prints the drift of the limits since the start.
void describe_end(const Limits& start, const Limits& end) {
  const std::vector<Figure> before = figures(start), after = figures(end);
  std::printf("\n");
  for (std::size_t i = 0; i < before.size(); ++i) {
    describe(before[i].name + "_at_end", text(after[i].value, 1e9));
    describe(before[i].name + "_drift_percent", text(100.0 * (after[i].value / before[i].value - 1.0), 1.0));
  }
}

/// Stores all results until the limits are measured a second time, as JSON begins with the context.
class LateJson final : public benchmark::BenchmarkReporter {
 public:
  explicit LateJson(Limits start) : start_(std::move(start)) {}

  bool ReportContext(const Context& context) override {
    context_ = std::make_unique<Context>(context);
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override { runs_.push_back(runs); }
  void Finalize() override {
    if (!context_) return;
    describe_end(start_, meter().survey());
    benchmark::JSONReporter json;
    json.SetOutputStream(&GetOutputStream());
    json.SetErrorStream(&GetErrorStream());
    json.ReportContext(*context_);
    for (const std::vector<Run>& runs : runs_) json.ReportRuns(runs);
    json.Finalize();
  }

 private:
  Limits start_;
  std::unique_ptr<Context> context_;
  std::vector<std::vector<Run>> runs_;
};

struct Arguments {
  bool smoke = false, only_lists = false, writes = false;
  std::vector<char*> others;  // arguments of Google Benchmark
};

/// Parses --threads N (or --threads=N) and --smoke; keeps the other arguments.
Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--smoke") {
      arguments.smoke = true;
    } else if (argument == "--threads" && i + 1 < argc) {
      set_num_threads(std::atoi(argv[++i]));
    } else if (argument.starts_with("--threads=")) {
      set_num_threads(std::atoi(argument.c_str() + std::strlen("--threads=")));
    } else {
      if (argument.starts_with("--benchmark_list_tests")) arguments.only_lists = !argument.ends_with("false");
      if (argument.starts_with("--benchmark_out=")) arguments.writes = true;
      arguments.others.push_back(argv[i]);
    }
  }
  return arguments;
}

int run(int argc, char** argv) {
  Arguments arguments = parse(argc, argv);
  // Comes first, so that the same option given by the user overrides it.
  std::string least_time = arguments.smoke ? "--benchmark_min_time=0.001" : "--benchmark_min_time=0.2";
  arguments.others.insert(arguments.others.begin() + 1, least_time.data());
  int count = static_cast<int>(arguments.others.size());
  benchmark::Initialize(&count, arguments.others.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.others.data())) return 2;

  set_smoke(arguments.smoke);
  add_dense();
  add_activations();
  add_norms();
  add_losses();
  add_optimizers();
  add_data();
  add_steps();
  Limits start;
  if (!arguments.only_lists) {
    make_meter(arguments.smoke);
    start = meter().survey();
    describe_start(start);
  }
  Table table;
  LateJson json(start);
  const std::size_t ran = benchmark::RunSpecifiedBenchmarks(&table, arguments.writes ? &json : nullptr);
  benchmark::Shutdown();
  return ran > 0 ? 0 : 1;
}

}  // namespace

}  // namespace gdcore::bench

int main(int argc, char** argv) {
  try {
    return gdcore::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
