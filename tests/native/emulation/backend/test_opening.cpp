// Opening cuBLASLt: a missing library, another library, another version; and the real library.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "backend_support.h"
#include "matmul/cublaslt.h"
#include "processes.h"

using namespace gdcore;
using namespace gdcore::cuda;
using emulation_tests::contains;
using emulation_tests::message_of;
using emulation_tests::run_alone;

// Run by the test below in its own process.
TEST_CASE("opening: cuBLASLt 12" * doctest::skip()) {
  CHECK(message_of([] { (void)open_cublaslt(); }) ==
        "[cuda] " GDCORE_OLD_CUBLASLT
        " is cuBLASLt 12.8.0, and gdcore needs 13; pip install \"gdcore[cuda13]\" installs it");
}

TEST_CASE("opening: a cuBLASLt of another major version is refused, by file and version, with what to install") {
  CHECK(run_alone("opening: cuBLASLt 12", "GDCORE_CUBLASLT", GDCORE_OLD_CUBLASLT) == 0);
}

TEST_CASE("opening: a library that is not there, or is another one" * doctest::skip()) {
  const char* named = std::getenv("GDCORE_CUBLASLT");
  const std::string message = message_of([] { (void)open_cublaslt(); });
  INFO(message);
  CHECK(contains(message, "pip install \"gdcore[cuda13]\""));
  if (named == nullptr) {
    CHECK(contains(message, "[cuda] matrix products need NVIDIA's cuBLAS 13, which was not found: pip install"));
    CHECK(contains(message, "libcublasLt.so.13: cannot open shared object file"));
  } else if (std::string(named) == "/nowhere/libcublasLt.so.13") {
    CHECK(contains(message, "[cuda] GDCORE_CUBLASLT=/nowhere/libcublasLt.so.13 does not load ("));
  } else {
    CHECK(contains(message, "[cuda] the library opened as cuBLASLt 13 has no cublasLtGetVersion"));
  }
}

TEST_CASE("opening: opening cuBLASLt says what is missing and what to do") {
  const char* name = "opening: a library that is not there, or is another one";
  CHECK(run_alone(name, "GDCORE_CUBLASLT", "/nowhere/libcublasLt.so.13") == 0);
  CHECK(run_alone(name, "GDCORE_CUBLASLT", "libm.so.6") == 0);
}

// Run by hand, or where the real library is present; reading its version needs no GPU.
TEST_CASE("opening: the real cuBLASLt opens") {
  const char* file = std::getenv("GDCORE_TEST_CUBLASLT");
  if (file == nullptr) return;
  setenv("GDCORE_CUBLASLT", file, 1);
  const CublasLt library = open_cublaslt();
  unsetenv("GDCORE_CUBLASLT");
  CHECK(cublaslt_version(library).starts_with("13."));
  CHECK(std::filesystem::equivalent(cublaslt_path(library), file));
  CHECK(std::string(library.get_status_string(lt::kNotSupported)).size() > 3);
  // Descriptors need no GPU either: the library refuses a wrong size or attribute of gdcore's.
  lt::Operation operation;
  lt::Layout layout;
  lt::Preference preference;
  CHECK(library.operation_init(&operation, sizeof operation, lt::kComputeTf32, lt::kFloat32) == lt::kSuccess);
  CHECK(library.operation_set(&operation, lt::kOperationTransposeA, &lt::kTransposed, sizeof lt::kTransposed) ==
        lt::kSuccess);
  CHECK(library.operation_set(&operation, lt::kOperationEpilogue, &lt::kAddBias, sizeof lt::kAddBias) == lt::kSuccess);
  const void* bias = &operation;
  CHECK(library.operation_set(&operation, lt::kOperationBias, &bias, sizeof bias) == lt::kSuccess);
  CHECK(library.operation_set(&operation, lt::kOperationBias, &bias, 2) == lt::kInvalidValue);
  CHECK(library.layout_init(&layout, sizeof layout, lt::kFloat32, 3, 5, 3) == lt::kSuccess);
  CHECK(library.preference_init(&preference, sizeof preference) == lt::kSuccess);
  const std::uint64_t bytes = 1 << 20;
  CHECK(library.preference_set(&preference, lt::kPreferenceWorkspace, &bytes, sizeof bytes) == lt::kSuccess);
  for (const lt::PreferenceAttribute attribute :
       {lt::kPreferenceReductions, lt::kPreferenceAlignmentA, lt::kPreferenceAlignmentB, lt::kPreferenceAlignmentC,
        lt::kPreferenceAlignmentD}) {
    const std::uint32_t value = attribute == lt::kPreferenceReductions ? lt::kReduceInComputeType : 16;
    CHECK(library.preference_set(&preference, attribute, &value, sizeof value) == lt::kSuccess);
  }
  CHECK(std::string(cublaslt_version(cublaslt())) == "13.0.0");  // the emulation has another table
}
