// Dense layers and their matrix products against double loops, at the edges of tiles, strips and blocks.
#include <variant>

#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// One dense layer with its exact results: sums, and sums of the terms' magnitudes.
template <class T>
struct Case {
  std::int64_t rows, out, in;
  Array<T> x, weight, bias, y, pre, dy, dx, dweight, dbias;

  Case(std::int64_t rows_, std::int64_t out_, std::int64_t in_, std::int64_t shift)
      : rows(rows_),
        out(out_),
        in(in_),
        x(rows, in, shift),
        weight(out, in, 1 - shift),
        bias(1, out, shift),
        y(rows, out, shift),
        pre(rows, out, 1 - shift),
        dy(rows, out, shift),
        dx(rows, in, 1 - shift),
        dweight(out, in, shift),
        dbias(1, out, 1 - shift) {
    x.random(1);
    weight.random(2);
    bias.random(3);
    dy.random(4);
  }

  void forward(const Activation& f, bool with_bias, bool training = false) {
    const View kept = saves_input(f) ? pre.view() : View{};
    const ConstView b = with_bias ? ConstView(bias.view()) : ConstView{};
    device().dense_forward({x.view(), weight.view(), b, f, y.view(), kept, Precision::full, training});
  }
  void backward(const Activation& f) {
    const bool none = std::holds_alternative<Identity>(f);
    const ConstView saved = none ? ConstView{} : saves_input(f) ? ConstView(pre.view()) : ConstView(y.view());
    device().dense_backward({x.view(), weight.view(), f, saved, dy.view(), dx.view(), dweight.view(), dbias.view()});
  }
};

/// Σ_p a[i, p] b[p, j] and Σ |a b| for all (i, j), in double.
template <class T>
__attribute__((no_sanitize("address", "undefined"))) void product(std::int64_t m, std::int64_t n, std::int64_t k,
                                                                  const T* a, std::int64_t a_row, std::int64_t a_col,
                                                                  const T* b, std::int64_t b_row, std::int64_t b_col,
                                                                  double* sum, double* size) {
  for (std::int64_t i = 0; i < m * n; ++i) sum[i] = size[i] = 0.0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double s = 0.0, z = 0.0;
      for (std::int64_t p = 0; p < k; ++p) {
        const double term =
            static_cast<double>(a[i * a_row + p * a_col]) * static_cast<double>(b[p * b_row + j * b_col]);
        s += term;
        z += std::abs(term);
      }
      sum[i * n + j] = s;
      size[i * n + j] = z;
    }
  }
}

struct Exact {
  std::vector<double> sum, size;
  template <class T>
  static Exact of(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row, std::int64_t a_col,
                  const T* b, std::int64_t b_row, std::int64_t b_col) {
    Exact exact{std::vector<double>(static_cast<std::size_t>(m * n)),
                std::vector<double>(static_cast<std::size_t>(m * n))};
    product(m, n, k, a, a_row, a_col, b, b_row, b_col, exact.sum.data(), exact.size.data());
    return exact;
  }
};

/// A chain of k multiply-adds: its error grows slower than √k roundings of the terms' summed magnitudes; 5e-7 in
/// float32.
template <class T>
constexpr double kChain = 8.0;

constexpr std::int64_t kFewRows = 17;  // up to here, training steps may compute a product in an order of its own

template <class T>
void check_product(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t shift) {
  CAPTURE(rows);
  CAPTURE(out);
  CAPTURE(in);
  Case<T> c(rows, out, in, shift);
  c.forward(Identity{}, false);
  c.backward(Identity{});
  const auto look = [](const Array<T>& got, const Exact& exact) {
    Worst<T> worst(kChain<T>);
    for (std::int64_t i = 0; i < got.size(); ++i) {
      worst.add(got[i], exact.sum[static_cast<std::size_t>(i)], exact.size[static_cast<std::size_t>(i)]);
    }
    return worst.value();
  };
  const Exact y = Exact::of(rows, out, in, c.x.data(), in, 1, c.weight.data(), 1, in);
  CHECK(look(c.y, y) <= 1.0);
  if (rows <= kFewRows) {
    c.y.poison();
    c.forward(Identity{}, false, true);
    CHECK(look(c.y, y) <= 1.0);
  }
  CHECK(look(c.dx, Exact::of(rows, in, out, c.dy.data(), out, 1, c.weight.data(), in, 1)) <= 1.0);
  CHECK(look(c.dweight, Exact::of(out, in, rows, c.dy.data(), 1, out, c.x.data(), in, 1)) <= 1.0);
  const T one = T(1);
  CHECK(look(c.dbias, Exact::of(1, out, rows, &one, 0, 0, c.dy.data(), out, 1)) <= 1.0);
}

/// With `training`, products of few rows have an order of their own.
template <class T>
void check_layer(const Activation& f, std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t shift,
                 bool training = false) {
  CAPTURE(std::string(name_of(f)));
  CAPTURE(rows);
  CAPTURE(out);
  CAPTURE(in);
  Case<T> c(rows, out, in, shift);
  const Array<T> dout = c.dy.copy();
  c.forward(f, true, training);
  const Exact a = Exact::of(rows, out, in, c.x.data(), in, 1, c.weight.data(), 1, in);
  c.backward(f);
  Worst<T> value(8.0), kept(8.0), slope(16.0), sums(8.0);
  std::vector<double> total(static_cast<std::size_t>(out)), total_size(total);
  for (std::int64_t i = 0; i < c.y.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double bias = static_cast<double>(c.bias[i % out]), exact = a.sum[at] + bias;
    const double size = 1.0 + a.size[at] + std::abs(bias), d = static_cast<double>(dout[i]);
    value.add(c.y[i], exact_value(f, exact), size);
    if (saves_input(f)) kept.add(c.pre[i], exact, size);
    if (std::abs(exact) > 1e-4) slope.add(c.dy[i], d * exact_slope(f, exact), d * size);  // not at the kink of ReLU
    total[static_cast<std::size_t>(i % out)] += static_cast<double>(c.dy[i]);
    total_size[static_cast<std::size_t>(i % out)] += std::abs(static_cast<double>(c.dy[i]));
  }
  for (std::int64_t j = 0; j < out; ++j) {
    sums.add(c.dbias[j], total[static_cast<std::size_t>(j)], total_size[static_cast<std::size_t>(j)]);
  }
  CHECK(value.value() <= 1.0);
  CHECK(kept.value() <= 1.0);
  CHECK(slope.value() <= 1.0);
  CHECK(sums.value() <= 1.0);
  // Where units saturate, all partial sums are as large as the first large term: more than 8 roundings occur.
  Worst<T> input(std::max(8.0, chain(out)));
  const Exact dx = Exact::of(rows, in, out, c.dy.data(), out, 1, c.weight.data(), in, 1);
  for (std::int64_t i = 0; i < c.dx.size(); ++i) {
    input.add(c.dx[i], dx.sum[static_cast<std::size_t>(i)], dx.size[static_cast<std::size_t>(i)]);
  }
  CHECK(input.value() <= 1.0);
}

}  // namespace

TEST_CASE("products at all edges around tiles and around the depth of a packed block") {
  // Tiles are 1, 2, 4, 6, 8 or 12 rows high and 2 vectors of 2 to 16 values wide, or half a vector; a block is 256
  // deep. Rows of 512 and 1,024 values are half a page or whole pages apart. An odd number of depths: `turn`
  // alternates.
  const std::int64_t heights[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25};
  const std::int64_t widths[] = {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 24, 25, 31, 32, 33, 65};
  const std::int64_t depths[] = {1, 2, 15, 16, 17, 255, 256, 257, 512, 769, 1024};
  int turn = 0;
  for (const std::int64_t m : heights) {
    for (const std::int64_t n : widths) {
      for (const std::int64_t k : depths) {
        const std::int64_t shift = turn % 2;
        // Each product of forward and backward gets each edge: the three dimensions change roles in turn.
        const auto [rows, out, in] = turn % 3 == 0   ? std::array{m, n, k}
                                     : turn % 3 == 1 ? std::array{k, m, n}
                                                     : std::array{m, k, n};
        check_product<float>(rows, out, in, shift);
        if (turn % 2 == 0) check_product<double>(rows, out, in, 1 - shift);
        ++turn;
      }
    }
  }
}

TEST_CASE("products that take several blocks of rows, columns and depth") {
  const std::int64_t shapes[][3] = {{97, 2049, 2},  {193, 513, 385}, {192, 512, 384}, {95, 1025, 3},
                                    {1, 2100, 400}, {2100, 1, 400},  {400, 1, 2100},  {200, 33, 800},
                                    {3, 41, 9000},  {13, 20, 8200},  {8, 52, 8200}};
  for (const auto& [m, n, k] : shapes) {
    check_product<float>(m, n, k, 1);
    check_product<double>(m, n, k, 0);
  }
}

TEST_CASE("dense layers with bias and every activation at every width") {
  const std::vector<std::int64_t> widths = awkward_widths(), row_counts = awkward_rows();
  const std::vector<Activation> activations = all_activations();
  std::size_t turn = 0;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    for (std::size_t j = 0; j < row_counts.size(); ++j) {
      const std::int64_t other = widths[(i * 7 + j * 5) % (widths.size() - 3)];  // never the two widest together
      check_layer<float>(activations[turn % 8], row_counts[j], widths[i], other, static_cast<std::int64_t>(turn % 2));
      check_layer<double>(activations[(turn + 3) % 8], row_counts[j], other, widths[i],
                          static_cast<std::int64_t>((turn + 1) % 2));
      ++turn;
    }
  }
  for (const Activation& f : activations) {
    check_layer<float>(f, 33, 17, 5, 1);
    check_layer<float>(f, 3, 37, 67, 0, true);
    check_layer<double>(f, 1, 18, 300, 1, true);
  }
  check_layer<float>(Tanh{}, 2, 21, 9000, 1, true);  // the bias follows the compensation of a long sum
  for (const std::size_t f : {0, 1, 3}) {            // rows summed in several parts
    check_layer<float>(activations[f], 5000, 10, 3, 0);
    check_layer<double>(activations[f], 5000, 10, 3, 1);
  }
}

TEST_CASE("dense layers do not depend on the number of threads, nor on what else is asked for") {
  const std::int64_t shapes[][3] = {{130, 257, 100}, {1000, 7, 385}, {5, 1000, 400},
                                    {100, 1025, 33}, {2, 999, 1025}, {90, 1024, 55}};
  const std::vector<Activation> activations = all_activations();
  std::size_t turn = 0;
  for (const auto& [rows, out, in] : shapes) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Activation& f = activations[turn++ % 8];
      CAPTURE(std::string(name_of(f)));
      CAPTURE(out);
      CHECK(same_for_all_threads([&] {
        Case<float> c(rows, out, in, 0);
        c.forward(f, true, repeat > 0);
        c.backward(f);
        std::vector<Array<float>> results;
        for (Array<float>* a : {&c.y, &c.dy, &c.dx, &c.dweight, &c.dbias}) results.push_back(std::move(*a));
        return results;
      }));
      CHECK(same_for_all_threads([&] {
        Case<double> c(rows, out, in, 1);
        c.forward(f, true, repeat > 0);
        c.backward(f);
        std::vector<Array<double>> results;
        for (Array<double>* a : {&c.y, &c.dy, &c.dx, &c.dweight, &c.dbias}) results.push_back(std::move(*a));
        return results;
      }));
    }
  }
}

TEST_CASE("a row's results do not depend on the rows beside it") {
  for (const auto& [out, in] : {std::array<std::int64_t, 2>{65, 391}, {55, 512}, {20, 1024}}) {
    CAPTURE(in);
    Case<float> all(100, out, in, 0);
    all.forward(Tanh{}, true);
    for (const std::int64_t first : {0, 7, 88}) {
      for (const std::int64_t rows : {1, 2, 3, 5, 7, 9, 12}) {
        Array<float> y(rows, out);
        const ConstView x{all.x.data() + first * in, rows, in, DType::float32};
        device().dense_forward({x, all.weight.view(), all.bias.view(), Tanh{}, y.view(), {}});
        CHECK(std::memcmp(y.data(), all.y.data() + first * out, y.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("outputs that are not asked for are not needed for the others") {
  for (const Activation& f : all_activations()) {
    Case<float> whole(33, 17, 29, 0), part(33, 17, 29, 0);
    whole.forward(f, true);
    part.forward(f, true);
    whole.backward(f);
    const bool none = std::holds_alternative<Identity>(f);
    const ConstView saved = none ? ConstView{} : saves_input(f) ? ConstView(part.pre.view()) : ConstView(part.y.view());
    const Array<float> dout = part.dy.copy();
    device().dense_backward({part.x.view(), part.weight.view(), f, saved, part.dy.view(), part.dx.view(), {}, {}});
    CHECK(part.dx.same_bits(whole.dx));
    CHECK(part.dy.same_bits(whole.dy));
    CHECK(std::isnan(part.dweight[0]));
    std::memcpy(part.dy.data(), dout.data(), dout.bytes());
    part.dx.poison();
    device().dense_backward({part.x.view(), part.weight.view(), f, saved, part.dy.view(), {}, part.dweight.view(), {}});
    CHECK(part.dweight.same_bits(whole.dweight));
    CHECK(std::isnan(part.dx[0]));
  }
}

TEST_CASE("products of every depth that the emulated cuBLASLt leaves to the CUDA backend's own kernel") {
  // Multiples of 67. The kernel's tiles are 64 x 64, slices 16 deep, chains 32 long; from 335 on the depth may be
  // split.
  const std::int64_t sizes[] = {1, 3, 63, 64, 65, 132}, depths[] = {67, 134, 335, 1072};
  std::int64_t turn = 0;
  for (const std::int64_t m : sizes) {
    for (const std::int64_t n : sizes) {
      const std::int64_t k = depths[turn / 3 % 4], shift = turn % 2;
      const auto [rows, out, in] = turn % 3 == 0   ? std::array{m, n, k}
                                   : turn % 3 == 1 ? std::array{k, m, n}
                                                   : std::array{m, k, n};
      check_product<float>(rows, out, in, shift);
      check_product<double>(rows, out, in, 1 - shift);
      ++turn;
    }
  }
  for (const std::int64_t rows : {3, 70}) {
    for (const std::int64_t shift : {0, 1}) {
      for (const std::int64_t in : {134, 1072}) check_layer<float>(Identity{}, rows, 68, in, shift);
      check_layer<double>(GELU{}, rows, 66, 1072, shift);
    }
  }
}

TEST_CASE("dense layers without an activation, the bias on 16 bytes and not") {
  for (const auto& [rows, out, in] : {std::array<std::int64_t, 3>{1, 1, 1}, {3, 5, 7}, {33, 64, 20}, {100, 129, 36}}) {
    for (const std::int64_t shift : {0, 1}) {
      check_layer<float>(Identity{}, rows, out, in, shift);
      check_layer<double>(Identity{}, rows, out, in, shift);
    }
  }
}

TEST_CASE("an activation that saves its input saves it without a bias as well") {
  Case<float> c(5, 12, 8, 0);
  c.forward(GELU{}, false);
  Array<float> y(5, 12);
  device().dense_forward({c.x.view(), c.weight.view(), {}, Identity{}, y.view(), {}});
  CHECK(c.pre.same_bits(y));
}

TEST_CASE("products round their factors to tf32 and bfloat16 where the device has the choice, and nothing else") {
  // Neither the CPU nor the CUDA backend's own kernel rounds.
  const char* products = std::getenv("GDCORE_CUDA_PRODUCTS");
  const bool in_full = tested() == Device::cpu || (products != nullptr && std::string(products) == "own");
  struct Rough {
    Precision precision;
    double unit;  // the rounding error of a factor
  };
  // Unless it is forced to round in memory, the backend computes products this small in TF32 for both precisions.
  const bool rounded = products != nullptr && std::string(products) == "rounded";
  for (const Rough& rough : {Rough{Precision::tf32, 0x1p-11}, Rough{Precision::bfloat16, rounded ? 0x1p-8 : 0x1p-11}}) {
    for (const std::int64_t shift : {0, 1}) {
      const std::int64_t n = 65, out = 40, in = 100;  // factors of several blocks of the rounding kernel
      Case<float> c(n, out, in, shift), full(n, out, in, shift);
      full.forward(Identity{}, true);
      full.backward(Identity{});
      device().dense_forward({c.x.view(), c.weight.view(), c.bias.view(), Identity{}, c.y.view(), {}, rough.precision});
      device().dense_backward({c.x.view(),
                               c.weight.view(),
                               Identity{},
                               {},
                               c.dy.view(),
                               c.dx.view(),
                               c.dweight.view(),
                               c.dbias.view(),
                               rough.precision});
      CHECK(c.dbias.same_bits(full.dbias));
      if (in_full) {
        CHECK(c.y.same_bits(full.y));
        CHECK(c.dx.same_bits(full.dx));
        CHECK(c.dweight.same_bits(full.dweight));
        continue;
      }
      const auto error = [&](const Array<float>& got, const Exact& exact, const Array<float>* bias) {
        double worst = 0.0;
        for (std::int64_t i = 0; i < got.size(); ++i) {
          const double b = bias != nullptr ? static_cast<double>((*bias)[i % got.cols()]) : 0.0;
          const double off = static_cast<double>(got[i]) - b - exact.sum[static_cast<std::size_t>(i)];
          worst = std::max(worst, std::abs(off) / exact.size[static_cast<std::size_t>(i)]);
        }
        return worst / rough.unit;
      };
      const double y = error(c.y, Exact::of(n, out, in, c.x.data(), in, 1, c.weight.data(), 1, in), &c.bias);
      const double dx = error(c.dx, Exact::of(n, in, out, c.dy.data(), out, 1, c.weight.data(), in, 1), nullptr);
      const double dw = error(c.dweight, Exact::of(out, in, n, c.dy.data(), 1, out, c.x.data(), in, 1), nullptr);
      for (const double worst : {y, dx, dw}) {
        CHECK(worst <= 2.01);  // both factors of a term, and the sum
        CHECK(worst > 0.1);    // but the factors are rounded
      }
      c.weight.fill(0.0);
      device().dense_forward({c.x.view(), c.weight.view(), c.bias.view(), Identity{}, c.y.view(), {}, rough.precision});
      for (std::int64_t i = 0; i < c.y.size(); ++i) CHECK(c.y[i] == c.bias[i % out]);
    }
  }
}

TEST_CASE("NaN and infinity travel through a dense layer, and only to where they belong") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t in : {20, 67}) {
    for (const Activation& f : {Activation(Identity{}), Activation(ReLU{})}) {
      for (const bool with_bias : {false, true}) {
        Case<float> c(9, 12, in, 0);
        c.x[3 * in + 5] = nan;
        c.x[7 * in + in - 1] = infinity;
        c.forward(f, with_bias);
        for (std::int64_t i = 0; i < c.y.size(); ++i) {
          CHECK(std::isnan(c.y[i]) == (i / 12 == 3));
          if (i / 12 != 3 && i / 12 != 7) CHECK(std::isfinite(c.y[i]));
        }
        for (std::int64_t j = 0; j < 12; ++j) {  // the weight's sign decides
          const float w = c.weight[j * in + in - 1];
          CHECK(c.y[7 * 12 + j] == (w > 0.0f ? infinity : std::holds_alternative<ReLU>(f) ? 0.0f : -infinity));
        }
      }
    }
  }
}
