// Epochs that nothing observes, one after the other, each with its measurement.
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>

#include "gdcore/check.h"
#include "trainer.h"

namespace gdcore::bindings {
namespace {

/// What every epoch of a call of run_epochs does.
struct Epochs {
  BatchRange training, measured;
  const Dataset* validation;  // or null
  StepRates rates;            // of every step
  std::optional<SeedAndEpoch> shuffle;
  std::int64_t done, left;  // epochs of the fit before this call, and from there on
  bool check_states;
};

/// One epoch, `k` after the first of the call, into a row of five numbers.
void run_epoch(Trainer& core, const Dataset& data, const Epochs& all, std::int64_t k, double* row) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  BatchRange range = all.training;
  Permutation permutation;
  if (all.shuffle) {
    permutation = Permutation::of(range.count, all.shuffle->first, all.shuffle->second + static_cast<std::uint64_t>(k));
    range.order.shuffle = &permutation;
  }
  LossSums sums, measured;
  core.run(data, range, {&all.rates, 1}, INFINITY, sums);
  const auto done = static_cast<std::uint64_t>(all.done + k + 1);
  if (all.check_states && (std::has_single_bit(done) || k + 1 == all.left)) core.check_states();
  if (all.validation != nullptr) measured = core.evaluate(*all.validation, all.measured, nullptr);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::ranges::copy(std::array{sums.loss, sums.weight, measured.loss, measured.weight, seconds}, row);
}

void run_epochs(PyTrainer& self, const PyDataset& dataset, const Rows& rows, const std::optional<SeedAndEpoch>& shuffle,
                std::int64_t batch_size, bool drop_last, const Numbers& given,
                const std::optional<const PyDataset*>& validation, const Rows& measured, std::int64_t measured_size,
                std::pair<std::int64_t, std::int64_t> done_and_left, bool check_states, double seconds,
                py::array_t<double, py::array::c_style>& table) {
  check_match(dataset, self.core.network(), self.core.loss());
  check(given.size() == (given.ndim() == 1 ? 1 : 5), "[Trainer.run_epochs] rates: expected those of one step");
  check(table.ndim() == 2 && table.shape(1) == 5, "[Trainer.run_epochs] table: expected shape (epochs, 5)");
  Epochs all{.training = range_of(dataset, rows, batch_size),
             .measured = {},
             .validation = nullptr,
             .rates = to_rates(given, 1, self.by_step)[0],
             .shuffle = shuffle,
             .done = done_and_left.first,
             .left = done_and_left.second,
             .check_states = check_states};
  all.training.joins = !drop_last;
  all.training.last = all.training.batches(drop_last);
  if (validation) {
    check_match(**validation, self.core.network(), self.core.loss());
    all.measured = range_of(**validation, measured, measured_size);
    all.validation = &(*validation)->data;
  }
  const std::int64_t epochs = table.shape(0);
  double* row = table.mutable_data();
  computing(
      self.core.network(),
      [&] {
        double passed = 0.0;
        for (std::int64_t k = 0; k < epochs && (k == 0 || passed < seconds); ++k, row += 5) {
          run_epoch(self.core, dataset.data, all, k, row);
          passed += row[4];
        }
      },
      Network::Purpose::training);
}

}  // namespace

void bind_epochs(py::class_<PyTrainer>& cls) {
  cls.def("run_epochs", &run_epochs, py::arg("dataset"), py::arg("rows"), py::kw_only(), py::arg("shuffle"),
          py::arg("batch_size"), py::arg("drop_last"), py::arg("rates"), py::arg("validation"), py::arg("measured"),
          py::arg("measured_size"), py::arg("done_and_left"), py::arg("check_states"), py::arg("seconds"),
          py::arg("table").noconvert(),
          "Trains whole epochs as `run` does, and measures the rows `measured` of `validation` after each, until "
          "`seconds` have passed. A finished epoch has a row in `table` (epochs, 5), also if the next one fails: the "
          "sums of loss and weights, those of the measured rows, and its seconds. The first has the order `shuffle`, "
          "(seed, epoch) or None. The states of the optimiser must be finite after 1, 2, 4, 8 ... epochs and the last "
          "one, counted by `done_and_left`: epochs before this call, and from there on. rates: those of every step.");
}

}  // namespace gdcore::bindings
