#include "trainer.h"

#include <array>
#include <utility>
#include <variant>

#include "gdcore/check.h"

namespace gdcore::bindings {

void check_match(const PyDataset& dataset, const Network& network, const AnyLoss& loss) {
  check(bool(dataset.data.y), "[Trainer] dataset: got one without targets; expected targets");
  const bool labels = !dataset.data.labels || takes_labels(loss);
  check(dataset.network.get() == &network && labels,
        "[Trainer] dataset: got one for another model or loss; expected one made with this model and loss");
}

BatchRange range_of(const PyDataset& dataset, const Rows& rows, std::int64_t batch_size) {
  check(batch_size >= 1, "[Trainer] batch_size: got ", batch_size, "; expected at least 1");
  if (!rows) return {{}, dataset.data.x.rows, batch_size, 0, 0};
  return {rows->data(), rows->size(), batch_size, 0, 0};
}

namespace {

using RatesOfStep = std::array<double, 5>;
using LrOrRates = std::variant<double, RatesOfStep>;

StepRates to_step_rates(const double* given) {
  StepRates rates(given[0]);
  rates.decay = given[1];
  rates.dropout = given[2];
  rates.momentum = given[3];
  rates.unbiased = given[4];
  return rates;
}

/// The rates of a step: those given, or the optimiser's, which are constant then.
StepRates rates_of(const PyTrainer& self, const std::optional<LrOrRates>& given, const char* call) {
  const bool complete = given ? !self.by_step || given->index() == 1 : self.rates.has_value();
  check<TypeMismatch>(complete, "[", call, "] rates: got ", given ? "the learning rate alone" : "None",
                      ", but the optimiser has functions of the step; expected the rates of this step");
  if (!given) return *self.rates;
  if (const double* lr = std::get_if<double>(&*given)) return *lr;
  return to_step_rates(std::get<RatesOfStep>(*given).data());
}

bool is_integer(const py::array& array) {
  const char kind = array.dtype().kind();
  return kind == 'i' || kind == 'u' || kind == 'b';
}

/// Sets targets in the shape that the loss requires; losses that take labels read integer vectors as labels.
void set_targets(PyDataset& made, const py::object& y, const Network& network, const AnyLoss& loss) {
  made.y = to_source(y, "[data] y", true);
  made.data.y = made.y.source;
  if (!takes_labels(loss) || made.data.y.cols == network.out_features()) return;
  const char* name = std::holds_alternative<CustomLoss>(loss) ? "[CustomLoss]" : "[CrossEntropy]";
  check(made.data.y.cols == 1, name, " y: got ", made.data.y.cols,
        " columns; expected integer labels (rows,) or soft targets (rows, ", network.out_features(), ")");
  if (!is_integer(made.y.array)) {  // checked first: formatting a dtype takes microseconds
    throw TypeMismatch(join(name, " y: got dtype ", std::string(py::str(made.y.array.dtype())),
                            " and one number for each row; expected integer labels (y.astype(int)) or soft targets "
                            "(rows, ",
                            network.out_features(), ")"));
  }
  made.data.labels = true;
}

/// Fills the dataset except for check_data, which runs without the GIL.
void fill(PyDataset& made, const py::object& x, const py::object& y, const py::object& weights, const Network& network,
          const AnyLoss& loss) {
  made.x = to_source(x, "[data] x", false);
  made.data.x = made.x.source;
  if (!y.is_none()) set_targets(made, y, network, loss);
  if (!weights.is_none()) {
    made.weights = to_source(weights, "[data] sample_weight", true);
    made.data.weights = made.weights.source;
    check(made.data.weights.cols == 1, "[data] sample_weight: got ", made.data.weights.cols,
          " columns; expected one number for each row");
  }
}

double step(PyTrainer& self, const ArrayLike& x, const ArrayLike& y, const OptionalArray& weights,
            const std::optional<LrOrRates>& given, Flag finite) {
  PyDataset batch;
  const StepRates rates = rates_of(self, given, "Trainer.step");
  check<TypeMismatch>(!y.is_none(), "[Trainer.step] y: got None; expected targets");
  Network& network = self.core.network();
  fill(batch, x, y, weights, network, self.core.loss());
  return computing(network, [&] {
    scale_weights(batch.data);
    check_data(batch.data, network, self.core.loss(), finite);
    if (!finite) check_uncounted(batch.data, self.core.loss(), network.dtype());
    return self.core.step(batch.data, rates).mean();
  });
}

std::int64_t batch_count(std::int64_t rows, std::int64_t batch_size, bool drop_last) {
  check(rows >= 0 && batch_size >= 1, "[batch_count] rows, batch_size: got ", rows, " and ", batch_size,
        "; expected at least 0 and 1");
  return BatchRange{{}, rows, batch_size, 0, 0, !drop_last}.batches(drop_last);
}

void check_weights_of(const PyDataset& self, const py::array_t<std::int64_t, py::array::c_style>& rows) {
  check_rows(rows.data(), rows.size(), self.data.x.rows);
  without_gil([&] {
    check_weights(self.data, self.loss, self.network->out_features(), self.network->dtype(), rows.data(), rows.size());
  });
}

void check_uncounted_of(const PyDataset& self) {
  without_gil([&] { check_uncounted(self.data, self.loss, self.network->dtype()); });
}

py::tuple run(PyTrainer& self, const PyDataset& dataset, const Rows& rows, const std::optional<SeedAndEpoch>& shuffle,
              std::int64_t batch_size, bool drop_last, std::int64_t first, std::int64_t last, const Numbers& given,
              double seconds, std::pair<double, double> initial,
              const std::optional<std::pair<double, double>>& since) {
  check_match(dataset, self.core.network(), self.core.loss());
  BatchRange range = range_of(dataset, rows, batch_size);
  range.joins = !drop_last;
  range.first = first;
  range.last = last;
  const std::int64_t batches = range.batches(drop_last);
  check(first >= 0 && first <= last && last <= batches, "[Trainer.run] first_batch, last_batch: got ", first, " and ",
        last, "; expected numbers from 0 to ", batches, " in ascending order");
  const std::int64_t count = given.ndim() == 0 ? 0 : given.shape(0);
  check(count == 1 || count >= range.last - first, "[Trainer.run] rates: got those of ", count,
        " steps; expected 1 or ", range.last - first);
  const std::vector<StepRates> rates = to_rates(given, count == 1 ? 1 : range.last - first, self.by_step);
  Permutation permutation;
  if (shuffle) {
    permutation = Permutation::of(range.count, shuffle->first, shuffle->second);
    range.order.shuffle = &permutation;
  }
  LossSums sums{initial.first, initial.second}, others;
  if (since) others = {since->first, since->second};
  const std::int64_t next = computing(
      self.core.network(),
      [&] { return self.core.run(dataset.data, range, rates, seconds, sums, since ? &others : nullptr); },
      Network::Purpose::training);
  if (since) return py::make_tuple(next, sums.loss, sums.weight, others.loss, others.weight);
  return py::make_tuple(next, sums.loss, sums.weight);
}

py::tuple evaluate(PyTrainer& self, const PyDataset& dataset, std::int64_t batch_size, const Rows& rows,
                   const py::object& outputs) {
  check_match(dataset, self.core.network(), self.core.loss());
  const BatchRange range = range_of(dataset, rows, batch_size);
  const View to = to_view(outputs, "[Trainer.evaluate] outputs", true);
  const Network& network = self.core.network();
  check(!to || (to.rows == range.count && to.cols == network.out_features() && to.dtype == network.dtype()),
        "[Trainer.evaluate] outputs: got shape (", to.rows, ", ", to.cols, "); expected (", range.count, ", ",
        network.out_features(), ") in ", name_of(network.dtype()));
  const LossSums sums = computing(
      self.core.network(), [&] { return self.core.evaluate(dataset.data, range, to.data); },
      Network::Purpose::measuring);
  return py::make_tuple(sums.loss, sums.weight);
}

std::string state_name(int number, const Entry& entry) { return join(number, ".", entry.name); }

py::dict states(const ObjectOf<PyTrainer>& self) {
  Trainer& core = self.cast<PyTrainer&>().core;
  py::dict named;
  int number = 0;
  for (const View& state : core.states()) {
    for (const Entry& entry : core.network().parameters().layout.entries()) {
      char* data = static_cast<char*>(state.data) + static_cast<std::size_t>(entry.offset) * size_of(state.dtype);
      const View view{data, entry.rows, entry.cols, state.dtype};
      named[py::str(state_name(number, entry))] = view_array(view, entry.is_vector, core.network(), self);
    }
    ++number;
  }
  return named;
}

std::vector<std::string> squares(PyTrainer& self) {
  std::vector<std::string> names;
  const OptimizerRule& rule = self.core.optimizer().rule;
  for (int number = 0; number < state_count(rule); ++number) {
    if (!is_of_squares(rule, number)) continue;
    for (const Entry& entry : self.core.network().parameters().layout.entries())
      names.push_back(state_name(number, entry));
  }
  return names;
}

std::unique_ptr<PyTrainer> make_trainer(const ObjectOf<PyNetwork>& network, const PyLoss& loss,
                                        const PyOptimizer& optimizer) {
  const auto is_function = [](const py::object& given) { return PyCallable_Check(given.ptr()) != 0; };
  const bool by_step = is_function(optimizer.weight_decay) || is_function(optimizer.momentum);
  std::optional<StepRates> rates;
  if (!by_step && !is_function(optimizer.lr)) rates = optimizer.lr.cast<double>();
  return std::unique_ptr<PyTrainer>(new PyTrainer{
      Trainer(network.cast<PyNetwork&>().core, loss.complete(), optimizer.value), network, rates, by_step});
}

void bind_dataset(py::module_& m) {
  py::class_<PyDataset>(m, "Dataset",
                        "Checked inputs (rows, features), targets and sample weights (rows,) of any numeric type, "
                        "copied only where necessary.")
      .def(py::init([](const ArrayLike& x, const OptionalArray& y, const OptionalArray& weights, const PyLoss& loss,
                       const PyNetwork& network, Flag finite, Flag searched) {
             auto made = std::make_unique<PyDataset>();
             made->network = network.core;
             const AnyLoss& complete = made->loss = loss.complete();
             fill(*made, x, y, weights, *network.core, complete);
             without_gil([&] {
               scale_weights(made->data);
               check_data(made->data, *network.core, complete, finite, searched);
             });
             return made;
           }),
           py::arg("x"), py::arg("y"), py::arg("weights"), py::arg("loss"), py::arg("network"),
           py::arg("check_finite") = true, py::arg("searched") = false,
           "With check_finite=True, ValueError for NaN and infinity; with searched=True, the caller has already "
           "searched x and y for them.")
      .def("__len__", [](const PyDataset& self) { return self.data.x.rows; })
      .def("check_weights", &check_weights_of, py::arg("rows"),
           "ValueError unless the sum of the weights of these rows is a positive finite number.")
      .def(
          "check_uncounted", &check_uncounted_of,
          "ValueError for NaN and infinity in rows of weight 0: their loss does not count, but their gradients would.");
}

py::object average_of(const PyTrainer& self) {
  const auto& average = self.core.average();
  if (average == nullptr) return py::none();
  return py::make_tuple(average->decay(), average->every(), average->updates(self.core.steps()), average->swapped());
}

/// Returns the averages' arrays, parameters and buffers, which outlive the average.
py::tuple average_arrays(PyTrainer& self) {
  using Kept = std::pair<std::shared_ptr<WeightAverage>, py::object>;
  const auto& average = self.core.average();
  check<std::runtime_error>(average != nullptr, "[Trainer] no moving average of the weights has begun");
  const py::capsule owner(new Kept(average, self.network), [](void* kept) { delete static_cast<Kept*>(kept); });
  Network& network = self.core.network();
  const Parameters& p = std::as_const(network).parameters();
  return py::make_tuple(named_views(network, owner, p.layout, average->parameters()),
                        named_views(network, owner, p.state_layout, average->states()));
}

void bind_average(py::class_<PyTrainer>& cls) {
  cls.def(
         "begin_average",
         [](PyTrainer& self, double decay, std::int64_t every, std::int64_t updates, Flag swapped) {
           computing(self.core.network(), [&] {
             self.core.begin_average(decay, every, updates);
             self.core.average()->set_swapped(swapped);
           });
         },
         py::arg("decay"), py::arg("every"), py::arg("updates") = 0, py::arg("swapped") = false,
         "Begins a moving average of the weights, one update after each `every` steps; its arrays begin as the current "
         "weights and running averages.")
      .def(
          "end_average", [](PyTrainer& self) { computing(self.core.network(), [&] { self.core.end_average(); }); },
          "Ends the moving average and frees its memory.")
      .def(
          "swap_average",
          [](PyTrainer& self) {
            const auto average = self.core.average();
            check<std::runtime_error>(average != nullptr, "[Trainer] no moving average of the weights has begun");
            computing(self.core.network(), [&] { average->swap(); });
          },
          "Exchanges the model's weights and running averages with the averaged ones.")
      .def_property_readonly(
          "average", &average_of,
          "The moving average: its decay, its `every`, its updates so far, and whether the model has the averaged "
          "weights; None if there is none.")
      .def("average_arrays", &average_arrays,
           "The averaged parameters and buffers by name (those in training while the model has the averaged ones): "
           "views.");
}

}  // namespace

std::vector<StepRates> to_rates(const Numbers& given, std::int64_t count, bool by_step) {
  const bool alone = given.ndim() == 1;
  check((alone && !by_step) || (given.ndim() == 2 && given.shape(1) == 5), "[Trainer] rates: got ", given.ndim(),
        " dimensions; expected ", by_step ? "" : "learning rates (n,), or ", "the rates of each step (n, 5)");
  std::vector<StepRates> rates;
  rates.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    rates.push_back(alone ? StepRates(given.data()[i]) : to_step_rates(given.data() + 5 * i));
  }
  return rates;
}

void bind_trainer(py::module_& m) {
  m.def("batch_count", &batch_count, py::arg("rows"), py::arg("batch_size"), py::arg("drop_last"),
        "The number of batches of an epoch. A last batch of a single row is merged into the previous batch.");
  bind_dataset(m);
  py::class_<PyTrainer> cls(
      m, "Trainer", "The training loops in C++: one step, a range of batches, evaluation. gdcore.Trainer calls them.");
  bind_average(cls);
  bind_epochs(cls);
  cls.def(py::init(&make_trainer), py::arg("network"), py::arg("loss"), py::arg("optimizer"))
      .def(
          "step", &step, py::arg("x"), py::arg("y"), py::arg("weights") = py::none(), py::kw_only(),
          py::arg("rates") = py::none(), py::arg("check_finite") = true,
          "Trains one step on one batch; returns the mean loss of the batch before the step. rates: the learning rate, "
          "or one row of those of `run`.")
      .def(
          "run", &run, py::arg("dataset"), py::arg("rows"), py::kw_only(), py::arg("shuffle"), py::arg("batch_size"),
          py::arg("drop_last"), py::arg("first_batch"), py::arg("last_batch"), py::arg("rates"), py::arg("seconds"),
          py::arg("sums") = std::pair(0.0, 0.0), py::arg("since") = py::none(),
          "Trains the batches first_batch to last_batch - 1 of an epoch until `seconds` have passed. Returns the next "
          "batch and the sums of loss and weights, added to `sums`, and then the same added to `since`, if given. "
          "rows=None means all rows; shuffle is (seed, epoch) or None. rates has a row for each step, or one for all: "
          "learning rate, factors of weight decay and dropout, momentum (-1: the optimiser's own), Adam's 1 - Π β₁; or "
          "learning rates alone (n,).")
      .def("evaluate", &evaluate, py::arg("dataset"), py::kw_only(), py::arg("batch_size"),
           py::arg("rows") = py::none(), py::arg("outputs") = py::none(),
           "The sums of loss and weights, without training; predictions are written to outputs (rows, out_features), "
           "if given.")
      .def(
          "optimizer_step",
          [](PyTrainer& self, const std::optional<LrOrRates>& given) {
            const StepRates rates = rates_of(self, given, "Trainer.optimizer_step");
            computing(self.core.network(), [&] { self.core.optimizer_step(rates); });
          },
          py::arg("rates") = py::none(),
          "Updates the parameters with the gradients of the last backward pass. RuntimeError if there are none.")
      .def_property_readonly(
          "most_dropout", [](const PyTrainer& self) { return self.core.most_dropout(); },
          "The largest p of the model's dropout layers, 0 without one.")
      .def_property(
          "steps", [](const PyTrainer& self) { return self.core.steps(); },
          [](PyTrainer& self, std::int64_t steps) {
            computing(self.core.network(), [&] { self.core.renumber(steps); });
          },
          "The number of optimiser steps, which is also Adam's τ and the stream of dropout.")
      .def("state", &states,
           "The states of the optimiser by name (\"0.layers.0.weight\", ...), one array for each parameter: views.")
      .def(
          "check_states", [](PyTrainer& self) { computing(self.core.network(), [&] { self.core.check_states(); }); },
          "Throws DivergenceError where a state of the optimiser is infinite or NaN.")
      .def("_squares", &squares,
           "The names of the states that are sums or averages of squares, which are never negative.")
      .def(
          "reset", [](PyTrainer& self) { computing(self.core.network(), [&] { self.core.reset(); }); },
          "Sets the states of the optimiser and the number of steps to zero.");
}

}  // namespace gdcore::bindings
