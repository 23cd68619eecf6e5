// The algorithm is described in row_order.h.
#include "gdcore/row_order.h"

#include <algorithm>

#include "gdcore/check.h"
#include "gdcore/parallel.h"
#include "gdcore/random.h"

namespace gdcore {

Permutation Permutation::of(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  constexpr std::int64_t kMost = std::int64_t{1} << 60, kFew = 64;
  check(n >= 0 && n <= kMost, "[permutation] n is ", n, "; expected 0 to ", kMost);
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

namespace {

/// Computes permutation(first), permutation(first + 1), ... in loops that a compiler can vectorise.
void fill_shuffled(const Permutation& permutation, std::int64_t first, std::int64_t count, std::int64_t* to) {
  constexpr std::int64_t kLanes = 64;
  std::uint32_t row[kLanes], col[kLanes];
  for (std::int64_t done = 0; done < count; done += kLanes) {
    if (done % (1 << 16) == 0) poll_interrupt();
    const std::int64_t lanes = std::min(kLanes, count - done);
    auto r = static_cast<std::uint32_t>((first + done) / permutation.cols);
    auto c = static_cast<std::uint32_t>((first + done) % permutation.cols);
    for (std::int64_t i = 0; i < lanes; ++i) {
      row[i] = r;
      col[i] = c;
      if (++c == permutation.cols) {
        c = 0;
        ++r;
      }
    }
    for (std::uint32_t round = 0; round < permutation.rounds; round += 2) {
      const std::uint32_t key = permutation.round_key(round), next_key = permutation.round_key(round + 1);
      for (std::int64_t i = 0; i < lanes; ++i) {
        row[i] = Permutation::shifted(row[i], col[i], key, permutation.rows);
        col[i] = Permutation::shifted(col[i], row[i], next_key, permutation.cols);
      }
    }
    for (std::int64_t i = 0; i < lanes; ++i) {
      const std::int64_t place = static_cast<std::int64_t>(row[i]) * permutation.cols + col[i];
      to[done + i] = place < permutation.n ? place : permutation(place);
    }
  }
}

}  // namespace

void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to) {
  if (order.shuffle != nullptr) {
    fill_shuffled(*order.shuffle, first, count, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = first + i;
  }
  for (std::int64_t i = 0; order.rows != nullptr && i < count; ++i) to[i] = order.rows[to[i]];
}

}  // namespace gdcore
