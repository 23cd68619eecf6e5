// The algorithm is described in row_order.h.
#include "gdcore/row_order.h"

#include <algorithm>

#include "gdcore/check.h"
#include "gdcore/random.h"

namespace gdcore {

Permutation Permutation::of(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  constexpr std::int64_t kMost = std::int64_t{1} << 60, kFew = 64;
  check(n >= 0 && n <= kMost, "[permutation] n: got ", n, "; expected 0 to ", kMost);
  // The smallest even number whose square is n or more: first the largest even one whose square is below n.
  std::int64_t rows = 2;
  for (std::int64_t bit = std::int64_t{1} << 30; bit > 1; bit /= 2) {
    if ((rows + bit) * (rows + bit) < n) rows += bit;
  }
  while (rows * rows < n) rows += 2;
  Permutation made;
  made.n = n;
  made.rows = static_cast<std::uint32_t>(rows);
  made.cols = static_cast<std::uint32_t>(std::max<std::int64_t>(1, (n + rows - 1) / rows));
  made.rounds = n < kFew ? 24 : 12;
  const auto block = Philox{seed, stream_of(Stream::shuffle, epoch)}.block(static_cast<std::uint64_t>(n));
  std::ranges::copy(block.word, made.key);
  return made;
}

}  // namespace gdcore
