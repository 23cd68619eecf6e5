// Opens cuBLASLt. The library is never closed: its threads and device memory stay in use.
#include "matmul/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "gdcore/check.h"
#ifdef GDCORE_EMULATED
#include "emulation/emulated_cublaslt.h"
#endif

namespace gdcore::cuda {

namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "libcublasLt.so.13";
constexpr const char* kAdvice = "pip install \"gdcore[cuda13]\" installs it";
constexpr std::size_t kMajor = 13;

/// Returns <site-packages>/nvidia/*/lib/libcublasLt.so.13; this library is in <site-packages>/gdcore. If Python finds
/// the wheel in another folder, it sets GDCORE_CUBLASLT_WHEEL (python/gdcore/_cuda.py).
std::vector<std::string> files_of_wheel() {
  std::vector<std::string> files;
  Dl_info here{};
  if (dladdr(reinterpret_cast<const void*>(&files_of_wheel), &here) == 0 || here.dli_fname == nullptr) return files;
  std::error_code ignored;
  const fs::path self = fs::absolute(here.dli_fname, ignored);
  fs::directory_iterator folder(self.parent_path().parent_path() / "nvidia", ignored);
  for (; !ignored && folder != fs::directory_iterator(); folder.increment(ignored)) {
    const fs::path file = folder->path() / "lib" / kName;
    if (std::error_code unknown; fs::exists(file, unknown)) files.push_back(file.string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string why_not() {
  const char* text = dlerror();
  return text != nullptr ? text : "no reason is given";
}

void* open_library() {
  constexpr int kMode = RTLD_NOW | RTLD_LOCAL;
  if (const char* named = std::getenv("GDCORE_CUBLASLT")) {
    void* library = dlopen(named, kMode);
    check<DeviceError>(library != nullptr, "[cuda] GDCORE_CUBLASLT=", named, " does not load (", why_not(),
                       "); set it to the path of NVIDIA's ", kName, ", or unset it: ", kAdvice);
    return library;
  }
  if (void* library = dlopen(kName, kMode | RTLD_NOLOAD)) return library;
  std::vector<std::string> candidates = files_of_wheel();
  if (const char* elsewhere = std::getenv("GDCORE_CUBLASLT_WHEEL")) candidates.push_back(elsewhere);
  candidates.push_back(kName);  // the system's search path
  std::string why;
  for (const std::string& file : candidates) {
    if (void* library = dlopen(file.c_str(), kMode)) return library;
    why += (why.empty() ? "" : "; ") + why_not();
  }
  throw DeviceError(join("[cuda] matrix products need NVIDIA's cuBLAS 13, which was not found: ", kAdvice,
                         ", or set GDCORE_CUBLASLT to the path of ", kName, " (tried: ", why, ")"));
}

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  check<DeviceError>(function != nullptr, "[cuda] the library opened as cuBLASLt 13 has no ", name, "; ", kAdvice);
}

}  // namespace

CublasLt open_cublaslt() {
  void* library = open_library();
  CublasLt table{};
  find(library, "cublasLtGetVersion", table.get_version);
  check<DeviceError>(table.get_version() / 10000 == kMajor, "[cuda] ", cublaslt_path(table), " is cuBLASLt ",
                     cublaslt_version(table), ", and gdcore needs 13; ", kAdvice);
  find(library, "cublasLtGetStatusString", table.get_status_string);
  find(library, "cublasLtCreate", table.create);
  // Called by the header's inline functions cublasLt...Init.
  find(library, "cublasLtMatrixLayoutInit_internal", table.layout_init);
  find(library, "cublasLtMatmulDescInit_internal", table.operation_init);
  find(library, "cublasLtMatmulDescSetAttribute", table.operation_set);
  find(library, "cublasLtMatmulPreferenceInit_internal", table.preference_init);
  find(library, "cublasLtMatmulPreferenceSetAttribute", table.preference_set);
  find(library, "cublasLtMatmulAlgoGetHeuristic", table.get_heuristic);
  find(library, "cublasLtMatmul", table.matmul);
  return table;
}

const CublasLt& cublaslt() {
#ifdef GDCORE_EMULATED
  return emulation::cublaslt();
#else
  static const CublasLt table = open_cublaslt();
  return table;
#endif
}

std::string cublaslt_version(const CublasLt& library) {
  const std::size_t version = library.get_version();
  return join(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

std::string cublaslt_path(const CublasLt& library) {
  Dl_info file{};
  const bool known =
      dladdr(reinterpret_cast<const void*>(library.get_version), &file) != 0 && file.dli_fname != nullptr;
  return known ? file.dli_fname : "an unknown file";
}

}  // namespace gdcore::cuda
