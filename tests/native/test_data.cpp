// Reading user data: gather from every type, the search for NaN, and the fit of a Standardizer.
#include "gdcore/layers.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

template <class S>
constexpr SourceType source_type() {
  if constexpr (std::is_same_v<S, float>) return SourceType::f32;
  if constexpr (std::is_same_v<S, double>) return SourceType::f64;
  if constexpr (std::is_same_v<S, std::uint8_t>) return SourceType::u8;
  if constexpr (std::is_same_v<S, std::int8_t>) return SourceType::i8;
  if constexpr (std::is_same_v<S, std::uint16_t>) return SourceType::u16;
  if constexpr (std::is_same_v<S, std::int16_t>) return SourceType::i16;
  if constexpr (std::is_same_v<S, std::uint32_t>) return SourceType::u32;
  if constexpr (std::is_same_v<S, std::int32_t>) return SourceType::i32;
  if constexpr (std::is_same_v<S, std::uint64_t>) return SourceType::u64;
  if constexpr (std::is_same_v<S, std::int64_t>) return SourceType::i64;
}

/// Rows `stride` apart; the last ends at the end of its heap block. Extreme values of the type come first.
template <class S>
struct Rows {
  std::int64_t rows, cols, stride;
  std::vector<S> data;

  Rows(std::int64_t rows_, std::int64_t cols_, std::int64_t stride_) : rows(rows_), cols(cols_), stride(stride_) {
    data = std::vector<S>(static_cast<std::size_t>((rows - 1) * stride + cols));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<S>((i * 37 + 11) % 120);
    data.front() = std::numeric_limits<S>::max();
    data.back() = std::numeric_limits<S>::lowest();
  }
  Source source() const { return {data.data(), source_type<S>(), rows, cols, stride}; }
  S at(std::int64_t r, std::int64_t c) const { return data[static_cast<std::size_t>(r * stride + c)]; }
};

template <class S, class T>
void check_gather(GatherType type, std::int64_t cols, std::int64_t stride, bool narrow) {
  Rows<S> rows(9, cols, stride);
  if (narrow) {  // a double beyond float32, or a value beyond 32-bit labels, has no defined conversion
    rows.data.front() = S(7);
    rows.data.back() = S(3);
  }
  const std::int64_t index[] = {8, 0, 3, 3, 8, 1};
  for (const bool by_index : {true, false}) {
    const std::int64_t count = by_index ? 6 : 5, first = by_index ? 0 : 4;
    std::unique_ptr<T[]> to(new T[static_cast<std::size_t>(count * cols)]);
    device().gather({rows.source(), by_index ? index : nullptr, first, count, to.get(), type});
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < count * cols; ++i) {
      const std::int64_t r = by_index ? index[i / cols] : first + i / cols;
      wrong += !(to[static_cast<std::size_t>(i)] == static_cast<T>(rows.at(r, i % cols)));
    }
    CHECK(wrong == 0);
  }
}

template <class S>
void check_source() {
  CAPTURE(static_cast<int>(source_type<S>()));
  for (const std::int64_t cols : awkward_widths()) {
    CAPTURE(cols);
    for (const std::int64_t stride : {cols, cols + 1, cols + 7}) {
      check_gather<S, float>(GatherType::float32, cols, stride, std::is_same_v<S, double>);
      check_gather<S, double>(GatherType::float64, cols, stride, false);
      check_gather<S, std::int32_t>(GatherType::label, cols, stride, true);
    }
  }
}

}  // namespace

TEST_CASE("gather reads ahead from large memory without a change to what it copies") {
  for (const std::int64_t cols : {1, 2, 10, 15, 16, 17, 64, 300}) {
    const Rows<float> rows(100'000 / cols, cols, cols + 1);
    std::vector<std::int64_t> index;
    for (std::int64_t i = 0; i < 37; ++i) index.push_back(i * 7919 % rows.rows);
    const std::int64_t count = std::ssize(index);
    // Rows of the next batch are not checked yet.
    for (const std::int64_t far : {std::int64_t{0}, rows.rows, INT64_MAX, INT64_MIN}) index.push_back(far);
    for (const std::int64_t next : {0, 1, 4}) {
      Array<float> to(count, cols, 1);
      device().gather({.source = rows.source(),
                       .order = index.data(),
                       .count = count,
                       .to = to.data(),
                       .type = GatherType::float32,
                       .next = next});
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < to.size(); ++i) {
        wrong += !(to[i] == rows.at(index[static_cast<std::size_t>(i / cols)], i % cols));
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("gather converts every type, by index and in order, whatever the row stride") {
  check_source<float>();
  check_source<double>();
  check_source<std::uint8_t>();
  check_source<std::int8_t>();
  check_source<std::uint16_t>();
  check_source<std::int16_t>();
  check_source<std::uint32_t>();
  check_source<std::int32_t>();
  check_source<std::uint64_t>();
  check_source<std::int64_t>();
}

TEST_CASE("gather reads and writes rows that begin anywhere, of any width") {
  const auto look = [](std::int64_t cols, std::int64_t from_shift, std::int64_t to_shift) {
    constexpr std::int64_t kRows = 300, kCount = 257;
    Array<float> from(kRows, cols, from_shift), to(kCount, cols, to_shift);
    from.random(1);
    std::vector<std::int64_t> index;
    for (std::int64_t i = 0; i < kCount + 2; ++i) index.push_back((i * 77) % kRows);
    device().gather({{from.data(), SourceType::f32, kRows, cols, cols}, index.data(), 2, kCount, to.data()});
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const float* row = from.data() + index[static_cast<std::size_t>(i + 2)] * cols;
      wrong += std::memcmp(to.data() + i * cols, row, static_cast<std::size_t>(cols) * sizeof(float)) != 0;
    }
    CHECK(wrong == 0);
  };
  for (const std::int64_t cols : {1, 4, 12, 100, 784, 1601}) {
    CAPTURE(cols);
    for (const std::int64_t from_shift : {0, 1}) {
      for (const std::int64_t to_shift : {0, 1, 3}) look(cols, from_shift, to_shift);
    }
  }
}

TEST_CASE("gather with the device's counters continues at their position") {
  if (device().recorder() == nullptr) return;
  const Rows<std::uint8_t> rows(50, 7, 9);
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < 40; ++i) index.push_back((i * 17) % 50);
  StepCounters counters;
  for (const std::int64_t first : {0, 3, 20}) {
    counters.first = first;
    for (const bool by_index : {true, false}) {
      Array<float> host(11, 7), counted(11, 7);
      const std::int64_t* order = by_index ? index.data() : nullptr;
      device().gather({rows.source(), order, first + 5, 11, host.data(), GatherType::float32});
      device().gather({rows.source(), order, 5, 11, counted.data(), GatherType::float32, &counters});
      CHECK(counted.same_bits(host));
      CHECK(host[0] ==
            static_cast<float>(rows.at(by_index ? index[static_cast<std::size_t>(first + 5)] : first + 5, 0)));
    }
  }
}

TEST_CASE("gather does not depend on the number of threads") {
  const Rows<std::int16_t> rows(5000, 33, 40);
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < 7001; ++i) index.push_back((i * 1237) % 5000);
  CHECK(same_for_all_threads([&] {
    std::vector<Array<float>> results;
    device().gather({rows.source(), index.data(), 0, 7001, results.emplace_back(7001, 33).data(), GatherType::float32});
    return results;
  }));
}

TEST_CASE("columns_to_rows writes columns of every type and stride, and nothing beyond them") {
  const auto look = [](std::int64_t rows, std::int64_t cols, std::int64_t shift) {
    const Rows<float> floats(rows, 1, 1);
    const Rows<std::int16_t> apart(rows, 1, 3);
    const Rows<std::uint64_t> wide(rows, 1, 2);
    const Source sources[] = {floats.source(), apart.source(), wide.source()};
    std::vector<Source> columns;
    for (std::int64_t c = 0; c < cols; ++c) columns.push_back(sources[c % 3]);
    Array<float> to(rows, cols, shift);
    const std::int64_t found = columns_to_rows(columns, rows, DType::float32, to.data());
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const std::int64_t r = i / cols, kind = i % cols % 3;
      const float expected = kind == 0   ? floats.at(r, 0)
                             : kind == 1 ? static_cast<float>(apart.at(r, 0))
                                         : static_cast<float>(wide.at(r, 0));
      wrong += !(to.data()[i] == expected);
    }
    CHECK(found == -1);
    CHECK(wrong == 0);
  };
  for (const std::int64_t rows : {1, 63, 64, 65, 513}) {
    CAPTURE(rows);
    for (const std::int64_t cols : {1, 15, 16, 17, 33}) {
      for (const std::int64_t shift : {0, 1}) look(rows, cols, shift);
    }
  }
}

TEST_CASE("the first value that is not finite is found wherever it lies, and nothing else is") {
  const auto look = [&]<class S>(S) {
    for (const auto& [rows, cols, stride] : {std::tuple<std::int64_t, std::int64_t, std::int64_t>{1, 1, 1},
                                             {7, 33, 33},
                                             {7, 33, 50},
                                             {50, 5, 8},
                                             {9, 1501, 1504},
                                             {3000, 65, 65},
                                             {3000, 65, 66},
                                             {2, 140'001, 140'001}}) {
      Rows<S> data(rows, cols, stride);
      data.data.front() = data.data.back() = std::numeric_limits<S>::max();
      CHECK(device().first_nonfinite(data.source()) == -1);
      int turn = 0;
      for (const S bad : {std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity(),
                          -std::numeric_limits<S>::infinity()}) {
        for (const std::int64_t index : {std::int64_t{0}, rows * cols / 2, rows * cols - 1}) {
          if (few_shapes() && turn++ % 4 != 0) continue;  // each value at one place
          S& value = data.data[static_cast<std::size_t>(index / cols * stride + index % cols)];
          const S kept = value;
          value = bad;
          CHECK(device().first_nonfinite(data.source()) == index);
          S& last = data.data.back();
          const S last_kept = last;
          last = bad;  // a second one behind the first changes nothing
          CHECK(device().first_nonfinite(data.source()) == index);
          last = last_kept;
          value = kept;
        }
      }
    }
    Array<S> many(3, 1000);
    many.fill(1.0);
    for (std::int64_t i = 2001; i < 3000; ++i) many[i] = std::numeric_limits<S>::infinity();
    CHECK(device().first_nonfinite({many.data(), source_type<S>(), 3, 1000, 1000}) == 2001);
    Array<S> unaligned(3, 1000, 1);
    unaligned.fill(1.0);
    const Source source{unaligned.data(), source_type<S>(), 3, 1000, 1000};
    CHECK(device().first_nonfinite(source) == -1);
    unaligned[2998] = std::numeric_limits<S>::infinity();
    unaligned[2999] = std::numeric_limits<S>::quiet_NaN();
    CHECK(device().first_nonfinite(source) == 2998);
    // Values between the rows are ignored.
    Rows<S> strided(4, 3, 5);
    strided.data[3] = strided.data[4] = std::numeric_limits<S>::quiet_NaN();
    CHECK(device().first_nonfinite(strided.source()) == -1);
  };
  look(float{});
  look(double{});
  const Rows<std::int32_t> whole(3, 4, 4);
  CHECK(device().first_nonfinite(whole.source()) == -1);
}

TEST_CASE("Standardizer.fit: mean and standard deviation in double, also far from zero") {
  constexpr std::int64_t rows = 5003, cols = 4;
  std::vector<double> data;
  std::vector<long double> sum(4), squares(4);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto n = static_cast<std::uint64_t>(r);
    data.push_back(noise(1, n));
    data.push_back(1e9 + noise(2, n));
    data.push_back(-1e6 + 1e-3 * noise(3, n));
    data.push_back(1e150 * noise(4, n));
  }
  for (std::size_t i = 0; i < data.size(); ++i) sum[i % 4] += data[i];
  for (std::size_t i = 0; i < data.size(); ++i) {
    const long double d = data[i] - sum[i % 4] / rows;
    squares[i % 4] += d * d;
  }
  Standardizer scaler;
  scaler.fit({data.data(), SourceType::f64, rows, cols, cols});
  CHECK(scaler.features == 4);
  for (std::size_t c = 0; c < 4; ++c) {
    const double mean = static_cast<double>(sum[c] / rows), spread = std::sqrt(static_cast<double>(squares[c] / rows));
    CHECK(std::abs(scaler.mean[c] - mean) <= 3e-16 * (std::abs(mean) + spread));
    CHECK(std::abs(scaler.std[c] - spread) <= 1e-12 * spread);
  }
}

TEST_CASE("Standardizer.fit: constant columns keep their scale, strides and other types are read right") {
  constexpr std::int64_t rows = 100'000;
  std::vector<float> data;
  for (std::int64_t r = 0; r < rows; ++r)
    data.insert(data.end(), {0.1f, 1e30f, 0.0f, -7.0f, static_cast<float>(r % 2)});
  Standardizer scaler;
  scaler.fit({data.data(), SourceType::f32, rows, 4, 5});  // the fifth column is only padding between rows
  CHECK(scaler.features == 4);
  for (std::size_t c = 0; c < 4; ++c) {
    CHECK(scaler.std[c] == 1.0);
    CHECK(std::abs(scaler.mean[c] - static_cast<double>(data[c])) <= 3e-16 * std::abs(scaler.mean[c]));
  }
  const std::uint8_t bytes[] = {0, 255, 0, 255};
  Standardizer one;
  one.fit({bytes, SourceType::u8, 4, 1, 1});
  CHECK(one.mean[0] == 127.5);
  CHECK(one.std[0] == 127.5);
  Standardizer single;
  single.fit({bytes, SourceType::u8, 1, 2, 2});
  CHECK(single.std == std::vector<double>{1.0, 1.0});
  CHECK(single.mean == std::vector<double>{0.0, 255.0});
}

TEST_CASE("Standardizer.fit: numbers whose squares overflow or underflow, scaled without rounding") {
  constexpr std::int64_t rows = 1001;
  std::vector<double> plain, scaled;
  const int exponents[] = {1021, 600, -600, -1000};
  for (std::int64_t r = 0; r < rows; ++r) {
    const double value = std::ldexp(std::floor(noise(5, static_cast<std::uint64_t>(r)) * 1024), -10) + 1.0;
    plain.push_back(value);
    for (const int exponent : exponents) scaled.push_back(std::ldexp(value, exponent));
  }
  Standardizer reference, scaler;
  reference.fit({plain.data(), SourceType::f64, rows, 1, 1});
  scaler.fit({scaled.data(), SourceType::f64, rows, 4, 4});
  for (std::size_t c = 0; c < 4; ++c) {
    CHECK(scaler.mean[c] == std::ldexp(reference.mean[0], exponents[c]));
    CHECK(scaler.std[c] == std::ldexp(reference.std[0], exponents[c]));
  }
}

TEST_CASE("Standardizer.fit refuses what it cannot learn from, and stays as it was") {
  Standardizer scaler;
  const double good[] = {1.0, 2.0, 3.0, 5.0};
  scaler.fit({good, SourceType::f64, 2, 2, 2});
  const std::vector<double> mean = scaler.mean, spread = scaler.std;
  const double nan[] = {1.0, std::numeric_limits<double>::quiet_NaN()};
  const double infinite[] = {1.0, std::numeric_limits<double>::infinity(), 1.0, 1.0};
  CHECK_THROWS_AS(scaler.fit({nan, SourceType::f64, 1, 2, 2}), std::invalid_argument);
  CHECK_THROWS_AS(scaler.fit({infinite, SourceType::f64, 2, 2, 2}), std::invalid_argument);
  CHECK_THROWS_AS(scaler.fit({good, SourceType::f64, 0, 2, 2}), std::invalid_argument);
  CHECK_THROWS_AS(scaler.fit({good, SourceType::f64, 4, 1, 1}), std::invalid_argument);
  CHECK(scaler.mean == mean);
  CHECK(scaler.std == spread);
}
