// What is found where a machine has the cuBLASLt of another CUDA: it says its version, and is asked for nothing else.
#include <cstddef>

extern "C" __attribute__((visibility("default"))) std::size_t cublasLtGetVersion();
extern "C" std::size_t cublasLtGetVersion() { return 120800; }
