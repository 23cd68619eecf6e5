"""Learning-rate schedules: plain functions of the optimiser's step, which counts from 0.

Pass one to an optimiser as its rate, ``gd.Adam(lr=gd.schedules.cosine(1e-3, steps=10_000))``, as its weight decay or
its momentum, or to a trainer as its ``dropout_schedule``; any function (``lambda step: ...``) works too. The schedules
of this module are evaluated for a whole epoch at once, can be compared and pickled, and a checkpoint detects changes of
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from .internal.arguments import explained
from .internal.attributes import Closed
from .internal.checks import choice, integer, real

__all__ = [
    *("Schedule", "constant", "coslog4", "cosine", "cosine_restarts", "exponential", "flat_cosine", "one_cycle"),
    *("power_law", "step_decay", "warmup"),
]

Steps: TypeAlias = npt.NDArray[np.float64]


class Schedule(Closed):
    """A rate as a function of the step: calling it with a step returns the rate of that step.

    Made by the functions of this module.
    """

    __slots__ = ("_arguments", "_formula")

    def __init__(self, formula: Callable[..., Steps], arguments: dict[str, Any]) -> None:
        self._formula = formula
        self._arguments = arguments

    def __call__(self, step: int) -> float:
        """Return the rate of `step` (a whole number from 0)."""
        return float(self.rates(step, 1)[0])

    def rates(self, first: int, count: int) -> Steps:
        """Return the rates of `count` steps from `first`, float64 of shape (count,).

        The same values, bit for bit, as calling the schedule step by step.
        """
        return self._formula(np.arange(first, first + count, dtype=np.float64), **self._arguments)

    @property
    def name(self) -> str:
        """Name of the function that creates it."""
        return self._formula.__name__.lstrip("_")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of that function (a copy)."""
        return dict(self._arguments)

    def __repr__(self) -> str:
        """Return the call that creates this schedule."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return f"{self.name}({arguments})"

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same function with the same arguments."""
        if not isinstance(other, Schedule):
            return NotImplemented
        return self._formula is other._formula and self._arguments == other._arguments

    def __hash__(self) -> int:
        """Return a hash that agrees with ``==``."""
        return hash((self._formula, tuple(self._arguments.items())))


def _constant(at: Steps, *, lr: float) -> Steps:
    return np.full(at.shape, lr)


@explained
def constant(lr: float) -> Schedule:
    """Return the schedule that is `lr` at every step."""
    return Schedule(_constant, {"lr": real(lr, "lr", low=0)})


def _step_decay(at: Steps, *, lr: float, every: int, factor: float) -> Steps:
    return lr * factor ** np.floor(at / every)


@explained
def step_decay(lr: float, *, every: int, factor: float = 0.1) -> Schedule:
    """Return lr · factor^⌊step / every⌋: the rate is multiplied by `factor` after each `every` steps."""
    every = integer(every, "every", minimum=1)
    return Schedule(_step_decay, {"lr": real(lr, "lr", low=0), "every": every, "factor": real(factor, "factor", low=0)})


def _exponential(at: Steps, *, lr: float, factor: float, every: float) -> Steps:
    return lr * factor ** (at / every)


@explained
def exponential(lr: float, factor: float, *, every: float = 1) -> Schedule:
    """Return lr · factor^(step / every): the rate shrinks smoothly, by `factor` in each `every` steps."""
    arguments = {"lr": real(lr, "lr", low=0), "factor": real(factor, "factor", low=0, open_low=True)}
    return Schedule(_exponential, arguments | {"every": real(every, "every", low=0, open_low=True)})


def _cosine(at: Steps, *, lr: float, steps: int, final: float) -> Steps:
    return final + (lr - final) * 0.5 * (1.0 + np.cos(np.pi * np.minimum(at / steps, 1.0)))


@explained
def cosine(lr: float, steps: int, *, final: float = 0.0) -> Schedule:
    """Return half a cosine wave from `lr` at step 0 to `final` at step `steps`; it stays at `final` afterwards.

    rate = final + (lr - final) · ½ (1 + cos(π · step / steps)); Loshchilov & Hutter 2017, without restarts.
    """
    steps = integer(steps, "steps", minimum=1)
    return Schedule(_cosine, {"lr": real(lr, "lr", low=0), "steps": steps, "final": real(final, "final", low=0)})


def _flat_cosine(at: Steps, *, lr: float, steps: int, flat: float, final: float) -> Steps:
    share = np.minimum(at / steps, 1.0)
    return final + (lr - final) * 0.5 * (1.0 + np.cos(np.pi * np.maximum(share - flat, 0.0) / (1.0 - flat)))


@explained
def flat_cosine(lr: float, steps: int, *, flat: float = 0.5, final: float = 0.0) -> Schedule:
    """Return `lr` for a share `flat` of the steps, then half a cosine wave to `final` (Holzmüller et al. 2024).

    rate = final + (lr - final) · ½ (1 + cos(π · max(0, step / steps - flat) / (1 - flat))); `final` from `steps` on.
    In the paper's RealMLP, dropout and weight decay follow it.
    """
    arguments = {"lr": real(lr, "lr", low=0), "steps": integer(steps, "steps", minimum=1)}
    flat = real(flat, "flat", low=0, high=1)
    if flat == 1:
        raise ValueError("flat: got 1; expected a share below 1, which leaves steps in which the rate falls")
    return Schedule(_flat_cosine, arguments | {"flat": flat, "final": real(final, "final", low=0)})


def _cosine_restarts(at: Steps, *, lr: float, steps: int, factor: int, final: float) -> Steps:
    if factor == 1:
        return _cosine(at % steps, lr=lr, steps=steps, final=final)
    begins = [0.0]
    lengths = [float(steps)]
    while len(at) and begins[-1] + lengths[-1] <= at[-1]:
        begins.append(begins[-1] + lengths[-1])
        lengths.append(lengths[-1] * factor)
    cycle = np.searchsorted(begins, at, side="right") - 1
    share = (at - np.array(begins)[cycle]) / np.array(lengths)[cycle]
    return _cosine(share, lr=lr, steps=1, final=final)


@explained
def cosine_restarts(lr: float, steps: int, *, factor: int = 1, final: float = 0.0) -> Schedule:
    """Return half cosine waves from `lr` towards `final`, each followed by the next (Loshchilov & Hutter 2017).

    rate = final + (lr - final) · ½ (1 + cos(π · t / T)) at step t of a wave of T steps. The first wave has `steps`
    steps, each later one `factor` times those of the one before. Every wave begins at `lr`.
    """
    arguments = {"lr": real(lr, "lr", low=0), "steps": integer(steps, "steps", minimum=1)}
    factor = integer(factor, "factor", minimum=1)
    return Schedule(_cosine_restarts, arguments | {"factor": factor, "final": real(final, "final", low=0)})


def _coslog4(at: Steps, *, lr: float, steps: int) -> Steps:
    share = np.minimum(at / steps, 1.0)
    return lr * 0.5 * (1.0 - np.cos(2.0 * np.pi * np.log2(1.0 + 15.0 * share)))


@explained
def coslog4(lr: float, steps: int) -> Schedule:
    """Return four waves between 0 and `lr`, each twice as long as the one before (RealMLP, Holzmüller et al. 2024).

    rate = lr · ½ (1 - cos(2π log₂(1 + 15 step / steps))). It is 0 at step 0, between the waves, and from `steps`, the
    length of the whole training, on.
    """
    return Schedule(_coslog4, {"lr": real(lr, "lr", low=0), "steps": integer(steps, "steps", minimum=1)})


def _one_cycle(at: Steps, *, lr: float, steps: int, rise: float, initial: float, final: float, shape: str) -> Steps:
    peak = rise * steps
    up = at < peak
    share = np.where(up, np.minimum(at, peak) / peak, 1.0 - np.minimum((at - peak) / (steps - peak), 1.0))
    low = np.where(up, initial, final)
    if shape == "cosine":
        share = 0.5 * (1.0 - np.cos(np.pi * share))
    rates: Steps = low + (lr - low) * share
    return rates


@explained
def one_cycle(
    lr: float, steps: int, *, rise: float = 0.3, initial: float | None = None, final: float = 0.0, shape: str = "cosine"
) -> Schedule:
    """Return a rate that rises to `lr` and falls again, once in the whole training (Smith & Topin 2018).

    With p = rise · steps and s(u) = ½ (1 - cos(πu)) or u: rate = initial + (lr - initial) · s(step / p) before step p,
    final + (lr - final) · s(1 - (step - p) / (steps - p)) from there on. The momentum moves the other way with
    ``momentum=one_cycle(0.85, steps, initial=0.95, final=0.95)``, of `Momentum` or as the β₁ of `Adam` (Smith 2018).

    Parameters
    ----------
    lr : float
        The largest rate.
    steps : int
        Length of the training; the rate is `final` from there on.
    rise : float
        Share of the steps in which the rate rises, above 0 and below 1.
    initial, final : float
        The first and the last rate; `initial` is lr / 25 by default.
    shape : {"cosine", "linear"}
        Half cosine waves, or straight lines as in the paper.
    """
    arguments = {"lr": real(lr, "lr", low=0), "steps": integer(steps, "steps", minimum=1)}
    rise = real(rise, "rise", low=0, high=1, open_low=True)
    if rise * arguments["steps"] >= arguments["steps"]:
        raise ValueError(f"rise: got {rise:g}; expected a share below 1, which leaves steps in which the rate falls")
    first = arguments["lr"] / 25 if initial is None else real(initial, "initial", low=0)
    arguments |= {"rise": rise, "initial": first, "final": real(final, "final", low=0)}
    return Schedule(_one_cycle, arguments | {"shape": choice(shape, "shape", ("cosine", "linear"))})


def _power_law(at: Steps, *, lr: float, power: float, scale: float) -> Steps:
    rates: Steps = lr * (1.0 + at / scale) ** -power
    return rates


@explained
def power_law(lr: float, *, power: float = 0.5, scale: float = 1.0) -> Schedule:
    """Return lr · (1 + step / scale)^(-power).

    With ½ < power ≤ 1 the sum of the rates diverges and that of their squares converges, the condition of Robbins &
    Monro (1951) for stochastic gradient descent to converge.
    """
    arguments = {"lr": real(lr, "lr", low=0), "power": real(power, "power", low=0)}
    return Schedule(_power_law, arguments | {"scale": real(scale, "scale", low=0, open_low=True)})


def _warmup(at: Steps, *, schedule: float | Callable[[int], float], steps: int) -> Steps:
    rates: Steps = rates_of(schedule, 0, 1)[0] * (at + 1.0) / (steps + 1.0)
    late = int(np.searchsorted(at, steps))  # the steps ascend, so those after the warm-up are the tail
    if late < len(at):
        rates[late:] = rates_of(schedule, int(at[late]) - steps, len(at) - late)
    return rates


@explained
def warmup(schedule: float | Callable[[int], float], steps: int) -> Schedule:
    """Return a rate that rises linearly during the first `steps` steps and follows `schedule` afterwards.

    Parameters
    ----------
    schedule : float or function
        The rate, or the schedule, after the warm-up; a schedule's own steps are counted from the warm-up's end.
    steps : int
        Length of the warm-up. During it the rate is schedule(0) · (step + 1) / (steps + 1), so that the first
        rate is above 0 and step `steps` is the first at the full rate.
    """
    after = schedule if callable(schedule) else real(schedule, "schedule", low=0)
    return Schedule(_warmup, {"schedule": after, "steps": integer(steps, "steps")})


def rates_of(lr: float | Callable[[int], float], first: int, count: int, name: str = "lr") -> Steps:
    """Return the rates of `count` steps from `first` as float64 of shape (count,), checked.

    Parameters
    ----------
    lr : float or function
        A constant rate, a schedule of this module, or any function of the step.
    first, count : int
        The range of steps.
    name : str
        The argument, for messages.

    Raises
    ------
    TypeError
        If the function does not return a number.
    ValueError
        If a rate is negative or not finite; the message names the step.
    """
    if isinstance(lr, Schedule):
        rates = lr.rates(first, count)
    elif callable(lr):
        try:
            rates = np.fromiter(map(_number, map(lr, range(first, first + count))), np.float64, count)
        except OverflowError as error:  # of an integer that no float can represent
            raise ValueError(
                f"{name}: the schedule gave a number that is too large, from step {first} on; expected a finite number "
                "of at least 0"
            ) from error
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: the schedule must return a number for every step: {error}") from error
    else:
        rates = np.full(count, lr, np.float64)
    bad = ~(np.isfinite(rates) & (rates >= 0))
    if bad.any():
        index = int(np.argmax(bad))
        raise ValueError(
            f"{name}: the schedule gave {rates[index]} at step {first + index}; expected a finite number of at least 0"
        )
    return rates


def _number(rate: Any) -> Any:
    """Return what a function gave as a rate; raise TypeError for True and False, which NumPy takes for 1 and 0."""
    if isinstance(rate, (bool, np.bool_)) or np.ma.is_masked(rate):
        raise TypeError(f"got {rate}; expected a number")
    return rate


class Rates:
    """Rates, or other numbers, looked up step by step or for an epoch at once.

    A schedule of this module depends on the step alone, so its rates are computed for some steps ahead; a user's
    function is called at each step.
    """

    __slots__ = ("_constant", "_first", "_kept", "_lr", "_name")
    AHEAD = 256

    def __init__(self, lr: float | Callable[[int], float], name: str = "lr") -> None:
        self._lr, self._name = lr, name
        self._constant = None if callable(lr) else np.array([lr], np.float64)
        self._first, self._kept = 0, np.empty(0)

    @property
    def constant(self) -> float | None:
        """The rate if it is the same for all steps, otherwise None."""
        return None if self._constant is None else float(self._constant[0])

    def at(self, step: int) -> float:
        """Return the rate of a step, checked."""
        if self._constant is not None:
            return float(self._constant[0])
        if callable(self._lr) and not isinstance(self._lr, Schedule):
            rate = self._lr(step)
            fits = isinstance(rate, float) and 0.0 <= rate < math.inf
            return rate if fits else float(rates_of(lambda _: rate, step, 1, self._name)[0])
        if not 0 <= step - self._first < len(self._kept):
            self._first, self._kept = step, rates_of(self._lr, step, self.AHEAD, self._name)
        return float(self._kept[step - self._first])

    def epoch(self, first: int, count: int) -> Steps:
        """Return the rates of `count` steps from `first`, or one rate if it is constant."""
        return rates_of(self._lr, first, count, self._name) if self._constant is None else self._constant


if not TYPE_CHECKING:  # with a __getattr__, type checkers would accept any name

    def __getattr__(name: str) -> NoReturn:
        """Raise AttributeError with what to type instead."""
        from .internal.foreign_names import missing  # here, to keep `import gdcore` fast

        raise missing(__name__, name, __all__)
