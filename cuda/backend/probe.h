// An empty kernel that checks whether the device runs this build's code.
#pragma once

#include "backend/runtime.h"

namespace gdcore::cuda {

/// Reads the compute capability of the code; cudaErrorNoKernelImageForDevice if the build has none for the device.
cudaError_t ask_probe(cudaFuncAttributes& attributes);
void launch_probe();

}  // namespace gdcore::cuda
