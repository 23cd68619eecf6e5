// A kernel that does nothing, and reads and writes nothing: it stands for all others when the device is asked whether
// it runs this build's code.
#include "backend/probe.h"

namespace gdcore::cuda {

namespace {

__global__ void probe_kernel() {}

}  // namespace

cudaError_t ask_probe(cudaFuncAttributes& attributes) { return cudaFuncGetAttributes(&attributes, probe_kernel); }

void launch_probe() { launch(probe_kernel, {1, 1}); }

}  // namespace gdcore::cuda
