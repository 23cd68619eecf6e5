"""Rows of Parquet files as the networks of a table take them: encoded window by window, all or those of some folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arrays import Array, with_names
from ..internal.features import FeatureNames, order_of
from ..parquet.columns import numbers
from ..parquet.reading import Reading, Wanted, Window
from ..parquet.source import Parquet
from .arrow import filtered, targets_in, values_in
from .columns import Column
from .division import Division, counted, weights_in
from .encoding import Encoding

if TYPE_CHECKING:
    from ..parquet.order import Numbers

__all__ = ["Coded", "TableRows", "columns_read"]

NUMBERS = 1 << 23  # of a window of encoded rows: 32 MiB of float32
LEAST = 1024  # rows of a window


@dataclass(frozen=True, eq=False)
class Coded:
    """How row groups become inputs, targets and weights; see `gdcore.parquet.reading.Reading`.

    Attributes
    ----------
    encoding : Encoding
        That of the columns.
    names : tuple of str
        The columns of the files that it encodes, in its order.
    y : tuple of str
        Columns of targets.
    targets : function, optional
        ``targets(column or array (rows, K), name)`` returns targets as numbers; `name` is for messages.
    weight : str, optional
        The column of weights.
    division : Division, optional
        If not all rows are read.
    taken : tuple of int
        The folds that are read.
    label : str
        Prefix of messages.
    inputs, threads : bool
        Whether inputs are encoded, and whether columns are decoded by several threads.
    """

    encoding: Encoding
    names: FeatureNames
    y: tuple[str, ...] = ()
    targets: Callable[[Column | Array, str], Array] | None = None
    weight: str | None = None
    division: Division | None = None
    taken: tuple[int, ...] = ()
    label: str = ""
    inputs: bool = True
    threads: bool = False
    dtype: str = "float32"
    starts: Numbers | None = None  # the number of the first row of each row group

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        pairs = zip(self.names, self.encoding.columns, strict=True)
        inputs = [name for name, encoded in pairs if self.inputs and encoded.width]
        weight = () if self.weight is None else (self.weight,)
        return (*inputs, *self.y, *weight, *(() if self.division is None else self.division.columns))

    @property
    def width(self) -> int:
        """Number of inputs."""
        return self.encoding.width if self.inputs else 0

    def with_threads(self) -> Self:
        """Return the same with several threads, if the caller may use them."""
        return replace(self, threads=_core.get_num_threads() > 1)

    def of_targets(self) -> Self:
        """Return what is read of the targets alone."""
        return replace(self, inputs=False, weight=None)

    def of_inputs(self) -> Self:
        """Return what is read of the inputs alone."""
        return replace(self, y=(), weight=None)

    def read(self, table: Any, group: int, where: str, out: Array) -> tuple[Array | None, Array | None]:
        """Write the inputs of a row group into `out`; return targets and weights. `where` is for messages."""
        if self.division is None:
            return self._coded(table, where, out)
        assert self.starts is not None
        folds = self.division.folds(table, group, int(self.starts[group]), table.num_rows, where)
        kept = np.isin(folds, self.taken)
        if kept.all():
            return self._coded(table, where, out)
        try:
            return self._coded(filtered(table, kept), where, out)
        except (TypeError, ValueError):
            self._coded(table, where, np.empty((table.num_rows, self.width), self.dtype))  # names the row of the file
            raise

    def _coded(self, table: Any, where: str, out: Array) -> tuple[Array | None, Array | None]:
        if self.inputs:
            self._encode(table, f"{self.label}x: {where}", out)
        y = self._targets_of(table, f"{self.label}y: {where}") if self.y else None
        return y, None if self.weight is None else weights_in(table, self.weight, where, self.label)

    def _encode(self, table: Any, where: str, out: Array) -> None:
        out[:] = 0
        for name, encoded, (first, last) in zip(self.names, self.encoding.columns, self.encoding.spans, strict=True):
            if last == first:
                continue
            column = f"{where}: column {name!r}"
            values = values_in(table, name, column, distinct=True)
            if values.codes is None:
                encoded.encode(values.column, column, out[:, first:last])
                continue
            found = np.zeros((len(values.column.values), last - first), self.dtype)
            try:
                encoded.encode(values.column, column, found)
            except (TypeError, ValueError):
                encoded.encode(values.whole(), column, np.zeros((len(out), last - first)))  # names the row
                raise
            out[:, first:last] = found[values.codes]

    def _targets_of(self, table: Any, where: str) -> Array:
        assert self.targets is not None
        if len(self.y) > 1:
            array = np.column_stack([numbers(table, name, where) for name in self.y])
            return self.targets(with_names(array.astype(np.float64), self.y), where)
        return targets_in(table, self.y[0], self.targets, where)


class TableRows(Parquet):
    """Rows of Parquet files, encoded; networks are trained on them and predict them as those of other files.

    Parameters
    ----------
    data : Parquet
        The files.
    coded : Coded
        How they are read.
    counts : ndarray of int64, optional
        How many rows of each row group, or part, are read; they are all by default.
    """

    __slots__ = ("_coded",)

    def __init__(self, data: Parquet, coded: Coded, counts: npt.NDArray[np.int64] | None = None) -> None:
        self._window = self._given_window = window_of(data, coded.encoding)
        self._files = data._files.divided(self._window)
        self._counts = self._files.rows if counts is None else counts
        self._x = tuple(map(str, range(coded.width)))
        self._y = tuple(map(str, range(max(len(coded.y), 1))))
        self._sample_weight = coded.weight
        self._coded = replace(coded, starts=np.cumsum(self._files.rows) - self._files.rows)

    def _reading(self, plain: Wanted, numbers: bool = False) -> Reading:
        """Return how the rows are read; their values are checked then."""
        return replace(self._coded, label=plain.label)

    def sample(self, most: int, seed: int) -> TableRows:
        """Return about `most` of the rows, or as many as a window has by default, drawn with a seed; all if fewer."""
        share = min(most, max(NUMBERS // self._coded.encoding.width, LEAST)) / self.rows
        if share >= 1:
            return self
        division = Division(seed, cuts=(share,))
        counts = counted(self._files, division)[:, 0]
        return TableRows(self, replace(self._coded, division=division, taken=(0,)), counts)

    def computed(self, work: Callable[[Array], Array]) -> Array:
        """Return what `work` returns for the inputs of each window, all in one array."""
        return self._gathered(self._coded.of_inputs(), lambda window: work(window.x))

    def measured(self, work: Callable[[Array], Array]) -> tuple[Array, Array, Array | None]:
        """Return what `work` returns for the inputs of each window, and the targets and weights."""
        seen: list[Window] = []

        def each(window: Window) -> Array:
            seen.append(window._replace(x=np.empty(0)))
            return work(window.x)

        outputs = self._gathered(self._coded, each)
        y = np.concatenate([window.y for window in seen if window.y is not None])
        weights = [window.weights for window in seen if window.weights is not None]
        return outputs, y, np.concatenate(weights) if weights else None


def window_of(data: Parquet, encoding: Encoding) -> int:
    """Return the most rows of a window of encoded rows."""
    return data._given_window or max(NUMBERS // encoding.width, LEAST)


def columns_read(encoding: Encoding, names: FeatureNames, ignored: Iterable[str], argument: str) -> FeatureNames:
    """Return the columns of files that an encoding takes, in its order; `ignored` columns may be there.

    Raises
    ------
    ValueError
        If a column is missing or unknown, or files have another number of columns than the array of training.
    """
    if not encoding.named:
        if len(names) != len(encoding.columns):
            raise ValueError(f"{argument}: got {len(names)} columns; expected {len(encoding.columns)}, as in training")
        return names
    left_out = set(ignored) - set(encoding.names)
    order_of([name for name in names if name not in left_out], encoding.names, argument, "the columns of training")
    return encoding.names
