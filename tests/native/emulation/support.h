// What the tests of the emulation share.
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

/// Device memory that starts as a copy of `values`; read back by to_host().
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

/// Runs `work` once in each order of threads, as kernels must give the same in all of them.
void in_each_order(const std::function<void()>& work);

/// The message of the KernelError that `work` ends with; empty: none.
std::string error_of(const std::function<void()>& work);

/// While it lives, launches of this thread go to that stream.
class OnStream {
 public:
  explicit OnStream(cudaStream_t stream);
  ~OnStream();

 private:
  cudaStream_t before_;
};

}  // namespace gdcore::emulation_tests
