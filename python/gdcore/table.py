"""Tables: dictionaries of columns, printed aligned, converted to pandas, polars, Markdown and CSV, read from CSV."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from .internal import display
from .internal.arguments import explained
from .internal.attributes import Closed, Hinted, restore_attributes
from .internal.checks import FormatError, integer, is_iterable, optional_module, path_text, plain_repr, shown

if TYPE_CHECKING:
    import pandas

__all__ = ["Table"]

HTML_ROWS = 20  # that a notebook shows of a table


@explained
class Table(Hinted, Closed, dict[str, list[Any]]):
    """Rows of named values: ``table["lr"]`` is a column, ``print(table)`` shows all rows, `to_csv` saves them.

    Notebooks display a table as HTML, a long one shortened.

    A dictionary of columns of equal length, accepted by ``pandas.DataFrame(table)``, ``polars.DataFrame(table)`` and
    ``dict(table)``. Columns are returned as copies. Only `append` changes a table, by adding a row.

    Parameters
    ----------
    rows : iterable of dict, or mapping of columns
        The rows. Columns are the keys (strings), in the order of their first appearance; a row may lack some. Or the
        columns by name: ``Table({"lr": [0.1, 0.2], "loss": [3.0, 2.5]})``.

    Raises
    ------
    TypeError
        If a row is no mapping of names to values, or a column no sequence of values.
    ValueError
        If columns differ in length.
    """

    __slots__ = ("__weakref__", "_bare")
    _missing: ClassVar[Any] = None  # value of an empty cell

    def __init__(self, rows: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]] = ()) -> None:
        super().__init__()
        self._bare = 0  # number of rows while there is no column yet
        if isinstance(rows, Mapping):
            self._take(rows)
            return
        if not is_iterable(rows):
            raise TypeError(f"rows: got {shown(rows)}; expected dicts, one for each row")
        for i, row in enumerate(rows):
            self._append(row, f"rows[{i}]")

    @property
    def height(self) -> int:
        """Number of rows."""
        return next(map(len, dict.values(self)), self._bare)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as a list of dictionaries (copies), without empty cells."""
        columns = list(dict.items(self))
        return [{name: values[i] for name, values in columns if values[i] is not None} for i in range(self.height)]

    def row(self, index: int) -> dict[str, Any]:
        """Return one row as a dictionary (a copy); a negative index counts from the end.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        position = integer(index, "index", minimum=-self.height)
        if not position < self.height:
            raise IndexError(f"index: got {index}; expected a row below {self.height}")
        return {name: values[position] for name, values in dict.items(self)}

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, in time independent of the number of rows.

        Raises
        ------
        TypeError
            If `row` is no mapping of names to values.
        """
        self._append(row, "row")

    def _append(self, row: Mapping[str, Any], what: str) -> None:
        if type(row) is not dict or not self or row.keys() != dict.keys(self):  # not another row of the same columns
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise TypeError(f"{what}: got {shown(row)}; expected a dict of values by the names of their columns")
            self._add_columns(row)
            if not self:
                self._bare += 1
        self._extend({name: (value,) for name, value in row.items()}, 1)

    def _extend(self, columns: Mapping[str, Sequence[Any]], rows: int) -> None:
        """Add rows, given as values of columns that are there."""
        values = [columns[name] if name in columns else (self._missing,) * rows for name in self]
        # One call into C: after Ctrl-C, or in another thread that reads, the rows are complete or absent.
        deque(map(list.extend, list(dict.values(self)), values), maxlen=0)

    def _add_columns(self, names: Iterable[str]) -> None:
        """Add missing columns, empty in all present rows."""
        height = self.height
        super().update({name: [self._missing] * height for name in names if name not in self})

    def _take(self, columns: Mapping[str, Iterable[Any]]) -> None:
        """Replace all columns by copies of `columns`."""
        lists: dict[str, list[Any]] = {}
        for name, values in columns.items():
            if not isinstance(name, str):
                raise TypeError(f"rows: got a column called {shown(name)}; expected text")
            if isinstance(values, (str, bytes, Mapping)) or not is_iterable(values):
                raise TypeError(f"rows: got {shown(values)} as the column {shown(name)}; expected a list of values")
            lists[name] = values.tolist() if hasattr(values, "tolist") else list(values)
        heights = {name: len(values) for name, values in lists.items()}
        if len(set(heights.values())) > 1:
            raise ValueError(f"rows: got columns of different lengths: {shown(heights, 200)}")
        super().clear()
        super().update(lists)

    def __getitem__(self, column: str) -> list[Any]:
        """Return a column (a copy); empty cells are None, in a history nan."""
        if column not in self:
            raise KeyError(f"{shown(column)}: the columns are {', '.join(self) or 'none yet'}")
        return list(super().__getitem__(column))

    # Readers that bypass __getitem__, C code included, get copies too.

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return super().__iter__()

    def get(self, column: str, default: Any = None) -> Any:
        """Return a column, or `default` if there is none of this name."""
        return self[column] if column in self else default  # noqa: SIM401  # which would call itself

    def values(self) -> ValuesView[list[Any]]:  # type: ignore[override]
        """Return the columns."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, list[Any]]:  # type: ignore[override]
        """Return the names of the columns, each with the column."""
        return ItemsView(self)

    def copy(self) -> Self:
        """Return a copy of the table."""
        return deepcopy(self)

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return a dictionary of the columns of both, as dictionaries do."""
        return dict(self) | dict(other)

    def __ror__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return a dictionary of the columns of both, as dictionaries do."""
        return dict(other) | dict(self)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise TypeError: a table cannot be changed like a dictionary."""
        kind = type(self).__name__
        raise TypeError(f"the columns of a {kind} cannot be changed; use a copy: dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickle and copy.deepcopy, including subclasses with additional attributes."""
        return _new, (type(self),), (dict(self), super().__getstate__())

    def __setstate__(self, state: Any) -> None:
        """Restore the columns and the attributes."""
        restore_attributes(self, state[1])
        self._take(state[0])

    def __str__(self) -> str:
        """Return the table as right-aligned text, with six significant digits; control characters are escaped."""
        names = list(self)
        cells = [list(map(_line, row)) for row in (names, *self._cells())]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        """Return the numbers of rows and columns, and the columns' names."""
        return f"{type(self).__name__}({self.height} rows of {', '.join(self) or 'no columns'})"

    def to_markdown(self) -> str:
        """Return the table in Markdown, with six significant digits; ``|`` is escaped, line ends become spaces."""
        names = list(self)
        lines = [names, ["---"] * len(names), *([_text(value) for value in row] for row in self._cells())]
        return display.Text("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines))

    def _repr_html_(self) -> str:
        """Return the table as HTML for notebooks; of a long table only the first and the last rows."""
        columns, height, half = list(dict.values(self)), self.height, HTML_ROWS // 2
        rows_shown = range(height) if height <= HTML_ROWS else (*range(half), None, *range(height - half, height))
        rows = [["…" if i is None else _text(values[i]) for values in columns] for i in rows_shown]
        size = f"{type(self).__name__}: {height:,} rows of {len(columns):,} columns"
        return f"{display.table([list(self), *rows])}\n{display.paragraph(size)}"

    def to_pandas(self) -> pandas.DataFrame:
        """Return the columns as a pandas DataFrame, as ``pandas.DataFrame(table)`` does."""
        name = f"{type(self).__name__}.to_pandas"
        frame: pandas.DataFrame = optional_module("pandas", name, "gdcore[pandas]").DataFrame(dict(self))
        return frame

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a CSV file (UTF-8) with a header; numbers are written so that they read back exactly."""
        with open(path_text(path, "path", "a path"), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(list(self))
            writer.writerows(map(csv_row, self._cells()))

    def _cells(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows as tuples, with a value for every column."""
        columns = list(dict.values(self))
        return zip(*columns, strict=True) if columns else iter([()] * self._bare)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Table:
        """Read a table that `to_csv` wrote; empty cells are left out.

        A CSV file does not distinguish text from numbers: text that reads as a number, True or False is converted.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            If the file is not text, has two columns of one name, or a line has more or fewer cells than the header.
        """
        path = path_text(path, "path", "a path")
        try:
            with open(path, newline="", encoding="utf-8") as file:
                lines = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FormatError(f"path: {shown(path)} is no CSV file ({error})") from error
        header, *body = lines or [[]]
        if len(set(header)) < len(header):
            raise FormatError(f"path: {shown(path)}: got columns {shown(header)}; expected different names")
        for number, line in enumerate(body, 2):
            if len(line) != len(header):
                raise FormatError(f"path: {shown(path)}, line {number}: got {len(line)} cells; expected {len(header)}")
        rows = [{name: _value(cell) for name, cell in zip(header, line, strict=True) if cell != ""} for line in body]
        return cls(rows)


def _new(kind: type[Table]) -> Table:
    return kind.__new__(kind)


def csv_row(values: Iterable[Any]) -> list[str]:
    """Return the cells of a CSV line: numbers are written to be read back exactly, missing values are empty."""
    return [_cell(value) for value in values]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict)):
        return plain_repr(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(value: Any) -> str:
    """Return a value as text on one line, without characters that a terminal would obey."""
    text = _text(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, bool)):
        return str(value)
    return plain_repr(value.item() if hasattr(value, "item") else value)


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(cell, cell)
