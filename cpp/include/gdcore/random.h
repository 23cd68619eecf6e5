// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). The n-th number of a (seed, stream) pair is a
// function of n alone, so results depend neither on the number of threads nor on the device.
#pragma once

#include <cstdint>

#include "gdcore/math.h"

namespace gdcore {

struct Philox {
  std::uint64_t seed = 0, stream = 0;

  struct Block {
    std::uint32_t word[4];
  };

  GD_FORMULA Block block(std::uint64_t n) const {
    std::uint32_t c0 = static_cast<std::uint32_t>(n), c1 = static_cast<std::uint32_t>(n >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
  }

  /// The n-th uniform number in [0, 1), of 53 bits.
  double uniform(std::uint64_t n) const {
    const Block b = block(n);
    return static_cast<double>(((std::uint64_t{b.word[0]} << 32) | b.word[1]) >> 11) * 0x1p-53;
  }

  /// The n-th number of a standard normal distribution (Box-Muller).
  double normal(std::uint64_t n) const {
    const Block b = block(n);
    const std::uint64_t high = (std::uint64_t{b.word[0]} << 32) | b.word[1];
    const std::uint64_t low = (std::uint64_t{b.word[2]} << 32) | b.word[3];
    const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(high >> 11) + 1.0) * 0x1p-53));
    return radius * std::cos(6.283185307179586 * static_cast<double>(low >> 11) * 0x1p-53);
  }
};

/// Disjoint sets of streams: each use of random numbers has its own upper byte.
enum class Stream : std::uint64_t { parameters = 1, shuffle = 2, dropout = 3 };

inline std::uint64_t stream_of(Stream use, std::uint64_t number) {
  return (static_cast<std::uint64_t>(use) << 56) ^ number;
}

}  // namespace gdcore
