// Operations on chosen columns, against double loops at awkward shapes, with poisoned outputs: copies, piecewise-linear
// encodings, embeddings of categories and periodic embeddings, the last also along directions.
#include <functional>

#include "gdcore/encodings.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

/// Every second column of `in` columns, last to first, each `width` wide; the others come first, in order.
struct Chosen {
  std::vector<EncodedColumn> columns;
  std::vector<ColumnRun> kept;
  std::int64_t in, out;

  Chosen(std::int64_t in_, const std::function<std::int64_t(std::int64_t)>& width) : in(in_), out(in_ / 2) {
    for (std::int64_t c = 1, to = 0; c < in; c += 2) kept.push_back({c, to++, 1});
    for (std::int64_t c = (in - 1) / 2 * 2; c >= 0; c -= 2) {
      columns.push_back({c, out, width(std::ssize(columns))});
      out += columns.back().width;
    }
  }
  std::int64_t bins() const { return out - in / 2; }
};

std::vector<std::int64_t> some_rows() { return few_shapes() ? std::vector<std::int64_t>{1, 33, 130} : awkward_rows(); }

template <class T>
double limited(double t, bool low, bool high) {
  return low && t < 0.0 ? 0.0 : high && t > 1.0 ? 1.0 : t;
}

template <class T>
void check_copies(std::int64_t rows, std::int64_t in) {
  const Chosen chosen(in, [](std::int64_t) { return std::int64_t{2}; });
  Array<T> x(rows, in, 1), y(rows, chosen.out), back(rows, in);
  x.random(1);
  device().copy_columns({x.view(), chosen.kept, y.view()});
  device().copy_columns({y.view(), chosen.kept, back.view(), true});
  bool same = true;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < in; ++c) {
      same = same && (c % 2 == 1 ? back(r, c) == x(r, c) : std::isnan(back(r, c)));
    }
    for (std::int64_t c = in / 2; c < chosen.out; ++c) same = same && std::isnan(y(r, c));
  }
  CHECK(same);
  device().copy_columns({{}, chosen.kept, y.view()});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < in / 2; ++c) same = same && y(r, c) == T(0);
  }
  CHECK(same);
}

template <class T>
void check_piecewise(std::int64_t rows, std::int64_t in, bool clip) {
  const Chosen chosen(in, [](std::int64_t i) { return 1 + i * 5 % 18; });
  const std::int64_t first = in / 2;
  Array<T> x(rows, in, 1), dot(rows, in), start(1, chosen.bins()), width(1, chosen.bins(), 1);
  Array<T> y(rows, chosen.out), slopes(rows, chosen.out, 1), dy(rows, chosen.out), dx(rows, in, 1);
  x.random(1, 2.0);
  dot.random(2);
  width.random(3, 0.4, 0.5);
  dy.random(4);
  for (const EncodedColumn& column : chosen.columns) {
    T edge = T(-1);
    for (std::int64_t j = column.out - first; j < column.out - first + column.width; edge += width[j++])
      start[j] = edge;
  }
  device().piecewise_forward({x.view(), start.view(), width.view(), chosen.columns, clip, y.view()});
  device().piecewise_forward({x.view(), start.view(), width.view(), chosen.columns, clip, slopes.view(), dot.view()});
  device().piecewise_backward({x.view(), start.view(), width.view(), chosen.columns, clip, dy.view(), dx.view()});
  Worst<T> value(6.0), slope(6.0), gradient(6.0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (const EncodedColumn& column : chosen.columns) {
      const auto at = static_cast<double>(x(r, column.column)), along = static_cast<double>(dot(r, column.column));
      long double sum = 0.0, size = 0.0;
      for (std::int64_t j = 0; j < column.width; ++j) {
        const std::int64_t bin = column.out - first + j;
        const auto wide = static_cast<double>(width[bin]), from = static_cast<double>(start[bin]);
        const double t = (at - from) / wide;
        const bool low = clip || j > 0, high = clip || j + 1 < column.width;
        const double steep = (low && t < 0.0) || (high && t >= 1.0) ? 0.0 : 1.0 / wide;
        value.add(y(r, column.out + j), limited<T>(t, low, high), (std::abs(at) + std::abs(from)) / wide);
        slope.add(slopes(r, column.out + j), steep * along, steep * along);
        sum += steep * static_cast<double>(dy(r, column.out + j));
        size += std::abs(steep * static_cast<double>(dy(r, column.out + j)));
      }
      gradient.add(dx(r, column.column), sum, size);
    }
  }
  CHECK(value.value() <= 1.0);
  CHECK(slope.value() <= 1.0);
  CHECK(gradient.value() <= 1.0);
}

template <class T>
void check_embedding(std::int64_t rows, std::int64_t size, std::int64_t width) {
  Array<T> x(rows, 3, 1), table(size, width), y(rows, width + size + 1, 1), dy(rows, width + size + 1),
      d(size, width, 1);
  table.random(1);
  dy.random(2);
  for (std::int64_t r = 0; r < rows; ++r) {
    const double code = std::floor((noise(3, static_cast<std::uint64_t>(r)) + 1.0) / 2.0 * static_cast<double>(size));
    x[3 * r] = x[3 * r + 2] = static_cast<T>(code);
    if (r % 7 == 5) x[3 * r] = static_cast<T>(r % 2 == 1 ? 0.5 : static_cast<double>(size));  // no code
  }
  const EmbeddedColumn columns[] = {{0, 1, size, width, table.view()}, {2, 1 + width, size, size, {}}};
  device().embedding_forward({x.view(), columns, y.view()});
  EmbeddedColumn gradient = columns[0];
  gradient.table = d.view();
  const EmbeddedColumn gradients[] = {gradient, columns[1]};
  device().embedding_backward({x.view(), gradients, dy.view()});
  bool same = true;
  std::vector<double> sums(static_cast<std::size_t>(size * width)), sizes(sums);
  for (std::int64_t r = 0; r < rows; ++r) {
    same = same && std::isnan(y(r, 0));
    for (std::int64_t k = 0; k < size; ++k) {
      same = same && y(r, 1 + width + k) == static_cast<T>(static_cast<std::int64_t>(x(r, 2)) == k);
    }
    const auto code = static_cast<std::int64_t>(x(r, 0));
    for (std::int64_t c = 0; c < width; ++c) {
      if (r % 7 == 5) {
        same = same && std::isnan(y(r, 1 + c));
        continue;
      }
      const auto g = static_cast<double>(dy(r, 1 + c));
      same = same && y(r, 1 + c) == table(code, c);
      sums[static_cast<std::size_t>(code * width + c)] += g;
      sizes[static_cast<std::size_t>(code * width + c)] += std::abs(g);
    }
  }
  CHECK(same);
  Worst<T> worst(sizeof(T) == 4 ? 1.0 : chain(rows));
  for (std::size_t i = 0; i < sums.size(); ++i) worst.add(d[static_cast<std::int64_t>(i)], sums[i], sizes[i]);
  CHECK(worst.value() <= 1.0);
}

/// A periodic embedding of every second column.
template <class T>
struct Waves {
  Chosen chosen;
  PeriodicShape shape;
  Array<T> x, frequency, phase, weight, bias, y, dy, dx, d_frequency, d_phase, d_weight, d_bias;

  Waves(std::int64_t rows, std::int64_t in, std::int64_t frequencies, std::int64_t outputs, bool plr)
      : chosen(in, [=](std::int64_t) { return plr ? outputs : outputs + 1; }),
        shape{chosen.columns, frequencies, outputs, plr, !plr, plr},
        x(rows, in, 1),
        frequency(shape.count(), frequencies),
        phase(shape.count(), frequencies, 1),
        weight(shape.count() * outputs, shape.waves()),
        bias(1, shape.count() * outputs, 1),
        y(rows, chosen.out),
        dy(rows, chosen.out, 1),
        dx(rows, in),
        d_frequency(frequency.rows(), frequency.cols(), 1),
        d_phase(phase.rows(), phase.cols()),
        d_weight(weight.rows(), weight.cols(), 1),
        d_bias(1, bias.cols()) {
    x.random(1, 3.0);
    frequency.random(2, 1.0);
    phase.random(3, 3.0);
    weight.random(4, 0.5);
    bias.random(5, 0.5);
    dy.random(6);
  }
  PeriodicWeights weights() {
    return {frequency.view(), shape.sines ? View{} : phase.view(), weight.view(), bias.view()};
  }
  PeriodicWeights gradients() {
    return {d_frequency.view(), shape.sines ? View{} : d_phase.view(), d_weight.view(), d_bias.view()};
  }
  void forward() { device().periodic_forward({shape, x.view(), weights(), y.view()}); }
  void backward() {
    device().periodic_backward({shape, x.view(), weights(), y.view(), dy.view(), dx.view(), gradients()});
  }
};

template <class T>
void check_waves(std::int64_t rows, std::int64_t in, std::int64_t frequencies, std::int64_t outputs, bool plr) {
  Waves<T> own(rows, in, frequencies, outputs, plr);
  own.forward();
  own.backward();
  const std::int64_t waves = own.shape.waves(), count = own.shape.count();
  std::vector<double> sums(static_cast<std::size_t>(count * (2 * frequencies + outputs * (waves + 1)))), sizes(sums);
  Worst<T> value(40.0), input(60.0), sum(60.0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < count; ++k) {
      const EncodedColumn& column = own.chosen.columns[static_cast<std::size_t>(k)];
      const auto x = static_cast<double>(own.x(r, column.column));
      std::vector<double> h(static_cast<std::size_t>(waves)), slope(h), back(h), size(h);
      for (std::int64_t f = 0; f < frequencies; ++f) {
        const double w = static_cast<double>(own.frequency(k, f)), turn = w * x;
        const double angle = kTwoPi * (turn - std::rint(turn)) + (plr ? 0.0 : static_cast<double>(own.phase(k, f)));
        const auto c = static_cast<std::size_t>(f), s = static_cast<std::size_t>(frequencies + f);
        h[c] = std::cos(angle);
        slope[c] = -std::sin(angle);
        if (plr) h[s] = std::sin(angle), slope[s] = std::cos(angle);
      }
      double dx = plr ? 0.0 : static_cast<double>(own.dy(r, column.out)), dx_size = std::abs(dx);
      if (!plr) CHECK(own.y(r, column.out) == own.x(r, column.column));
      const std::size_t weights = static_cast<std::size_t>(2 * count * frequencies);
      const std::size_t biases = weights + static_cast<std::size_t>(count * outputs * waves);
      const auto add = [&](std::size_t at, double term, double its_size) {
        sums[at] += term;
        sizes[at] += its_size;
      };
      for (std::int64_t o = 0; o < outputs; ++o) {
        const std::int64_t d = k * outputs + o, at = column.out + o + (plr ? 0 : 1);
        double out = static_cast<double>(own.bias[d]), out_size = std::abs(out);
        for (std::int64_t i = 0; i < waves; ++i) {
          const auto w = static_cast<double>(own.weight(d, i));
          out += w * h[static_cast<std::size_t>(i)];
          out_size += std::abs(w);
        }
        value.add(own.y(r, at), plr && out < 0.0 ? 0.0 : out, out_size);
        const double g = plr && !(own.y(r, at) > T(0)) ? 0.0 : static_cast<double>(own.dy(r, at));
        add(biases + static_cast<std::size_t>(d), g, std::abs(g));
        for (std::int64_t i = 0; i < waves; ++i) {
          const auto w = static_cast<double>(own.weight(d, i));
          const auto j = static_cast<std::size_t>(i);
          add(weights + static_cast<std::size_t>(d * waves + i), g * h[j], std::abs(g));
          back[j] += g * w * slope[j];
          size[j] += std::abs(g * w);
        }
      }
      for (std::int64_t i = 0; i < waves; ++i) {
        const std::int64_t f = i % frequencies, at = k * frequencies + f;
        const auto j = static_cast<std::size_t>(i);
        const auto w = static_cast<double>(own.frequency(k, f));
        add(static_cast<std::size_t>(at), kTwoPi * x * back[j], kTwoPi * std::abs(x) * size[j]);
        add(static_cast<std::size_t>(count * frequencies + at), back[j], size[j]);
        dx += kTwoPi * w * back[j];
        dx_size += kTwoPi * std::abs(w) * size[j];
      }
      input.add(own.dx(r, column.column), dx, dx_size);
    }
  }
  std::size_t at = 0;
  const auto compare = [&](const Array<T>& got, bool there) {
    for (std::int64_t i = 0; i < got.size(); ++i, ++at) {
      if (there) sum.add(got[i], sums[at], sizes[at]);
    }
  };
  compare(own.d_frequency, true);
  compare(own.d_phase, !plr);
  compare(own.d_weight, true);
  compare(own.d_bias, true);
  CHECK(value.value() <= 1.0);
  CHECK(input.value() <= 1.0);
  CHECK(sum.value() <= 1.0);
}

/// The results of an operation, in the order of `results`, moved by `step` along a direction, in float64.
template <class T>
std::vector<Array<double>> moved(const Waves<T>& from, const Waves<T>& along, Waves<double> to, double step) {
  const auto set = [&](Array<double>& out, const Array<T>& x, const Array<T>& x_dot) {
    for (std::int64_t i = 0; i < x.size(); ++i)
      out[i] = static_cast<double>(x[i]) + step * static_cast<double>(x_dot[i]);
  };
  set(to.x, from.x, along.x);
  set(to.frequency, from.frequency, along.frequency);
  set(to.phase, from.phase, along.phase);
  set(to.weight, from.weight, along.weight);
  set(to.bias, from.bias, along.bias);
  set(to.dy, from.dy, along.dy);
  to.forward();
  to.backward();
  std::vector<Array<double>> results;
  for (const Array<double>* each : {&to.y, &to.dx, &to.d_frequency, &to.d_phase, &to.d_weight, &to.d_bias}) {
    results.push_back(each->copy());
  }
  return results;
}

/// Derivatives along a direction against differences in float64.
template <class T>
void check_waves_along(std::int64_t rows, std::int64_t in, std::int64_t frequencies, std::int64_t outputs) {
  constexpr double kStep = 1e-6, kTolerance = sizeof(T) == 4 ? 1e-4 : 1e-6;
  Waves<T> own(rows, in, frequencies, outputs, false), along(rows, in, frequencies, outputs, false);
  for (Array<T>* each : {&along.x, &along.frequency, &along.phase, &along.weight, &along.bias, &along.dy}) {
    each->random(10 + static_cast<std::uint64_t>(each->size()));
  }
  own.forward();
  const PeriodicDirection direction{along.x.view(), along.weights(), along.dy.view(), along.dx.view()};
  device().periodic_forward({own.shape, own.x.view(), own.weights(), along.y.view(), &direction});
  device().periodic_backward({own.shape, own.x.view(), own.weights(), own.y.view(), own.dy.view(), own.dx.view(),
                              along.gradients(), &direction});
  const auto up = moved(own, along, Waves<double>(rows, in, frequencies, outputs, false), kStep);
  const auto down = moved(own, along, Waves<double>(rows, in, frequencies, outputs, false), -kStep);
  const Array<T>* found[] = {&along.y, &along.dx, &along.d_frequency, &along.d_phase, &along.d_weight, &along.d_bias};
  for (std::size_t k = 0; k < up.size(); ++k) {
    double largest = 1.0, worst = 0.0;
    bool same = true;
    for (std::int64_t i = 0; i < up[k].size(); ++i) {
      const double expected = (up[k][i] - down[k][i]) / (2.0 * kStep), got = static_cast<double>((*found[k])[i]);
      same = same && std::isnan(got) == std::isnan(expected);  // columns that the operation leaves alone
      if (std::isnan(expected) || std::isnan(got)) continue;
      largest = std::max(largest, std::abs(expected));
      worst = std::max(worst, std::abs(got - expected));
    }
    INFO("result ", k, " of ", rows, " x ", in);
    CHECK(same);
    CHECK(worst <= kTolerance * largest);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("columns are copied there and back", T, float, double) {
  for (const std::int64_t rows : some_rows()) {
    for (const std::int64_t in : {1, 2, 7, 140}) check_copies<T>(rows, in);
  }
}

TEST_CASE_TEMPLATE("piecewise-linear encodings", T, float, double) {
  for (const std::int64_t rows : some_rows()) {
    for (const std::int64_t in : {1, 2, 7, 140}) {
      check_piecewise<T>(rows, in, false);
      check_piecewise<T>(rows, in, true);
    }
  }
}

TEST_CASE_TEMPLATE("embeddings of categories", T, float, double) {
  for (const std::int64_t rows : some_rows()) {
    for (const std::int64_t size : {1, 2, 9, 1030}) {
      for (const std::int64_t width : {1, 4, 17}) check_embedding<T>(rows, size, width);
    }
  }
}

TEST_CASE_TEMPLATE("periodic embeddings", T, float, double) {
  for (const std::int64_t rows : some_rows()) {
    for (const bool plr : {false, true}) {
      check_waves<T>(rows, 3, 16, 3, plr);
      check_waves<T>(rows, 1, 1, 1, plr);
      check_waves<T>(rows, 68, 3, 2, plr);
      check_waves<T>(rows, 2, 9, 11, plr);
    }
  }
  check_waves<T>(few_shapes() ? 2049 : 5000, 1, 5, 3, false);
}

TEST_CASE_TEMPLATE("periodic embeddings along a direction", T, float, double) {
  for (const std::int64_t rows : {1, 33, 2049}) {
    check_waves_along<T>(rows, 3, 16, 3);
    check_waves_along<T>(rows, 2, 9, 11);
  }
}

TEST_CASE("gradients of periodic embeddings and tables do not depend on the threads") {
  CHECK(same_for_all_threads([] {
    Waves<float> own(3000, 9, 16, 3, false);
    own.forward();
    own.backward();
    std::vector<Array<float>> found;
    for (const Array<float>* each : {&own.y, &own.dx, &own.d_frequency, &own.d_phase, &own.d_weight, &own.d_bias}) {
      found.push_back(each->copy());
    }
    return found;
  }));
}
