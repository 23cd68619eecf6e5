// Activation layers and dropout: elementwise passes over n elements in L1, in L2 and beyond the caches.
#include "support.h"

namespace gdcore::bench {

namespace {

constexpr std::int64_t kSizes[] = {1 << 11, 1 << 17, 1 << 26};

const char* label_of(const Activation& f) {
  return std::holds_alternative<GELUTanh>(f) ? "GELUTanh" : name_of(f);  // its own name is GELU too
}

void add_activation(const Activation& f, std::int64_t n, DType dtype = DType::float32) {
  const double bytes = static_cast<double>(n) * static_cast<double>(size_of(dtype));
  // Reads x, writes y.
  add(name("activation/forward", label_of(f), n, name_of(dtype)), {.bytes = 2 * bytes, .dtype = dtype},
      [=](const Run& run) {
        const Array x(1, n, dtype, 3.0), y(1, n, dtype);
        run([&] { cpu().activation_forward(f, x.view(), y.view()); });
      });
  // Reads the saved array and dy, writes dx.
  add(name("activation/backward", label_of(f), n, name_of(dtype)), {.bytes = 3 * bytes, .dtype = dtype},
      [=](const Run& run) {
        const Array saved(1, n, dtype), dy(1, n, dtype), dx(1, n, dtype);
        run([&] { cpu().activation_backward(f, saved.view(), dy.view(), dx.view()); });
      });
}

void add_dropout(std::int64_t n) {
  // Reads x, writes y; backward is the same call. Generating the mask is not counted, but takes most of the time.
  add(name("dropout", n), {.bytes = 8.0 * static_cast<double>(n)}, [=](const Run& run) {
    const Array x(1, n), y(1, n);
    std::uint64_t step = 0;
    run([&] { cpu().dropout({x.view(), y.view(), 0.5, 1, ++step}); });
  });
}

}  // namespace

void add_activations() {
  const Activation functions[] = {ReLU{}, LeakyReLU{}, Tanh{}, Sigmoid{}, GELU{}, GELUTanh{}, Softplus{}};
  for (const Activation& f : functions) {
    for (const std::int64_t n : kSizes) add_activation(f, n);
  }
  for (const Activation& f : {Activation{ReLU{}}, Activation{Tanh{}}}) add_activation(f, 1 << 17, DType::float64);
  for (const std::int64_t n : kSizes) add_dropout(n);
}

}  // namespace gdcore::bench
