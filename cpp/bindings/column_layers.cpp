#include "gdcore/check.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

using std::int64_t;
using Columns = Typed<shown::Columns>;
using Dims = Typed<shown::Dims>;

/// The columns that a layer was given: None, numbers or names.
ColumnChoice choice_of(const std::string& kind, int64_t features, const py::object& columns) {
  ColumnChoice choice{.features = features, .columns = {}, .names = {}};
  if (columns.is_none()) return choice;
  check<TypeMismatch>(!py::isinstance<py::str>(columns) && has_length(columns) && is_ordered(columns), "[", kind,
                      "] columns: got ", text_of(columns), "; expected a sequence of numbers or of names, or None");
  std::vector<int64_t> numbers;
  for (const py::handle column : py::reinterpret_borrow<py::iterable>(columns)) {
    if (py::isinstance<py::str>(column)) {
      choice.names.push_back(column.cast<std::string>());
      continue;
    }
    const py::object whole = to_whole(column);
    check<TypeMismatch>(bool(whole), "[", kind, "] columns: got ", text_of(py::reinterpret_borrow<py::object>(column)),
                        "; expected numbers or names of columns");
    numbers.push_back(whole.cast<int64_t>());
  }
  check<TypeMismatch>(numbers.empty() || choice.names.empty(), "[", kind,
                      "] columns: got numbers and names; expected one of them");
  for (std::size_t i = 0; i < choice.names.size(); ++i) {
    const auto end = choice.names.begin() + static_cast<std::ptrdiff_t>(i);
    check(std::find(choice.names.begin(), end, choice.names[i]) == end, "[", kind, "] columns: got \"", choice.names[i],
          "\" more than once; expected different columns");
  }
  if (choice.names.empty()) choice.columns = std::move(numbers);
  return choice;
}

template <class Kind, class Class>
void bind_choice(Class& cls) {
  cls.def_property_readonly("columns", [](const Kind& self) -> py::object {
    if (!self.names.empty()) return py::tuple(py::cast(self.names));
    return self.columns ? py::object(py::tuple(py::cast(*self.columns))) : py::none();
  });
  cls.def_property_readonly("features", [](const Kind& self) { return self.features; });
  cls.def_property_readonly("out_features", [](const Kind& self) {
    const int64_t in = self.input_features();
    return in > 0 ? std::optional<int64_t>(in + self.added_features()) : std::nullopt;
  });
}

py::object tuple_of(const std::vector<double>& values) { return py::tuple(py::cast(values)); }

void bind_piecewise_linear(py::module_& m) {
  using Edges = std::vector<std::vector<double>>;
  py::class_<PiecewiseLinear, Layer> cls(
      m, "PiecewiseLinear",
      R"(Piecewise-linear encoding of numbers; gdcore.PiecewiseLinear also fits its edges.

Parameters
----------
edges : sequence of sequences of float, optional
    The edges of the bins of each column, increasing.
columns : sequence of int or str, optional
    The columns to encode; all by default.
clip : bool
    Whether values below a column's first edge give 0 and those above its last 1.
features : int
    Number of inputs; 0: that of the layer before.
name : str, optional
    Prefix of the names of its buffers, an identifier.
)");
  cls.def(py::init([](const std::optional<Edges>& edges, const Columns& columns, Flag clip, int64_t features,
                      const Name& name) {
            return named(
                PiecewiseLinear(choice_of("PiecewiseLinear", features, columns), edges.value_or(Edges{}), clip), name);
          }),
          py::arg("edges") = py::none(), py::kw_only(), py::arg("columns") = py::none(), py::arg("clip") = false,
          py::arg("features") = 0, py::arg("name") = py::none());
  bind_choice<PiecewiseLinear>(cls);
  cls.def_property_readonly("edges", [](const PiecewiseLinear& self) -> py::object {
    if (self.edges.empty()) return py::none();
    py::tuple all(self.edges.size());
    for (std::size_t i = 0; i < self.edges.size(); ++i) all[i] = tuple_of(self.edges[i]);
    return all;
  });
  cls.def_readonly("clip", &PiecewiseLinear::clip);
  cls.def(
      "_set",
      [](PiecewiseLinear& self, int64_t features, Edges edges) {
        ColumnChoice choice = self;
        choice.features = features;
        PiecewiseLinear made(std::move(choice), std::move(edges), self.clip);
        made.name = self.name;
        self = std::move(made);
      },
      py::arg("features"), py::arg("edges"), "Sets the number of inputs and the edges.");
  make_spec(cls, {"edges", "columns", "clip", "features", "name"});
}

/// The dimensions of the embeddings of `count` columns, 0 for one-hot codes.
std::vector<int64_t> dims_of(const py::object& dim, std::size_t count) {
  const auto one = [](const py::handle value) -> int64_t {
    if (value.is_none()) return 0;
    const py::object whole = to_whole(value);
    check<TypeMismatch>(bool(whole), "[Embedding] dim: got ", text_of(py::reinterpret_borrow<py::object>(value)),
                        "; expected a whole number, None for one-hot codes, or a sequence of these");
    const auto number = whole.cast<int64_t>();
    check(number >= 1, "[Embedding] dim: got ", number, "; expected at least 1, or None for one-hot codes");
    return number;
  };
  if (dim.is_none() || !has_length(dim)) return std::vector<int64_t>(count, one(dim));
  check<TypeMismatch>(is_ordered(dim) && !py::isinstance<py::str>(dim), "[Embedding] dim: got ", text_of(dim),
                      "; expected a whole number, None for one-hot codes, or a sequence of these");
  std::vector<int64_t> dims;
  for (const py::handle value : py::reinterpret_borrow<py::iterable>(dim)) dims.push_back(one(value));
  return dims;
}

void bind_embedding(py::module_& m) {
  py::class_<Embedding, Layer> cls(m, "Embedding",
                                   R"(Embedding of categories: each code of a column selects a row of a trained table.

The columns hold whole numbers from 0 to size - 1; other values are refused, with column, value and row. They must be
columns of the model's input, unchanged by the layers before. The output is [the other columns, in their order | dim
columns for each chosen column, in the order chosen]. Parameters "table0", "table1", ... of shape (size, dim), one for
each chosen column that is not one-hot. Weight decay applies to them.

Parameters
----------
sizes : sequence of int
    The number of categories of each chosen column: at most 2^24 in a float32 model, which holds no larger whole numbers
    exactly.
dim : int, None, or a sequence of these
    Number of outputs of each column. None: a one-hot code of `size` columns, without parameters.
columns : sequence of int or str, optional
    The columns by number, or by name where the model knows the names of its input columns (feature_names); all by
    default.
features : int
    Number of inputs; 0: that of the layer before, or what the layers after it require.
init : Initializer
    Initial tables; Normal(1.0) unless given.
name : str, optional
    Prefix of the names of its parameters ("cities.table0"), an identifier. By default its number.
)");
  const auto make = [](const std::vector<int64_t>& sizes, const Dims& dim, const Columns& columns, int64_t features,
                       const PyInitializer& init, const Name& name) {
    return named(Embedding(choice_of("Embedding", features, columns), sizes, dims_of(dim, sizes.size()), init.value),
                 name);
  };
  cls.def(py::init(make), py::arg("sizes"), py::arg("dim"), py::kw_only(), py::arg("columns") = py::none(),
          py::arg("features") = 0,
          py::arg_v("init", static_cast<PyInitializer>(PyInitializerOf<Normal>(Normal{1.0})), "Normal(1.0)"),
          py::arg("name") = py::none());
  bind_choice<Embedding>(cls);
  cls.def_property_readonly("sizes", [](const Embedding& self) { return py::tuple(py::cast(self.sizes)); });
  cls.def_property_readonly("dim", [](const Embedding& self) {
    py::tuple dims(self.dims.size());
    for (std::size_t i = 0; i < self.dims.size(); ++i) {
      dims[i] = self.dims[i] == 0 ? py::object(py::none()) : py::object(py::int_(self.dims[i]));
    }
    return dims;
  });
  cls.def_property_readonly("init", [](const Embedding& self) { return to_python(self.init); });
  make_spec(cls, {"sizes", "dim", "columns", "features", "init", "name"});
}

void bind_periodic(py::module_& m) {
  py::class_<Periodic, Layer> cls(m, "Periodic",
                                  R"(Periodic embeddings of numbers, with trained frequencies for each column.

The dim outputs of a column x are, with kind="pbld" (Holzmüller et al. 2024), x itself and dim - 1 numbers
W cos(2π w x + b) + c; with kind="plr" (Gorishniy et al. 2022), dim numbers max(W [cos(2π w x), sin(2π w x)] + c, 0).
The phase b is in radians, outside of the 2π. Each column has its own w, b (frequencies,), W and c. The output is [the
other columns, in their order | dim columns for each chosen column, in the order chosen]. Inputs should be scaled.

Parameters "frequency" and "phase" (columns, frequencies), "weight" (columns · outputs, frequencies or twice as many
with "plr") and "bias" (columns · outputs,). Initial values: w normal with standard deviation sigma, b uniform between
-π and π, W and c uniform within ±1/√(inputs of W). Weight decay applies to "weight" alone.

Parameters
----------
features : int
    Number of inputs; 0: that of the layer before.
columns : sequence of int or str, optional
    The columns by number, or by name where the model knows the names of its input columns (feature_names); all by
    default.
frequencies : int
    Frequencies of a column, 1 to 1024.
dim : int
    Outputs of a column, at most 1024; with "pbld" at least 2, as x is one of them.
sigma : float
    Standard deviation of the initial frequencies, positive.
kind : str
    "pbld" or "plr".
name : str, optional
    Prefix of the names of its parameters ("ages.frequency"), an identifier. By default its number.
)");
  const auto make = [](int64_t features, const Columns& columns, int64_t frequencies, int64_t dim, double sigma,
                       const std::string& kind, const Name& name) {
    check(kind == "pbld" || kind == "plr", "[Periodic] kind: got \"", kind, "\"; expected \"pbld\" or \"plr\"");
    const auto form = kind == "pbld" ? Periodic::Kind::pbld : Periodic::Kind::plr;
    return named(Periodic(choice_of("Periodic", features, columns), frequencies, dim, sigma, form), name);
  };
  cls.def(py::init(make), py::arg("features") = 0, py::kw_only(), py::arg("columns") = py::none(),
          py::arg("frequencies") = 16, py::arg("dim") = 4, py::arg("sigma") = 0.1, py::arg("kind") = "pbld",
          py::arg("name") = py::none());
  bind_choice<Periodic>(cls);
  cls.def_readonly("frequencies", &Periodic::frequencies)
      .def_readonly("dim", &Periodic::dim)
      .def_readonly("sigma", &Periodic::sigma);
  cls.def_property_readonly("kind",
                            [](const Periodic& self) { return self.form == Periodic::Kind::pbld ? "pbld" : "plr"; });
  make_spec(cls, {"features", "columns", "frequencies", "dim", "sigma", "kind", "name"});
}

}  // namespace

void bind_column_layers(py::module_& m) {
  bind_piecewise_linear(m);
  bind_embedding(m);
  bind_periodic(m);
}

}  // namespace gdcore::bindings
