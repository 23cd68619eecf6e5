// The order of an epoch: a permutation, the same on every device and thread, and as random as independent uniform
// orders. Random quantities are compared with their distribution for such orders.
#include <algorithm>
#include <map>
#include <set>

#include "gdcore/row_order.h"
#include "support.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

using Order = std::vector<std::int64_t>;

Order order_of(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  const Permutation permutation = Permutation::of(n, seed, epoch);
  Order order(static_cast<std::size_t>(n), -1);
  fill_order({nullptr, &permutation}, 0, n, order.data());
  return order;
}

/// Whether chi-squared, times `scale`, is within six standard deviations of its mean.
void check_uniform(const std::vector<double>& counts, double expected, double degrees, double scale = 1.0) {
  double chi2 = 0.0;
  for (const double count : counts) chi2 += scale * (count - expected) * (count - expected) / expected;
  CHECK(chi2 < degrees + 6.0 * std::sqrt(2.0 * degrees));
  CHECK(chi2 > degrees - 6.0 * std::sqrt(2.0 * degrees));
}

}  // namespace

TEST_CASE("every row comes once, at every number of rows") {
  for (std::int64_t n = 0; n <= 1500; ++n) {
    Order order = order_of(n, 7, static_cast<std::uint64_t>(n));
    std::ranges::sort(order);
    bool whole = true;
    for (std::int64_t i = 0; i < n; ++i) whole = whole && order[static_cast<std::size_t>(i)] == i;
    CAPTURE(n);
    CHECK(whole);
  }
  const Permutation one = Permutation::of(1, 3, 4);
  CHECK(one(0) == 0);
}

TEST_CASE("a position of an order of more rows than memory holds") {
  for (const std::int64_t n : {(std::int64_t{1} << 31) - 1, (std::int64_t{1} << 32) + 1, std::int64_t{1} << 60}) {
    const Permutation permutation = Permutation::of(n, 1, 2);
    CHECK(static_cast<double>(permutation.rows) * permutation.cols >= static_cast<double>(n));
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < 1000; ++i) {
      const std::int64_t low = permutation(i), high = permutation(n - 1 - i);
      CHECK((low >= 0 && low < n && high >= 0 && high < n));
      seen.insert({low, high});
    }
    CHECK(seen.size() == 2000);
  }
  CHECK_THROWS_AS(Permutation::of((std::int64_t{1} << 60) + 1, 1, 2), std::invalid_argument);
  CHECK_THROWS_AS(Permutation::of(-1, 1, 2), std::invalid_argument);
}

TEST_CASE("an order follows from seed, epoch and number of rows") {
  for (const std::int64_t n : {10, 64, 1000}) {
    CHECK(order_of(n, 7, 0) == order_of(n, 7, 0));
    CHECK(order_of(n, 7, 0) != order_of(n, 8, 0));
    CHECK(order_of(n, 7, 0) != order_of(n, 7, 1));
    CHECK(order_of(n, 7, 1) != order_of(n, 8, 0));
    Order less = order_of(n + 1, 7, 0);
    std::erase(less, n);
    CHECK(order_of(n, 7, 0) != less);
  }
}

TEST_CASE("parts of an order, and single positions, are those of the whole") {
  for (const std::int64_t n : {1, 5, 63, 64, 65, 200, 4097}) {
    CAPTURE(n);
    const Order whole = order_of(n, 3, 9);
    const Permutation permutation = Permutation::of(n, 3, 9);
    Order listed(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) listed[static_cast<std::size_t>(i)] = 3 * i + 1;
    const RowOrder shuffled{nullptr, &permutation}, of_list{listed.data(), &permutation}, list{listed.data()};
    for (const std::int64_t first : {std::int64_t{0}, n / 3, n - 1}) {
      const std::int64_t count = std::min<std::int64_t>(n - first, 100);
      Order part(static_cast<std::size_t>(count)), of_rows(part), plain(part), rows(part);
      fill_order(shuffled, first, count, part.data());
      fill_order(of_list, first, count, of_rows.data());
      fill_order({}, first, count, plain.data());
      fill_order(list, first, count, rows.data());
      for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t expected = whole[static_cast<std::size_t>(first + i)];
        CHECK((part[at] == expected && shuffled(first + i) == expected));
        CHECK((of_rows[at] == 3 * expected + 1 && of_list(first + i) == 3 * expected + 1));
        CHECK((plain[at] == first + i && RowOrder{}(first + i) == first + i));
        CHECK((rows[at] == 3 * (first + i) + 1 && list(first + i) == 3 * (first + i) + 1));
      }
    }
  }
}

TEST_CASE("all orders of a few rows come equally often") {
  for (const std::int64_t n : {2, 3, 4, 5, 6}) {
    CAPTURE(n);
    double orders = 1.0;
    for (std::int64_t i = 2; i <= n; ++i) orders *= static_cast<double>(i);
    std::map<Order, double> seen;
    const int draws = static_cast<int>(orders) * 200;
    for (int i = 0; i < draws; ++i)
      seen[order_of(n, static_cast<std::uint64_t>(i % 7), static_cast<std::uint64_t>(i))] += 1;
    CHECK(static_cast<double>(seen.size()) == orders);
    std::vector<double> counts;
    for (const auto& [order, count] : seen) counts.push_back(count);
    check_uniform(counts, 200.0, orders - 1.0);
  }
}

TEST_CASE("every row is equally likely at every position, and next to every other") {
  for (const std::int64_t n : {7, 30, 64, 100}) {
    CAPTURE(n);
    const auto size = static_cast<std::size_t>(n);
    const int draws = 3000;
    std::vector<double> at(size * size), after(size * size), next(size * size), of_seed(size * size);
    for (int draw = 0; draw < draws; ++draw) {
      const auto number = static_cast<std::uint64_t>(draw);
      const Order order = order_of(n, 5, number), later = order_of(n, 5, number + 1), other = order_of(n, 6, number);
      for (std::size_t i = 0; i < size; ++i) {
        const auto row = static_cast<std::size_t>(order[i]);
        at[i * size + row] += 1;
        next[row * size + static_cast<std::size_t>(later[i])] += 1;     // the same position one epoch later
        of_seed[row * size + static_cast<std::size_t>(other[i])] += 1;  // and with the next seed
        if (i + 1 < size) after[row * size + static_cast<std::size_t>(order[i + 1])] += 1;
      }
    }
    const double each = static_cast<double>(draws) / static_cast<double>(n);
    const double free = static_cast<double>((n - 1) * (n - 1)),
                 scale = static_cast<double>(n - 1) / static_cast<double>(n);
    check_uniform(at, each, free, scale);  // rows and columns have equal sums
    check_uniform(next, each, free, scale);
    check_uniform(of_seed, each, free, scale);
    std::vector<double> pairs;  // of two different rows
    for (std::size_t i = 0; i < after.size(); ++i) {
      if (i / size != i % size) pairs.push_back(after[i]);
    }
    check_uniform(pairs, each, free);
  }
}

TEST_CASE("orders have as many cycles, fixed rows, ascents and inversions as orders drawn by lot") {
  for (const std::int64_t n : {50, 1000, 5000}) {
    CAPTURE(n);
    const double count = static_cast<double>(n);
    const int draws = static_cast<int>(2'000'000 / n);
    double cycles = 0.0, fixed = 0.0, odd = 0.0, ascents = 0.0, sum = 0.0, harmonic = 0.0, squares = 0.0;
    for (std::int64_t i = 1; i <= n; ++i) {
      harmonic += 1.0 / static_cast<double>(i);
      squares += 1.0 / static_cast<double>(i * i);
    }
    for (int draw = 0; draw < draws; ++draw) {
      const Order order = order_of(n, 11, static_cast<std::uint64_t>(draw));
      std::vector<bool> seen(order.size());
      int of_this = 0;
      for (std::size_t i = 0; i < order.size(); ++i) {
        fixed += order[i] == static_cast<std::int64_t>(i);
        ascents += i > 0 && order[i] > order[i - 1];
        sum += static_cast<double>(i) * static_cast<double>(order[i]);
        if (seen[i]) continue;
        ++of_this;
        for (std::size_t at = i; !seen[at]; at = static_cast<std::size_t>(order[at])) seen[at] = true;
      }
      cycles += of_this;
      odd += (n - of_this) % 2;
    }
    // Means and variances for a uniformly drawn order (Knuth, The Art of Computer Programming 1.3.3 and 5.1.3; the last
    // is Spearman's rank correlation). Five standard deviations.
    const double root = std::sqrt(static_cast<double>(draws));
    const auto near = [&](double total, double mean, double variance) {
      return std::abs(total / draws - mean) < 5.0 * std::sqrt(variance) / root;
    };
    CHECK(near(cycles, harmonic, harmonic - squares));
    CHECK(near(fixed, 1.0, 1.0));
    CHECK(near(odd, 0.5, 0.25));
    CHECK(near(ascents, (count - 1.0) / 2.0, (count + 1.0) / 12.0));
    const double spread = count * count * (count + 1.0) * (count + 1.0) * (count - 1.0) / 144.0;
    CHECK(near(sum, count * (count - 1.0) * (count - 1.0) / 4.0, spread));
  }
}

TEST_CASE("a device evaluates the order by itself") {
  constexpr std::int64_t kRows = 300, kCols = 5;
  Array<float> x(kRows, kCols);
  x.random(1);
  for (const std::int64_t n : {kRows, std::int64_t{50}}) {
    const Permutation permutation = Permutation::of(n, 21, 4);
    Order rows(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) rows[static_cast<std::size_t>(i)] = kRows - 1 - i;
    const Buffer key(device(), sizeof permutation), list(device(), rows.size() * sizeof rows[0]);
    device().copy(key.data(), &permutation, key.bytes(), CopyKind::to_device);
    device().copy(list.data(), rows.data(), list.bytes(), CopyKind::to_device);
    for (const bool listed : {false, true}) {
      const RowOrder here{listed ? static_cast<const std::int64_t*>(list.data()) : nullptr,
                          static_cast<const Permutation*>(key.data())};
      Array<float> y(n - 7, kCols);
      device().gather({{x.data(), SourceType::f32, kRows, kCols, kCols, tested()}, here, 7, n - 7, y.data()});
      device().wait();
      for (std::int64_t i = 0; i < n - 7; ++i) {
        const std::int64_t row = RowOrder{listed ? rows.data() : nullptr, &permutation}(7 + i);
        CHECK(std::memcmp(&y[i * kCols], &x[row * kCols], kCols * sizeof(float)) == 0);
      }
    }
  }
}
