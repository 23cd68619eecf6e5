"""The numbers of a step that may follow schedules: learning rate, weight decay, dropout, momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.checks import shown
from ..schedules import Rates

__all__ = ["StepRates", "functions_of", "of_one_step", "scaled", "wide"]

Numbers: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[int], float]
CONSTANT = (1.0, 1.0, -1.0, 1.0)  # the columns behind the learning rate where nothing else changes
CHUNK = 4096  # steps whose β₁ are multiplied at a time


def functions_of(optimizer: _core.Optimizer, *others: object) -> list[Function]:
    """Return what is a function of the step: of an optimiser's rate, weight decay and momentum, and of others."""
    given = (optimizer.lr, optimizer.weight_decay, optimizer._momentum, *others)
    return [each for each in given if callable(each)]


def _check_dropout(schedule: object, most: float) -> None:
    """Raise unless `schedule` is None, or a function and there is dropout, of at most `most`, for it to change."""
    if schedule is None:
        return
    if not callable(schedule):
        raise TypeError(f"dropout_schedule: got {shown(schedule)}; expected a function of the step")
    if most == 0.0:
        raise ValueError("dropout_schedule: the model drops nothing; expected a layer such as Dropout(0.2)")


class StepRates:
    """The rates of a trainer's steps, as the core takes them.

    They are learning rates alone, shape (n,), where nothing else changes from step to step. Otherwise they have the
    columns learning rate, factor of weight decay, factor of dropout, momentum (-1: the optimiser's own) and, for Adam,
    1 - Π β₁ over all steps up to this one, shape (n, 5).

    Parameters
    ----------
    lr : Rates
        The learning rates.
    optimizer : Optimizer
        The update rule, with functions of the step or without.
    dropout : function, optional
        The factor of dropout, as a function of the step.
    most : float
        The largest dropout rate of the model.
    """

    __slots__ = ("_decay", "_dropout", "_lr", "_momentum", "_most", "_products")

    def __init__(self, lr: Rates, optimizer: _core.Optimizer, dropout: Function | None, most: float) -> None:
        _check_dropout(dropout, most)
        decay, momentum = optimizer.weight_decay, optimizer._momentum
        self._lr, self._most = lr, most
        self._decay = Rates(decay, "weight_decay") if callable(decay) else None
        self._dropout = None if dropout is None else Rates(dropout, "dropout_schedule")
        self._momentum = None if momentum is None else Rates(momentum, "momentum")
        self._products = np.ones(1) if isinstance(optimizer, _core.Adam) and momentum is not None else None

    @property
    def alone(self) -> bool:
        """Whether only the learning rate may change from step to step."""
        return self._decay is self._dropout is self._momentum is None

    @property
    def constant(self) -> float | None:
        """The learning rate if nothing changes from step to step, otherwise None."""
        return self._lr.constant if self.alone else None

    def epoch(self, first: int, count: int) -> Numbers:
        """Return the rates of `count` steps from `first`, or those of one step if they are constant; checked."""
        lr = self._lr.epoch(first, count)
        if self.alone:
            return lr
        table = wide(np.broadcast_to(lr, count))
        for column, rates in ((1, self._decay), (2, self._dropout), (3, self._momentum)):
            if rates is not None:
                table[:, column] = rates.epoch(first, count)
        self._check(table, first)
        if self._products is not None:
            table[:, 4] = self._unbiased(first, count)
        return table

    def at(self, step: int) -> Numbers:
        """Return the rates of one step, shape (1,) or (1, 5); checked."""
        lr = np.array([self._lr.at(step)])
        if self.alone:
            return lr
        table = wide(lr)
        for column, rates in ((1, self._decay), (2, self._dropout), (3, self._momentum)):
            if rates is not None:
                table[0, column] = rates.at(step)
        self._check(table, step)
        if self._products is not None:
            table[:, 4] = self._unbiased(step, 1)
        return table

    def _check(self, table: Numbers, first: int) -> None:
        """Raise ValueError, which names the step, for a dropout rate or a momentum that is not below 1."""
        largest = (2, self._most, "dropout_schedule", f"a factor with which the layers' p, up to {self._most}, is")
        for column, factor, name, expected in (largest, (3, 1.0, "momentum", "a number")):
            bad = ~(table[:, column] * factor < 1.0)
            if bad.any():
                at = int(np.argmax(bad))
                raise ValueError(
                    f"{name}: the schedule gave {table[at, column]} at step {first + at}; expected {expected} below 1"
                )

    def _unbiased(self, first: int, count: int) -> Numbers:
        """Return 1 - Π β₁ over the steps up to each of `count` steps from `first`."""
        assert self._products is not None and self._momentum is not None
        while len(self._products) <= first + count and self._products[-1] > 2.0**-64:  # 1 - it is 1 from there on
            betas = self._momentum.epoch(len(self._products) - 1, CHUNK)
            self._products = np.concatenate([self._products, self._products[-1] * np.cumprod(betas)])
        known = self._products[first + 1 : first + count + 1]
        return 1.0 - np.concatenate([known, np.zeros(count - len(known))])


def wide(lr: Numbers) -> Numbers:
    """Return learning rates (n,) as rows (n, 5) with nothing else that changes."""
    table = np.empty((len(lr), 1 + len(CONSTANT)))
    table[:, 0], table[:, 1:] = lr, CONSTANT
    return table


def scaled(rates: Numbers, lr_scale: float, decay_scale: float) -> Numbers:
    """Return the rates of steps with learning rates and weight decay multiplied by a trainer's factors."""
    if decay_scale == 1.0:
        if lr_scale == 1.0:
            return rates
        if rates.ndim == 1:
            return rates * lr_scale
    factors = np.array([lr_scale, decay_scale, 1.0, 1.0, 1.0])
    product: Numbers = (wide(rates) if rates.ndim == 1 else rates) * factors
    return product


def of_one_step(rates: Numbers) -> Any:
    """Return the rates of one step, (1,) or (1, 5), as the core's `step` takes them."""
    return rates[0] if rates.ndim == 1 else rates[0].tolist()
