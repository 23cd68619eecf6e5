// The derivative of a loss's gradient along a direction ẏ of the logits (N, K); formulas: cpp/cpu/loss.cpp.
//   mean squared error:    (2/K) s ẏ
//   binary cross-entropy:  s (ω t + 1 - t) p (1-p) ẏ, p = sigmoid(y)
//   cross-entropy:         s Ω (p ẏ - p (p · ẏ)), p = softmax(y), Ω = Σ ω t̃
// each divided by Σ s W, which the loss's own pass left in `sums`, in the device's memory. A group of lanes takes a row,
// a lane the same columns throughout, so that what it has written it may read again. The gradient is overwritten; it
// is no part of training steps, so each element is read and written as it comes.
#include <algorithm>
#include <variant>

#include "cuda_backend.h"
#include "loss_pass.h"

namespace gdcore::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;

/// Row n of the matrices, or none: every lane of a warp comes along, for the exchanges.
template <class T>
struct Place2 {
  std::int64_t begin, cols;
  int lane, lanes;
  T s;
};

template <class T>
__device__ void row_curvature(MeanSquaredError, const Losses<T>& p, const Place2<T>& row, double inverse,
                              const T* tangent) {
  const T factor = static_cast<T>(2.0 * (static_cast<double>(row.s) * inverse) / static_cast<double>(p.cols));
  for (std::int64_t c = row.lane; c < row.cols; c += row.lanes) {
    p.grad[row.begin + c] = factor * tangent[row.begin + c];
  }
}

template <class T>
__device__ void row_curvature(BinaryCrossEntropy, const Losses<T>& p, const Place2<T>& row, double inverse,
                              const T* tangent) {
}
