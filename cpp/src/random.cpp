#include "gdcore/random.h"

#include <utility>

#include "gdcore/parallel.h"

namespace gdcore {

void fill_permutation(std::int64_t* order, std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  const Philox random{seed, stream_of(Stream::shuffle, epoch)};
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  for (std::int64_t i = n - 1; i > 0; --i) {
    if (i % (1 << 16) == 0) poll_interrupt();
    const auto j =
        static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(i) + 1));
    std::swap(order[i], order[j]);
  }
}

}  // namespace gdcore
