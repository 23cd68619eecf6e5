"""Training and measurement on `gdcore.data.Parquet`: windows of rows, the next one read while this one is used."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..internal.arrays import Array
from ..internal.features import UNNAMED, Columns, are_default
from ..internal.inputs import Inputs
from ..internal.labels import Targets, to_targets
from ..internal.numbers import check_numbers
from ..internal.outputs import of_loss
from ..parquet.order import Order
from ..parquet.reading import Wanted, Window, located
from ..parquet.source import Parquet
from .measure import CheckedData, Parts
from .sources import Piece, RowSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import Sequential
    from ..trainer import Trainer

__all__ = ["CheckedWindows", "WindowSource"]


class CheckedWindows(Parts):
    """Parquet files to train on or to measure; their columns are checked, and their values as far as statistics tell.

    Parameters
    ----------
    model, loss : Sequential and Loss
        The model and loss that the data must fit.
    data : Parquet
        The files.
    name : str
        Name of the data in messages; empty for the argument x itself.
    known : Columns
        Names of columns, if known.
    finite : bool
        Whether values are checked.

    Attributes
    ----------
    columns : Columns
        Names of the columns, in the order in which they are read.
    """

    def __init__(
        self,
        model: Sequential,
        loss: _core.Loss,
        data: Parquet,
        name: str = "",
        *,
        known: Columns = UNNAMED,
        finite: bool = True,
    ) -> None:
        self.data, self._name, self._label = data, name or "x", f"{name}: " if name else ""
        if not data.y:
            raise ValueError(f"{self._label}x: got Parquet without y; expected the column of the targets: y='label'")
        if len(data.x) != model.in_features:
            raise ValueError(f"{self._label}x: got {len(data.x)} columns of inputs; expected {model.in_features}")
        names = data._ordered(known.x, f"{self._label}x")
        named = Targets(np.zeros((1, len(data.y))), data.y)
        targets = to_targets(named, f"{self._label}y", model.classes, known=known.y).names if data.y[1:] else None
        self.columns = Columns(None if known.x is None and are_default(names) else names, targets)
        if finite:
            model.check_scaling(names)
        plain = wanted(model, loss, data, names, self._label, known, finite)
        self._wanted = data._reading(plain, numbers=len(data.y) > 1 or model.classes is None)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.data.rows

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self.data.sample_weight is not None

    def labels(self) -> Array:
        """Return the targets of all rows, labels as indices; reads the files, but no inputs."""
        found = [window.y for window in self.data._passed(self._wanted.of_targets())]
        return np.concatenate([targets for targets in found if targets is not None])

    def setting(self) -> int | str:
        """Return the setting that must be the same in a resumed run."""
        return len(self)

    def checked(self, trainer: Trainer, window: Window) -> CheckedData:
        """Return a window as the core takes it; an error names the row group."""

        def check(rows: slice, where: str) -> CheckedData:
            label = ": ".join(part for part in (self._label.removesuffix(": "), where) if part)
            x = Inputs(window.x[rows], self.columns.x)
            assert window.y is not None
            y = Targets(window.y[rows], self.columns.y)
            weights = None if window.weights is None else window.weights[rows]
            return CheckedData(trainer.model, trainer.loss, x, y, weights, label, known=self.columns, finite=False)

        return located(window, check)

    def parts(self, trainer: Trainer) -> Iterator[CheckedData]:
        """Yield the windows, in file order."""
        known, finite = trainer._known(), trainer.check_finite
        if any(own not in (None, now) for own, now in zip(self.columns, known, strict=True)):  # learned since
            name = self._label.removesuffix(": ")
            anew = CheckedWindows(trainer.model, trainer.loss, self.data, name, known=known, finite=finite)
            vars(self).update(vars(anew))
        for window in self.data._passed(self._wanted):
            yield self.checked(trainer, window)


def wanted(
    model: Sequential,
    loss: _core.Loss,
    data: Parquet,
    names: tuple[str, ...],
    label: str,
    known: Columns,
    finite: bool,
) -> Wanted:
    """Return what is read of each row: inputs in the order of `names`, targets as the model and its loss take them."""
    classes, dtype, labels = model.classes, model.dtype, of_loss(loss) == "classes"

    def targets(values: Any, name: str) -> Array:
        found = to_targets(values, name, classes, labels=labels, known=known.y)
        if finite:
            check_numbers(found.array, dtype, name, found.names)
        return found.array

    return Wanted(names, dtype, data.y, data.sample_weight, finite, label, targets)


class Left(NamedTuple):
    """Rows of a window, by number, that are left for a batch of the next one; `x` is the array with its inputs."""

    x: Array
    window: Window
    rows: Array


class WindowSource(RowSource):
    """Rows of Parquet files, in batches that go on across windows.

    The rows that a window leaves for a batch of the next one are copied before its first row.
    """

    def __init__(
        self, model: Sequential, data: CheckedWindows, batch_size: int | None, *, shuffle: bool, drop_last: bool
    ) -> None:
        if batch_size is None:
            raise ValueError("batch_size: got None, a batch of all rows, for Parquet; expected a number of rows")
        self.data: CheckedWindows = data
        super().__init__(model, len(data), batch_size, shuffle=shuffle, drop_last=drop_last)
        self._ahead = data.data._ahead(data._wanted, self.batch_size + 1)
        self._piece: Piece | None = None
        self._kept: tuple[Window, Array] | None = None  # a window that has all rows
        self._left: Left | None = None
        self._rows_used = self.batches * self.batch_size if self.drop_last else self.rows

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in a resumed run."""
        parquet = self.data.data
        groups = hashlib.blake2b(parquet._counts.astype("<i8").tobytes(), digest_size=8).hexdigest()
        others = {"sample_weight": self.data.weighted, "window": parquet.window, "row_groups": groups}
        return super().settings() | others

    def close(self) -> None:
        """End the thread that reads."""
        self._ahead.close()
        self._piece = self._kept = self._left = None

    def begin(self, trainer: Trainer, first: int) -> None:
        """Draw the windows of the trainer's next epoch, which starts from batch `first`."""
        super().begin(trainer, first)
        self._order = self.data.data._order(self._shuffle)
        self._window = self._order.window_of(first * self.batch_size)  # the next one to read
        self._skip = first * self.batch_size - self._order.start(self._window)  # rows of it that are done
        self._left = None
        self._ended = first  # batches up to the end of the window before
        self._piece = None

    def piece(self, trainer: Trainer) -> Piece:
        """Return the window that completes the next batch."""
        while self._piece is None or self._piece.last == self._next:
            self._read(trainer)
        return self._piece

    def _read(self, trainer: Trainer) -> None:
        """Take the next window, with the rows left of those before, and let the thread begin the one after it."""
        order, number, left = self._order, self._window, self._left
        carried = 0 if left is None else len(left.rows)
        window, array = self._take(order, number, carried)
        end = carried + len(window.x)
        rows = order.rows(number)[self._skip :]
        if left is not None and carried:
            window = _joined(left, window, array[:end])
            rows = np.concatenate([np.arange(carried), carried + rows])
        first = self._ended
        reached = int(order.ends[number])
        whole = reached >= self._rows_used  # the last window
        last = self.batches if whole else min(reached // self.batch_size, self.batches - 1)
        used = (self._rows_used if whole else last * self.batch_size) - first * self.batch_size
        self._left = Left(array, window, rows[used:])
        self._window, self._skip, self._ended = number + 1, 0, last
        self._begin_next(trainer, whole, len(rows) - used)
        data = self.data.checked(trainer, window).trainable()
        self._piece = Piece(data.dataset, rows[:used], None, first, last)

    def _take(self, order: Order, number: int, carried: int) -> tuple[Window, Array]:
        """Return a window and its array; one that has all rows is read once."""
        if len(order.windows) > 1:
            return self._ahead.take(order.windows[number], carried)
        if self._kept is None:
            self._kept = self._ahead.take(order.windows[0])
        return self._kept

    def _begin_next(self, trainer: Trainer, last: bool, carried: int) -> None:
        """Let the thread read the next window, of the next epoch after the last one of this."""
        if len(self._order.windows) == 1:
            return
        if not last:
            self._ahead.begin(self._order.windows[self._window], carried)
        elif trainer.epoch + 1 < trainer.last_epoch:
            shuffle = (trainer._seed, trainer.epoch + 1) if self.shuffle else None
            self._ahead.begin(self.data.data._order(shuffle).windows[0])


def _joined(left: Left, window: Window, x: Array) -> Window:
    """Return a window with the rows that are left of another one before its own."""
    before, rows, count = left.window, left.rows, len(left.rows)
    _core.gather(left.x, rows, x[:count])
    assert window.y is not None and before.y is not None
    y = np.concatenate([before.y[rows], window.y])
    weights = None
    if window.weights is not None and before.weights is not None:
        weights = np.concatenate([before.weights[rows], window.weights])
    pieces = ((0, "rows of the window before"), *((first + count, where) for first, where in window.pieces))
    return Window(x, y, weights, pieces)
