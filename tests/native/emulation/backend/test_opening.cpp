// Opening a cuBLASLt that is not the one gdcore was written for. test_products.cpp has those that are none at all.
#include <doctest/doctest.h>

#include <string>

#include "cublaslt.h"
#include "gdcore/check.h"
#include "processes.h"

using namespace gdcore;
using emulation_tests::run_alone;

// Run by the test below, in a process of its own.
TEST_CASE("opening: cuBLASLt 12" * doctest::skip()) {
  std::string message = "no error";
  try {
    (void)cuda::open_cublaslt();
  } catch (const DeviceError& e) {
    message = e.what();
  }
  CHECK(message == "[cuda] " GDCORE_OLD_CUBLASLT
                   " is cuBLASLt 12.8.0, and gdcore needs 13; pip install \"gdcore[cuda13]\" installs it");
}

TEST_CASE("opening: a cuBLASLt of another major version is refused, by file and version, with what to install") {
  CHECK(run_alone("opening: cuBLASLt 12", "GDCORE_CUBLASLT", GDCORE_OLD_CUBLASLT) == 0);
}
