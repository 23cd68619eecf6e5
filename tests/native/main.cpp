// doctest's main function lives in this file alone, so that the test files compile quickly.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
