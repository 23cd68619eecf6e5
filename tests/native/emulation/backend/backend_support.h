// Shared by the tests of the backend's host side: the device, and error messages.
#pragma once

#include <functional>
#include <string>

#include "gdcore/backend.h"
#include "gdcore/check.h"

extern "C" gdcore::Backend* gdcore_make_cuda_backend(const char** error);

namespace gdcore::emulation_tests {

inline Backend& device() {
  static Backend* const made = [] {
    const char* error = nullptr;
    Backend* backend = gdcore_make_cuda_backend(&error);
    if (backend == nullptr) throw DeviceError(error);
    return backend;
  }();
  return *made;
}

template <class Error = DeviceError>
std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

inline bool contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace gdcore::emulation_tests
