// Tests that need a process of their own.
#pragma once

#include <functional>
#include <string>

namespace gdcore::emulation_tests {

/// What `work` leaves on stderr as it brings a process of its own down; empty: it did not.
std::string crash_of(const std::function<void()>& work);

inline constexpr int kNoTest = -1;

/// Runs this program's test `name`, which is skipped otherwise, with a variable more in its environment. Exit status,
/// or kNoTest where not one test has this name.
int run_alone(const char* name, const char* variable, const std::string& value);

}  // namespace gdcore::emulation_tests
