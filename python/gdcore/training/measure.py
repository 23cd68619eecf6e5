"""Loss and metrics of prepared data, computed in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arrays import Array
from ..internal.class_weights import complete
from ..internal.features import UNNAMED, Columns
from ..internal.prepared import Check, prepared
from ..metrics import Predictions
from .batch_iterables import checked_batches, exhausted, names_of, parts_of, refuse_single_pass

if TYPE_CHECKING:
    from ..model import Sequential
    from ..trainer import Trainer

MEASURED_AT_ONCE = 1024  # rows


class CheckedData:
    """Data to train on or to measure, checked once.

    Parameters
    ----------
    model, loss : Sequential and Loss
        The model and loss that the data must fit.
    x, y, weights : array
        Inputs (N, in_features), targets, and a weight for each row or None.
    name : str
        Name of the data in messages; empty for the arguments x and y themselves.
    known : Columns
        Names of columns, if known.
    check : {"numbers", "batch", "columns"}
        Which values are refused; see `prepared`.
    finite : bool
        Whether values are checked at all.

    Attributes
    ----------
    columns : Columns
        Names of the columns, in the order of the arrays: the known names, or those of the given frames.
    rows : ndarray of int64 or None
        The rows to measure; None means all.
    """

    def __init__(
        self,
        model: Sequential,
        loss: _core.Loss,
        x: object,
        y: object,
        weights: object,
        name: str = "",
        *,
        known: Columns = UNNAMED,
        check: Check = "numbers",
        finite: bool = True,
    ) -> None:
        label = f"{name}: " if name else ""
        given = prepared(model, loss, x, y, weights, label, known=known, check=check if finite else None)
        self._given, self.columns = given, given.columns
        self._targets, self._weights = given.y.array, given.weights
        try:
            self.dataset = _core.Dataset(
                given.x.array, self._targets, self._weights, complete(loss, model), model, finite, searched=True
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{label}{error}") from None
        self.rows: Array | None = None  # all
        self._label, self._stratified, self._finite = label, False, finite

    def __len__(self) -> int:
        """Return the number of rows that are measured."""
        return len(self.dataset) if self.rows is None else len(self.rows)

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self._weights is not None

    def labels(self) -> Array:
        """Return the targets of the measured rows, labels as indices."""
        return self._targets if self.rows is None else self._targets[self.rows]

    def part(self, rows: npt.NDArray[np.int64], name: str = "", *, stratified: bool = False) -> CheckedData:
        """Return a subset of the rows, named `name` in messages, without copying them; see `strata`."""
        try:
            self.dataset.check_weights(rows)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from None
        other = object.__new__(CheckedData)
        other.__dict__.update(self.__dict__, rows=rows, _stratified=stratified, _label=f"{name}: " if name else "")
        return other

    def trainable(self) -> Self:
        """Return itself; raise ValueError for NaN and infinity in rows of weight 0, where values were not checked."""
        try:
            if not self._finite:
                self.dataset.check_uncounted()
        except ValueError as error:
            raise ValueError(f"{self._label}{error}") from None
        return self

    def setting(self) -> int | str:
        """Return the setting that must be the same in a resumed run."""
        return f"{len(self)}, stratified" if self._stratified else len(self)

    def measure(self, trainer: Trainer, prefix: str = "", batch_size: int = MEASURED_AT_ONCE) -> dict[str, float]:
        """Return "loss" and the trainer's metrics, their names preceded by `prefix`."""
        known = trainer._known(self.columns)
        if any(own not in (None, now) for own, now in zip(self.columns, known, strict=True)):  # learned since
            name, finite = self._label.removesuffix(": "), trainer.check_finite
            anew = CheckedData(trainer.model, trainer.loss, *self._given, name, known=trainer._known(), finite=finite)
            vars(self).update(vars(anew), rows=self.rows)
        outputs = self.outputs(trainer)
        sums = trainer.core.evaluate(self.dataset, batch_size=batch_size, rows=self.rows, outputs=outputs)
        return measured(trainer, prefix, sums, self._label, outputs, self.truth)

    def outputs(self, trainer: Trainer) -> Array | None:
        """Return an empty array for the predictions, or None if there are no metrics."""
        if not trainer.metrics:
            return None
        return np.empty((len(self), trainer.model.out_features), trainer.model.dtype)

    def truth(self) -> tuple[Array, Array | None]:
        """Return the targets of the measured rows, and their weights or None, for the metrics."""
        if self.rows is None:
            return self._targets, self._weights
        return self._targets[self.rows], None if self._weights is None else self._weights[self.rows]


class Measured(Protocol):
    """Data to measure."""

    def setting(self) -> int | str:
        """Return the setting that must be the same in a resumed run."""
        ...

    def measure(self, trainer: Trainer, prefix: str = "", batch_size: int = MEASURED_AT_ONCE) -> dict[str, float]:
        """Return "loss" and the trainer's metrics, their names preceded by `prefix`."""
        ...


class Parts:
    """Data that is measured part by part; only targets and outputs for the metrics are kept. A base class."""

    _name: str

    def parts(self, trainer: Trainer) -> Iterator[CheckedData]:
        """Yield the parts, each used before the next one is asked for."""
        raise NotImplementedError

    def measure(self, trainer: Trainer, prefix: str = "", batch_size: int = MEASURED_AT_ONCE) -> dict[str, float]:
        """Return "loss" and the trainer's metrics, their names preceded by `prefix`."""
        loss_sum = weight_sum = 0.0
        outputs: list[Array] = []
        truth: list[tuple[Array, Array | None]] = []
        trainer._weigh()
        for data in self.parts(trainer):
            given = data.outputs(trainer)
            sums = trainer.core.evaluate(data.dataset, batch_size=batch_size, outputs=given)
            loss_sum, weight_sum = loss_sum + sums[0], weight_sum + sums[1]
            if given is not None:
                outputs.append(given)
                truth.append(data.truth())

        def joined() -> tuple[Array, Array | None]:
            targets, weights = zip(*truth, strict=True)
            if len({each is None for each in weights}) > 1:
                raise ValueError(f"{self._name}: got batches with and without weights; expected all, or none")
            if len({each.ndim for each in targets}) > 1:
                raise ValueError(f"{self._name}: got batches of labels and of soft targets; expected one kind")
            return np.concatenate(targets), None if weights[0] is None else np.concatenate(weights)

        together = np.concatenate(outputs) if outputs else None
        return measured(trainer, prefix, (loss_sum, weight_sum), f"{self._name}: ", together, joined)


class CheckedBatches(Parts):
    """Batches from an iterable, measured one by one.

    Parameters
    ----------
    model : Sequential
        The model that the batches must fit.
    iterable : iterable
        Batches (x, y) or (x, y, weights).
    name : str
        Name of the iterable in messages.
    passes : int
        Number of iterations needed; an iterator gives one.
    known : Columns
        Names of columns, if known.
    others : Columns
        Names of columns to use if nothing else gives them at measurement.
    """

    def __init__(
        self,
        model: Sequential,
        iterable: object,
        name: str,
        passes: int = 1,
        known: Columns = UNNAMED,
        others: Columns = UNNAMED,
    ) -> None:
        self._batches = checked_batches(iterable, name, "y")
        refuse_single_pass(self._batches, passes, name, "one that ends")
        self._name, self._known = name, others
        self._named = names_of(iterable, name, model, known)

    def setting(self) -> int | str:
        """Return the setting that must be the same in a resumed run."""
        return "batches"

    def parts(self, trainer: Trainer) -> Iterator[CheckedData]:
        """Yield the batches, checked."""
        number = -1
        for number, batch in enumerate(self._batches):
            name = f"{self._name}: batch {number}"
            known, finite = trainer._known(self._known), trainer.check_finite
            data = CheckedData(
                trainer.model, trainer.loss, *parts_of(batch, name, self._named), name, known=known, finite=finite
            )
            self._known = data.columns
            yield data
        if number < 0:
            raise exhausted(self._batches, self._name)


def measured(
    trainer: Trainer,
    prefix: str,
    sums: tuple[float, float],
    label: str,
    outputs: Array | None,
    truth: Callable[[], tuple[Array, Array | None]],
) -> dict[str, float]:
    """Return "loss" from its sums, and the metrics of `outputs`; names are preceded by `prefix`."""
    loss_sum, weight_sum = sums
    if not 0.0 < weight_sum < np.inf:
        raise ValueError(
            f"{label}sample_weight: the weights of all rows, times those of their classes, sum to {weight_sum:g}; "
            "expected a positive finite number"
        )
    values = {f"{prefix}loss": loss_sum / weight_sum}
    if outputs is not None:
        model = trainer.model
        seen = Predictions(outputs, *truth(), meaning=model.outputs, classes=model.classes)
        values |= {prefix + name: metric(seen) for name, metric in trainer.metrics.items()}
    return values
