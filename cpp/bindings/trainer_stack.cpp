#include "gdcore/trainer_stack.h"

#include <algorithm>

#include "gdcore/check.h"
#include "trainer.h"

namespace gdcore::bindings {

namespace {

using Trainers = std::vector<ObjectOf<PyTrainer>>;
using Marks = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>;
using Keys = std::optional<py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>>;

Trainer& core_of(const ObjectOf<PyTrainer>& trainer) { return trainer.cast<PyTrainer&>().core; }

std::vector<Trainer*> cores_of(const Trainers& trainers) {
  std::vector<Trainer*> cores;
  for (const auto& trainer : trainers) cores.push_back(&core_of(trainer));
  check(!cores.empty(), "[TrainerStack] trainers: got none; expected at least one");
  for (std::size_t i = 1; i < cores.size(); ++i) {
    check(TrainerStack::alike(*cores[0], *cores[i]), "[TrainerStack] trainers[", i,
          "]: differs from the first in more than seeds, rates and decays");
  }
  check<DeviceError>(cores[0]->network().backend().recorder() != nullptr,
                     "[TrainerStack] trainers: got models on the CPU; expected models on a GPU");
  return cores;
}

struct PyTrainerStack {
  Trainers trainers;
  TrainerStack core;

  explicit PyTrainerStack(Trainers given) : trainers(std::move(given)), core(cores_of(trainers)) {}

  Network& first() { return core_of(trainers[0]).network(); }
  std::span<const std::uint8_t> marks(const Marks& given, const char* name) const {
    check(given.size() == core.networks(), "[TrainerStack] ", name, ": got ", given.size(), " values; expected ",
          core.networks());
    return {given.data(), static_cast<std::size_t>(given.size())};
  }
};

/// For each trainer, the first one that it is alike.
std::vector<std::int64_t> groups(const Trainers& trainers) {
  std::vector<std::int64_t> group, firsts;
  for (std::size_t i = 0; i < trainers.size(); ++i) {
    const auto like = [&](std::int64_t first) {
      return TrainerStack::alike(core_of(trainers[static_cast<std::size_t>(first)]), core_of(trainers[i]));
    };
    const auto found = std::ranges::find_if(firsts, like);
    group.push_back(found != firsts.end() ? *found : static_cast<std::int64_t>(i));
    if (found == firsts.end()) firsts.push_back(group.back());
  }
  return group;
}

BatchRange epoch_of(PyTrainerStack& self, const PyDataset& dataset, const Rows& rows, std::int64_t batch_size,
                    bool drop_last) {
  check_match(dataset, self.first(), core_of(self.trainers[0]).loss());
  BatchRange range = range_of(dataset, rows, batch_size);
  range.joins = !drop_last;
  range.last = range.batches(drop_last);
  return range;
}

py::array_t<double> table_of(const std::vector<LossSums>& sums) {
  py::array_t<double> table({static_cast<py::ssize_t>(sums.size()), py::ssize_t{2}});
  for (std::size_t i = 0; i < sums.size(); ++i) {
    table.mutable_at(i, 0) = sums[i].loss;
    table.mutable_at(i, 1) = sums[i].weight;
  }
  return table;
}

py::array_t<double> run_stack(PyTrainerStack& self, const PyDataset& dataset, const Rows& rows, const Keys& shuffle,
                              std::int64_t batch_size, bool drop_last, const Numbers& given, const Marks& active) {
  BatchRange range = epoch_of(self, dataset, rows, batch_size, drop_last);
  const auto marks = self.marks(active, "active");
  const std::int64_t networks = self.core.networks();
  const std::int64_t count = given.ndim() == 0 ? 0 : given.shape(0);
  check(count == networks || count == networks * range.last, "[TrainerStack] rates: got those of ", count,
        " steps; expected ", networks, " or ", networks * range.last);
  const auto by_step = [](const auto& trainer) { return trainer.template cast<PyTrainer&>().by_step; };
  const auto rates = to_rates(given, count, std::ranges::any_of(self.trainers, by_step));
  check(!shuffle || shuffle->size() == 2 * networks, "[TrainerStack] shuffle: got ", shuffle ? shuffle->size() : 0,
        " numbers; expected a seed and an epoch for each of ", networks, " networks");
  std::vector<Permutation> permutations;
  for (std::int64_t i = 0; shuffle && i < networks; ++i) {
    permutations.push_back(Permutation::of(range.count, shuffle->data()[2 * i], shuffle->data()[2 * i + 1]));
  }
  if (shuffle) range.order.shuffle = permutations.data();
  std::vector<LossSums> sums(static_cast<std::size_t>(networks));
  computing(self.first(), [&] { self.core.run(dataset.data, range, rates, marks, sums); }, Network::Purpose::training);
  return table_of(sums);
}

py::array_t<double> evaluate_stack(PyTrainerStack& self, const PyDataset& dataset, const Rows& rows,
                                   const Marks& active, const py::object& outputs) {
  check_match(dataset, self.first(), core_of(self.trainers[0]).loss());
  const BatchRange range = range_of(dataset, rows, 1);
  const auto marks = self.marks(active, "active");
  const View to = to_view(outputs, "[TrainerStack] outputs", true);
  const std::int64_t expected = self.core.networks() * range.count;
  check(!to || (to.rows == expected && to.cols == self.first().out_features() && to.dtype == DType::float32),
        "[TrainerStack] outputs: got shape (", to.rows, ", ", to.cols, "); expected (", expected, ", ",
        self.first().out_features(), ") in float32");
  std::vector<LossSums> sums(marks.size());
  computing(
      self.first(), [&] { self.core.evaluate(dataset.data, range, marks, sums, to.data); },
      Network::Purpose::measuring);
  return table_of(sums);
}

void give_back(PyTrainerStack& self, std::int64_t network, bool kept) {
  check(network >= 0 && network < self.core.networks(), "[TrainerStack] network: got ", network, "; expected 0 to ",
        self.core.networks() - 1);
  Network& own = core_of(self.trainers[static_cast<std::size_t>(network)]).network();
  computing(own, [&] { self.core.give_back(network, kept); });
}

}  // namespace

void bind_trainer_stack(py::module_& m) {
  m.def("_alike", &groups, py::arg("trainers"), "For each trainer, the number of the first one like it.");
  py::class_<PyTrainerStack>(
      m, "_TrainerStack",
      "Trainers on a GPU whose models differ in seeds, rates and decays alone, trained together. "
      "gdcore.training.stack calls it. Copies the trainers' state; give_back copies it back.")
      .def(py::init([](Trainers trainers) { return std::make_unique<PyTrainerStack>(std::move(trainers)); }),
           py::arg("trainers"), "ValueError unless the trainers are alike.")
      .def(
          "trains",
          [](PyTrainerStack& self, const PyDataset& dataset, const Rows& rows, std::int64_t batch_size,
             bool drop_last) {
            const BatchRange range = epoch_of(self, dataset, rows, batch_size, drop_last);
            return computing(self.first(), [&] { return self.core.trains(dataset.data, range); });
          },
          py::arg("dataset"), py::arg("rows"), py::kw_only(), py::arg("batch_size"), py::arg("drop_last"),
          "Whether the device trains these batches for all networks at once.")
      .def(
          "measures",
          [](PyTrainerStack& self, const PyDataset& dataset, const Rows& rows) {
            const BatchRange range = epoch_of(self, dataset, rows, 1, false);
            return computing(self.first(), [&] { return self.core.measures(dataset.data, range); });
          },
          py::arg("dataset"), py::arg("rows"), "Whether the device measures these rows for all networks at once.")
      .def("run", &run_stack, py::arg("dataset"), py::arg("rows"), py::kw_only(), py::arg("shuffle"),
           py::arg("batch_size"), py::arg("drop_last"), py::arg("rates"), py::arg("active"),
           "Trains an epoch for the networks where `active` is true; returns their sums of loss and weight "
           "(networks, 2). shuffle is (networks, 2), seeds and epochs, or None; rates, as those of Trainer.run, has a "
           "row for each network, or for each network and batch. A network whose loss becomes NaN or infinite stays as "
           "before that step.")
      .def("evaluate", &evaluate_stack, py::arg("dataset"), py::kw_only(), py::arg("rows"), py::arg("active"),
           py::arg("outputs") = py::none(),
           "The sums of loss and weight of the networks where `active` is true (networks, 2), without training; "
           "predictions are written to outputs (networks * rows, out_features), if given.")
      .def_property_readonly(
          "steps", [](const PyTrainerStack& self) { return self.core.steps(); },
          "The number of optimiser steps of each network.")
      .def(
          "keep",
          [](PyTrainerStack& self, const Marks& better) {
            const auto marks = self.marks(better, "better");
            computing(self.first(), [&] { self.core.keep(marks); });
          },
          py::arg("better"), "Keeps a copy of the weights of the networks where `better` is true.")
      .def("give_back", &give_back, py::arg("network"), py::arg("kept"),
           "Copies a network's state to its trainer; with kept=True its weights are the kept ones, if there are any.");
}

}  // namespace gdcore::bindings
