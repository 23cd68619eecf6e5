// The row order of an epoch: a function of (seed, epoch, position) that any thread of any device can evaluate.
#pragma once

#include <cstdint>

#include "gdcore/math.h"

namespace gdcore {

/// A keyed permutation of 0..n-1. A position is written as (row, col) of a matrix with at least n elements and few
/// more. Rounds add keyed pseudo-random numbers in turn to the row, as a function of the column, and to the column, as
/// a function of the row. This is a Feistel network of additions (Black & Rogaway 2002, "Ciphers with arbitrary finite
/// domains"). A result >= n is permuted again until it is below n ("cycle walking", ibid.).
///
/// An even number of rows allows rounds that are odd permutations; otherwise only half of all orders would be possible.
/// Twelve rounds; 24 for n < 64, where orders would otherwise not be equally likely (with ideal round functions the
/// distance from uniform, half the sum of absolute differences, is 0.0005 at n = 6 and less for smaller n).
struct Permutation {
  std::int64_t n = 0;
  std::uint32_t rows = 1, cols = 1, rounds = 0;
  std::uint32_t key[4] = {};

  static Permutation of(std::int64_t n, std::uint64_t seed, std::uint64_t epoch);

  bool operator==(const Permutation&) const = default;

  GD_FORMULA std::int64_t operator()(std::int64_t position) const {
    do {
      auto row = static_cast<std::uint32_t>(position / cols), col = static_cast<std::uint32_t>(position % cols);
      for (std::uint32_t round = 0; round < rounds; round += 2) {
        row = shifted(row, col, round_key(round), rows);
        col = shifted(col, row, round_key(round + 1), cols);
      }
      position = static_cast<std::int64_t>(row) * cols + col;
    } while (position >= n);
    return position;
  }

  GD_FORMULA std::uint32_t round_key(std::uint32_t round) const {
    const std::uint32_t x = mixed(key[round % 4] + round * 0x9E3779B9u);
    return x ^ (x >> 16);
  }

  /// number · size / 2³²
  struct Scaled {
    GD_FORMULA std::uint32_t operator()(std::uint32_t number, std::uint32_t size) const {
      return static_cast<std::uint32_t>((std::uint64_t{number} * size) >> 32);
    }
  };

  /// (value + a pseudo-random number below `size`) modulo `size`. `U` may be a vector of numbers, with a matching
  /// `scaled`.
  template <class U, class Scale = Scaled>
  GD_FORMULA static U shifted(U value, U by, std::uint32_t round_key, std::uint32_t size, const Scale& scaled = {}) {
    const U sum = value + scaled(mixed(by ^ round_key), size), less = sum - size;  // less > sum where sum < size
    return less < sum ? less : sum;
  }

 private:
  /// The mixing function "lowbias32" (Wellons 2018) without its last step, which affects only the lower bits.
  template <class U>
  GD_FORMULA static U mixed(U x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    return (x ^ (x >> 15)) * 0x846CA68Bu;
  }
};

/// The row at a position: rows[shuffle(position)]. Null `rows` are 0, 1, 2, ...; a null `shuffle` keeps their order.
/// Both lie in the memory of the device that evaluates the order.
struct RowOrder {
  const std::int64_t* rows = nullptr;
  const Permutation* shuffle = nullptr;

  GD_FORMULA RowOrder() {}
  GD_FORMULA RowOrder(const std::int64_t* rows,  // NOLINT: implicit on purpose
                      const Permutation* shuffle = nullptr)
      : rows(rows), shuffle(shuffle) {}

  bool operator==(const RowOrder&) const = default;

  /// Whether the order is the identity.
  GD_FORMULA bool is_plain() const { return rows == nullptr && shuffle == nullptr; }

  GD_FORMULA std::int64_t operator()(std::int64_t position) const {
    if (shuffle != nullptr) position = (*shuffle)(position);
    return rows != nullptr ? rows[position] : position;
  }
};

/// to[i] = order(first + i) for i below `count`, vectorised.
void fill_order(const RowOrder& order, std::int64_t first, std::int64_t count, std::int64_t* to);

}  // namespace gdcore
