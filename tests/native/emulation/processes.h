// Tests that need their own process.
#pragma once

#include <functional>
#include <string>

namespace gdcore::emulation_tests {

/// Returns what `work` writes to stderr when it crashes its own process; empty if it does not crash.
std::string crash_of(const std::function<void()>& work);

inline constexpr int kNoTest = -1;

/// Runs this program's test `name`, which is skipped otherwise, with one more environment variable. Returns the exit
/// status, or kNoTest unless exactly one test has this name.
int run_alone(const char* name, const char* variable, const std::string& value);

}  // namespace gdcore::emulation_tests
