// The row order of an epoch, many positions at once. The algorithm is described in row_order.h.
#include "gdcore/row_order.h"

#include "loops.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Computes permutation(first), permutation(first + 1), ... in loops that a compiler can vectorise.
void fill_shuffled(const Permutation& permutation, std::int64_t first, std::int64_t count, std::int64_t* to) {
  constexpr std::int64_t kLanes = 64;
  std::uint32_t row[kLanes], col[kLanes];
  for (std::int64_t done = 0; done < count; done += kLanes) {
    if (done % (1 << 16) == 0) poll_interrupt();
    const std::int64_t lanes = min(kLanes, count - done);
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
      const std::int64_t position = static_cast<std::int64_t>(row[i]) * permutation.cols + col[i];
      to[done + i] = position < permutation.n ? position : permutation(position);
    }
  }
}

}  // namespace

/// Called by cpp/src/cpu_dispatch.cpp; one for each instruction set.
void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to) {
  if (order.shuffle != nullptr) {
    fill_shuffled(*order.shuffle, first, count, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = first + i;
  }
  for (std::int64_t i = 0; order.rows != nullptr && i < count; ++i) to[i] = order.rows[to[i]];
}

}  // namespace gdcore::GDCORE_ISA
