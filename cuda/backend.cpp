// The device, the threads' streams and scratch memory, buffers, and copies.
#include "gdcore/check.h"

#include <string>

#include "cuda_backend.h"
#include "stream.h"

namespace gdcore::cuda {

void check_cuda(cudaError_t error, const char* call) {
  check<DeviceError>(error == cudaSuccess, "[cuda] ", call, " failed: ", cudaGetErrorString(error));
}

}  // namespace gdcore::cuda
