// Stands for the cuBLASLt of another CUDA version: only its version is queried.
#include <cstddef>

extern "C" __attribute__((visibility("default"))) std::size_t cublasLtGetVersion();
extern "C" std::size_t cublasLtGetVersion() { return 120800; }
