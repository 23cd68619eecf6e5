"""Windows of row groups as arrays: read, checked, and read ahead by a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from .. import _core
from ..internal.arrays import Array, to_weights
from ..internal.labels import Targets
from ..internal.numbers import check_numbers
from .columns import any_column, numbers
from .files import Files, Reader

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from .order import Numbers

__all__ = ["Ahead", "Reading", "Wanted", "Window", "located"]

T = TypeVar("T")


class Reading(Protocol):
    """What is read of row groups, and how it becomes arrays."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        ...

    @property
    def width(self) -> int:
        """Number of inputs."""
        ...

    @property
    def dtype(self) -> str:
        """The dtype of the inputs."""
        ...

    @property
    def threads(self) -> bool:
        """Whether the columns of a row group are decoded by several threads."""
        ...

    def with_threads(self) -> Self:
        """Return the same with several threads, if the caller may use them."""
        ...

    def of_targets(self) -> Self:
        """Return what is read of the targets alone."""
        ...

    def read(self, table: Any, group: int, where: str, out: Array) -> tuple[Array | None, Array | None]:
        """Write the inputs of a row group into `out`; return targets and weights. `where` is for messages."""
        ...


class Wanted(NamedTuple):
    """The columns that are read of each row, numbers but for labels.

    Attributes
    ----------
    x, y : tuple of str
        Columns of inputs and of targets, in this order.
    weight : str or None
        The column of weights.
    dtype : str
        The dtype of the inputs, that of the model.
    finite : bool
        Whether NaN, infinity and numbers that the dtype cannot hold are refused.
    label : str
        Prefix of messages, such as "validation: ".
    targets : function
        ``targets(values, name)`` returns targets as the core takes them; `name` is for messages.
    threads : bool
        Whether the columns of a row group are decoded by several threads.
    """

    x: tuple[str, ...]
    dtype: str
    y: tuple[str, ...] = ()
    weight: str | None = None
    finite: bool = True
    label: str = ""
    targets: Callable[[Any, str], Array] | None = None
    threads: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        return (*self.x, *self.y, *([] if self.weight is None else [self.weight]))

    @property
    def width(self) -> int:
        """Number of inputs."""
        return len(self.x)

    def with_threads(self) -> Self:
        """Return the same with several threads, if the caller may use them."""
        return self._replace(threads=_core.get_num_threads() > 1)

    def of_targets(self) -> Self:
        """Return what is read of the targets alone."""
        return self._replace(x=(), weight=None)

    def read(self, table: Any, group: int, where: str, out: Array) -> tuple[Array | None, Array | None]:
        """Write the inputs of a row group into `out`; return targets and weights. `where` is for messages."""
        _read_inputs(table, self, f"{self.label}x: {where}", out)
        y = weights = None
        if self.y:
            y = _read_targets(table, self, f"{self.label}y: {where}")
        if self.weight is not None:
            name = f"{self.label}sample_weight: {where}"
            weights = to_weights(numbers(table, self.weight, name), name)
            if self.finite:
                check_numbers(weights, self.dtype, name, (self.weight,))
        return y, weights


class Window(NamedTuple):
    """Some row groups as arrays, one below the other.

    Attributes
    ----------
    x : ndarray
        Inputs, (rows, columns).
    y, weights : ndarray or None
        Targets and weights.
    pieces : tuple
        The first row of each row group, and its path and number for messages.
    """

    x: Array
    y: Array | None
    weights: Array | None
    pieces: tuple[tuple[int, str], ...]


def _joined(parts: list[Array | None]) -> Array | None:
    found = [part for part in parts if part is not None]
    return None if not found else found[0] if len(found) == 1 else np.concatenate(found)


def _read_inputs(table: Any, wanted: Wanted, where: str, out: Array) -> None:
    if not wanted.x:
        return
    columns = [numbers(table, name, where) for name in wanted.x]
    bad = _core.columns_to_rows(columns, out)
    if bad >= 0 and wanted.finite:
        column = bad % len(columns)
        check_numbers(columns[column][:, None], wanted.dtype, where, (wanted.x[column],))


def _read_targets(table: Any, wanted: Wanted, where: str) -> Array:
    assert wanted.targets is not None
    if len(wanted.y) > 1:
        array = np.column_stack([numbers(table, name, where) for name in wanted.y])
        return wanted.targets(Targets(array, wanted.y), where)
    values, codes = any_column(table, wanted.y[0], where)
    if codes is None:
        return wanted.targets(values, where)
    used = np.zeros(len(values), bool)
    used[codes] = True
    try:
        found = wanted.targets(values[used], where)
    except (ValueError, TypeError):
        wanted.targets(values[codes], where)  # names the row
        raise
    of_rows: Array = found[(np.cumsum(used) - 1)[codes]]
    return of_rows


def located(window: Window, work: Callable[[slice, str], T]) -> T:
    """Return ``work(slice of all rows, "")``; if it refuses a value, call it for row groups, to find and name that one.

    `work` takes rows of the window, and the row group that they are, for messages.
    """
    try:
        return work(slice(0, len(window.x)), "")
    except (ValueError, TypeError):
        ends = [first for first, _ in window.pieces[1:]] + [len(window.x)]
        for (first, where), end in zip(window.pieces, ends, strict=True):
            work(slice(first, end), where)
        raise


class Ahead:
    """Windows, of which a thread reads the next one while the caller computes with this one.

    Two arrays take the inputs in turn: those of a window are valid until the window after the next one is begun.

    Parameters
    ----------
    files : Files
        The files.
    wanted : Reading
        What is read.
    counts : ndarray of int64
        The rows that are read of each row group.
    rows : int
        The rows of each of the two arrays.
    """

    def __init__(self, files: Files, wanted: Reading, counts: Numbers, rows: int) -> None:
        self._files, self._wanted, self._counts, self._rows = files, wanted, counts, rows
        self._arrays: list[Array] = []
        self._turn = 0  # which array is free
        self._job: tuple[Any, ...] | None = None
        self._result: Future[Window] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._reader = Reader(files, wanted.columns, wanted.threads)
        self._stop = threading.Event()

    def begin(self, groups: Numbers, first: int = 0) -> None:
        """Let the thread read row groups into the free array, from its row `first` on."""
        job = (first, *groups.tolist())
        if self._job == job:
            return
        self._discard()
        if self._thread is None:
            from concurrent.futures import ThreadPoolExecutor  # here, to keep `import gdcore` fast

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="gdcore-parquet")
        if len(self._arrays) <= self._turn:
            self._arrays.append(np.empty((self._rows, self._wanted.width), self._wanted.dtype))
        rows = int(self._counts[groups].sum())
        self._job = job
        self._result = self._thread.submit(self._read, groups, self._arrays[self._turn][first : first + rows])

    def _read(self, groups: Numbers, x: Array) -> Window:
        """Read row groups into `x`, which has as many rows; give up early if another window is wanted."""
        targets, weights, pieces, first = [], [], [], 0
        for group in groups.tolist():
            if self._stop.is_set():
                break
            where, rows = self._files.where(group), int(self._counts[group])
            y, weight = self._wanted.read(self._reader.read(group), group, where, x[first : first + rows])
            targets.append(y)
            weights.append(weight)
            pieces.append((first, where))
            first += rows
        return Window(x, _joined(targets), _joined(weights), tuple(pieces))

    def take(self, groups: Numbers, first: int = 0) -> tuple[Window, Array]:
        """Return the window of row groups, and the whole array that has its inputs from row `first` on."""
        self.begin(groups, first)
        assert self._result is not None
        result, self._job, self._result = self._result, None, None
        window, array = result.result(), self._arrays[self._turn]
        self._turn = 1 - self._turn
        return window, array

    def _discard(self) -> None:
        """Wait for the end of a reading that nobody needs."""
        if self._result is not None:
            self._stop.set()
            self._result.exception()
            self._stop.clear()
            self._job = self._result = None

    def close(self) -> None:
        """End the thread and free the arrays."""
        thread, self._thread, self._arrays = self._thread, None, []
        if thread is not None:
            self._stop.set()
            thread.shutdown(wait=True, cancel_futures=True)
            self._stop.clear()
            self._job = self._result = None
            self._turn = 0
        self._reader.close()
