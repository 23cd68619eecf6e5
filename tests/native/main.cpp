// doctest's main function is in this file alone, so that the test files compile quickly.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "gdcore/backend.h"
#include "gdcore/check.h"

int main(int argc, char** argv) {
  try {
    gdcore::backend(gdcore::Device::cpu);
  } catch (const gdcore::DeviceError& error) {  // this processor lacks the instruction set
    std::puts(error.what());
    return 77;  // ctest: skipped
  }
  return doctest::Context(argc, argv).run();
}
