// Compares gdcore's own declarations of cuBLASLt (cuda/matmul/cublaslt.h) with NVIDIA's header, if there is one:
// compiled, never run.
#include <cublasLt.h>

#include <type_traits>

#include "matmul/cublaslt.h"

namespace {

using namespace gdcore::cuda;

// ---- Constants. ----
static_assert(lt::kSuccess == CUBLAS_STATUS_SUCCESS);
static_assert(lt::kInvalidValue == CUBLAS_STATUS_INVALID_VALUE);
static_assert(lt::kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(lt::kFloat32 == CUDA_R_32F);
static_assert(lt::kFloat64 == CUDA_R_64F);
static_assert(lt::kBfloat16 == CUDA_R_16BF);
static_assert(lt::kCompute32 == CUBLAS_COMPUTE_32F);
static_assert(lt::kCompute64 == CUBLAS_COMPUTE_64F);
static_assert(lt::kComputeTf32 == CUBLAS_COMPUTE_32F_FAST_TF32);
static_assert(lt::kPlain == CUBLAS_OP_N);
static_assert(lt::kTransposed == CUBLAS_OP_T);
static_assert(lt::kNothing == CUBLASLT_EPILOGUE_DEFAULT);
static_assert(lt::kAddBias == CUBLASLT_EPILOGUE_BIAS);
static_assert(lt::kAddBiasReLU == CUBLASLT_EPILOGUE_RELU_BIAS);
static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0);
static_assert(lt::kReduceInPlace == CUBLASLT_REDUCTION_SCHEME_INPLACE);
static_assert(lt::kReduceInComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(lt::kReduceInOutputType == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
static_assert(static_cast<int>(lt::kOperationTransposeA) == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(static_cast<int>(lt::kOperationTransposeB) == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(static_cast<int>(lt::kOperationEpilogue) == CUBLASLT_MATMUL_DESC_EPILOGUE);
static_assert(static_cast<int>(lt::kOperationBias) == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(static_cast<int>(lt::kPreferenceWorkspace) == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(static_cast<int>(lt::kPreferenceReductions) == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(static_cast<int>(lt::kPreferenceAlignmentA) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(static_cast<int>(lt::kPreferenceAlignmentB) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(static_cast<int>(lt::kPreferenceAlignmentC) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(static_cast<int>(lt::kPreferenceAlignmentD) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);

// ---- Structs. ----
/// The caller passes the size of these structs, which differs between releases; ours are large enough for each.
template <class Ours>
constexpr bool kGrows =
    std::is_same_v<Ours, lt::Layout> || std::is_same_v<Ours, lt::Operation> || std::is_same_v<Ours, lt::Preference>;
template <class Ours, class Theirs>
constexpr bool kHasRoom = sizeof(Ours) >= sizeof(Theirs) && alignof(Ours) == alignof(Theirs);
template <class Ours, class Theirs>
constexpr bool kSameShape = sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs);

static_assert(kSameShape<lt::Handle, cublasLtHandle_t>);
static_assert(kHasRoom<lt::Layout, cublasLtMatrixLayoutOpaque_t>);
static_assert(kHasRoom<lt::Operation, cublasLtMatmulDescOpaque_t>);
static_assert(kHasRoom<lt::Preference, cublasLtMatmulPreferenceOpaque_t>);
static_assert(kSameShape<lt::Algorithm, cublasLtMatmulAlgo_t>);
static_assert(kSameShape<lt::Proposal, cublasLtMatmulHeuristicResult_t>);
static_assert(offsetof(lt::Proposal, algorithm) == offsetof(cublasLtMatmulHeuristicResult_t, algo));
static_assert(offsetof(lt::Proposal, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(lt::Proposal, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(lt::Proposal, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

// ---- Functions: the same number of parameters, each passed alike; pointers to types of the same size. ----
template <class T>
constexpr bool kIsNumber = std::is_integral_v<T> || std::is_enum_v<T>;

template <class T, class = void>
constexpr std::size_t kSize = 0;  // void and incomplete types
template <class T>
constexpr std::size_t kSize<T, std::void_t<decltype(sizeof(T))>> = sizeof(T);

template <class Ours, class Theirs>
constexpr bool passed_alike() {
  if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
    using O = std::remove_pointer_t<Ours>;
    using T = std::remove_pointer_t<Theirs>;
    constexpr bool fits = kGrows<std::remove_const_t<O>> ? kSize<O> >= kSize<T> : kSize<O> == kSize<T>;
    return std::is_void_v<O> == std::is_void_v<T> && std::is_const_v<O> == std::is_const_v<T> && fits;
  } else {
    return kIsNumber<Ours> && kIsNumber<Theirs> && sizeof(Ours) == sizeof(Theirs);
  }
}

template <class Ours, class Theirs>
constexpr bool kSameSignature = false;
template <class R, class... P, class S, class... Q>
  requires(sizeof...(P) == sizeof...(Q))
constexpr bool kSameSignature<R (*)(P...), S (*)(Q...)> = passed_alike<R, S>() && (passed_alike<P, Q>() && ...);

#define SAME_SIGNATURE(ours, theirs) static_assert(kSameSignature<decltype(CublasLt::ours), decltype(&theirs)>)
SAME_SIGNATURE(get_version, cublasLtGetVersion);
SAME_SIGNATURE(get_status_string, cublasLtGetStatusString);
SAME_SIGNATURE(create, cublasLtCreate);
SAME_SIGNATURE(layout_init, cublasLtMatrixLayoutInit_internal);
SAME_SIGNATURE(operation_init, cublasLtMatmulDescInit_internal);
SAME_SIGNATURE(operation_set, cublasLtMatmulDescSetAttribute);
SAME_SIGNATURE(preference_init, cublasLtMatmulPreferenceInit_internal);
SAME_SIGNATURE(preference_set, cublasLtMatmulPreferenceSetAttribute);
SAME_SIGNATURE(get_heuristic, cublasLtMatmulAlgoGetHeuristic);
SAME_SIGNATURE(matmul, cublasLtMatmul);

// Differences are detected.
static_assert(!kSameSignature<int (*)(int), int (*)(int, int)>);
static_assert(!kSameSignature<int (*)(int), int (*)(long)>);
static_assert(!kSameSignature<int (*)(int*), int (*)(const int*)>);
static_assert(!kSameSignature<int (*)(std::size_t*), int (*)(int*)>);
static_assert(!kSameSignature<int (*)(lt::Layout*), int (*)(cublasLtMatmulDesc_t)>);

}  // namespace
