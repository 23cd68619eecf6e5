#include "gdcore/check.h"
#include "gdcore/row_order.h"
#include "specs.h"

namespace gdcore::bindings {

namespace {

void gather(const py::object& source, const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>& index,
            const py::array& out) {
  const OwnedSource owned = to_source(source, "[gather] source", true);
  const bool label = out.dtype().kind() == 'i' && out.itemsize() == 4;
  const bool plain = (out.flags() & py::array::c_style) != 0 && out.writeable();
  check(plain && out.size() == index.size() * owned.source.cols && out.ndim() >= 1 && out.shape(0) == index.size(),
        "[gather] out: expected a writable C-contiguous array of shape (", index.size(), ", ", owned.source.cols, ")");
  check<TypeMismatch>(label || (out.dtype().kind() == 'f' && out.itemsize() >= 4 && out.itemsize() <= 8),
                      "[gather] out: got dtype ", std::string(py::str(out.dtype())),
                      "; expected float32, float64 or int32");
  const std::int64_t* rows = index.data();
  for (std::int64_t i = 0; i < index.size(); ++i) {
    check<std::out_of_range>(rows[i] >= 0 && rows[i] < owned.source.rows, "[gather] index[", i, "]: got ", rows[i],
                             "; expected 0 to ", owned.source.rows - 1);
  }
  void* to = const_cast<void*>(out.data());
  const GatherType type = label ? GatherType::label : (out.itemsize() == 4 ? GatherType::float32 : GatherType::float64);
  without_gil([&] { backend(Device::cpu).gather({owned.source, rows, 0, index.size(), to, type}); });
}

py::array_t<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, std::uint64_t epoch, std::int64_t first,
                                      std::optional<std::int64_t> count) {
  const Permutation permutation = Permutation::of(n, seed, epoch);
  check(first >= 0 && first <= n, "[permutation] first: got ", first, "; expected 0 to ", n);
  check(!count || (*count >= 0 && *count <= n - first), "[permutation] count: got ", count.value_or(0),
        "; expected 0 to ", n - first);
  py::array_t<std::int64_t> order(count.value_or(n - first));
  std::int64_t* to = order.mutable_data();
  without_gil([&] { fill_order({nullptr, &permutation}, first, order.size(), to); });
  return order;
}

std::int64_t columns_to_rows(const std::vector<py::object>& columns, const py::array& out) {
  const View to = to_view(out, "[columns_to_rows] out", true);
  check(out.ndim() == 2 && to.cols == std::ssize(columns), "[columns_to_rows] out: got ", to.cols,
        " columns; expected an array (rows, ", columns.size(), ")");
  std::vector<OwnedSource> owned;
  std::vector<Source> sources;
  for (const py::object& column : columns) {
    owned.push_back(to_source(column, "[columns_to_rows] columns", true));
    sources.push_back(owned.back().source);
  }
  return without_gil([&] { return gdcore::columns_to_rows(sources, to.rows, to.dtype, to.data); });
}

std::int64_t first_nonfinite(const py::object& array) {
  py::array given = to_array(array, "[first_nonfinite] array");
  const bool plain = (given.flags() & py::array::c_style) != 0;
  if (!plain) given = py::reinterpret_borrow<py::array>(py::module_::import("numpy").attr("ascontiguousarray")(given));
  const OwnedSource owned = to_source(given.reshape({-1}), "[first_nonfinite] array", true);
  return without_gil([&] { return backend(Device::cpu).first_nonfinite(owned.source); });
}

/// The row, and the position among `columns`, of the first value that is no code.
std::optional<std::pair<std::int64_t, std::int64_t>> first_wrong_code(
    const py::object& array, const std::vector<std::pair<std::int64_t, std::int64_t>>& columns) {
  const OwnedSource owned = to_source(array, "[first_wrong_code] array", false);
  std::vector<CodeColumn> codes;
  for (const auto& [column, size] : columns) {
    check(column >= 0 && column < owned.source.cols, "[first_wrong_code] columns: got ", column, "; expected 0 to ",
          owned.source.cols - 1);
    codes.push_back({column, size});
  }
  const std::int64_t at = without_gil([&] { return gdcore::first_wrong_code(owned.source, codes); });
  if (at < 0) return std::nullopt;
  return std::pair(at / std::ssize(codes), at % std::ssize(codes));
}

std::optional<py::array> probabilities(const py::array& logits, const std::string& meaning, bool finite) {
  const View z = to_view(logits, "[probabilities] logits", false);
  const bool both = meaning == "no_and_yes";
  check(both || meaning == "classes" || meaning == "yes", "[probabilities] meaning: got \"", meaning,
        "\"; expected \"classes\", \"yes\" or \"no_and_yes\"");
  check(!both || z.cols == 1, "[probabilities] logits: got ", z.cols, " columns; expected 1 for \"no_and_yes\"");
  const Probabilities kind = both                   ? Probabilities::no_and_yes
                             : meaning == "classes" ? Probabilities::classes
                                                    : Probabilities::yes;
  py::array out(logits.dtype(), std::vector<py::ssize_t>{z.rows, both ? 2 : z.cols});
  void* to = out.mutable_data();
  const bool done = without_gil([&] {
    if (finite && backend(Device::cpu).first_nonfinite({z.data, source_type(z.dtype), z.rows, z.cols, z.cols}) >= 0) {
      return false;
    }
    gdcore::probabilities(kind, z, to);
    return true;
  });
  return done ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

void bind_data(py::module_& m) {
  m.def("gather", &gather, py::arg("source"), py::arg("index"), py::arg("out"),
        "Writes out[i] = source[index[i]], converted to the dtype of out: float32, float64 or int32. source is (rows,) "
        "or (rows, columns), index (n,), out (n,) or (n, columns). IndexError for an index outside of source, "
        "ValueError for another shape of out, TypeError for another dtype.");
  m.def("columns_to_rows", &columns_to_rows, py::arg("columns"), py::arg("out"),
        "Writes columns, each (rows,) of any numeric type, into out (rows, columns), float32 or float64. Returns the "
        "flat index of the first value that is NaN or infinite there, or -1. ValueError for other shapes, TypeError "
        "for other types.");
  m.def("permutation", &permutation, py::arg("n"), py::arg("seed"), py::arg("epoch"), py::arg("first") = 0,
        py::arg("count") = py::none(),
        "Positions first to first + count - 1 of a pseudo-random permutation of 0..n-1, int64 (count,); count=None: up "
        "to the last position. A function of n, seed and epoch; other positions are not computed. ValueError for "
        "positions outside of 0..n-1.");
  m.def("first_nonfinite", &first_nonfinite, py::arg("array"),
        "Flat index, in C order, of the first NaN or infinity; -1 if there is none.");
  m.def("first_wrong_code", &first_wrong_code, py::arg("array"), py::arg("columns"),
        "The row of array (rows, columns), and the position among `columns` (column, size), of the first value that is "
        "no whole number from 0 to size - 1; None if there is none.");
  m.def(
      "probabilities", &probabilities, py::arg("logits"), py::arg("meaning"), py::arg("check_finite"),
      "Probabilities of logits (N, K), in their dtype, float32 or float64. meaning \"classes\": the softmax of each "
      "row, (N, K); \"yes\": the logistic function, (N, K); \"no_and_yes\": of one column, (N, 2), its complement and "
      "its value. With check_finite, None if a logit is NaN or infinite. ValueError for another meaning.");
}

}  // namespace gdcore::bindings
