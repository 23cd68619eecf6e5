// doctest's main function, and functions shared by the tests.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <stdexcept>

#include "support.h"

namespace gdcore::cuda {

namespace {
thread_local cudaStream_t stream_of_thread = nullptr;
}

void check_cuda(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
}

cudaStream_t current_stream() { return stream_of_thread; }

}  // namespace gdcore::cuda

namespace gdcore::emulation_tests {

OnStream::OnStream(cudaStream_t stream) : before_(std::exchange(cuda::stream_of_thread, stream)) {}
OnStream::~OnStream() { cuda::stream_of_thread = before_; }

void in_each_order(const std::function<void()>& work) {
  emulation::Options& options = emulation::options();
  const emulation::Options before = options;
  for (const auto& [order, seed] : {std::pair{emulation::Order::forward, 1u},
                                    {emulation::Order::reverse, 1u},
                                    {emulation::Order::shuffle, 1u},
                                    {emulation::Order::shuffle, 2u}}) {
    options.order = order;
    options.seed = seed;
    INFO("order ", static_cast<int>(order), " seed ", seed);
    work();
  }
  options = before;
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const emulation::KernelError& e) {
    return e.what();
  }
  return {};
}

}  // namespace gdcore::emulation_tests
