#include "limits.h"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <thread>

#include "gdcore/backend.h"
#include "gdcore/parallel.h"
#include "limit_kernels.h"

namespace gdcore::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// One pass of one thread over its own memory.
using Pass = std::function<void(int thread)>;

struct Effort {
  double seconds;  // seconds of one timing
  int rounds;      // number of timings, of which the best counts
};

LimitKernels kernels_of([[maybe_unused]] const std::string& isa) {
#ifdef GDCORE_HAS_X86_ISAS
  if (isa == "avx512" || isa == "amx") return avx512::limit_kernels();
  if (isa == "avx2") return avx2::limit_kernels();
#endif
  return baseline::limit_kernels();
}

/// Returns the seconds of `passes` passes of every thread; all threads start together.
double time_passes(int threads, std::int64_t passes, const Pass& pass) {
  std::barrier gate(threads);
  std::vector<Clock::time_point> begin(static_cast<std::size_t>(threads)), end(begin.size());
  const auto work = [&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    if (passes > 1) pass(thread);  // not timed: loads this processor's caches
    gate.arrive_and_wait();
    begin[t] = Clock::now();
    for (std::int64_t i = 0; i < passes; ++i) pass(thread);
    end[t] = Clock::now();
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
  }
  return std::chrono::duration<double>(*std::ranges::max_element(end) - *std::ranges::min_element(begin)).count();
}

/// Returns the passes per second, the best of several timings.
double best_rate(int threads, const Effort& effort, const Pass& pass) {
  std::int64_t passes = 1;
  double seconds = time_passes(threads, passes, pass);
  while (seconds < effort.seconds / 4 && passes < (std::int64_t{1} << 40)) {
    passes *= 4;
    seconds = time_passes(threads, passes, pass);
  }
  passes = std::max<std::int64_t>(1, std::llround(static_cast<double>(passes) * effort.seconds / seconds));
  double best = 0.0;
  for (int round = 0; round < effort.rounds; ++round) {
    best = std::max(best, static_cast<double>(passes) / time_passes(threads, passes, pass));
  }
  return best;
}

Caches find_caches() {
  Caches caches;
  for (const benchmark::CPUInfo::CacheInfo& cache : benchmark::CPUInfo::Get().caches) {
    const double size = static_cast<double>(cache.size);
    if (cache.type == "Instruction") continue;
    if (cache.level == 1) caches.first = size;
    if (cache.level == 2) caches.second = size / std::max(1, cache.num_sharing);
    if (cache.level >= 3) caches.last = std::max(caches.last, size);
  }
  return caches;
}

/// Memory for the passes, one range per thread; the thread itself touches it first.
class Stretches {
 public:
  Stretches(int threads, double bytes)
      : floats_(static_cast<std::int64_t>(bytes / threads / sizeof(float)) / kPage * kPage + 8 * kPage),
        buffer_(backend(Device::cpu), static_cast<std::size_t>(floats_ * threads) * sizeof(float)) {
    time_passes(threads, 1, [&](int thread) { std::fill_n(of(thread), floats_, 1.0f); });
  }
  float* of(int thread) const { return static_cast<float*>(buffer_.data()) + thread * floats_; }
  /// Returns array `number` of several with n floats. Their distance is no multiple of a page, which would delay loads
  /// after stores.
  float* array(int thread, int number, std::int64_t n) const {
    return of(thread) + number * ((n + kPage - 1) / kPage * kPage + kPage / 4);
  }

 private:
  static constexpr std::int64_t kPage = 1024;  // floats
  std::int64_t floats_;
  Buffer buffer_;
};

/// Returns the bytes of the largest pass: GDCORE_BENCH_STREAM_MB, else four times the last-level cache and at least
/// 1 GiB; at most a quarter of the machine's memory.
double stream_bytes(const Caches& caches) {
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  double wanted = std::max(4.0 * caches.last, 1024.0 * 1048576.0);
  if (const char* given = std::getenv("GDCORE_BENCH_STREAM_MB")) wanted = std::max(1.0, std::atof(given)) * 1048576.0;
  return std::min(wanted, memory / 4);
}

}  // namespace

struct Meter::Impl {
  std::string isa = backend(Device::cpu).description();
  int threads = num_threads();
  Caches caches = find_caches();
  LimitKernels k = kernels_of(isa);
  Effort effort;
  double most;  // bytes of the largest pass
  Stretches memory;

  explicit Impl(bool quick)
      : effort(quick ? Effort{2e-4, 1} : Effort{2e-3, 4}),
        most(quick ? 64e6 : stream_bytes(caches)),
        memory(threads, most) {}

  const char* level(double bytes) const {
    if (bytes <= caches.first * threads) return "L1";
    if (bytes <= caches.second * threads) return "L2";
    return bytes <= caches.last ? "L3" : "memory";
  }

  /// Returns the bytes per second of passes over `arrays` arrays per thread that move `moves` values per array element.
  template <class Kernel>
  double rate(double bytes, int arrays, int moves, const Kernel& kernel) const {
    const auto whole = static_cast<std::int64_t>(bytes / threads / arrays / sizeof(float)) / kStreamUnit * kStreamUnit;
    const std::int64_t n = std::max(whole, kStreamUnit);
    const auto pass = [&](int thread) {
      float* at[4];
      for (int i = 0; i < 4; ++i) at[i] = memory.array(thread, i, n);
      kernel(at, n);
    };
    return best_rate(threads, effort, pass) * static_cast<double>(n * threads * moves) * sizeof(float);
  }
};

Meter::Meter(bool quick) : impl_(std::make_unique<Impl>(quick)) {}
Meter::~Meter() = default;

const std::string& Meter::isa() const { return impl_->isa; }
int Meter::threads() const { return impl_->threads; }

double Meter::flops(DType dtype) const {
  constexpr std::int64_t kRounds = 100;
  const bool single = dtype == DType::float32;
  const auto loop = single ? impl_->k.fma32 : impl_->k.fma64;
  const std::int64_t flop = single ? impl_->k.fma32_flop : impl_->k.fma64_flop;
  const double rate = best_rate(impl_->threads, impl_->effort, [=](int) { benchmark::DoNotOptimize(loop(kRounds)); });
  return rate * static_cast<double>(kRounds * flop * impl_->threads);
}

Bandwidth Meter::bandwidth(double wanted) const {
  const LimitKernels& k = impl_->k;
  const double bytes = std::clamp(wanted, 8192.0 * impl_->threads, impl_->most);
  Bandwidth result{impl_->level(wanted), bytes, 0.0, 0.0, {}};
  const auto add = [&](const char* name, double& best, int arrays, int moves, const auto& kernel) {
    const double rate = impl_->rate(bytes, arrays, moves, kernel);
    result.loops.emplace_back(name, rate);
    best = std::max(best, rate);
  };
  using At = float* const*;  // one array of n floats each
  using N = std::int64_t;
  add("read", result.read, 1, 1, [&](At at, N n) { k.read(at[0], n); });
  add("read in four places", result.read, 1, 1, [&](At at, N n) { k.read_four(at[0], n); });
  add("copy", result.mixed, 2, 2, [&](At at, N n) { k.copy(at[0], at[1], n); });
  add("update", result.mixed, 2, 3, [&](At at, N n) { k.update(at[0], at[1], n); });
  add("triad", result.mixed, 3, 3, [&](At at, N n) { k.triad(at[0], at[1], at[2], n); });
  add("update of three", result.mixed, 4, 7, [&](At at, N n) { k.update_three(at[0], at[1], at[2], at[3], n); });
  if (result.level != "L1" && result.level != "L2") {
    add("copy past the cache", result.mixed, 2, 2, [&](At at, N n) { k.copy_past(at[0], at[1], n); });
    add("triad past the cache", result.mixed, 3, 3, [&](At at, N n) { k.triad_past(at[0], at[1], at[2], n); });
  }
  return result;
}

Limits Meter::survey() const {
  Limits limits{.fma32 = flops(DType::float32), .fma64 = flops(DType::float64), .levels = {}};
  const Caches& caches = impl_->caches;
  const double threads = impl_->threads;
  if (caches.first > 0.0) limits.levels.push_back(bandwidth(caches.first * threads / 2));
  if (caches.second > 0.0) limits.levels.push_back(bandwidth(caches.second * threads / 2));
  if (caches.last > 4 * caches.second * threads) limits.levels.push_back(bandwidth(2 * caches.second * threads));
  limits.levels.push_back(bandwidth(impl_->most));
  limits.levels.back().level = "memory";  // the largest pass
  return limits;
}

}  // namespace gdcore::bench
