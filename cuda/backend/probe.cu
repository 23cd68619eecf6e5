// An empty kernel, which neither reads nor writes: checks that the device runs this build's code.
#include "backend/probe.h"

namespace gdcore::cuda {

namespace {

__global__ void probe_kernel() {}

}  // namespace

cudaError_t ask_probe(cudaFuncAttributes& attributes) { return cudaFuncGetAttributes(&attributes, probe_kernel); }

void launch_probe() { launch(probe_kernel, {1, 1}); }

}  // namespace gdcore::cuda
