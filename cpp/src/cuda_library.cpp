// The CUDA backend is a shared library beside the module, opened at first use, so that the module itself needs neither
// driver nor CUDA. GDCORE_CUDA_LIBRARY names another file: the backend's CPU emulation, for tests. GDCORE_DEVICE=cpu
// keeps device="auto" on the CPU.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string_view>

#include "gdcore/backend.h"
#include "gdcore/check.h"

namespace gdcore {

namespace {

std::atomic<bool> forked{false};

std::string library_path() {
  if (const char* named = std::getenv("GDCORE_CUDA_LIBRARY")) return named;
  Dl_info here{};
  if (dladdr(reinterpret_cast<const void*>(&library_path), &here) == 0 || here.dli_fname == nullptr) return {};
  return (std::filesystem::path(here.dli_fname).parent_path() / "libgdcore_cuda.so").string();
}

/// The backend, or the reason why there is none.
struct Cuda {
  Backend* backend = nullptr;
  std::string missing;

  Cuda() {
    const std::string path = library_path();
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      missing =
          "this build of gdcore has no CUDA backend (it was built without nvcc, or with GDCORE_CUDA=OFF); install a "
          "wheel that has it, or build with GDCORE_CUDA=ON";
      return;
    }
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: its threads and memory stay in use
    if (library == nullptr) {
      missing = join("the CUDA backend does not load: ", dlerror());
      return;
    }
    const auto make = reinterpret_cast<Backend* (*)(const char** error)>(dlsym(library, "gdcore_make_cuda_backend"));
    if (make == nullptr) {
      missing = join(path, " is not gdcore's CUDA backend");
      return;
    }
    const char* error = nullptr;
    backend = make(&error);
    if (backend == nullptr) missing = error;
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
  }
};

const Cuda& cuda() {
  static const Cuda* const loaded = new Cuda;  // never destroyed, as the backend
  return *loaded;
}

}  // namespace

Backend& cuda_backend() {
  const Cuda& found = cuda();
  check<DeviceError>(found.backend != nullptr, "[backend] device: got \"cuda\", but ", found.missing,
                     "; expected \"cpu\" or \"auto\" here");
  check<DeviceError>(!forked,
                     "[backend] CUDA does not work in a forked process; start it with multiprocessing's \"spawn\" "
                     "method, or use device=\"cpu\" there");
  return *found.backend;
}

std::string cuda_missing() { return cuda().missing; }

bool has_cuda() {
  const char* wanted = std::getenv("GDCORE_DEVICE");
  if (wanted != nullptr && std::string_view(wanted) == "cpu") return false;
  // The CPU emulation is for tests, which request it by name.
  return !forked && std::getenv("GDCORE_CUDA_LIBRARY") == nullptr && cuda().backend != nullptr;
}

}  // namespace gdcore
