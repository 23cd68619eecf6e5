// Products are summed in double for every type, then rounded once; factors are first rounded to the compute type.
// Arguments are checked at the call; the loops run in stream order.
#include "emulation/emulated_cublaslt.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "emulation/tensor_cores.h"

namespace gdcore::emulation {

namespace {

namespace lt = cuda::lt;
using lt::Status;

// ---- Contents of the opaque structs. ----
enum class Kind : std::uint64_t { layout = 0x1a0e7, operation, preference, algorithm };

struct LayoutInside {
  static constexpr Kind wanted = Kind::layout;
  Kind kind;
  lt::Type type;
  std::int64_t rows, cols, apart;
};
struct OperationInside {
  static constexpr Kind wanted = Kind::operation;
  Kind kind;
  lt::Compute compute;
  lt::Type scale;
  lt::Transpose transpose_a, transpose_b;
  lt::Epilogue epilogue;
  const void* bias;
};
struct PreferenceInside {
  static constexpr Kind wanted = Kind::preference;
  Kind kind;
  std::uint64_t workspace;
  std::uint32_t reductions, alignment[4];
};
/// Requirements of an algorithm; `split` first writes partial results to the workspace.
struct AlgorithmInside {
  static constexpr Kind wanted = Kind::algorithm;
  Kind kind;
  std::uint32_t alignment, split;
  std::uint64_t workspace;
};

template <class Inside, class Opaque>
Inside get(const Opaque* from) {
  static_assert(sizeof(Inside) <= sizeof(Opaque));
  Inside inside{};
  if (from != nullptr) std::memcpy(&inside, from, sizeof inside);
  return inside;
}
template <class Inside, class Opaque>
void put(Opaque* to, const Inside& inside) {
  std::memcpy(to, &inside, sizeof inside);
}
template <class Inside>
bool made(const Inside& inside) {
  return inside.kind == Inside::wanted;
}
template <class Opaque, class Inside>
Status init(Opaque* to, std::size_t size, const Inside& inside) {
  if (to == nullptr || size < sizeof *to) return lt::kInvalidValue;
  put(to, inside);
  return lt::kSuccess;
}
/// Calls change(inside), which sets a member.
template <class Inside, class Opaque, class Change>
Status update(Opaque* of, const Change& change) {
  auto inside = get<Inside>(of);
  if (!made(inside)) return lt::kInvalidValue;
  const Status status = change(inside);
  put(of, inside);
  return status;
}

template <class V>
Status set(V& to, const void* value, std::size_t size) {
  if (value == nullptr || size != sizeof(V)) return lt::kInvalidValue;
  std::memcpy(&to, value, size);
  return lt::kSuccess;
}

// ---- Descriptors. ----
std::size_t get_version() { return 130000; }

const char* get_status_string(Status status) {
  switch (status) {
    case lt::kSuccess:
      return "the operation completed";
    case lt::kInvalidValue:
      return "an unsupported value or parameter was passed to the function";
    case lt::kNotSupported:
      return "the functionality requested is not supported";
    default:
      return "unknown error";
  }
}

Status create(lt::Handle* handle) {
  static char one;
  *handle = reinterpret_cast<lt::Handle>(&one);
  return lt::kSuccess;
}

Status layout_init(lt::Layout* layout, std::size_t size, lt::Type type, std::uint64_t rows, std::uint64_t cols,
                   std::int64_t apart) {
  return init(
      layout, size,
      LayoutInside{Kind::layout, type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), apart});
}

Status operation_init(lt::Operation* operation, std::size_t size, lt::Compute compute, lt::Type scale) {
  return init(operation, size,
              OperationInside{Kind::operation, compute, scale, lt::kPlain, lt::kPlain, lt::kNothing, nullptr});
}

Status operation_set(lt::Operation* operation, lt::OperationAttribute attribute, const void* value, std::size_t size) {
  return update<OperationInside>(operation, [&](OperationInside& inside) {
    switch (attribute) {
      case lt::kOperationTransposeA:
        return set(inside.transpose_a, value, size);
      case lt::kOperationTransposeB:
        return set(inside.transpose_b, value, size);
      case lt::kOperationEpilogue:
        return set(inside.epilogue, value, size);
      case lt::kOperationBias:
        return set(inside.bias, value, size);
    }
    return lt::kInvalidValue;
  });
}

Status preference_init(lt::Preference* preference, std::size_t size) {
  return init(preference, size, PreferenceInside{Kind::preference, 0, 7, {256, 256, 256, 256}});
}

Status preference_set(lt::Preference* preference, lt::PreferenceAttribute attribute, const void* value,
                      std::size_t size) {
  return update<PreferenceInside>(preference, [&](PreferenceInside& inside) {
    switch (attribute) {
      case lt::kPreferenceWorkspace:
        return set(inside.workspace, value, size);
      case lt::kPreferenceReductions:
        return set(inside.reductions, value, size);
      case lt::kPreferenceAlignmentA:
      case lt::kPreferenceAlignmentB:
      case lt::kPreferenceAlignmentC:
      case lt::kPreferenceAlignmentD:
        return set(inside.alignment[attribute - lt::kPreferenceAlignmentA], value, size);
    }
    return lt::kInvalidValue;
  });
}

// ---- A product: D = op(A) op(B), (m, k) times (k, n), column-major. ----
std::size_t size_of(lt::Type type) { return type == lt::kFloat64 ? 8 : type == lt::kFloat32 ? 4 : 2; }

struct Problem {
  OperationInside operation;
  LayoutInside a, b, d;
  std::int64_t m, n, k;
};

/// Reads the descriptors; kInvalidValue if they are invalid or contradict each other.
Status read(const lt::Operation* operation, const lt::Layout* a, const lt::Layout* b, const lt::Layout* c,
            const lt::Layout* d, Problem& problem) {
  problem.operation = get<OperationInside>(operation);
  problem.a = get<LayoutInside>(a);
  problem.b = get<LayoutInside>(b);
  problem.d = get<LayoutInside>(d);
  const auto of_c = get<LayoutInside>(c);
  if (!made(problem.operation)) return lt::kInvalidValue;
  for (const LayoutInside& layout : {problem.a, problem.b, of_c, problem.d}) {
    if (!made(layout) || layout.rows <= 0 || layout.cols <= 0 || layout.apart < layout.rows) return lt::kInvalidValue;
  }
  const bool ta = problem.operation.transpose_a == lt::kTransposed,
             tb = problem.operation.transpose_b == lt::kTransposed;
  problem.m = ta ? problem.a.cols : problem.a.rows;
  problem.k = ta ? problem.a.rows : problem.a.cols;
  problem.n = tb ? problem.b.rows : problem.b.cols;
  if ((tb ? problem.b.cols : problem.b.rows) != problem.k) return lt::kInvalidValue;
  for (const LayoutInside& layout : {of_c, problem.d}) {
    if (layout.rows != problem.m || layout.cols != problem.n) return lt::kInvalidValue;
  }
  return lt::kSuccess;
}

/// Whether there are algorithms for these types and this shape.
bool supported(const Problem& problem) {
  const OperationInside& operation = problem.operation;
  const lt::Type type = problem.d.type;
  const bool rounded = problem.a.type == lt::kBfloat16 && type == lt::kFloat32;
  if (problem.a.type != problem.b.type || operation.scale != type) return false;
  if (problem.a.type != type && !(rounded && operation.compute == lt::kCompute32)) return false;
  if (operation.epilogue != lt::kNothing && operation.epilogue != lt::kAddBias &&
      operation.epilogue != lt::kAddBiasReLU) {
    return false;
  }
  if (type == lt::kFloat64 && (operation.compute != lt::kCompute64 || operation.epilogue != lt::kNothing)) return false;
  if (type == lt::kFloat32 && operation.compute != lt::kCompute32 && operation.compute != lt::kComputeTf32)
    return false;
  return std::max({problem.m, problem.n, problem.k}) <= 0x7fffffff && problem.k % kUnknownDepth != 0;
}

bool on_16_bytes(const Problem& problem, const std::uint32_t (&alignment)[4]) {
  const auto fits = [](const LayoutInside& layout) {
    return static_cast<std::size_t>(layout.apart) * size_of(layout.type) % 16 == 0;
  };
  return std::ranges::min(alignment) >= 16 && fits(problem.a) && fits(problem.b) && fits(problem.d);
}

/// Makes at most three proposals: for 16-byte alignment, for any alignment, and one that splits the depth and needs a
/// workspace.
Status get_heuristic(lt::Handle handle, lt::Operation* operation, lt::Layout* a, lt::Layout* b, lt::Layout* c,
                     lt::Layout* d, lt::Preference* given, int wanted, lt::Proposal* proposals, int* found) {
  ++cublaslt_calls().heuristics;
  Problem problem;
  const auto preference = get<PreferenceInside>(given);
  if (handle == nullptr || wanted <= 0 || proposals == nullptr || found == nullptr || !made(preference)) {
    return lt::kInvalidValue;
  }
  *found = 0;
  if (const Status status = read(operation, a, b, c, d, problem); status != lt::kSuccess) return status;
  const lt::Type types[] = {problem.a.type, problem.b.type, problem.d.type, problem.d.type};
  for (int i = 0; i < 4; ++i) {
    if (preference.alignment[i] < size_of(types[i])) return lt::kNotSupported;
  }
  if (!supported(problem)) return lt::kNotSupported;
  const auto propose = [&](std::uint32_t alignment, std::uint32_t split, std::uint64_t workspace) {
    if (*found == wanted) return;
    lt::Proposal& proposal = proposals[(*found)++];
    std::memset(&proposal, 0, sizeof proposal);
    put(&proposal.algorithm, AlgorithmInside{Kind::algorithm, alignment, split, workspace});
    proposal.workspace = workspace;
    proposal.state = lt::kSuccess;
  };
  const auto number = static_cast<std::uint32_t>(size_of(problem.d.type));
  const std::uint64_t partial = 2 * sizeof(double) * static_cast<std::uint64_t>(problem.m * problem.n);
  const bool deep = problem.k > 4 * problem.m && (preference.reductions & lt::kReduceInComputeType) != 0;
  if (deep && partial <= preference.workspace) propose(number, 1, partial);
  if (on_16_bytes(problem, preference.alignment)) propose(16, 0, 0);
  propose(number, 0, 0);
  return lt::kSuccess;
}

/// Rounds a factor as tensor cores do; keeps NaN and infinity.
double rounded(double value, lt::Compute compute) {
  if (compute != lt::kComputeTf32) return value;
  return std::bit_cast<float>(rounded_to_tf32(static_cast<float>(value)));
}

double widened(double value) { return value; }
double widened(float value) { return value; }
double widened(std::uint16_t bfloat16) { return std::bit_cast<float>(std::uint32_t{bfloat16} << 16); }

/// Returns op(matrix), (rows, cols), row-major.
template <class T>
std::vector<double> factor(const T* data, const LayoutInside& layout, bool transposed, lt::Compute compute) {
  const std::int64_t rows = transposed ? layout.cols : layout.rows, cols = transposed ? layout.rows : layout.cols;
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const T value = transposed ? data[c + r * layout.apart] : data[r + c * layout.apart];
      values[static_cast<std::size_t>(r * cols + c)] = rounded(widened(value), compute);
    }
  }
  return values;
}

struct Arrays {
  double alpha, beta;
  const void *a, *b, *c;
  void* d;
  double* workspace;  // null if the algorithm needs none
};

/// row[i] = the sum over p in [begin, end) of op(A)[i, p] op(B)[p, j]; `a` is op(A)ᵀ, row-major.
void column_of(const Problem& problem, const std::vector<double>& a, const std::vector<double>& b, std::int64_t j,
               std::int64_t begin, std::int64_t end, double* column) {
  for (std::int64_t i = 0; i < problem.m; ++i) column[i] = 0.0;
  for (std::int64_t p = begin; p < end; ++p) {
    const double factor_b = b[static_cast<std::size_t>(p * problem.n + j)];
    const double* row = a.data() + p * problem.m;
    for (std::int64_t i = 0; i < problem.m; ++i) column[i] += row[i] * factor_b;
  }
}

/// `T` is the type of the result, `Part` that of the factors.
template <class T, class Part = T>
void multiply(const Problem& problem, const Arrays& arrays) {
  const OperationInside& operation = problem.operation;
  const bool plain_a = operation.transpose_a == lt::kPlain, transposed_b = operation.transpose_b == lt::kTransposed;
  const std::vector<double> a = factor(static_cast<const Part*>(arrays.a), problem.a, plain_a, operation.compute);
  const std::vector<double> b = factor(static_cast<const Part*>(arrays.b), problem.b, transposed_b, operation.compute);
  const bool split = arrays.workspace != nullptr;
  std::vector<double> own(static_cast<std::size_t>(problem.m));
  for (std::int64_t j = 0; j < problem.n; ++j) {
    double* column = split ? arrays.workspace + 2 * j * problem.m : own.data();
    column_of(problem, a, b, j, 0, split ? problem.k / 2 : problem.k, column);
    if (split) {
      column_of(problem, a, b, j, problem.k / 2, problem.k, column + problem.m);
      for (std::int64_t i = 0; i < problem.m; ++i) column[i] += column[problem.m + i];
    }
    for (std::int64_t i = 0; i < problem.m; ++i) {
      const std::int64_t at = i + j * problem.d.apart;
      double value = arrays.alpha * column[i];
      if (arrays.beta != 0.0) value += arrays.beta * static_cast<double>(static_cast<const T*>(arrays.c)[at]);
      auto result = static_cast<T>(value);
      if (operation.epilogue != lt::kNothing) result += static_cast<const T*>(operation.bias)[i];
      if (operation.epilogue == lt::kAddBiasReLU) result = result > T(0) ? result : T(0);  // NaN becomes 0
      static_cast<T*>(arrays.d)[at] = result;
    }
  }
}

bool aligned(const void* data, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(data) % bytes == 0; }

Status matmul(lt::Handle handle, lt::Operation* operation, const void* alpha, const void* a, lt::Layout* of_a,
              const void* b, lt::Layout* of_b, const void* beta, const void* c, lt::Layout* of_c, void* d,
              lt::Layout* of_d, const lt::Algorithm* given, void* workspace, std::size_t workspace_bytes,
              cudaStream_t stream) {
  Problem problem;
  if (const Status status = read(operation, of_a, of_b, of_c, of_d, problem); status != lt::kSuccess) return status;
  if (!supported(problem)) return lt::kNotSupported;
  const auto algorithm = get<AlgorithmInside>(given);
  if (handle == nullptr || alpha == nullptr || beta == nullptr || !made(algorithm)) return lt::kInvalidValue;
  for (const void* data : {a, b, c, static_cast<const void*>(d)}) {
    if (data == nullptr || !aligned(data, algorithm.alignment)) return lt::kInvalidValue;
  }
  if (algorithm.workspace > 0 && (workspace == nullptr || !aligned(workspace, 16))) return lt::kInvalidValue;
  if (algorithm.workspace > workspace_bytes) return lt::kInvalidValue;
  const bool has_bias = problem.operation.epilogue != lt::kNothing;
  // The library would cause a misaligned-address fault on the device.
  if (has_bias && (problem.operation.bias == nullptr || !aligned(problem.operation.bias, 16))) return lt::kInvalidValue;

  const bool wide = problem.d.type == lt::kFloat64;
  const auto scalar = [wide](const void* value) {
    return wide ? *static_cast<const double*>(value) : static_cast<double>(*static_cast<const float*>(value));
  };
  const Arrays arrays{
      scalar(alpha), scalar(beta), a, b, c, d, algorithm.split ? static_cast<double*>(workspace) : nullptr};
  ++(has_bias ? cublaslt_calls().products_with_bias : cublaslt_calls().products);
  const cudaError_t error = enqueue(stream, [problem, arrays, wide] {
    if (wide) {
      multiply<double>(problem, arrays);
    } else if (problem.a.type == lt::kBfloat16) {
      multiply<float, std::uint16_t>(problem, arrays);
    } else {
      multiply<float>(problem, arrays);
    }
  });
  return error == cudaSuccess ? lt::kSuccess : lt::kInvalidValue;
}

}  // namespace

const cuda::CublasLt& cublaslt() {
  static constexpr cuda::CublasLt table{get_version,   get_status_string, create,         layout_init,   operation_init,
                                        operation_set, preference_init,   preference_set, get_heuristic, matmul};
  return table;
}

CublasLtCalls& cublaslt_calls() {
  static CublasLtCalls calls;
  return calls;
}

}  // namespace gdcore::emulation
