// Warp operations: the lanes of the mask wait for each other at the same call; lanes that have returned do not count.
#include <algorithm>
#include <atomic>
#include <bit>

#include "emulation/machine.h"
#include "emulation/tensor_cores.h"

namespace gdcore::emulation {

namespace {

#ifdef GDCORE_EMULATION_RACE
/// __syncwarp orders memory between the lanes; shuffles and votes do not. Afterwards each participating lane has the
/// largest known counts of all.
void learn_clocks(Machine& m, int first, int lanes, unsigned present) {
  unsigned known[kWarp] = {};
  for (int i = 0; i < lanes; ++i) {
    if ((present >> i & 1u) == 0) continue;
    Thread& t = m.threads[first + i];
    known[i] = std::max(known[i], ++t.clock);
    for (int j = 0; j < kWarp; ++j) known[j] = std::max(known[j], t.known[j]);
  }
  for (int i = 0; i < lanes; ++i) {
    if ((present >> i & 1u) != 0) std::copy_n(known, kWarp, m.threads[first + i].known);
  }
}
#endif

float factor_of(unsigned bits, bool bfloat16, int half) {
  if (bfloat16) bits = half == 0 ? bits << 16 : bits & 0xffff0000u;
  return std::bit_cast<float>(bits);
}

/// C += A B with the registers of all lanes. A: row g, row g + 8, and both again for the upper half of the depth. B:
/// the lower half of the depth, then the upper half. Lane 4 g + t holds term t of each half (TF32), or terms 2 t and 2
/// t + 1, packed (bfloat16).
void multiply(Machine& m, int first) {
  Fragments lanes[kWarp];
  for (int i = 0; i < kWarp; ++i) lanes[i] = *reinterpret_cast<const Fragments*>(m.threads[first + i].value);
  const bool bfloat16 = lanes[0].bfloat16;
  const int packed = bfloat16 ? 2 : 1, depth = 8 * packed;
  double a[16][16], b[16][8];
  for (int k = 0; k < depth; ++k) {
    const int upper = k / (depth / 2), t = k % (depth / 2) / packed, half = k % packed;
    for (int row = 0; row < 16; ++row) {
      a[row][k] = factor_of(lanes[row % 8 * 4 + t].a[2 * upper + row / 8], bfloat16, half);
    }
    for (int col = 0; col < 8; ++col) b[k][col] = factor_of(lanes[col * 4 + t].b[upper], bfloat16, half);
  }
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 8; ++col) {
      double sum = 0.0;
      for (int k = 0; k < depth; ++k) sum += a[row][k] * b[k][col];
      lanes[row % 8 * 4 + col / 2].c[row / 8 * 2 + col % 2] += static_cast<float>(sum);
    }
  }
}

}  // namespace

void complete_warp(Machine& m, int waiting) {
  const WarpOp op = m.threads[waiting].warp_op;
  const unsigned mask = m.threads[waiting].mask;
  const Site site = m.threads[waiting].site;
  const int first = waiting / kWarp * kWarp;
  const int lanes = std::min(kWarp, static_cast<int>(m.threads.size()) - first);
  unsigned present = 0;
  bool all = true;
  for (int i = 0; i < lanes; ++i) {
    const Thread& t = m.threads[first + i];
    if ((mask >> i & 1u) == 0 || t.state == State::done) continue;
    if (t.state != State::at_warp) {
      all = false;
      continue;
    }
    if (t.mask != mask || t.warp_op != op || !same_site(t.site, site)) {
      fail(m, "divergent warp operation: " + name_of(m, waiting) + " at " + text_of(site) + ", lane " +
                  std::to_string(i) + " at " + text_of(t.site) + " or with another mask");
    }
    present |= 1u << i;
  }
  if (!all) return;
  if (op == WarpOp::multiply) {
    if (present != ~0u) fail(m, "tensor cores need a whole warp: " + name_of(m, waiting) + " at " + text_of(site));
    multiply(m, first);
  }
  for (int i = 0; i < lanes; ++i) {
    if ((present >> i & 1u) == 0) continue;
    Thread& t = m.threads[first + i];
    if (op == WarpOp::shuffle) {
      if (t.source < 0 || t.source >= kWarp || (present >> t.source & 1u) == 0) {
        fail(m, "shuffle from a lane that does not take part: " + name_of(m, first + i) + " reads lane " +
                    std::to_string(t.source) + " at " + text_of(t.site));
      }
      t.result = m.threads[first + t.source].value;
    }
    t.state = State::ready;
    --m.warp_waiting[waiting / kWarp];
  }
#ifdef GDCORE_EMULATION_RACE
  if (op == WarpOp::sync) learn_clocks(m, first, lanes, present);
#endif
}

std::uint64_t wait_warp(WarpOp op, unsigned mask, std::uint64_t value, int source, Site site) {
  Machine& m = machine();
  const int me = m.current, warp = me / kWarp;
  Thread& t = m.threads[me];
  t.site = site;
  t.warp_op = op;
  t.mask = mask;
  t.value = value;
  t.source = source;
  if ((mask >> (me % kWarp) & 1u) == 0) {
    fail(m, "warp operation: " + name_of(m, me) + " is not in its own mask at " + text_of(site));
  }
  t.state = State::at_warp;
  ++m.warp_waiting[warp];
  if (m.warp_waiting[warp] >= std::min(m.warp_alive[warp], std::popcount(mask))) complete_warp(m, me);
  yield(m);
  return m.threads[me].result;
}

int new_shared_array() {
  static std::atomic<int> next{0};
  return next++;
}

}  // namespace gdcore::emulation
