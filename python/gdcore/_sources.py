"""Where the batches of an epoch come from: arrays, trained by row number in C++, or an iterable of the user's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._arrays import Array, SupportsDLPack
from ._checks import flag, shown
from ._measure import Held
from .data import batch_count, batch_rows

if TYPE_CHECKING:
    from .trainer import Trainer

SLICE_SECONDS = 0.1  # how long training goes on before callbacks may look at it
_END = object()


class ArraySource:
    """Rows in memory or in a memory map; an epoch runs in C++, in slices of time.

    Parameters
    ----------
    trainer : Trainer
        Who trains.
    held : Held
        The data; its ``rows`` are the ones to train on.
    batch_size : int or None
        Rows in a batch; None is all.
    shuffle, drop_last : bool
        Whether rows are drawn anew each epoch, and whether a smaller last batch is left out.
    """

    def __init__(self, trainer: Trainer, held: Held, batch_size: int | None, *, shuffle: bool, drop_last: bool) -> None:
        self._trainer = trainer
        self.held = held
        self.batch_size = batch_rows(batch_size, len(held))
        self.shuffle = flag(shuffle, "shuffle")
        self.drop_last = flag(drop_last, "drop_last")
        self.batches = batch_count(len(held), self.batch_size, self.drop_last)
        self.done = False
        # Batches of one size; a row that is left over makes the last batch one row longer than these.
        joins = not self.drop_last and self.batches * self.batch_size < len(held)
        self._alike = self.batches - 1 if joins else self.batches
        if self.batch_size == 1 and any(isinstance(layer, _core.BatchNorm) for layer in trainer.model.layers):
            raise ValueError(f"batch_size: got 1 (of {len(held)} rows); BatchNorm needs two rows to have a spread")

    def settings(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one before."""
        return {
            "rows": len(self.held),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def begin(self, epoch: int, first: int) -> None:
        """Draw the order and the rates of `epoch` (from 0), to be trained from batch `first`."""
        rows = self.held.rows
        self._order: Array | None = rows
        if self.shuffle:
            drawn = _core.permutation(len(self.held), self._trainer.seed, epoch)
            self._order = drawn if rows is None else rows[drawn]
        self._next, self._first = first, first
        self._rates = self._trainer.rates.epoch(self._trainer.steps, self.batches - first)
        self.done = first == self.batches

    def advance(self, loss_sum: float, weight_sum: float) -> tuple[int, float, float]:
        """Train for a slice of time; return the batches done in this epoch and the sums, added to those given."""
        trainer = self._trainer
        rates = self._rates if len(self._rates) == 1 else self._rates[self._next - self._first :]
        if trainer.lr_scale != 1.0:
            rates = rates * trainer.lr_scale
        order, begun, size, last = self._order, 0, self.batch_size, self._alike
        if self._next == self._alike:  # the last batch, which has a row more
            begun = self._alike
            place = begun * self.batch_size
            order = np.arange(place, len(self.held)) if order is None else order[place:]
            size, last = len(order), begun + 1
        done, loss_sum, weight_sum = trainer.core.run(
            self.held.dataset,
            order,
            batch_size=size,
            first_batch=self._next - begun,
            last_batch=last - begun,
            lrs=rates,
            seconds=SLICE_SECONDS,
            loss_sum=loss_sum,
            weight_sum=weight_sum,
        )
        self._next = begun + done
        self.done = self._next == self.batches
        return self._next, loss_sum, weight_sum


class IterableSource:
    """Batches that an iterable of the user's yields: (x, y) or (x, y, weights), walked through anew each epoch.

    Parameters
    ----------
    trainer : Trainer
        Who trains.
    iterable : iterable
        The batches. If it has ``set_epoch``, this is called with the epoch's number (from 0) before each walk.
    epochs : int
        Epochs to train, which an iterator cannot give more than one of.
    """

    def __init__(self, trainer: Trainer, iterable: object, epochs: int) -> None:
        if isinstance(iterable, np.ndarray) or hasattr(iterable, "__array__") or isinstance(iterable, SupportsDLPack):
            raise TypeError("y: missing; expected targets for the rows of x (or, as x, an iterable of batches (x, y))")
        if not isinstance(iterable, Iterable) or isinstance(iterable, (str, bytes, dict)):
            raise TypeError(
                f"x: got {type(iterable).__name__} without y; expected arrays x and y, or an iterable of batches (x, y)"
            )
        if isinstance(iterable, Iterator) and epochs > 1:
            raise ValueError(
                f"x: got an iterator ({type(iterable).__name__}), which gives one epoch, for {epochs} epochs; "
                "expected a list, or an object whose __iter__ starts anew each time"
            )
        self._trainer = trainer
        self._iterable = iterable
        self.batches: int | None = None
        if isinstance(iterable, Sized):
            self.batches = len(iterable)
        self.done = False

    def settings(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one before."""
        return {"batches": self.batches}

    def begin(self, epoch: int, first: int) -> None:
        """Start to walk, past the `first` batches, which are done already."""
        if hasattr(self._iterable, "set_epoch"):
            self._iterable.set_epoch(epoch)
        self._iterator = iter(self._iterable)
        for _ in range(first):
            next(self._iterator, None)
        self._next = first
        self.done = False

    def advance(self, loss_sum: float, weight_sum: float) -> tuple[int, float, float]:
        """Train for a slice of time; return the batches done in this epoch and the sums, added to those given."""
        end = time.perf_counter() + SLICE_SECONDS
        while time.perf_counter() < end:
            batch = next(self._iterator, _END)
            if batch is _END:
                if self._next == 0:
                    raise ValueError(
                        f"x: the iterable gave no batch in epoch {self._trainer.epoch + 1}; expected at least one"
                    )
                self.done = True
                break
            loss_sum, weight_sum = self._train(batch, loss_sum, weight_sum)
            self._next += 1
        return self._next, loss_sum, weight_sum

    def _train(self, batch: Any, loss_sum: float, weight_sum: float) -> tuple[float, float]:
        name = f"x: batch {self._next}"
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"{name}: got {type(batch).__name__} {shown(batch)}; expected (x, y) or (x, y, weights)")
        trainer = self._trainer
        held = Held(trainer, batch[0], batch[1], batch[2] if len(batch) == 3 else None, name)
        _, loss_sum, weight_sum = trainer.core.run(
            held.dataset,
            None,
            batch_size=batch_rows(None, len(held)),
            first_batch=0,
            last_batch=1,
            lrs=np.array([trainer.lr]),
            seconds=np.inf,
            loss_sum=loss_sum,
            weight_sum=weight_sum,
        )
        return loss_sum, weight_sum
