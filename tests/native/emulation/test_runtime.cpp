// The emulated runtime: streams that capture, graphs, copies, limits, device memory, and the log of launches.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "processes.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::emulation_tests;

namespace {

class Stream {
 public:
  Stream() { cuda::check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create"); }
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }  // NOLINT: stands for it

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace

TEST_CASE("emulation: a capturing stream does nothing, its graph does it as often as launched") {
  const Stream stream;
  const OnStream here(stream);
  DeviceArray<float> x({1, 2, 3}), y({0, 0, 0}), z({9, 9, 9});
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  add_scaled(2.0f, x.data(), y.data(), 3);
  CHECK(cudaMemcpyAsync(z.data(), y.data(), 12, cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
  CHECK(cudaMemsetAsync(z.data(), 0, 4, stream) == cudaSuccess);
  CHECK(emulation::enqueue(stream, [data = z.data()] { data[1] += 1; }) == cudaSuccess);
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(y.to_host() == std::vector<float>{0, 0, 0});
  CHECK(z.to_host() == std::vector<float>{9, 9, 9});
  for (int n = 1; n <= 3; ++n) {
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    const auto k = static_cast<float>(n);
    CHECK(y.to_host() == std::vector<float>{2 * k, 4 * k, 6 * k});
    CHECK(z.to_host() == std::vector<float>{0, 4 * k + 1, 6 * k});
  }
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
}

TEST_CASE("emulation: a defect in a graph comes out of its launch") {
  const Stream stream;
  const OnStream here(stream);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  divergent_barrier();
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  CHECK(error_of([&] { (void)cudaGraphLaunch(executable, stream); }).find("divergent") != std::string::npos);
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
}

TEST_CASE("emulation: what the host would have to wait for ends a capture") {
  const Stream stream;
  std::vector<float> host(3);
  DeviceArray<float> x({1, 2, 3});
  void* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 12) == cudaSuccess);
  void* taken = nullptr;
  const std::vector<std::pair<const char*, std::function<cudaError_t()>>> forbidden = {
      {"from pageable memory",
       [&] { return cudaMemcpyAsync(x.data(), host.data(), 12, cudaMemcpyHostToDevice, stream); }},
      {"to pageable memory",
       [&] { return cudaMemcpyAsync(host.data(), x.data(), 12, cudaMemcpyDeviceToHost, stream); }},
      {"synchronise", [&] { return cudaStreamSynchronize(stream); }},
      {"allocate", [&] { return cudaMallocAsync(&taken, 12, stream); }},
  };
  for (const auto& [name, call] : forbidden) {
    INFO(name);
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
    CHECK(call() == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaMemsetAsync(x.data(), 0, 4, stream) == cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
  }
  CHECK(x.to_host() == std::vector<float>{1, 2, 3});
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cudaMemcpyAsync(x.data(), pinned, 12, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaGetLastError() != cudaSuccess);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("emulation: copies follow kernels in order") {
  DeviceArray<float> x({1, 1, 1}), y({0, 0, 0}), z({0, 0, 0});
  add_scaled(1.0f, x.data(), y.data(), 3);
  CHECK(cudaMemcpyAsync(z.data(), y.data(), 12, cudaMemcpyDeviceToDevice) == cudaSuccess);
  add_scaled(1.0f, x.data(), y.data(), 3);
  CHECK(z.to_host() == std::vector<float>{1, 1, 1});
  CHECK(y.to_host() == std::vector<float>{2, 2, 2});
  std::vector<float> host(3);
  CHECK(cudaMemcpy(x.data(), y.data(), 12, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);  // wrong copy kind
  CHECK(cudaMemcpy(y.data(), x.data(), 12, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
}

TEST_CASE("emulation: grids that no device takes are refused") {
  float* none = nullptr;
  auto try_launch = [&](dim3 grid, dim3 block, std::size_t shared) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    return emulation::launch(none, {grid, block, shared}, nullptr, [] {});
  };
  CHECK(try_launch(1, 1024, 0) == cudaSuccess);
  CHECK(try_launch(1, 1025, 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(1, dim3(32, 33), 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(0, 32, 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(dim3(1, 65536), 32, 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(0x80000000u, 32, 0) == cudaErrorInvalidConfiguration);
  CHECK(try_launch(1, 32, 48 << 10) == cudaSuccess);
  CHECK(try_launch(1, 32, (48 << 10) + 1) == cudaErrorInvalidValue);  // requires an opt-in
  auto kernel = +[](float*) {};
  const auto* address = reinterpret_cast<const void*>(kernel);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10) == cudaSuccess);
  CHECK(emulation::launch(address, {1, 32, 100 << 10}, nullptr, [] {}) == cudaSuccess);
  CHECK(emulation::launch(address, {1, 32, 101 << 10}, nullptr, [] {}) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) == cudaErrorInvalidValue);
}

TEST_CASE("emulation: device memory starts as NaN, and comes to an end") {
  std::size_t free = 0, total = 0, after = 0;
  float* data = nullptr;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  REQUIRE(cudaMalloc(&data, 1000) == cudaSuccess);
  std::vector<unsigned char> host(1000);
  CHECK(cudaMemcpy(host.data(), data, 1000, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(host == std::vector<unsigned char>(1000, 0xFF));
  CHECK(cudaMemGetInfo(&after, &total) == cudaSuccess);
  CHECK(free - after == 1024);
  CHECK(cudaFree(data + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(data) == cudaSuccess);
  CHECK(cudaFree(data) == cudaErrorInvalidValue);
  CHECK(cudaMalloc(&data, free + 1) == cudaErrorMemoryAllocation);
  CHECK(cudaMemGetInfo(&after, &total) == cudaSuccess);
  CHECK(after == free);
}

// Run by the test below, because the protection is chosen when a process starts.
TEST_CASE("emulation: protected device memory" * doctest::skip()) {
  DeviceArray<float> x({1, 2, 3}), y({0, 0, 0});
  add_scaled(2.0f, x.data(), y.data(), 3);  // kernels and copies may access it
  CHECK(y.to_host() == std::vector<float>{2, 4, 6});
  std::vector<DeviceArray<float>*> many;  // freed blocks are merged
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) many.push_back(new DeviceArray<float>(std::vector<float>(100 + i, 1.0f)));
    for (std::size_t i = 0; i < many.size(); i += 2) delete std::exchange(many[i], nullptr);
    for (const DeviceArray<float>* a : many) delete a;
    many.clear();
  }
  volatile float* host = y.data();
  const std::string crash = crash_of([&] { (void)*host; });  // the host may not
  CHECK((crash.find("signal 11") != std::string::npos || crash.find("SEGV") != std::string::npos));
}

TEST_CASE("emulation: a host that follows a device pointer crashes under protection") {
  CHECK(run_alone("emulation: protected device memory", "GDCORE_EMULATION_PROTECT", "1") == 0);
}

// Run by the test below, because the log is written when a process ends.
TEST_CASE("emulation: two kernels to count" * doctest::skip()) {
  DeviceArray<int> x({0});
  for (int i = 0; i < 3; ++i) count_one(x.data());
  count_two(x.data());
  CHECK(x.to_host()[0] == 40);
}

TEST_CASE("emulation: the log tells which kernels ran, and how often") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("gdcore_log_" + std::to_string(getpid()))).string();
  CHECK(run_alone("emulation: two kernels to count", "GDCORE_EMULATION_LOG", path) == 0);
  std::ifstream file(path);
  std::map<std::ptrdiff_t, long> counts;
  std::string offset;
  for (long count; file >> offset >> count;) counts[std::stoll(offset, nullptr, 16)] = count;
  std::filesystem::remove(path);
  Dl_info here{};
  REQUIRE(dladdr(address_of_count_one(), &here) != 0);
  auto offset_of = [&](const void* kernel) {
    return static_cast<const char*>(kernel) - static_cast<const char*>(here.dli_fbase);
  };
  const std::map<std::ptrdiff_t, long> expected = {{offset_of(address_of_count_one()), 3},
                                                   {offset_of(address_of_count_two()), 1}};
  CHECK(counts == expected);
}
