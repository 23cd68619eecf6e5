// The part of cuBLASLt's C interface that gdcore uses, as a table of functions that is filled at run time, so that
// neither building nor importing gdcore needs the library. Sizes, numbers and signatures are the library's own;
// tests/cuda_abi holds them against its header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/runtime.h"

namespace gdcore::cuda {

namespace lt {

using Status = int;
inline constexpr Status kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;

using Type = int;  // of numbers in memory
inline constexpr Type kFloat32 = 0, kFloat64 = 1, kBfloat16 = 14;

using Compute = int;  // what factors are rounded to, and what sums are kept in
inline constexpr Compute kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77;

using Transpose = int;
inline constexpr Transpose kPlain = 0, kTransposed = 1;

using Epilogue = std::uint32_t;  // what is done to the product before it is stored
inline constexpr Epilogue kNothing = 1, kAddBias = 4, kAddBiasReLU = 6;

/// How the parts of a product cut along its depth are added. No part at all is always allowed.
inline constexpr std::uint32_t kReduceInPlace = 1, kReduceInComputeType = 2, kReduceInOutputType = 4;

enum OperationAttribute : int {
  kOperationTransposeA = 3,  // Transpose
  kOperationTransposeB = 4,  // Transpose
  kOperationEpilogue = 7,    // Epilogue
  kOperationBias = 8,        // const void*
};

enum PreferenceAttribute : int {
  kPreferenceWorkspace = 1,   // std::uint64_t, the most bytes
  kPreferenceReductions = 3,  // std::uint32_t, a mask
  kPreferenceAlignmentA = 5,  // std::uint32_t, bytes; so are the next three
  kPreferenceAlignmentB = 6,
  kPreferenceAlignmentC = 7,
  kPreferenceAlignmentD = 8,
};

// Only the library knows what is inside.
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
  Status state;           // the rest means something where this is kSuccess
  float waves;
  int reserved[4];
};

}  // namespace lt

/// Functions of the library, without "cublasLt" before their names. Matrices are column-major; a layout is its type,
/// rows, columns, and the distance from a column to the next.
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

/// The library, opened at first use: the file that GDCORE_CUBLASLT names; else what the process has loaded already, the
/// wheel nvidia-cublas beside gdcore, or the system's. Throws DeviceError, saying what to install, where there is none.
const CublasLt& cublaslt();

/// The same, opened anew; cublaslt() is the emulation's table where that is compiled.
CublasLt open_cublaslt();

/// "13.1.0", and the file that it comes from.
std::string cublaslt_version(const CublasLt& library);
std::string cublaslt_path(const CublasLt& library);

}  // namespace gdcore::cuda
