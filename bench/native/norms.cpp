// Batch norm and layer norm, alone and with a fused activation, and batch norm in prediction. The largest shape exceeds
// the caches; γ, β and the statistics are too small to count.
#include <functional>

#include "support.h"

namespace gdcore::bench {

namespace {

constexpr double kEps = 1e-5;

struct Case {
  bool batch;  // true: batch norm, false: layer norm
  std::int64_t rows, cols;
  Activation f;
  DType dtype = DType::float32;

  /// The name, and the work of passes that move each element `moves` times.
  std::string label(const char* pass) const {
    return name(batch ? "batch-norm" : "layer-norm", pass, name_of(f), shape(rows, cols), name_of(dtype));
  }
  Work work(int moves) const {
    return {.bytes = static_cast<double>(rows * cols * moves) * static_cast<double>(size_of(dtype)), .dtype = dtype};
  }
  std::int64_t groups() const { return batch ? cols : rows; }
};

void add_forward(const Case& c) {
  // Reads x; writes y, and the pre-activation if the slope is computed from it.
  add(c.label("forward"), c.work(saves_input(c.f) ? 3 : 2), [=](const Run& run) {
    const Array x(c.rows, c.cols, c.dtype), y(c.rows, c.cols, c.dtype), gamma(1, c.cols, c.dtype),
        beta(1, c.cols, c.dtype);
    const Array mean(1, c.groups(), c.dtype), rstd(1, c.groups(), c.dtype), variance(1, c.groups(), c.dtype);
    const Array pre(saves_input(c.f) ? c.rows : 1, c.cols, c.dtype);
    const View kept = saves_input(c.f) ? pre.view() : View{};
    const BatchNormForward batch{x.view(),    gamma.view(), beta.view(),     kEps, c.f, y.view(),
                                 mean.view(), rstd.view(),  variance.view(), kept};
    const LayerNormForward layer{x.view(), gamma.view(), beta.view(), kEps, c.f,
                                 y.view(), mean.view(),  rstd.view(), kept};
    run([&] { c.batch ? cpu().batch_norm_forward(batch) : cpu().layer_norm_forward(layer); });
  });
}

void add_backward(const Case& c) {
  // Reads x, dy and, with an activation, the saved array; writes dx. Writing dy times the slope in place is a choice of
  // the implementation, not necessary work, so it does not count.
  const bool slope = c.f.index() != 0;
  add(c.label("backward"), c.work(slope ? 4 : 3), [=](const Run& run) {
    const Array x(c.rows, c.cols, c.dtype), dy(c.rows, c.cols, c.dtype), dx(c.rows, c.cols, c.dtype),
        gamma(1, c.cols, c.dtype);
    // Slopes are 1, so that dy, multiplied in each call, neither grows nor becomes denormal.
    const Array saved(slope ? c.rows : 1, c.cols, c.dtype, 0.5, 9.0);
    const Array mean(1, c.groups(), c.dtype, 0.1), rstd(1, c.groups(), c.dtype, 0.1, 1.7);
    const Array dgamma(1, c.cols, c.dtype), dbeta(1, c.cols, c.dtype);
    const NormBackward call{
        x.view(),  gamma.view(), mean.view(),   rstd.view(), c.f, slope ? ConstView(saved.view()) : ConstView{},
        dy.view(), dx.view(),    dgamma.view(), dbeta.view()};
    run([&] { c.batch ? cpu().batch_norm_backward(call) : cpu().layer_norm_backward(call); });
  });
}

void add_affine(std::int64_t rows, std::int64_t cols) {
  // Batch norm in prediction, and data scaling: reads x, writes y.
  add(name("column-affine/ReLU", shape(rows, cols)), {.bytes = 8.0 * static_cast<double>(rows * cols)},
      [=](const Run& run) {
        const Array x(rows, cols), y(rows, cols), mean(1, cols), spread(1, cols, DType::float32, 0.1, 1.0);
        const Array gamma(1, cols), beta(1, cols);
        const ColumnAffine call{x.view(),    mean.view(), spread.view(), gamma.view(), beta.view(),
                                Spread::std, kEps,        ReLU{},        y.view()};
        run([&] { cpu().column_affine(call); });
      });
}

}  // namespace

void add_norms() {
  struct Shape {
    std::int64_t rows, cols;
  };
  constexpr Shape shapes[] = {{32, 32}, {128, 512}, {101, 1001}, {4096, 1024}, {65536, 1024}};
  for (const bool batch : {true, false}) {
    for (const Activation& f : {Activation{Identity{}}, Activation{ReLU{}}, Activation{GELU{}}}) {
      for (const Shape& s : shapes) {
        const Case c{batch, s.rows, s.cols, f};
        add_forward(c);
        add_backward(c);
      }
    }
    const Case wide{batch, 1024, 512, Identity{}, DType::float64};
    add_forward(wide);
    add_backward(wide);
  }
  for (const Shape& s : shapes) add_affine(s.rows, s.cols);
}

}  // namespace gdcore::bench
