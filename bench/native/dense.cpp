// Dense layers. Forward is one product, 2·n·in·out operations; backward is two products, or one without the gradient of
// the input, as in a network's first layer. Narrow outputs and single rows are limited by reading the weights or the
// inputs from memory; the share then refers to the bandwidth.
#include <string>

#include "support.h"

namespace gdcore::bench {

namespace {

struct Shape {
  std::int64_t n, in, out;
  std::string text() const { return shape(n, in) + "x" + std::to_string(out); }
  double product() const { return 2.0 * static_cast<double>(n * in) * static_cast<double>(out); }
  double x() const { return static_cast<double>(n * in); }
  double weight() const { return static_cast<double>(out * (in + 1)); }  // with the bias
  double y() const { return static_cast<double>(n * out); }
};

void add_forward(const Shape& s, const Activation& f, DType dtype = DType::float32) {
  // Reads x, W and b; writes y, and the pre-activation if the slope is computed from it.
  const double numbers = s.x() + s.weight() + s.y() * (saves_input(f) ? 2 : 1);
  const Work work{.flop = s.product(), .bytes = numbers * static_cast<double>(size_of(dtype)), .dtype = dtype};
  add(name("dense/forward", name_of(f), s.text(), name_of(dtype)), work, [=](const Run& run) {
    const Array x(s.n, s.in, dtype), weight(s.out, s.in, dtype, 0.1), bias(1, s.out, dtype);
    const Array y(s.n, s.out, dtype), pre(s.n, s.out, dtype);
    const View kept = saves_input(f) ? pre.view() : View{};
    run([&] { cpu().dense_forward({x.view(), weight.view(), bias.view(), f, y.view(), kept}); });
  });
}

void add_backward(const Shape& s, const Activation& f, bool with_dx = true, DType dtype = DType::float32) {
  // Reads x, W (for dx), dy and, with an activation, y; writes dx, dW and db.
  const bool slope = f.index() != 0;
  const double numbers = s.x() + s.y() * (slope ? 2 : 1) + s.weight() + (with_dx ? s.x() + s.weight() : 0.0);
  const Work work{
      .flop = s.product() * (with_dx ? 2 : 1), .bytes = numbers * static_cast<double>(size_of(dtype)), .dtype = dtype};
  const char* kind = with_dx ? "dense/backward" : "dense/backward-first";
  add(name(kind, name_of(f), s.text(), name_of(dtype)), work, [=](const Run& run) {
    const Array x(s.n, s.in, dtype), weight(s.out, s.in, dtype, 0.1), dy(s.n, s.out, dtype);
    // Each call multiplies dy by the slope in place. For saved values near 9 the slopes are 1, so dy neither grows nor
    // becomes denormal.
    const Array saved(s.n, s.out, dtype, 0.5, 9.0);
    const Array dx(s.n, s.in, dtype), dweight(s.out, s.in, dtype), dbias(1, s.out, dtype);
    const DenseBackward call{x.view(),
                             weight.view(),
                             f,
                             slope ? ConstView(saved.view()) : ConstView{},
                             dy.view(),
                             with_dx ? dx.view() : View{},
                             dweight.view(),
                             dbias.view()};
    run([&] { cpu().dense_backward(call); });
  });
}

}  // namespace

void add_dense() {
  for (const std::int64_t n : {8, 16, 32, 64, 128, 256, 512, 1024, 2048}) {
    add_forward({n, n, n}, Identity{});
    add_backward({n, n, n}, Identity{});
  }
  // Layers of common networks, single rows, narrow outputs, odd sizes.
  for (const Shape& s :
       {Shape{32, 64, 32}, Shape{64, 784, 128}, Shape{128, 784, 512}, Shape{128, 512, 512}, Shape{256, 256, 256},
        Shape{4096, 64, 64}, Shape{1, 64, 32}, Shape{1, 784, 128}, Shape{1, 1024, 1024}, Shape{1, 4096, 4096},
        Shape{32, 32, 10}, Shape{64, 128, 10}, Shape{1024, 1024, 10}, Shape{1024, 1024, 1}, Shape{65536, 64, 1},
        Shape{31, 33, 65}, Shape{101, 103, 107}, Shape{127, 785, 129}, Shape{1000, 1001, 999}}) {
    add_forward(s, ReLU{});
    add_backward(s, ReLU{});
  }
  for (const Shape& s : {Shape{32, 64, 32}, Shape{64, 784, 128}, Shape{1024, 1024, 1024}}) {
    add_backward(s, ReLU{}, false);
  }
  for (const Activation& f : {Activation{ReLU{}}, Activation{GELU{}}}) {
    for (const Shape& s : {Shape{128, 512, 512}, Shape{1024, 1024, 1024}}) {
      if (f.index() == Activation{ReLU{}}.index() && s.n == 128) continue;  // already added above
      add_forward(s, f);
      add_backward(s, f);
    }
  }
  for (const std::int64_t n : {32, 128, 1024}) {
    add_forward({n, n, n}, Identity{}, DType::float64);
    add_backward({n, n, n}, Identity{}, true, DType::float64);
  }
}

}  // namespace gdcore::bench
