// The host side of the CUDA backend, compiled for the CPU: buffers, copies, streams, scratch memory, recorded steps,
// and error messages where it cannot work. Linked with the backend's objects, because the library exports none of this.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda_backend.h"
#include "backend/device.h"
#include "backend/stream.h"
#include "backend_support.h"
#include "gdcore/check.h"
#include "processes.h"

using namespace gdcore;
using namespace gdcore::cuda;
using emulation_tests::contains;
using emulation_tests::device;
using emulation_tests::message_of;
using emulation_tests::run_alone;

namespace {

/// A buffer of floats on the device.
class Floats {
 public:
  explicit Floats(const std::vector<float>& values)
      : bytes_(values.size() * sizeof(float)), data_(static_cast<float*>(device().allocate(bytes_))) {
    device().copy(data_, values.data(), bytes_, CopyKind::to_device);
  }
  ~Floats() { device().deallocate(data_, bytes_); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;

  void become(const Floats& other) { device().copy(data_, other.data_, bytes_, CopyKind::within); }
  std::vector<float> to_host() const {
    std::vector<float> values(bytes_ / sizeof(float));
    device().copy(values.data(), data_, bytes_, CopyKind::to_host);
    return values;
  }

 private:
  std::size_t bytes_;
  float* data_;
};

}  // namespace

TEST_CASE("cuda: the device says what it is") {
  CHECK(device().device() == Device::cuda);
  const std::string text = device().description();
  for (const char* part : {"CUDA on the CPU (emulated), compute capability 9.0 (kernels for 8.0), ",
                           " MiB; driver for CUDA 13.0, runtime 13.0; ", "cuBLASLt 13."}) {
    CHECK(contains(text, part));
  }
  CHECK(device().recorder() != nullptr);
  CHECK(multiprocessors() == 4);
}

TEST_CASE("cuda: buffers are zeroed and aligned") {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
    void* data = device().allocate(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(data) % kAlignment == 0);
    std::vector<unsigned char> host(bytes, 1);
    device().copy(host.data(), data, bytes, CopyKind::to_host);
    CHECK(host == std::vector<unsigned char>(bytes, 0));
    device().deallocate(data, bytes);
  }
  device().deallocate(nullptr, 0);
}

TEST_CASE("cuda: where memory ends, the error says how much was wanted, how much there is and what to do") {
  const std::size_t free = device().recorder()->free_bytes();
  const std::string message = message_of<DeviceError>([&] { (void)device().allocate(free + 1); });
  INFO(message);
  CHECK(contains(message, "[cuda] out of device memory: 16384 MiB requested, "));
  CHECK(contains(message, "batch_size"));
  CHECK(contains(message, "device=\"cpu\""));
  CHECK(device().recorder()->free_bytes() == free);
  void* data = device().allocate(1 << 20);
  CHECK(device().recorder()->free_bytes() == free - (1 << 20));
  device().deallocate(data, 1 << 20);
  CHECK(device().recorder()->free_bytes() == free);
}

TEST_CASE("cuda: the source of a copy may be used again at once") {
  for (const std::size_t n : {std::size_t{3}, (std::size_t{1} << 18) + 5, (std::size_t{3} << 19) + 7}) {  // to 6 MiB
    std::vector<float> values(n);
    std::iota(values.begin(), values.end(), 0.0f);
    const std::vector<float> sent = values;
    const Floats x(values);
    std::fill(values.begin(), values.end(), -1.0f);
    CHECK(x.to_host() == sent);
  }
}

TEST_CASE("cuda: recorded steps are done as often as they are launched") {
  const Floats a({1, 2}), b({3, 4});
  Floats x({0, 0}), y({0, 0});
  const auto graph = device().recorder()->record([&] {
    y.become(x);
    x.become(a);
  });
  CHECK(x.to_host() == std::vector<float>{0, 0});
  graph->launch();
  device().wait();
  CHECK(x.to_host() == std::vector<float>{1, 2});
  CHECK(y.to_host() == std::vector<float>{0, 0});
  x.become(b);
  for (int i = 0; i < 5; ++i) graph->launch();
  CHECK(y.to_host() == std::vector<float>{1, 2});
}

TEST_CASE("cuda: a recording that fails leaves nothing behind") {
  const Floats a({1, 2});
  Floats x({0, 0});
  CHECK(message_of<std::runtime_error>([&] {
          (void)device().recorder()->record([&] {
            x.become(a);
            throw std::runtime_error("on purpose");
          });
        }) == "on purpose");
  CHECK(x.to_host() == std::vector<float>{0, 0});
  x.become(a);
  CHECK(x.to_host() == std::vector<float>{1, 2});
  const auto graph = device().recorder()->record([&] { x.become(a); });
  graph->launch();
}

TEST_CASE("cuda: the host cannot access device memory while steps are recorded") {
  const Floats a({1, 2});
  const auto other = device().recorder()->record([] {});
  auto refused = [&](const std::function<void()>& steps) {
    return message_of<std::logic_error>([&] { (void)device().recorder()->record(steps); });
  };
  CHECK(contains(refused([&] { (void)a.to_host(); }), "while steps are recorded"));
  CHECK(contains(refused([&] { const Floats b({1}); }), "while steps are recorded"));
  CHECK(contains(refused([&] { other->launch(); }), "while others are recorded"));
  CHECK(contains(refused([&] { (void)device().recorder()->record([] {}); }), "already being recorded"));
  CHECK(a.to_host() == std::vector<float>{1, 2});
}

TEST_CASE("cuda: buffers made while steps are recorded are no part of them") {
  void* data = nullptr;
  const auto graph = device().recorder()->record([&] {
    data = device().allocate(8);
    device().deallocate(device().allocate(8), 8);
  });
  const float values[2] = {1, 2};
  device().copy(data, values, 8, CopyKind::to_device);
  graph->launch();  // does not zero the sum again
  float after[2] = {};
  device().copy(after, data, 8, CopyKind::to_host);
  CHECK(after[1] == 2.0f);
  device().deallocate(data, 8);
}

TEST_CASE("cuda: scratch memory is a graph's own and outlives its growth") {
  void *first = nullptr, *grown = nullptr, *second = nullptr, *other = nullptr;
  const auto graph = device().recorder()->record([&] {
    first = scratch(Scratch::partial, 100);
    second = scratch(Scratch::second, 100);
    grown = scratch(Scratch::partial, 5000);
    check_cuda(cudaMemsetAsync(first, 1, 100, current_stream()), "cudaMemsetAsync");
    check_cuda(cudaMemsetAsync(grown, 2, 5000, current_stream()), "cudaMemsetAsync");
  });
  const auto another = device().recorder()->record([&] { other = scratch(Scratch::partial, 100); });
  void* mine = scratch(Scratch::partial, 100);
  const std::vector<void*> all = {first, grown, second, other, mine};
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(reinterpret_cast<std::uintptr_t>(all[i]) % kAlignment == 0);
    for (std::size_t k = 0; k < i; ++k) CHECK(all[i] != all[k]);
  }
  graph->launch();
  device().wait();
  CHECK(static_cast<unsigned char*>(first)[99] == 1);  // device memory is host memory here
  CHECK(static_cast<unsigned char*>(grown)[4999] == 2);
}

TEST_CASE("cuda: memory comes back") {
  auto use = [] {
    const auto graph = device().recorder()->record([] {
      (void)scratch(Scratch::partial, 100);
      (void)scratch(Scratch::partial, 1000);
    });
    graph->launch();
  };
  use();
  const std::size_t free = device().recorder()->free_bytes();
  for (int i = 0; i < 10; ++i) use();
  CHECK(device().recorder()->free_bytes() == free);
}

TEST_CASE("cuda: each thread has a stream and scratch memory of its own, and hands them on") {
  const cudaStream_t mine = current_stream();
  void* my_scratch = scratch(Scratch::partial, 64);
  CHECK(current_stream() == mine);
  cudaStream_t streams[2] = {};
  for (cudaStream_t& stream : streams) {
    std::thread([&] {
      stream = current_stream();
      CHECK(scratch(Scratch::partial, 64) != my_scratch);
    }).join();
  }
  CHECK(streams[0] != mine);
  CHECK(streams[0] == streams[1]);
  cudaStream_t recording = nullptr;
  (void)device().recorder()->record([&] { recording = current_stream(); });
  CHECK(recording != mine);
  CHECK(recording != streams[0]);
  CHECK(current_stream() == mine);
}

TEST_CASE("cuda: several threads at once") {
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      const auto value = static_cast<float>(t);
      const Floats a({value, value + 1});
      Floats x({-1, -1}), y({-1, -1});
      const auto graph = device().recorder()->record([&] {
        x.become(a);
        y.become(x);
      });
      for (int i = 0; i < 50; ++i) {
        graph->launch();
        wrong[t] += y.to_host() != std::vector<float>{value, value + 1};
        void* block = scratch(Scratch::partial, 8);
        check_cuda(cudaMemsetAsync(block, t, 8, current_stream()), "cudaMemsetAsync");
        unsigned char bytes[8] = {};
        device().copy(bytes, block, 8, CopyKind::to_host);
        wrong[t] += bytes[7] != t;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("cuda: everything is refused after a fork, and freeing does no harm") {
  Floats x({1, 2});
  auto graph = device().recorder()->record([&] { x.become(x); });
  const pid_t child = fork();
  if (child == 0) {
    float host[2] = {};
    int refused = 0;
    const std::vector<std::function<void()>> calls = {
        [&] { (void)device().allocate(8); },
        [&] { device().copy(host, host, 8, CopyKind::to_device); },
        [&] { x.become(x); },
        [&] { device().wait(); },
        [&] { (void)device().recorder()->record([] {}); },
        [&] { (void)device().recorder()->free_bytes(); },
        [&] { graph->launch(); },
        [&] { (void)scratch(Scratch::partial, 8); },
        [&] { (void)current_stream(); },
    };
    for (const auto& call : calls) refused += contains(message_of<DeviceError>(call), "spawn");
    device().deallocate(host, 8);
    graph.reset();
    std::thread([] {}).join();
    _exit(refused == static_cast<int>(calls.size()) ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(x.to_host() == std::vector<float>{1, 2});
}

TEST_CASE("cuda: errors name the call, and say where the device is lost") {
  CHECK(message_of<DeviceError>([] { check_cuda(cudaErrorInvalidValue, "cudaThis"); }) ==
        "[cuda] cudaThis failed: invalid argument");
  CHECK(message_of<DeviceError>([] { check_cuda(cudaErrorIllegalAddress, "cudaThat"); }) ==
        "[cuda] cudaThat failed: an illegal memory access was encountered; the device's context is lost: restart the "
        "process");
  check_cuda(cudaSuccess, "cudaThis");
}

// Run by the test below, with environment variables that imitate such machines.
TEST_CASE("cuda: a machine without" * doctest::skip()) {
  const char* error = nullptr;
  CHECK(gdcore_make_cuda_backend(&error) == nullptr);
  REQUIRE(error != nullptr);
  const std::string expected = std::getenv("GDCORE_EMULATION_DEVICES") != nullptr ? "nvidia-smi"
                               : std::getenv("GDCORE_EMULATION_CAPABILITY") != nullptr
                                   ? "(CUDA on the CPU (emulated)) has compute capability 7.0, and gdcore needs 7.5"
                               : std::getenv("GDCORE_EMULATION_CODE") != nullptr
                                   ? "(CUDA on the CPU (emulated)) has compute capability 9.0, for which this build of "
                                     "gdcore has no code: build it with GDCORE_CUDA_ARCHITECTURES=90, or install"
                               : std::string(std::getenv("GDCORE_EMULATION_DRIVER")) == "0"
                                   ? "there is no NVIDIA driver on this machine; install driver 580 or newer"
                                   : "the NVIDIA driver is for CUDA 12.8 at most, and gdcore needs CUDA 13.0: install "
                                     "driver 580 or newer";
  INFO(error);
  CHECK(contains(error, expected.c_str()));
}

// Run by the test below.
TEST_CASE("cuda: code for older GPUs" * doctest::skip()) {
  (void)device();
  CHECK(code_capability() == 75);
  for (const Precision precision : {Precision::full, Precision::tf32, Precision::bfloat16}) {
    CHECK_FALSE(on_tensor_cores(precision));
  }
}

TEST_CASE("cuda: tensor cores take a GPU that has them and code for them") {
  CHECK(code_capability() == 80);
  CHECK_FALSE(on_tensor_cores(Precision::full));
  CHECK(on_tensor_cores(Precision::tf32));
  CHECK(on_tensor_cores(Precision::bfloat16));
  CHECK(run_alone("cuda: code for older GPUs", "GDCORE_EMULATION_CODE", "75") == 0);
}

TEST_CASE("cuda: without a device, the error says what is missing and what to do") {
  const char* name = "cuda: a machine without";
  unsetenv("CUDA_VISIBLE_DEVICES");
  CHECK(run_alone(name, "GDCORE_EMULATION_DEVICES", "0") == 0);
  CHECK(run_alone(name, "GDCORE_EMULATION_CAPABILITY", "70") == 0);
  CHECK(run_alone(name, "GDCORE_EMULATION_CODE", "0") == 0);
  CHECK(run_alone(name, "GDCORE_EMULATION_DRIVER", "0") == 0);
  CHECK(run_alone(name, "GDCORE_EMULATION_DRIVER", "12080") == 0);
}
