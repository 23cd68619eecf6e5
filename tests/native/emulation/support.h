// Shared by the tests of the emulation.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels.h"

namespace gdcore::emulation_tests {

#ifdef GDCORE_EMULATION_RACE
inline constexpr bool kFindsRaces = true;
#else
inline constexpr bool kFindsRaces = false;
#endif
#ifdef GDCORE_EMULATION_ASAN
inline constexpr bool kFindsBounds = true;
#else
inline constexpr bool kFindsBounds = false;
#endif

/// Device memory initialised with a copy of `values`; to_host() reads it back.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    cuda::check_cuda(cudaMalloc(&data_, size_ * sizeof(T)), "cudaMalloc");
    cuda::check_cuda(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~DeviceArray() { (void)cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return data_; }
  std::vector<T> to_host() const {
    std::vector<T> values(size_);
    cuda::check_cuda(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

/// 0, 1, 2, ...
template <class T>
std::vector<T> counting(int n) {
  std::vector<T> values;
  for (int i = 0; i < n; ++i) values.push_back(static_cast<T>(i));
  return values;
}

/// Runs `work` once in each order of threads: kernels must give the same results in all of them.
void in_each_order(const std::function<void()>& work);

/// Returns the message of the KernelError that `work` throws; empty if it throws none.
std::string error_of(const std::function<void()>& work);

/// Sends this thread's launches to a stream during its lifetime.
class OnStream {
 public:
  explicit OnStream(cudaStream_t stream);
  ~OnStream();

 private:
  cudaStream_t before_;
};

}  // namespace gdcore::emulation_tests
