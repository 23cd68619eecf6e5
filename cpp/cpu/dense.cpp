// Dense layer: y = f(x Wᵀ + b), x (N, in), W (out, in), y (N, out). Bias and activation are fused into the product and
// applied to each finished tile. Backward: dy ← dy f'(saved) and db = Σ_n dy_n in one pass, dW = dyᵀ x, dx = dy W.
// All outputs are overwritten. Saved for backward: x, and y or the pre-activation.
#include <utility>
#include <variant>

#include "cpu_backend.h"
#include "gemm.h"
#include "loops.h"
#include "slopes.h"

namespace gdcore::GDCORE_ISA {

namespace {

/// Outputs of a prediction do not depend on the number of rows, as the choice of matrix units does.
template <class Call>
UnitsCall units_in_training(const MatrixUnits& units, const Call& call) {
  const int parts = parts_of(call.precision);
  return {call.training && parts <= units.most_parts ? units.multiply : nullptr, parts};
}

/// Returns the weight packed in advance, packing it where it is not current; null where the product reads the weight in
/// place or the caller keeps no copy.
template <class T>
const T* packed_weight(Backend& backend, const DenseForward& call, const Operand<T>& weight) {
  const std::int64_t in = call.x.cols, out = call.weight.rows;
  if (call.packed == nullptr || few_columns<T>(out, in, {nullptr, in, 1}, weight)) return nullptr;
  if (!call.packed->current) {
    grow(call.packed->data, backend, sizeof(T) * static_cast<std::size_t>(padded<T>(out) * in));
    pack_all<T>(out, in, weight, static_cast<T*>(call.packed->data.data()));
    call.packed->current = true;
  }
  return static_cast<const T*>(call.packed->data.data());
}

template <class T, class Function>
void forward(Backend& backend, const DenseForward& call, const Function& f, const UnitsCall& units) {
  const std::int64_t n = call.x.rows, in = call.x.cols, out = call.weight.rows;
  T* pre = call.pre.as<T>();
  const auto finish_row = [=](T* row, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
    if (Function::saves_input && pre != nullptr) {
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) pre[at + j] = row[j];
    }
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) row[j] = f.value(row[j]);
  };
  const auto finish_rows = [=](const Piece<T>& piece) {
    const std::int64_t at = piece.row * out + piece.col;
    if (piece.cols == out) return finish_row(piece.data, at, piece.rows * out);
    for (std::int64_t r = 0; r < piece.rows; ++r) {
      T* row = piece.data + r * piece.stride;
      if (piece.cols == Tile<T>::cols) {  // constant count: vectors without a loop
        finish_row(row, at + r * out, Tile<T>::cols);
      } else {
        finish_row(row, at + r * out, piece.cols);
      }
    }
  };
  const Finish<T> finish = finish_rows;
  const Operand<T> weight{call.weight.as<T>(), 1, in};
  gemm<T>({.m = n,
           .n = out,
           .k = in,
           .a = {call.x.as<T>(), in, 1},
           .b = weight,
           .c = call.y.as<T>(),
           .c_stride = out,
           .bias = call.bias.as<T>(),
           .finish = std::is_same_v<Function, Identity> ? nullptr : &finish,
           .kept = packed_weight<T>(backend, call, weight),
           .few_rows = call.training},
          units);
}

/// dy ← dy f'(saved) in a block; computes its column sums.
template <class T>
void slope_columns(const DenseBackward& call, const Slopes<T>& slopes, const Block& in, double (*total)[kMostColumns]) {
  const std::int64_t stride = call.dy.cols, at = in.begin * stride + in.c0;
  const T* saved = call.saved ? call.saved.as<T>() + at : nullptr;
  T* dy = call.dy.as<T>() + at;
  column_sums<T, 1>(
      in.end - in.begin, in.cols, total,
      [=](std::int64_t r, std::int64_t c) __attribute__((always_inline)) { return dy[r * stride + c]; },
      [=, &slopes](std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
        const std::int64_t first = begin * stride;
        if (saved != nullptr) slopes.multiply(saved + first, dy + first, end - begin, in.cols, stride);
      });
}

/// dy ← dy f'(saved) and db = the column sums of dy, in one pass. Many rows are divided among the threads, as in the
/// products before and after it: each has its rows in its cache.
template <class T>
void slope_and_bias(const DenseBackward& call) {
  constexpr std::int64_t kByRows = 256;
  const Slopes<T> slopes(call.activation);
  const std::int64_t rows = call.dy.rows, out = call.dy.cols;
  T* bias = call.dbias.as<T>();
  if (rows == 1) {
    T* dy = call.dy.as<T>();
    if (call.saved) slopes.multiply(call.saved.as<T>(), dy, 1, out, out);
#pragma omp simd
    for (std::int64_t c = 0; c < out; ++c) bias[c] = T(0) + dy[c];  // no zero is negative, as in sums
    return;
  }
  const bool by_rows = rows >= kByRows && rows >= out && rows * out >= 2 * kGrain;
  if (by_rows || is_tall<T>(rows, out)) {
    const auto piece = [&](std::int64_t begin, std::int64_t end, double* sums) {
      double total[1][kMostColumns];
      for (std::int64_t c0 = 0; c0 < out; c0 += kMostColumns) {
        const std::int64_t cols = min(kMostColumns, out - c0);
        slope_columns<T>(call, slopes, {begin, end, c0, cols}, total);
        for (std::int64_t c = 0; c < cols; ++c) sums[c0 + c] = total[0][c];
      }
    };
    const double* sums = over_pieces(rows, out * 4, out, piece, adding(out));
    for (std::int64_t c = 0; c < out; ++c) bias[c] = static_cast<T>(sums[c]);
    return;
  }
  parallel_for(out, rows * 4, column_block<T>(rows, out), [&](std::int64_t begin, std::int64_t end) {
    double total[1][kMostColumns];
    for (std::int64_t c0 = begin; c0 < end; c0 += kMostColumns) {
      const std::int64_t cols = min(kMostColumns, end - c0);
      slope_columns<T>(call, slopes, {0, rows, c0, cols}, total);
      for (std::int64_t c = 0; c < cols; ++c) bias[c0 + c] = static_cast<T>(total[0][c]);
    }
  });
}

/// Rows of a batch up to which dW is written row by row: a tile would write short pieces of rows that are pages apart.
inline constexpr std::int64_t kFewRows = 8;

/// Rows [0, Outputs) of dW = dyᵀ x for a batch of Rows rows. Their factors stay in registers.
template <class T, int Rows, int Outputs>
GD_INLINE void weight_rows(std::int64_t out, std::int64_t in, const T* dy, const T* x, T* dweight) {
  using vector = typename Tile<T>::vector;
  vector factor[Outputs][Rows];
  for (int o = 0; o < Outputs; ++o) {
    for (int n = 0; n < Rows; ++n) factor[o][n] = dy[n * out + o] - vector{};
  }
  const auto columns = [&](std::int64_t i, const auto& read, const auto& write) __attribute__((always_inline)) {
    vector sum[Outputs]{};
#pragma GCC unroll 8
    for (int n = 0; n < Rows; ++n) {
      const vector row = read(x + n * in + i);
#pragma GCC unroll 4
      for (int o = 0; o < Outputs; ++o) sum[o] += factor[o][n] * row;
    }
#pragma GCC unroll 4
    for (int o = 0; o < Outputs; ++o) write(dweight + o * in + i, sum[o]);
  };
  const std::int64_t whole = in / Tile<T>::lanes * Tile<T>::lanes;
  for (std::int64_t i = 0; i < whole; i += Tile<T>::lanes) columns(i, load<T>, store<T>);
  if (whole == in) return;
  const FirstLanes<T> rest(in - whole);
  columns(
      whole, [&](const T* from) __attribute__((always_inline)) { return rest.load(from); },
      [&](T* to, vector value) __attribute__((always_inline)) { rest.store(to, value); });
}

/// dW = dyᵀ x for a batch of Rows rows. The order of the sums is that of gemm().
template <class T, int Rows>
void few_rows_weight(const DenseBackward& call) {
  constexpr int kHeld = GDCORE_VECTOR_BYTES == 64 ? 16 : 8, kOutputs = kHeld / Rows < 4 ? kHeld / Rows : 4;
  const std::int64_t out = call.dy.cols, in = call.x.cols;
  const T *dy = call.dy.as<T>(), *x = call.x.as<T>();
  T* dweight = call.dweight.as<T>();
  parallel_for(out, in, kOutputs, [=](std::int64_t begin, std::int64_t end) {
    std::int64_t o = begin;
    for (; o + kOutputs <= end; o += kOutputs) weight_rows<T, Rows, kOutputs>(out, in, dy + o, x, dweight + o * in);
    for (; o < end; ++o) weight_rows<T, Rows, 1>(out, in, dy + o, x, dweight + o * in);
  });
}

template <class T, class Rows = std::make_index_sequence<kFewRows>>
constexpr auto kFewRowsWeight = nullptr;
template <class T, std::size_t... Row>
constexpr decltype(&few_rows_weight<T, 1>) kFewRowsWeight<T, std::index_sequence<Row...>>[] = {
    &few_rows_weight<T, Row + 1>...};

}  // namespace

void CpuBackend::dense_forward(const DenseForward& call) {
  const UnitsCall units = units_in_training(units_, call);
  with_type(call.x.dtype, [&]<class T>(T) {
    std::visit([&](const auto& f) { forward<T>(*this, call, f, units); }, call.activation);
  });
}

void CpuBackend::dense_backward(const DenseBackward& call) {
  if (call.dbias) {
    with_type(call.dy.dtype, [&]<class T>(T) { slope_and_bias<T>(call); });
  } else if (!std::holds_alternative<Identity>(call.activation)) {
    activation_backward(call.activation, call.saved, call.dy, call.dy);
  }
  const std::int64_t n = call.dy.rows, out = call.weight.rows, in = call.weight.cols;
  const UnitsCall units = units_in_training(units_, call);
  with_type(call.dy.dtype, [&]<class T>(T) {
    const T* dy = call.dy.as<T>();
    const T *x = call.x.as<T>(), *weight = call.weight.as<T>();
    T *dweight = call.dweight.as<T>(), *dx = call.dx.as<T>();
    if (call.dweight && n <= kFewRows) {
      kFewRowsWeight<T>[n - 1](call);
    } else if (call.dweight) {
      gemm<T>({.m = out, .n = in, .k = n, .a = {dy, 1, out}, .b = {x, in, 1}, .c = dweight, .c_stride = in}, units);
    }
    if (call.dx) {
      gemm<T>({.m = n, .n = in, .k = out, .a = {dy, out, 1}, .b = {weight, in, 1}, .c = dx, .c_stride = in}, units);
    }
  });
}

}  // namespace gdcore::GDCORE_ISA
