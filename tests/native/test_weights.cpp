// Weights of rows and classes: their scale changes no result, and sums without a defined mean are refused.
#include <limits>

#include "gdcore/check.h"
#include "models.h"

using namespace gdcore;
using namespace gdcore::testing;

namespace {

Source column(const std::vector<double>& values) {
  return {values.data(), SourceType::f64, static_cast<std::int64_t>(values.size()), 1, 1};
}

template <class Work>
std::string refusal(const Work& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("weights of ordinary size are used where they lie; others are scaled by a power of two") {
  for (const double scale : {1.0, 0x1p-31, 0x1p31, 1e-300, 1e-40, 1e-12, 1e12, 1e39, 1e300}) {
    CAPTURE(scale);
    const std::vector<double> weights{0.0, 0.25 * scale, scale, 0.75 * scale};
    Dataset data{.x = column(weights), .y = column(weights), .weights = column(weights)};
    scale_weights(data);
    int exponent = 0;
    CHECK(std::frexp(data.weight_unit, &exponent) == 0.5);  // a power of two
    if (scale >= 0x1p-32 && scale <= 0x1p32) {
      CHECK(data.weight_unit == 1.0);
      CHECK(data.weights.data == weights.data());
      continue;
    }
    const auto* scaled = static_cast<const double*>(data.weights.data);
    CHECK(data.weights.rows == 4);
    CHECK(data.weights.type == SourceType::f64);
    for (std::size_t i = 0; i < weights.size(); ++i) CHECK(scaled[i] * data.weight_unit == weights[i]);  // no rounding
    CHECK(scaled[2] >= 1.0);
    CHECK(scaled[2] < 2.0);
  }
  const std::vector<double> zeros(3, 0.0);
  Dataset none{.x = column(zeros), .y = column(zeros), .weights = {}}, nothing = none;
  nothing.weights = column(zeros);
  for (Dataset* data : {&none, &nothing}) {
    scale_weights(*data);
    CHECK(data->weight_unit == 1.0);
  }
}

TEST_CASE("training with scaled weights has the bits of training with ordinary ones") {
  Problem<double> problem(40, 9, 4);
  const auto trained = [&](double scale) {
    Problem<double> scaled(40, 9, 4);
    for (std::int64_t n = 0; n < 40; ++n) scaled.weights[n] = problem.weights[n] * scale;
    Dataset data = scaled.weighted();
    scale_weights(data);
    const auto net = network(DType::float32, Dense(9, 6), ActivationLayer(Tanh{}), Dense(6, 4));
    Trainer trainer(net, MeanSquaredError{}, {Adam{}, {}, false, {}, {}, {}});
    LossSums sums;
    const StepRates rate = 0.01;
    trainer.run(data, {nullptr, 40, 16, 0, 3}, {&rate, 1}, INFINITY, sums);
    return std::pair(bits_of(net->parameters().values), sums.loss / sums.weight);
  };
  const auto [bits, loss] = trained(1.0);
  for (const double scale : {0x1p-200, 0x1p200, 0x1p-900}) {
    CAPTURE(scale);
    const auto [same, again] = trained(scale);
    CHECK(same == bits);
    CHECK(again == doctest::Approx(loss).epsilon(1e-12));
  }
}

TEST_CASE("labels changed since they were checked are no indices of class weights") {
  std::vector<std::int64_t> labels{0, 1};
  std::vector<double> x{1.0, 2.0};
  const Source y{labels.data(), SourceType::i64, 2, 1, 1};
  const Dataset data{.x = column(x), .y = y, .weights = {}, .labels = true};
  const AnyLoss loss = CrossEntropy{.class_weights = std::vector{1.0, 2.0}};
  const auto checked = [&] { check_uncounted(data, loss, DType::float32); };
  for (const std::int64_t label : {std::int64_t{1} << 50, -(std::int64_t{1} << 50), std::int64_t{2}}) {
    CAPTURE(label);
    labels[1] = label;
    x[1] = 2.0;
    CHECK(refusal(checked) == "");
    x[1] = std::numeric_limits<double>::quiet_NaN();  // such a row counts for nothing: its values are checked
    CHECK(refusal(checked).find("in row 1") != std::string::npos);
  }
}

TEST_CASE("weights whose sum is no positive finite number are refused, rows by rows") {
  const std::vector<double> weights{0.0, 0.0, 1.0, 1e301}, targets{0.2, 0.3, 0.4, 0.5}, labels{0.0, 1.0, 2.0, 1.0};
  const Loss mse = MeanSquaredError{};
  const Loss some = CrossEntropy{std::vector<double>{0.0, 3.0, 1.0}, 0.0};
  Dataset plain{.x = column(targets), .y = column(targets), .weights = column(weights)};
  const std::int64_t first[] = {0, 1}, middle[] = {1, 2}, last[] = {3, 2};
  CHECK_NOTHROW(check_weights(plain, mse, 1, DType::float64, middle, 2));
  CHECK(refusal([&] {
          check_weights(plain, mse, 1, DType::float64, first, 2);
        }).starts_with("[data] sample_weight: got the sum 0 over 2"));
  CHECK(refusal([&] { check_weights(plain, mse, 1, DType::float64, last, 2); }).find("got the sum 1e+301") !=
        std::string::npos);
  CHECK(refusal([&] { check_weights(plain, mse, 1, DType::float64, nullptr, 4); }).find("over 4 rows") !=
        std::string::npos);
  Dataset unweighted = plain;
  unweighted.weights = {};
  CHECK_NOTHROW(check_weights(unweighted, mse, 1, DType::float64, first, 2));

  // Labels: the weight of a row is that of its class.
  Dataset classes{.x = column(targets), .y = column(labels), .weights = {}, .labels = true};
  CHECK_NOTHROW(check_weights(classes, some, 3, DType::float64, first, 2));
  CHECK(refusal([&] {
          check_weights(classes, some, 3, DType::float64, first, 1);
        }).starts_with("[CrossEntropy] class_weights of the targets y: got the sum 0"));
  CHECK_NOTHROW(check_weights(classes, CrossEntropy{}, 3, DType::float64, first, 1));
  classes.weights = column(weights);
  CHECK(refusal([&] {
          check_weights(classes, some, 3, DType::float64, first, 2);
        }).starts_with("[data] sample_weight times the class weights of the targets y: got the sum 0"));
  CHECK_NOTHROW(check_weights(classes, some, 3, DType::float64, middle, 2));
  CHECK(refusal([&] { check_weights(classes, some, 2, DType::float64, nullptr, 4); }).find("label 2 in row 2") !=
        std::string::npos);

  // Soft targets: the sum of the class weights, each multiplied by its target.
  const std::vector<double> soft{1.0, 0.0, 0.0, 0.25, 0.5, 0.25};
  Dataset shares{
      .x = {targets.data(), SourceType::f64, 2, 1, 1}, .y = {soft.data(), SourceType::f64, 2, 3, 3}, .weights = {}};
  CHECK(refusal([&] { check_weights(shares, some, 3, DType::float64, first, 1); }).find("got the sum 0 over 1") !=
        std::string::npos);
  CHECK_NOTHROW(check_weights(shares, some, 3, DType::float64, first, 2));
}
