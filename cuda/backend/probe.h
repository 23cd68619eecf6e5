// A kernel that does nothing, to ask the device whether it runs this build's code.
#pragma once

#include "backend/runtime.h"

namespace gdcore::cuda {

/// What the code was compiled for; cudaErrorNoKernelImageForDevice where the build has none for the device.
cudaError_t ask_probe(cudaFuncAttributes& attributes);
void launch_probe();

}  // namespace gdcore::cuda
