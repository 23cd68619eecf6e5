// Products by cuBLASLt. A row-major matrix is a transposed column-major one, so c = a b is computed as cᵀ = bᵀ aᵀ: the
// factors are swapped and no data is moved.
//
// The algorithm of a product is the library's first proposal, which depends on the shape, the types and the alignment
// of the pointers alone: the same bits in every process. With GDCORE_CUDA_TUNE=1 the first eight are timed and the
// fastest is used; then the last bits may differ between processes. Only algorithms that add the parts of a sum in a
// fixed order are allowed. GDCORE_CUDA_PRODUCTS=own selects our own kernel for all products, =rounded rounds bfloat16's
// factors in memory for all sizes.
//
// Precision::bfloat16 rounds the factors in memory first (bfloat16.cu) if that saves time. The library could round
// float32 factors itself, but it is not documented whether this is faster than TF32. Otherwise the product is computed
// in TF32, which is more precise (in float32 on devices without tensor cores for either).
//
// Threads may share a cuBLASLt handle, so there is one. Descriptors are on the stack of the call: they contain the
// pointer to the bias, and creating them needs no allocation. Algorithms are cached.
#include "matmul/matmul.h"

#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "backend/device.h"
#include "backend/thread_stream.h"
#include "gdcore/check.h"
#include "matmul/cublaslt.h"

namespace gdcore::cuda {

namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // NVIDIA's recommendation for Hopper
constexpr std::uintptr_t kBestAlignment = 16;              // no algorithm needs more
constexpr int kTuned = 8;                                  // timed proposals
constexpr std::size_t kMostPlans = 4096;

void check_cublas(lt::Status status, const char* function) {
  if (status == lt::kSuccess) [[likely]]
    return;
  throw DeviceError(join("[cuda] ", function, " failed: ", cublaslt().get_status_string(status)));
}

/// The value of GDCORE_CUDA_PRODUCTS.
enum class Products : std::uint8_t { cublaslt, rounded, own };

Products products() {
  static const Products chosen = [] {
    const char* named = std::getenv("GDCORE_CUDA_PRODUCTS");
    const std::string wanted = named != nullptr ? named : "cublaslt";
    if (wanted == "own") return Products::own;
    if (wanted == "rounded") return Products::rounded;
    check<DeviceError>(wanted == "cublaslt", "[cuda] GDCORE_CUDA_PRODUCTS=", wanted,
                       " is unknown; expected cublaslt, rounded or own");
    return Products::cublaslt;
  }();
  return chosen;
}

bool own_products() { return products() == Products::own; }

bool tuning() {
  static const bool wanted = [] {
    const char* value = std::getenv("GDCORE_CUDA_TUNE");
    return value != nullptr && std::string(value) == "1";
  }();
  return wanted;
}

lt::Handle handle() {
  static const lt::Handle made = [] {
    lt::Handle handle = nullptr;
    check_cublas(cublaslt().create(&handle), "cublasLtCreate");
    return handle;
  }();
  return made;
}

std::uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | kBestAlignment;
  return static_cast<std::uint32_t>(address & -address);  // the lowest set bit
}

/// Returns everything that the choice of an algorithm depends on.
auto key_of(const Matmul& call, bool with_bias) {
  return std::tuple(call.m, call.n, call.k, call.a.transposed, call.b.transposed, with_bias, call.bfloat16_factors,
                    call.dtype, call.precision, alignment_of(call.a.data), alignment_of(call.b.data),
                    alignment_of(call.c));
}
using Key = decltype(key_of({}, false));

struct Plan {
  bool exists = false;  // false: there is no algorithm
  lt::Algorithm algorithm{};
  std::size_t workspace = 0;
};

lt::Compute compute_of(const Matmul& call) {
  if (call.dtype == DType::float64) return lt::kCompute64;
  return on_tensor_cores(call.precision) && !call.bfloat16_factors ? lt::kComputeTf32 : lt::kCompute32;
}

/// Whether rounding the factors in memory first saves more time than it takes. Estimates for an H100, not measured on a
/// GPU yet: products at 400 TFLOP/s in TF32 and 750 in bfloat16, two launches of 1.5 µs, 6 bytes per element at 2.5
/// TB/s.
bool pays_to_round(const Matmul& call) {
  const bool wanted = call.dtype == DType::float32 && call.precision == Precision::bfloat16;
  if (!wanted || !on_tensor_cores(call.precision) || call.bfloat16_factors) return false;
  if (products() == Products::rounded) return true;
  const auto m = static_cast<double>(call.m), n = static_cast<double>(call.n), k = static_cast<double>(call.k);
  return 2.0 * m * n * k * (1.0 / 400e12 - 1.0 / 750e12) > 3e-6 + 6.0 * (m + n) * k / 2.5e12;
}

/// The library's description of a product. Its A is our b, its B our a; a row-major (rows, cols) is its (cols, rows).
class Description {
 public:
  Description(const Matmul& call, bool with_bias) : call_(call), library_(cublaslt()) {
    const lt::Type type = call.dtype == DType::float64 ? lt::kFloat64 : lt::kFloat32;
    check_cublas(library_.operation_init(&operation_, sizeof operation_, compute_of(call), type),
                 "cublasLtMatmulDescInit");
    set(lt::kOperationTransposeA, call.b.transposed ? lt::kTransposed : lt::kPlain);
    set(lt::kOperationTransposeB, call.a.transposed ? lt::kTransposed : lt::kPlain);
    if (with_bias) {
      set(lt::kOperationEpilogue, lt::kAddBias);
      set(lt::kOperationBias, call.bias);
    }
    const lt::Type factors = call.bfloat16_factors ? lt::kBfloat16 : type;
    lay_out(a_, factors, call.b.transposed ? call.n : call.k, call.b.transposed ? call.k : call.n, call.b.stride);
    lay_out(b_, factors, call.a.transposed ? call.k : call.m, call.a.transposed ? call.m : call.k, call.a.stride);
    lay_out(d_, type, call.m, call.n, call.n);
  }

  /// Gets the library's proposals for the pointers of the call, best first; returns their number.
  int propose(int wanted, lt::Proposal* proposals) {
    lt::Preference preference;
    check_cublas(library_.preference_init(&preference, sizeof preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&]<class V>(lt::PreferenceAttribute attribute, const V& value) {
      check_cublas(library_.preference_set(&preference, attribute, &value, sizeof value),
                   "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(lt::kPreferenceWorkspace, std::uint64_t{kWorkspace});
    prefer(lt::kPreferenceReductions, lt::kReduceInComputeType);
    prefer(lt::kPreferenceAlignmentA, alignment_of(call_.b.data));
    prefer(lt::kPreferenceAlignmentB, alignment_of(call_.a.data));
    prefer(lt::kPreferenceAlignmentC, alignment_of(call_.c));
    prefer(lt::kPreferenceAlignmentD, alignment_of(call_.c));
    int found = 0;
    const lt::Status status =
        library_.get_heuristic(handle(), &operation_, &a_, &b_, &d_, &d_, &preference, wanted, proposals, &found);
    if (status == lt::kNotSupported) return 0;
    check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
    return found;
  }

  lt::Status run(const lt::Algorithm& algorithm, std::size_t workspace_bytes, cudaStream_t stream) {
    static constexpr float kOneFloat = 1.0f, kZeroFloat = 0.0f;
    static constexpr double kOne = 1.0, kZero = 0.0;
    const bool wide = call_.dtype == DType::float64;
    const void* one = wide ? static_cast<const void*>(&kOne) : &kOneFloat;
    const void* zero = wide ? static_cast<const void*>(&kZero) : &kZeroFloat;
    void* workspace = workspace_bytes > 0 ? scratch(Scratch::product, workspace_bytes) : nullptr;
    return library_.matmul(handle(), &operation_, one, call_.b.data, &a_, call_.a.data, &b_, zero, call_.c, &d_,
                           call_.c, &d_, &algorithm, workspace, workspace_bytes, stream);
  }

 private:
  template <class V>
  void set(lt::OperationAttribute attribute, const V& value) {
    check_cublas(library_.operation_set(&operation_, attribute, &value, sizeof value),
                 "cublasLtMatmulDescSetAttribute");
  }
  void lay_out(lt::Layout& layout, lt::Type type, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    check_cublas(library_.layout_init(&layout, sizeof layout, type, static_cast<std::uint64_t>(cols),
                                      static_cast<std::uint64_t>(rows), stride > 0 ? stride : cols),
                 "cublasLtMatrixLayoutInit");
  }

  const Matmul& call_;
  const CublasLt& library_;
  lt::Operation operation_;
  lt::Layout a_, b_, d_;
};

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() { check_cuda(cudaEventRecord(event_, thread_stream().stream), "cudaEventRecord"); }
  /// Waits for this event; returns the milliseconds since `start`.
  float since(const Event& start) {
    float milliseconds = 0.0f;
    check_cuda(cudaEventSynchronize(event_), "cudaEventSynchronize");
    check_cuda(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Returns the fastest proposal over a few runs, on the thread's own stream even during a recording. The runs write
/// the product to the call's output; the actual call overwrites it.
const lt::Proposal* fastest(Description& description, const lt::Proposal* proposals, int count) {
  constexpr int kRuns = 5;
  const lt::Proposal* best = nullptr;
  float least = std::numeric_limits<float>::infinity();
  for (const lt::Proposal* proposal = proposals; proposal != proposals + count; ++proposal) {
    if (proposal->state != lt::kSuccess) continue;
    const auto run = [&] { return description.run(proposal->algorithm, proposal->workspace, thread_stream().stream); };
    if (run() != lt::kSuccess) continue;
    Event start, end;
    start.record();
    for (int i = 0; i < kRuns; ++i) (void)run();
    end.record();
    const float time = end.since(start);
    if (time < least) {
      least = time;
      best = proposal;
    }
  }
  return best;
}

Plan make_plan(Description& description, bool timed) {
  lt::Proposal proposals[kTuned];
  const int count = description.propose(timed ? kTuned : 1, proposals);
  const lt::Proposal* chosen = nullptr;
  if (timed) {
    chosen = fastest(description, proposals, count);
  } else if (count > 0 && proposals[0].state == lt::kSuccess) {
    chosen = &proposals[0];
  }
  if (chosen == nullptr) return {};
  return {true, chosen->algorithm, chosen->workspace};
}

/// Returns the plan for a key. One thread at a time makes a plan, so that none is made twice and timing is undisturbed.
Plan plan_of(const Key& key, Description& description) {
  struct Plans {
    std::mutex mutex;
    std::map<Key, Plan> of;
  };
  static Plans* const plans = new Plans;  // never destroyed: threads may end after everything else
  const std::lock_guard lock(plans->mutex);
  const auto found = plans->of.find(key);
  if (found != plans->of.end()) return found->second;
  const Plan plan = make_plan(description, tuning());
  if (plans->of.size() >= kMostPlans) plans->of.clear();
  return plans->of[key] = plan;
}

/// Starts the product if cuBLASLt has an algorithm for it; returns whether it has.
bool run(const Matmul& call, bool with_bias) {
  Description description(call, with_bias);
  const Plan plan = plan_of(key_of(call, with_bias), description);
  if (plan.exists) check_cublas(description.run(plan.algorithm, plan.workspace, current_stream()), "cublasLtMatmul");
  return plan.exists;
}

enum class Outcome : std::uint8_t { refused, without_bias, with_bias };

Outcome by_library(const Matmul& call) {
  // It is not known whether the library can add a bias in float64.
  const bool fuses = call.dtype == DType::float32 && call.bias != nullptr && alignment_of(call.bias) == kBestAlignment;
  if (fuses && run(call, true)) return Outcome::with_bias;
  return run(call, false) ? Outcome::without_bias : Outcome::refused;
}

}  // namespace

void open_products() {
  if (!own_products()) handle();
}

std::string products_description() {
  if (own_products()) return "products by gdcore's own kernel";
  return join("cuBLASLt ", cublaslt_version(cublaslt()), " (", cublaslt_path(cublaslt()), ")");
}

bool matmul(const Matmul& call) {
  (void)current_stream();  // throws in a forked process, where another thread may have held the lock at the fork
  if (!own_products()) {
    Outcome outcome = Outcome::refused;
    if (pays_to_round(call)) outcome = by_library(in_bfloat16(call));
    if (outcome == Outcome::refused) outcome = by_library(call);
    if (outcome != Outcome::refused) return outcome == Outcome::with_bias;
  }
  own_matmul(call);
  return call.bias != nullptr;
}

}  // namespace gdcore::cuda
