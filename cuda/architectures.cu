// The GPUs that this build has code for, which nvcc alone knows.
#include <algorithm>

#include "device.h"

namespace gdcore::cuda {

namespace {

constexpr int kArchitectures[] = {__CUDA_ARCH_LIST__};  // 800 is compute capability 8.0

}  // namespace

std::span<const int> architectures() { return kArchitectures; }

int newest_code(std::span<const int> compiled, int capability) {
  int newest = 0;
  for (const int architecture : compiled) {
    if (architecture <= capability) newest = std::max(newest, architecture);
  }
  return newest;
}

int newest_code() {
  const cudaDeviceProp& device = device_properties();
  return newest_code(architectures(), 100 * device.major + 10 * device.minor);
}

}  // namespace gdcore::cuda
