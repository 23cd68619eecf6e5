"""Sources of the batches of an epoch: arrays, indexed by row in C++, or a user's iterable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..data import batch_rows
from ..internal.arrays import Array
from ..internal.checks import flag
from ..internal.features import UNNAMED, Columns
from ..internal.layer_names import all_layers
from .batch_iterables import checked_batches, exhausted, length_of, names_of, parts_of, refuse_single_pass
from .measure import MEASURED_AT_ONCE, CheckedData, Measured
from .rates import Numbers, scaled

if TYPE_CHECKING:
    from ..model import Sequential
    from ..trainer import Trainer
    from .step_log import StepLog

SLICE_SECONDS = 0.1  # training time between calls of on_progress
_END = object()


class Source:
    """Source of the batches of `Fit`. A base class.

    Attributes
    ----------
    batches : int or None
        Number of batches in an epoch, None if unknown.
    done : bool
        Whether the epoch has ended.
    data : Measured or None
        All rows, to measure them after an epoch; None for batches that are used once.
    """

    batches: int | None
    done: bool
    data: Measured | None = None

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in a resumed run."""
        raise NotImplementedError

    def resume(self, epochs: int) -> None:
        """Skip the batches of the `epochs` of an earlier run; none where the epoch determines the order of rows."""

    def close(self) -> None:
        """Free what training needed."""

    def begin(self, trainer: Trainer, first: int) -> None:
        """Begin the trainer's next epoch from batch `first`."""
        raise NotImplementedError

    def advance(
        self, trainer: Trainer, loss_sum: float, weight_sum: float, most: int | None = None, log: StepLog | None = None
    ) -> tuple[int, float, float]:
        """Train for a slice of time and `most` steps at most; update the sums of `log`.

        Returns the number of batches done in this epoch, and the sums of loss and weight, added to those given.
        """
        raise NotImplementedError


class RowSource(Source):
    """Rows that are known by number; an epoch runs in C++, in time slices. A base class.

    Parameters
    ----------
    model : Sequential
        The model to train.
    rows : int
        Number of rows to train on.
    batch_size : int or None
        Rows in a batch; None, or a number above the number of rows, means all.
    shuffle, drop_last : bool
        Whether rows are shuffled anew each epoch, and whether a smaller last batch is left out.
    """

    data: Measured
    batches: int

    def __init__(self, model: Sequential, rows: int, batch_size: int | None, *, shuffle: bool, drop_last: bool) -> None:
        self.rows = rows
        self.batch_size = batch_rows(batch_size, rows)
        self.shuffle = flag(shuffle, "shuffle")
        self.drop_last = flag(drop_last, "drop_last")
        self.batches = _core.batch_count(rows, self.batch_size, self.drop_last)
        self.done = False
        if self.batch_size == 1 and any(isinstance(layer, _core.BatchNorm) for layer in all_layers(model.layers)):
            raise ValueError(f"batch_size: got 1 (of {rows} rows); expected at least 2, as BatchNorm needs a variance")

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in a resumed run."""
        return {
            "rows": self.rows,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def begin(self, trainer: Trainer, first: int) -> None:
        """Compute the rates of the trainer's next epoch, which starts from batch `first`."""
        self._shuffle = (trainer._seed, trainer.epoch) if self.shuffle else None
        self._next, self._first = first, first
        self._rates = trainer._step_rates.epoch(trainer._core.steps, self.batches - first)
        self.done = first == self.batches

    def piece(self, trainer: Trainer) -> Piece:
        """Return the data that has the next batch."""
        raise NotImplementedError

    def advance(
        self, trainer: Trainer, loss_sum: float, weight_sum: float, most: int | None = None, log: StepLog | None = None
    ) -> tuple[int, float, float]:
        """Train for a slice of time and `most` steps at most, all in C++."""
        rates = self._rates if len(self._rates) == 1 else self._rates[self._next - self._first :]
        rates = scaled(rates, trainer._lr_scale, trainer._decay_scale)
        piece = self.piece(trainer)
        last = piece.last if most is None else min(piece.last, self._next + most)
        reached, loss_sum, weight_sum, *since = trainer._core.run(
            piece.dataset,
            piece.rows,
            shuffle=piece.shuffle,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            first_batch=self._next - piece.first,
            last_batch=last - piece.first,
            rates=rates,
            seconds=SLICE_SECONDS,
            sums=(loss_sum, weight_sum),
            since=None if log is None else log.sums,
        )
        self._next = piece.first + reached
        if log is not None:
            log.sums = (since[0], since[1])
        self.done = self._next == self.batches
        return self._next, loss_sum, weight_sum


class Piece(NamedTuple):
    """Data with the batches from `first` to before `last` of an epoch.

    Attributes
    ----------
    dataset : Dataset
        The data.
    rows : ndarray of int64 or None
        The rows of these batches, one after the other; None means all of the dataset.
    shuffle : tuple of two int, or None
        Seed and epoch of the order of the rows, where they are shuffled yet.
    first, last : int
        Numbers of batches.
    """

    dataset: _core.Dataset
    rows: Array | None
    shuffle: tuple[int, int] | None
    first: int
    last: int


class ArraySource(RowSource):
    """Rows in memory or in a memory map: the ``rows`` of `data`, all at once."""

    def __init__(
        self, model: Sequential, data: CheckedData, batch_size: int | None, *, shuffle: bool, drop_last: bool
    ) -> None:
        self.data: CheckedData = data.trainable()
        super().__init__(model, len(data), batch_size, shuffle=shuffle, drop_last=drop_last)

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in a resumed run."""
        return super().settings() | {"sample_weight": self.data.weighted}

    def piece(self, trainer: Trainer) -> Piece:
        """Return all data."""
        return Piece(self.data.dataset, self.data.rows, self._shuffle, 0, self.batches)

    def run_epochs(
        self, trainer: Trainer, validation: CheckedData | None, table: Numbers, done: int, left: int
    ) -> None:
        """Train the trainer's next epochs, all in C++, until a slice of time has passed.

        Parameters
        ----------
        trainer : Trainer
            The trainer. Its rates must be constant.
        validation : CheckedData or None
            Rows to measure after each epoch.
        table : ndarray of float64
            Shape (epochs, 5). Each finished epoch fills a row, also if the next one raises: sums of loss and weight,
            those of the measured rows, and its seconds.
        done, left : int
            Numbers of epochs of this `fit` that are done, and that are left.
        """
        trainer._core.run_epochs(
            self.data.dataset,
            self.data.rows,
            shuffle=(trainer._seed, trainer.epoch) if self.shuffle else None,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            rates=scaled(trainer._step_rates.at(trainer._core.steps), trainer._lr_scale, trainer._decay_scale),
            validation=None if validation is None else validation.dataset,
            measured=None if validation is None else validation.rows,
            measured_size=MEASURED_AT_ONCE,
            done_and_left=(done, min(left, 2**62)),
            check_states=trainer._check_finite,
            seconds=SLICE_SECONDS,
            table=table,
        )


class IterableSource(Source):
    """Batches (x, y) or (x, y, weights) from a user's iterable, iterated anew each epoch.

    Parameters
    ----------
    model : Sequential
        The model to train.
    iterable : iterable
        The batches. Its ``set_epoch``, if any, is called before each iteration with the iteration's number (from 0).
    epochs : int
        Number of epochs to train; an iterator gives only one.
    steps_per_epoch : int, optional
        Number of batches in an epoch. The iteration then continues from one epoch to the next, and restarts when it has
        ended.
    known : Columns
        Names of columns, if known.
    others : Columns
        Names of columns in the resumed run, if nothing else gives them.
    """

    def __init__(
        self,
        model: Sequential,
        iterable: object,
        epochs: int,
        steps_per_epoch: int | None = None,
        known: Columns = UNNAMED,
        others: Columns = UNNAMED,
    ) -> None:
        self._iterable = checked_batches(iterable, "x", "y")
        self._named = names_of(iterable, "x", model, known)
        self.columns = Columns(others.x or self._named.x, others.y)  # target_names may be names of classes
        self._steps = steps_per_epoch
        if steps_per_epoch is None:
            refuse_single_pass(self._iterable, epochs, "x", "steps_per_epoch=")
        self.batches = length_of(self._iterable) if steps_per_epoch is None else steps_per_epoch
        self._iterator: Iterator[Any] | None = None
        self._behind = 0  # batches of earlier epochs to skip
        self.done = False

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in a resumed run."""
        return {"batches": self.batches}

    def resume(self, epochs: int) -> None:
        """Skip the batches of the `epochs` that an earlier run has trained."""
        self._behind = epochs * (self._steps or 0)

    def begin(self, trainer: Trainer, first: int) -> None:
        """Start or continue the iteration; skip the `first` batches, which are done already."""
        epoch = trainer.epoch
        if self._steps is None or self._iterator is None:
            self._walk(epoch if self._steps is None else 0)
            for _ in range(self._behind + first):
                self._batch(epoch)
        self._next = first
        self.done = first == self._steps

    def _walk(self, number: int) -> None:
        if hasattr(self._iterable, "set_epoch"):
            self._iterable.set_epoch(number)
        self._iterator, self._walks, self._given = iter(self._iterable), number + 1, 0

    def _batch(self, epoch: int) -> Any:
        """Return the next batch, or _END if the iteration, and with it the epoch, has ended."""
        assert self._iterator is not None
        batch = next(self._iterator, _END)
        if batch is not _END:
            self._given += 1
            return batch
        if self._given == 0:
            raise exhausted(self._iterable, "x")
        if self._steps is None:
            return _END
        if isinstance(self._iterable, Iterator):
            raise ValueError(
                f"steps_per_epoch: got {self._steps}, but the iterator ended after {self._given} batches, in epoch "
                f"{epoch + 1}; expected one that goes on, or fewer steps or epochs"
            )
        self._walk(self._walks)
        return self._batch(epoch)

    def advance(
        self, trainer: Trainer, loss_sum: float, weight_sum: float, most: int | None = None, log: StepLog | None = None
    ) -> tuple[int, float, float]:
        """Train for a slice of time and `most` steps at most."""
        end, last = time.perf_counter() + SLICE_SECONDS, None if most is None else self._next + most
        while not self.done and self._next != last and time.perf_counter() < end:
            batch = self._batch(trainer.epoch)
            if batch is _END:
                self.done = True
                break
            loss_sum, weight_sum = self._train(trainer, batch, (loss_sum, weight_sum), log)
            self._next += 1
            self.done = self._next == self._steps
        return self._next, loss_sum, weight_sum

    def _train(
        self, trainer: Trainer, batch: Any, sums: tuple[float, float], log: StepLog | None
    ) -> tuple[float, float]:
        trainer._weigh()
        name = f"x: batch {self._next}"
        known, finite = trainer._known(self.columns), trainer.check_finite
        parts = parts_of(batch, name, self._named)
        data = CheckedData(trainer.model, trainer.loss, *parts, name, known=known, check="batch", finite=finite)
        _, loss_sum, weight_sum, *since = trainer.core.run(
            data.trainable().dataset,
            None,
            shuffle=None,
            batch_size=batch_rows(None, len(data)),
            drop_last=False,
            first_batch=0,
            last_batch=1,
            rates=trainer._rates_now(),
            seconds=np.inf,
            sums=sums,
            since=None if log is None else log.sums,
        )
        if log is not None:
            log.sums = (since[0], since[1])
        trainer._learn(data.columns)
        return loss_sum, weight_sum
