// Selects the active planted bug and records the planted places that the program reaches. At exit their numbers are
// written to the file that GDCORE_MUTANTS_REACHED names.
#include "mutation.h"

#include <cstdio>
#include <cstdlib>

namespace gdcore::mutation {

namespace {

constexpr int kMost = 1 << 16;
bool reached[kMost];

int chosen() {
  const char* text = std::getenv("GDCORE_MUTANT");
  return text == nullptr ? 0 : std::atoi(text);
}

struct Report {
  ~Report() {
    const char* name = std::getenv("GDCORE_MUTANTS_REACHED");
    std::FILE* file = name == nullptr ? nullptr : std::fopen(name, "w");
    if (file == nullptr) return;
    for (int n = 0; n < kMost; ++n) {
      if (reached[n]) std::fprintf(file, "%d\n", n);
    }
    std::fclose(file);
  }
};

const int one = chosen();
const Report report;

}  // namespace

bool active(int n) {
  reached[n] = true;
  return n == one;
}

}  // namespace gdcore::mutation
