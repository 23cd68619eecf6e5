// Losses and their gradients against double loops; weights of samples and classes, labels and soft targets.
#include "loss_case.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

template <class T>
void check_case(const Loss& loss, std::int64_t rows, std::int64_t cols, std::size_t turn) {
  LossCase<T> c(loss, rows, cols, turn);
  CAPTURE(sizeof(T));
  CAPTURE(loss.index());
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(c.with_labels);
  CAPTURE(c.with_class_weights);
  c.run(true);
  Wide weight = 0.0, total = 0.0;
  std::vector<typename LossCase<T>::Row> exact;
  for (std::int64_t n = 0; n < rows; ++n) {
    exact.push_back(c.exact(n));
    const double s = c.with_weights ? static_cast<double>(c.weights[n]) : 1.0;
    weight += s * exact.back().weight;
    total += s * exact.back().loss;
  }
  // The CPU sums rows one after the other, in double.
  const double sums = std::max(64.0, static_cast<double>(rows)) * kEps<double>;
  Worst<T> gradient(14.0 + chain(cols) + (rows > 100 ? sums / kEps<T> : 0.0));
  CHECK(std::abs(c.sums.weight - weight) <= (4.0 * kEps<T> + sums) * weight);
  CHECK(std::abs(c.sums.loss - total) <= (16.0 * kEps<T> + (rows > 100 ? sums : 0.0)) * (total + weight));
  for (std::int64_t i = 0; i < c.grad.size(); ++i) {
    const std::int64_t n = i / cols;
    const auto& row = exact[static_cast<std::size_t>(n)];
    const Wide scale = (c.with_weights ? static_cast<Wide>(c.weights[n]) : Wide{1.0}) / weight;
    gradient.add(c.grad[i], scale * row.gradient[static_cast<std::size_t>(i % cols)],
                 scale * row.size[static_cast<std::size_t>(i % cols)]);
  }
  CHECK(gradient.value() <= 1.0);
  const LossSums with = c.sums;
  c.grad.poison();
  c.run(false);
  CHECK(c.sums.loss == with.loss);
  CHECK(c.sums.weight == with.weight);
  CHECK(std::isnan(c.grad[0]));
}

std::vector<Loss> all_losses() {
  return {MeanSquaredError{},
          CrossEntropy{},
          CrossEntropy{std::nullopt, 0.1},
          CrossEntropy{std::nullopt, 0.0, kGamma},
          BinaryCrossEntropy{},
          BinaryCrossEntropy{std::nullopt, std::nullopt, kGamma},
          Huber{kDelta},
          MeanAbsoluteError{},
          Quantile{{kLevel}},
          Poisson{}};
}

}  // namespace

TEST_CASE("losses and gradients agree with double loops at every shape") {
  std::size_t turn = 0;
  for (const std::int64_t cols : awkward_widths()) {
    for (const std::int64_t rows : awkward_rows()) {
      for (const Loss& loss : all_losses()) {
        check_case<float>(loss, rows, cols, turn);
        check_case<double>(loss, rows, cols, turn / 4 + 1);
        ++turn;
      }
    }
  }
}

TEST_CASE("cross-entropy with labels agrees with double loops for few classes and few rows") {
  const Loss loss = CrossEntropy{};
  for (std::int64_t cols = 2; cols <= 18; ++cols) {
    for (const std::int64_t rows : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33}) {
      for (const std::size_t turn : {2, 4, 8, 22}) {  // labels, twice with weights of rows
        check_case<float>(loss, rows, cols, turn);
        check_case<double>(loss, rows, cols, turn);
      }
    }
  }
}

TEST_CASE("a row that is not finite changes no other row's gradient") {
  for (const std::int64_t cols : {2, 5, 10, 16, 17}) {
    CAPTURE(cols);
    const Loss loss = CrossEntropy{};
    LossCase<float> c(loss, 21, cols, 2), bad(loss, 21, cols, 2);
    c.run(true);
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      bad.logits[18 * cols + 1] = value;
      bad.run(true);
      CHECK(!std::isfinite(bad.sums.loss));
      CHECK(std::isnan(bad.grad[18 * cols]));
      for (std::int64_t i = 0; i < c.grad.size(); ++i) {
        if (i / cols != 18) CHECK(bad.grad[i] == c.grad[i]);
      }
    }
  }
}

TEST_CASE("losses do not depend on the number of threads") {
  for (const Loss& loss : all_losses()) {
    for (std::size_t turn = 0; turn < 4; ++turn) {
      CHECK(same_for_all_threads([&] {
        LossCase<float> c(loss, 3001, 23, turn);
        c.run(true);
        std::vector<Array<float>> results;
        results.push_back(std::move(c.grad));
        Array<float>& sums = results.emplace_back(1, 4);  // the bits of two doubles
        std::memcpy(sums.data(), &c.sums, sizeof c.sums);
        return results;
      }));
    }
  }
}

TEST_CASE("losses of extreme logits are finite and right") {
  Array<float> logits(2, 2), targets(2, 2), grad(2, 2);
  LossSums sums;
  const std::int32_t labels[] = {0, 0};
  logits[0] = 1e4f;
  logits[1] = -1e4f;
  logits[2] = -1e4f;
  logits[3] = 1e4f;
  const Loss ce = CrossEntropy{};
  device().loss({ce, logits.view(), {}, labels, {}, {}, grad.view(), &sums});
  CHECK(sums.loss == doctest::Approx(2e4));
  CHECK(grad[0] == 0.0f);
  CHECK(grad[2] == -0.5f);
  CHECK(grad[3] == 0.5f);
  targets.fill(1.0);
  const Loss bce = BinaryCrossEntropy{};
  device().loss({bce, logits.view(), targets.view(), nullptr, {}, {}, grad.view(), &sums});
  CHECK(sums.loss == doctest::Approx(2e4));
  CHECK(grad[0] == 0.0f);
  CHECK(grad[1] == -0.5f);
}

TEST_CASE("without any weight the sums and the gradient are zero, and there is no mean") {
  for (const Loss& loss : all_losses()) {
    LossCase<double> c(loss, 5, 3, 1);
    c.weights.fill(0.0);
    c.run(true);
    CHECK(c.sums.loss == 0.0);
    CHECK(c.sums.weight == 0.0);
    CHECK(std::isnan(c.sums.mean()));
    for (std::int64_t i = 0; i < c.grad.size(); ++i) CHECK(c.grad[i] == 0.0);
  }
}

TEST_CASE("losses of many rows, and of rows of many classes") {
  struct {
    std::int64_t rows, cols;
  } const shapes[] = {{9001, 1},  {4500, 2}, {4097, 3},  {2500, 10}, {8200, 10}, {700, 32}, {600, 33},
                      {130, 100}, {33, 300}, {21, 1000}, {9, 1024},  {9, 1025},  {3, 9000}};
  std::size_t turn = 0, cases = 0;
  for (const auto [rows, cols] : shapes) {
    for (const Loss& loss : all_losses()) {
      ++cases;
      for (std::size_t targets = 0; targets < 2; ++targets) {
        // With few shapes one type has labels and the other one targets.
        const bool first = (cases + targets) % 2 == 0;
        if (!few_shapes() || first) check_case<float>(loss, rows, cols, turn);
        if (!few_shapes() || !first) check_case<double>(loss, rows, cols, turn + 8);
        turn += 7;  // odd: alternates labels and targets
      }
    }
    ++cases;
  }
}

TEST_CASE("rows whose tiles just fill a GPU's shared memory") {
  for (const std::size_t turn : {0, 1}) {  // labels and soft targets
    for (const std::int64_t cols : {360, 361, 362, 661, 721, 722, 743, 744}) {
      for (const std::int64_t rows : {9, 40}) {
        check_case<float>(CrossEntropy{}, rows, cols, turn);
        check_case<double>(CrossEntropy{}, rows, cols, turn);
      }
    }
  }
}

TEST_CASE("rows of no weight change nothing, however many launches a batch takes, and runs repeat to the bit") {
  for (const Loss& loss : all_losses()) {
    for (const std::size_t turn : {0, 1}) {
      LossCase<float> few(loss, 1024, 8, turn), many(loss, 1025, 8, turn);  // one block on a GPU, and several blocks
      few.with_weights = many.with_weights = true;
      many.weights[1024] = 0.0f;
      for (std::int64_t c = 0; c < 8; ++c) many.logits[1024 * 8 + c] = std::numeric_limits<float>::infinity();
      few.run(true);
      many.run(true);
      CHECK(many.sums.loss == doctest::Approx(few.sums.loss).epsilon(1e-6));
      CHECK(many.sums.weight == doctest::Approx(few.sums.weight).epsilon(1e-6));
      for (std::int64_t i = 0; i < few.grad.size(); ++i) CHECK(std::abs(many.grad[i] - few.grad[i]) <= 1e-8f);
      for (LossCase<float>* c : {&few, &many}) {
        const LossSums sums = c->sums;
        const Array<float> grad = c->grad.copy();
        c->run(true);
        CHECK(c->sums.loss == sums.loss);
        CHECK(c->sums.weight == sums.weight);
        CHECK(c->grad.same_bits(grad));
      }
    }
  }
}

TEST_CASE("a loss that is not finite stops the steps") {
  if (tested() == Device::cpu) return;  // the host checks the sums there
  for (const Loss& loss : all_losses()) {
    for (const std::int64_t rows : {3, 5000}) {
      for (const float bad : {0.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        for (const Stop before : {Stop::none, Stop::gradient_norm}) {
          LossCase<float> c(loss, rows, 5, 0);
          c.logits[rows * 5 - 2] += bad;
          StepCounters counters;
          counters.stop = before;
          const bool labels = c.with_labels;
          device().loss({loss,
                         c.logits.view(),
                         labels ? ConstView{} : ConstView(c.targets.view()),
                         labels ? c.labels.data() : nullptr,
                         {},
                         loss.index() == 5 ? c.class_view() : ConstView{},
                         c.grad.view(),
                         &c.sums,
                         &counters});
          CHECK(std::isfinite(c.sums.loss) == (bad == 0.0f));
          CHECK(counters.stop == (bad == 0.0f || before != Stop::none ? before : Stop::loss));
        }
      }
    }
  }
}

TEST_CASE("the derivative of a loss's gradient along a direction") {
  constexpr double kStep = 1e-5;
  std::size_t turn = 0;
  for (const std::int64_t cols : {1, 2, 10, 31, 33, 65, 1025}) {
    for (const std::int64_t rows : {1, 7, 33}) {
      for (const Loss& loss : all_losses()) {
        LossCase<double> c(loss, rows, cols, turn++);
        Array<double> tangent(rows, cols, 1), got(rows, cols);
        tangent.random(9);
        c.run(false);
        device().loss_curvature(
            {loss, c.logits.view(), c.with_labels ? ConstView{} : ConstView(c.targets.view()),
             c.with_labels ? c.labels.data() : nullptr, c.with_weights ? ConstView(c.weights.view()) : ConstView{},
             c.class_view(), got.view(), &c.sums},
            tangent.view());
        const auto gradient = [&](double step) {
          for (std::int64_t i = 0; i < tangent.size(); ++i) c.logits[i] += step * tangent[i];
          c.run(true);
          return c.grad.copy();
        };
        const Array<double> up = gradient(kStep), down = gradient(-2.0 * kStep);
        double most = 1.0 / c.sums.weight, worst = 0.0;
        for (std::int64_t i = 0; i < got.size(); ++i) {
          const double expected = (up[i] - down[i]) / (2.0 * kStep), error = std::abs(got[i] - expected);
          most = std::max(most, std::abs(expected));
          worst = error <= worst ? worst : (std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
        }
        INFO(loss.index(), " of ", rows, " x ", cols);
        CHECK(worst <= 1e-6 * most);
      }
    }
  }
}

TEST_CASE("the same derivative in float32") {
  std::size_t turn = 0;
  for (const std::int64_t cols : {3, 40}) {
    for (const Loss& loss : all_losses()) {
      LossCase<double> wide(loss, 9, cols, turn);
      LossCase<float> c(loss, 9, cols, turn++);
      Array<double> wide_tangent(9, cols), expected(9, cols);
      Array<float> tangent(9, cols, 1), got(9, cols);
      wide_tangent.random(9);
      tangent.random(9);
      const auto curvature = [&loss](auto& of, ConstView along, View to) {
        of.run(false);
        const ConstView weights = of.with_weights ? ConstView(of.weights.view()) : ConstView{};
        const ConstView targets = of.with_labels ? ConstView{} : ConstView(of.targets.view());
        const std::int32_t* labels = of.with_labels ? of.labels.data() : nullptr;
        const ConstView numbers = of.class_view();
        device().loss_curvature({loss, of.logits.view(), targets, labels, weights, numbers, to, &of.sums}, along);
      };
      curvature(wide, wide_tangent.view(), expected.view());
      curvature(c, tangent.view(), got.view());
      double most = 0.0, worst = 0.0;
      for (std::int64_t i = 0; i < got.size(); ++i) {
        const double error = std::abs(static_cast<double>(got[i]) - expected[i]);
        most = std::max(most, std::abs(expected[i]));
        worst = error <= worst ? worst : (std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
      }
      INFO(loss.index(), " of ", cols);
      CHECK(worst <= 1e-5 * most);
    }
  }
}
