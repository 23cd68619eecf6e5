#include "support.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "gdcore/parallel.h"

namespace gdcore::bench {

namespace {

constexpr std::int64_t kPattern = 8191;  // distinct random values; a prime, so that rows of round widths differ

template <class T>
void fill(T* data, std::int64_t n, double scale, double offset) {
  std::array<T, kPattern> pattern;
  std::uint64_t state = 88172645463325252u;
  for (T& value : pattern) {  // xorshift
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value = static_cast<T>(offset + scale * (static_cast<double>(state >> 11) * 0x1p-52 - 1.0));
  }
  constexpr std::int64_t kPiece = kPattern * 128;
  run_tasks((n + kPiece - 1) / kPiece, [&](std::int64_t task) {
    const std::int64_t end = std::min(n, (task + 1) * kPiece);
    for (std::int64_t i = task * kPiece; i < end; i += kPattern) {
      const auto count = static_cast<std::size_t>(std::min(kPattern, end - i));
      std::memcpy(data + i, pattern.data(), count * sizeof(T));
    }
  });
}

bool smoke = false;

std::unique_ptr<Meter>& only_meter() {
  static std::unique_ptr<Meter> instance;
  return instance;
}

}  // namespace

Array::Array(std::int64_t rows, std::int64_t cols, DType dtype, double scale, double offset)
    : buffer_(cpu(), static_cast<std::size_t>(rows * cols) * size_of(dtype)), view_{buffer_.data(), rows, cols, dtype} {
  with_type(dtype, [&]<class T>(T) { fill(as<T>(), rows * cols, scale, offset); });
}

Meter& meter() { return *only_meter(); }
void make_meter(bool quick) { only_meter() = std::make_unique<Meter>(quick); }
void set_smoke(bool on) { smoke = on; }

Bound measure_bound(const Work& work) {
  const double arithmetic = work.flop > 0.0 ? work.flop / meter().flops(work.dtype) : 0.0;
  const Bound products{arithmetic, work.dtype == DType::float32 ? "FMA float32" : "FMA float64"};
  if (work.bytes == 0.0) return products;
  const Bandwidth bandwidth = meter().bandwidth(work.working_set());
  const double transfer = work.bytes / (work.only_reads ? bandwidth.read : bandwidth.mixed);
  if (arithmetic >= transfer) return products;
  return {transfer, bandwidth.level + (work.only_reads ? " read" : "")};
}

void Run::prepare() const {
  if (before_.seconds == 0.0) before_ = measure_bound(work_);
}

void Run::report() const {
  using benchmark::Counter;
  // The better of the limits directly before and after the iterations: the speed of a shared machine changes.
  const Bound after = measure_bound(work_);
  const double seconds = std::min(before_.seconds, after.seconds);
  before_ = after;
  if (work_.flop > 0.0) state_.counters["GFLOP/s"] = Counter(work_.flop * 1e-9, Counter::kIsIterationInvariantRate);
  if (work_.bytes > 0.0) state_.counters["GB/s"] = Counter(work_.bytes * 1e-9, Counter::kIsIterationInvariantRate);
  state_.counters["peak"] = Counter(100.0 * seconds, Counter::kIsIterationInvariantRate);
  state_.SetLabel(after.name);
}

void add(const std::string& name, const Work& work, const std::function<void(const Run&)>& body) {
  if (smoke && (work.working_set() > 16e6 || work.flop > 1e9)) return;
  const auto before = std::make_shared<Bound>();
  const auto run = [=](benchmark::State& state) { body(Run(state, work, *before)); };
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace gdcore::bench
