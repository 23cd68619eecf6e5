"""`Parquet`: training, validation and prediction data in Parquet files that may be larger than memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Array, TakesTables, Windowed, to_any_array, with_names
from ..internal.attributes import Closed, Fixed
from ..internal.checks import flag, integer, is_iterable, shown
from ..internal.features import FeatureNames, are_default, order_of, refuse_duplicates
from ..internal.inputs import Inputs
from ..internal.labels import Targets
from .columns import fits_float32
from .files import Files, Reader, module
from .order import Numbers, Order
from .reading import Ahead, Reading, Wanted, Window, located

__all__ = ["Parquet"]

DEFAULT_NUMBERS = 1 << 22  # of a window: 16 MiB of float32, which largely stay in the cache
TABLE_ROWS = 1 << 16  # of a window that is a table
AGAIN = "make another one"


@explained
class Parquet(Closed, Windowed):
    """Data in Parquet files, read in windows of rows; the files may be larger than memory.

    ``trainer.fit(gd.data.Parquet("rows/*.parquet", y="label"), epochs=10)`` trains on the rows of all files that match.
    `Trainer.fit` (also as validation data), `Trainer.evaluate` and the predictions of a model take it; so do
    `gdcore.tables.TabularModel` and the estimators ``Tabular...`` of `gdcore.sklearn`, with columns of any kind. At a
    time, there are two windows in memory, as arrays of the model's dtype: one that is computed with, and one that a
    thread reads.

    In each epoch of `fit`, the row groups are drawn in a new order, consecutive ones form windows of at most `window`
    rows, and the rows of a window are shuffled; batches go on across windows. The order depends on the trainer's seed,
    the epoch, the sizes of the row groups and `window` alone. If all rows fit into one window, `fit` makes the steps
    that it makes on the same rows as arrays.

    Parameters
    ----------
    paths : path, pattern, or sequence of them
        The files, such as ``"rows/*.parquet"``; those of a pattern in the order of their names. All must have the
        columns that are used; files without rows are skipped.
    x : sequence of str, optional
        Columns of the inputs, in this order; those of a model with ``feature_names`` are put into its order. Networks
        take numbers and booleans, models of tables text, categories and dates too. Defaults to all columns of the first
        file but those of `y` and `sample_weight`.
    y : str or sequence of str, optional
        Column of the targets or labels, or several columns of targets. Predictions need none.
    sample_weight : str, optional
        Column with the weight of each row.
    window : int, optional
        Most rows of a window; row groups of more rows are read in parts. Defaults to 16 MiB of float32 inputs, or to
        the largest row group; models of tables have another default.

    Attributes
    ----------
    paths : tuple of str
        The files with rows.
    x, y : tuple of str
        Columns of inputs and of targets.
    sample_weight : str or None
        Column of weights.
    window : int
        Most rows of a window.
    rows : int
        Number of rows.

    Raises
    ------
    ImportError
        If pyarrow is not installed: ``pip install 'gdcore[parquet]'``.
    FileNotFoundError
        If there is no file.
    TypeError
        If an argument, or a column of weights, is of the wrong type.
    ValueError
        If there are no rows, or a file is damaged or lacks a column.

    Notes
    -----
    NaN, infinity, missing values and values outside of the model's dtype are refused as in arrays, with file, row group
    and row: before training where the files' statistics show them, otherwise when their window is read. The weights of
    the rows of each window must have a positive sum. A model of float32 and a window of N rows of C inputs take 8 N C
    bytes, and the decoded columns of one row group.
    """

    __slots__ = ("__weakref__", "_counts", "_files", "_given_window", "_sample_weight", "_window", "_x", "_y")
    _counts: Numbers  # the rows that are read of each row group
    x: Fixed[tuple[str, ...]] = Fixed("Columns of the inputs.", AGAIN)
    y: Fixed[tuple[str, ...]] = Fixed("Columns of the targets.", AGAIN)
    sample_weight: Fixed[str | None] = Fixed("Column of the weights.", AGAIN)
    window: Fixed[int] = Fixed("Most rows of a window.", AGAIN)

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        x: Sequence[str] | None = None,
        y: str | Sequence[str] | None = None,
        *,
        sample_weight: str | None = None,
        window: int | None = None,
    ) -> None:
        if sample_weight is not None and not isinstance(sample_weight, str):
            raise TypeError(f"sample_weight: got {shown(sample_weight)}; expected the name of a column")
        targets = () if y is None else (str(y),) if isinstance(y, str) else _names(y, "y")
        module()
        self._files = files = Files(paths)
        sample_weight = None if sample_weight is None else str(sample_weight)
        weights = () if sample_weight is None else (sample_weight,)
        if x is None:
            x = [name for name in files.files[0].schema.names if name not in (*targets, *weights)]
        self._x, self._y, self._sample_weight = _names(x, "x"), targets, sample_weight
        for names, argument in ((self._x, "x"), (targets, "y"), (weights, "sample_weight")):
            files.check_columns(names, argument)
            if argument == "sample_weight" or (argument == "y" and len(targets) > 1):
                files.check_types(names, argument)
        for name in (*targets, *weights):
            if (*self._x, *targets, *weights).count(name) > 1:
                raise ValueError(f"x, y, sample_weight: got column {name!r} twice; expected different columns")
        if window is not None:
            window = integer(window, "window", minimum=1, expected="a number of rows")
            self._files = files.divided(window)
        self._given_window = window
        self._window = window or max(int(files.rows.max()), DEFAULT_NUMBERS // len(self._x))
        self._counts = self._files.rows

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*self._x, *self._y, *([] if self._sample_weight is None else [self._sample_weight]))

    @property
    def paths(self) -> tuple[str, ...]:
        """The files with rows."""
        return tuple(file.path for file in self._files.files)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._counts.sum())

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows

    def __repr__(self) -> str:
        """Return the numbers of rows, files and row groups."""
        groups = f"{int(self._files.units[-1]) + 1} row groups of {len(self._files.files)} files"
        return f"Parquet({self.rows} rows in {groups}, {len(self._x)} inputs, y={list(self._y)}, window={self.window})"

    def windows(self, *, tables: bool = False) -> Iterator[Any]:
        """Yield the rows in file order, a window at a time, for computations of your own.

        Parameters
        ----------
        tables : bool
            Whether windows are tables, with columns of any type and missing values; without `window` they have at most
            65,536 rows.

        Yields
        ------
        tuple of ndarray or ndarray, or pyarrow.Table
            (x, y) or (x, y, weights), or x alone without targets and weights, as `MiniBatches` does. Inputs are of
            float32 if that holds every number of the columns' types, else of float64; targets are as they are in the
            file, several columns of them are numbers (rows, columns). Tables have the columns of all three.

        Raises
        ------
        TypeError
            If a column of `x` has neither numbers nor booleans, except in tables.
        ValueError
            If a value is missing, except in tables.
        """
        if flag(tables, "tables"):
            yield from self._tables(self._columns)
            return
        for window in self._passed(self._unchecked(self._y, self._sample_weight)):
            x = with_names(window.x.copy(), self._x)
            given = [x, *(each for each in (window.y, window.weights) if each is not None)]
            yield given[0] if len(given) == 1 else tuple(given)

    def write_predictions(
        self,
        path: str | os.PathLike[str],
        predict: Callable[[Any], Any],
        *,
        column: str = "prediction",
        tables: bool | None = None,
    ) -> None:
        """Write predictions for all rows, in file order, to a Parquet file; a window at a time is in memory.

        Parameters
        ----------
        path : path
            The file. An older one is replaced once all predictions are written.
        predict : function
            Takes inputs (rows, columns) and returns predictions (rows,) or (rows, outputs), such as ``model.predict``
            or ``model.predict_classes``. Inputs are as those of `windows`, without targets and weights.
        column : str
            Name of the column of predictions; several are called "prediction_0", "prediction_1", ...
        tables : bool, optional
            Whether inputs are tables, with columns of any type; by default for the methods of
            `gdcore.tables.TabularModel` and of the estimators ``Tabular...``.

        Raises
        ------
        TypeError, ValueError
            As for `windows`; or if `predict` returns another number of rows, or the file is one of those that are read.
        """
        if os.path.realpath(path) in map(os.path.realpath, self.paths):
            raise ValueError(f"path: got {os.fspath(path)!r}, which is read; expected another file")
        from ..io import destination  # here, to keep `import gdcore` fast

        if tables is None:
            tables = isinstance(getattr(predict, "__self__", None), TakesTables)
        given: Iterator[Any] = self._tables(self._x) if flag(tables, "tables") else self._inputs()
        destination.write(path, "path", lambda file: self._write(file, given, predict, column))

    def _inputs(self) -> Iterator[Array]:
        for window in self._passed(self._unchecked((), None)):
            yield with_names(window.x, self._x)

    def _write(self, file: str, given: Iterator[Any], predict: Callable[[Any], Any], column: str) -> None:
        writer: Any = None
        try:
            for inputs in given:
                found, rows = to_any_array(predict(inputs), "predict"), len(inputs)
                if found.ndim not in (1, 2) or len(found) != rows:
                    raise ValueError(
                        f"predict: returned shape {found.shape} for {rows} rows; expected ({rows},) or ({rows}, "
                        "outputs)"
                    )
                wide = found.reshape(len(found), -1)
                names = [column] if wide.shape[1] == 1 else [f"{column}_{i}" for i in range(wide.shape[1])]
                table = module().table({name: np.ascontiguousarray(wide[:, i]) for i, name in enumerate(names)})
                writer = writer or module("pyarrow.parquet").ParquetWriter(file, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()

    def finite_inputs(self, known: FeatureNames | None) -> tuple[int, Iterator[Inputs]]:
        """Return the inputs of each window; see `Windowed`."""
        names = self._ordered(known, "x")
        shown_names = None if known is None and are_default(names) else names
        windows = self._passed(self._reading(Wanted(names, "float64")))
        return len(self._order().windows), (Inputs(window.x, shown_names) for window in windows)

    def predicted(
        self, predict: Callable[[Inputs], Array], known: FeatureNames | None, dtype: str, finite: bool
    ) -> Array:
        """Return what `predict` returns for the inputs of each window, all in one array; see `Windowed`."""
        names = self._ordered(known, "x")
        shown_names = None if known is None and are_default(names) else names
        wanted = self._reading(Wanted(names, dtype, finite=finite))

        def of_window(window: Window) -> Array:
            def of(rows: slice, where: str) -> Array:
                try:
                    return predict(Inputs(window.x[rows], shown_names))
                except ValueError as error:
                    raise ValueError(f"{where}: {error}" if where else str(error)) from None

            return located(window, of)

        return self._gathered(wanted, of_window)

    def _gathered(self, wanted: Reading, work: Callable[[Window], Array]) -> Array:
        """Return what `work` returns for the rows of each window, all in one array."""
        out: Array | None = None
        first = 0
        for window in self._passed(wanted):
            found = work(window)
            if out is None:
                out = np.empty((self.rows, *found.shape[1:]), found.dtype)
            out[first : first + len(found)] = found
            first += len(found)
        assert out is not None
        return out

    def _unchecked(self, y: tuple[str, ...], weight: str | None) -> Wanted:
        """Return what is read of each row for computations other than gdcore's."""
        self._files.check_types(self._x, "x")
        kinds = {file.schema.field(name).type for file in self._files.files for name in self._x}
        dtype = "float32" if all(map(fits_float32, kinds)) else "float64"

        def unchanged(values: Any, _: str) -> Array:
            array: Array = values.array if isinstance(values, Targets) else values
            return array

        return Wanted(self._x, dtype, y, weight, finite=False, targets=unchanged)

    def _tables(self, columns: Iterable[str]) -> Iterator[Any]:
        """Yield columns of any types, of all rows in file order, as a pyarrow.Table for each window."""
        columns = tuple(columns)
        self._files.check_meanings(columns, "x", times=True)
        files, most = self._pieces()
        with closing(Reader(files, columns, threads=_core.get_num_threads() > 1)) as reader:
            for groups in Order.of(files.rows, most).windows:
                yield _joined(list(map(reader.read, groups.tolist())))

    def _pieces(self) -> tuple[Files, int]:
        """Return the files for windows that are tables, and the most rows of these."""
        most = self._given_window or TABLE_ROWS
        return self._files.divided(most), most

    def _table(self, columns: Iterable[str]) -> Any:
        """Return columns of all rows as one pyarrow.Table."""
        return _joined(list(self._tables(columns)))

    def _ordered(self, known: FeatureNames | None, name: str) -> tuple[str, ...]:
        """Return the columns of the inputs in the order of the `known` names."""
        order = None if known is None else order_of(self._x, known, name)
        return self._x if order is None else tuple(self._x[i] for i in order)

    def _order(self, shuffle: tuple[int, int] | None = None) -> Order:
        """Return the windows of an epoch, in file order or shuffled by a seed and an epoch."""
        return Order.of(self._counts, self._window, shuffle, self._files.units)

    def _ahead(self, wanted: Reading, more: int = 0) -> Ahead:
        """Return a reader for windows, with room for `more` rows beside those of a window."""
        return Ahead(self._files, wanted.with_threads(), self._counts, min(self._window, self.rows) + more)

    def _reading(self, plain: Wanted, numbers: bool = False) -> Reading:
        """Return how a network's needs are read, and check types and statistics; `numbers`: targets are no labels."""
        self._files.check_types(plain.x, f"{plain.label}x")
        self._files.check_meanings(plain.y, f"{plain.label}y", times=True)  # labels may be dates
        if plain.finite:
            self._files.check_statistics(plain.x, f"{plain.label}x", plain.dtype)
        if plain.finite and numbers:
            self._files.check_statistics(plain.y, f"{plain.label}y", plain.dtype)
        return plain

    def _passed(self, wanted: Reading) -> Generator[Window]:
        """Yield all windows in file order; the arrays of each are valid until the next one is asked for."""
        windows = self._order().windows
        with closing(self._ahead(wanted)) as ahead:
            for number, groups in enumerate(windows):
                window, _ = ahead.take(groups)
                if number + 1 < len(windows):
                    ahead.begin(windows[number + 1])
                yield window


def _joined(tables: list[Any]) -> Any:
    """Return tables of the same columns as one, in types that hold those of all; zones of several files become UTC."""
    try:
        kinds = {name: {table.schema.field(name).type for table in tables} for name in tables[0].column_names}
        mixed = [name for name, found in kinds.items() if len(found) > 1]
        return module().concat_tables([_alike(table, mixed) for table in tables], promote_options="permissive")
    except module().ArrowException as error:
        raise TypeError(f"x: the files have different types in a column: {error}") from None


def _alike(table: Any, mixed: Sequence[str]) -> Any:
    """Return a table with times in UTC, and dates as times, in columns that have `mixed` types."""
    types = module("pyarrow.types")
    for name in mixed:
        place, column = table.column_names.index(name), table.column(name)
        if types.is_date(column.type):
            column = column.cast(module().timestamp("s"))
        elif types.is_timestamp(column.type) and column.type.tz is not None:
            column = column.cast(module().timestamp(column.type.unit, "UTC"))
        table = table.set_column(place, name, column)
    return table


def _names(names: object, argument: str) -> tuple[str, ...]:
    """Return names of columns, at least one, as a tuple of text."""
    if isinstance(names, (str, bytes, dict, set)) or not is_iterable(names):
        raise TypeError(f"{argument}: got {shown(names)}; expected a list of names of columns")
    given = tuple(str(name) if isinstance(name, str) else name for name in names)
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"{argument}: got {shown(name)}; expected the name of a column")
    if not given:
        raise ValueError(f"{argument}: got no column; expected at least one")
    refuse_duplicates(given, argument)
    return given
