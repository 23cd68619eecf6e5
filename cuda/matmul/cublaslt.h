// The part of cuBLASLt's C interface that gdcore uses, as a table of functions filled at run time, so that neither
// building nor importing gdcore needs the library. Sizes, constants and signatures are the library's; tests/cuda_abi
// compares them with its header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/runtime.h"

namespace gdcore::cuda {

namespace lt {

using Status = int;
inline constexpr Status kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;

using Type = int;  // element type in memory
inline constexpr Type kFloat32 = 0, kFloat64 = 1, kBfloat16 = 14;

using Compute = int;  // type of rounded factors and of sums
inline constexpr Compute kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77;

using Transpose = int;
inline constexpr Transpose kPlain = 0, kTransposed = 1;

using Epilogue = std::uint32_t;  // operation on the product before it is stored
inline constexpr Epilogue kNothing = 1, kAddBias = 4, kAddBiasReLU = 6;

/// Allowed ways to add the parts of a product that is split along its depth. Algorithms without a split are always
/// allowed.
inline constexpr std::uint32_t kReduceInPlace = 1, kReduceInComputeType = 2, kReduceInOutputType = 4;

enum OperationAttribute : int {
  kOperationTransposeA = 3,  // Transpose
  kOperationTransposeB = 4,  // Transpose
  kOperationEpilogue = 7,    // Epilogue
  kOperationBias = 8,        // const void*
};

enum PreferenceAttribute : int {
  kPreferenceWorkspace = 1,   // std::uint64_t, largest number of bytes
  kPreferenceReductions = 3,  // std::uint32_t, a mask
  kPreferenceAlignmentA = 5,  // std::uint32_t, bytes; as the next three
  kPreferenceAlignmentB = 6,
  kPreferenceAlignmentC = 7,
  kPreferenceAlignmentD = 8,
};

// Opaque: the contents belong to the library.
using Handle = struct Context*;
struct Layout {
  std::uint64_t data[14];
};
struct Operation {
  std::uint64_t data[32];
};
struct Preference {
  std::uint64_t data[12];
};
struct Algorithm {
  std::uint64_t data[8];
};

/// An algorithm that the library's heuristic proposes.
struct Proposal {
  Algorithm algorithm;
  std::size_t workspace;  // bytes
  Status state;           // the rest is valid if this is kSuccess
  float waves;
  int reserved[4];
};

}  // namespace lt

/// Functions of the library, named without the prefix "cublasLt". Matrices are column-major; a layout has a type, rows,
/// columns, and the distance between columns.
struct CublasLt {
  std::size_t (*get_version)();
  const char* (*get_status_string)(lt::Status);
  lt::Status (*create)(lt::Handle*);
  lt::Status (*layout_init)(lt::Layout*, std::size_t size, lt::Type, std::uint64_t rows, std::uint64_t cols,
                            std::int64_t apart);
  lt::Status (*operation_init)(lt::Operation*, std::size_t size, lt::Compute, lt::Type scale);
  lt::Status (*operation_set)(lt::Operation*, lt::OperationAttribute, const void* value, std::size_t size);
  lt::Status (*preference_init)(lt::Preference*, std::size_t size);
  lt::Status (*preference_set)(lt::Preference*, lt::PreferenceAttribute, const void* value, std::size_t size);
  lt::Status (*get_heuristic)(lt::Handle, lt::Operation*, lt::Layout* a, lt::Layout* b, lt::Layout* c, lt::Layout* d,
                              lt::Preference*, int wanted, lt::Proposal*, int* found);
  /// D = alpha · A B + beta · C, the scalars in the host's memory.
  lt::Status (*matmul)(lt::Handle, lt::Operation*, const void* alpha, const void* a, lt::Layout*, const void* b,
                       lt::Layout*, const void* beta, const void* c, lt::Layout*, void* d, lt::Layout*,
                       const lt::Algorithm*, void* workspace, std::size_t workspace_bytes, cudaStream_t);
};

/// Returns the library, opened at first use: the file that GDCORE_CUBLASLT names; else the one already loaded, the
/// wheel nvidia-cublas beside gdcore, or the system's. Throws DeviceError if there is none; the message says what to
/// install.
const CublasLt& cublaslt();

/// Opens the library anew. In the emulation cublaslt() returns the emulated table instead.
CublasLt open_cublaslt();

/// Returns the version, such as "13.1.0", and the file of the library.
std::string cublaslt_version(const CublasLt& library);
std::string cublaslt_path(const CublasLt& library);

}  // namespace gdcore::cuda
