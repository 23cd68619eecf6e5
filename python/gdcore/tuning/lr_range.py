"""`lr_range_test`: the loss against a rising learning rate, and the rate that curvature allows (chapter, slide 25)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .._core import SGD, Loss, Momentum, Optimizer
from ..data import MiniBatches
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import flag, instance, integer, real
from ..internal.class_weights import complete
from ..internal.display import Shown
from ..internal.labels import Targets
from ..internal.prepared import Prepared, prepared
from ..model import Sequential
from ..table import Table
from ..trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = ["LRRange", "lr_range_test"]

DIVERGED = 4.0  # times the least loss so far
FLOOR = 1e-12  # relative to the first loss: smaller losses change by rounding
FALL = 0.999  # the loss fell if it is below this times the first
SAFETY = 10.0  # divisor of the rate of least loss
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LRRange(Shown):
    """The result of `lr_range_test`; ``print(result)`` shows it.

    Attributes
    ----------
    lr : ndarray
        The rates tried, rising, shape (T,): fewer than asked for where the loss diverged.
    loss : ndarray
        Loss of the next batch after the step with that rate, shape (T,).
    smoothed : ndarray
        Mean of each loss and its neighbours, shape (T,).
    start : float
        Loss of the first batch, before any step.
    suggestion : float or None
        A tenth of the rate with the least smoothed loss; None if that is less than a thousandth below the first.
    diverged_at : float or None
        The rate at which the loss diverged; None if it did not.
    max_stable_lr : float or None
        The largest rate at which gradient descent is stable at the start, from the largest eigenvalue λ_max of the
        Hessian there, including the optimiser's weight decay: 2/λ_max, with momentum μ 2(1+μ)/λ_max. None if not
        requested or not applicable.
    note : str
        Why `max_stable_lr` does not apply; empty otherwise.
    """

    lr: Vector
    loss: Vector
    smoothed: Vector
    start: float
    suggestion: float | None
    diverged_at: float | None
    max_stable_lr: float | None
    note: str = ""

    def table(self) -> Table:
        """Return a row for each rate: ``lr``, ``loss``, ``smoothed``."""
        columns = zip(self.lr.tolist(), self.loss.tolist(), self.smoothed.tolist(), strict=True)
        return Table({"lr": lr, "loss": loss, "smoothed": smoothed} for lr, loss, smoothed in columns)

    def __str__(self) -> str:
        """Return the suggestion and its reasons."""
        least = int(np.argmin(self.smoothed))
        end = "it did not diverge" if self.diverged_at is None else f"it diverged at {self.diverged_at:.3g}"
        lines = [
            f"suggested lr: {'none, for the loss never fell' if self.suggestion is None else f'{self.suggestion:.3g}'}",
            f"loss {self.start:.4g} at the start; least at lr {self.lr[least]:.3g}; {end}",
        ]
        if self.max_stable_lr is not None:
            lines.append(f"largest stable lr at the start, by curvature: {self.max_stable_lr:.3g}")
        return "\n".join(lines + [self.note] * bool(self.note))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Draw the loss against the rate, with the suggested rate and the largest stable one.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; without a path, it belongs to matplotlib.pyplot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.lr_range import draw

        return draw(self, self._title(), path)

    def _title(self) -> str:
        if self.suggestion is None:
            return "The loss never fell: no rate to suggest"
        if self.diverged_at is None:
            return f"No divergence up to a rate of {self.lr[-1]:.2g}; suggested: {self.suggestion:.2g}"
        return f"Training diverges at a rate of {self.diverged_at:.2g}; suggested: {self.suggestion:.2g}"


@explained
def lr_range_test(
    model: Sequential,
    loss: Loss,
    x: Data,
    y: Data,
    *,
    optimizer: Optimizer | None = None,
    lr_min: float = 1e-6,
    lr_max: float = 10.0,
    steps: int = 100,
    batch_size: int | None = 32,
    smoothing: int = 5,
    curvature: bool = True,
    curvature_rows: int | None = 1024,
    sample_weight: Data | None = None,
    seed: int = 0,
) -> LRRange:
    """Train a copy of a model with a geometrically rising rate, and suggest a rate from where the loss falls and rises.

    ::

        result = gd.lr_range_test(model, gd.CrossEntropy(), x, y, optimizer=gd.Adam(1e-3))
        print(result); result.plot("rates.png")
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(result.suggestion))

    Parameters
    ----------
    model : Sequential
        The start of training; not changed.
    loss : Loss
        Such as ``gd.CrossEntropy()``.
    x, y : array
        Training data, as for `Trainer.fit`.
    optimizer : Optimizer, optional
        The optimiser; its own rate is not used. `SGD` when left out.
    lr_min, lr_max : float
        First and last rate.
    steps : int
        Rates to try, at least 2: lr_min (lr_max/lr_min)^(i/(steps-1)).
    batch_size : int or None
        Rows in a batch; None, and a number above N, takes all. A smaller last batch is left out.
    smoothing : int
        The number of neighbouring losses in the smoothed mean: odd, 1 for no smoothing.
    curvature : bool
        Whether to compute `max_stable_lr`.
    curvature_rows : int or None
        The number of random rows for it; None takes all.
    sample_weight : array, optional
        Weight of each row in the loss, shape (N,).
    seed : int
        Seed of the order of the rows.

    Returns
    -------
    LRRange
        Rates, losses, ``suggestion``, ``diverged_at``, ``max_stable_lr``; ``.table()``, ``.plot(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    DivergenceError
        If the loss is not finite before the first step.

    Notes
    -----
    The test ends when the loss (the mean of the last `smoothing` batches) is more than 4 times the least so far, or
    not finite. The suggestion is a tenth of the rate where the smoothed loss is least: there, steps
    are already so large that they cancel their gain. The test is Smith's (2017); the tenth is a rule of thumb.

    On the quadratic model of the loss at the start, gradient descent converges if and only if η < 2/λ_max (slide 25).
    With momentum μ the limit is 2(1+μ)/λ_max, with Nesterov's 2(1+μ)/((1+2μ) λ_max). It is that of the loss over rows
    in training mode, in float64; weight decay adds its λ to the diagonal of the Hessian, for the parameters that decay.
    A quickly rising rate is well above the limit before the loss grows visibly: more `steps` bring `diverged_at` nearer
    to it. If the optimiser's step is no fixed multiple of the gradient (AdaGrad, RMSProp, Adam, clipping, rate factors
    of layers), the limit does not apply.
    """
    instance(model, Sequential, "model", "gd.Sequential(gd.Dense(2, 1))")
    instance(loss, Loss, "loss", "gd.CrossEntropy()")
    given = SGD(1.0) if optimizer is None else instance(optimizer, Optimizer, "optimizer", "gd.SGD(0.1)")
    low = real(lr_min, "lr_min", low=0.0, open_low=True)
    high = real(lr_max, "lr_max", low=low, open_low=True)
    steps, width = integer(steps, "steps", minimum=2), integer(smoothing, "smoothing", minimum=1)
    if width % 2 == 0:
        raise ValueError(f"smoothing: got {smoothing}; expected an odd number, with as many losses on either side")
    curvature = flag(curvature, "curvature")
    if curvature_rows is not None:
        integer(curvature_rows, "curvature_rows", minimum=1)
    data = prepared(model, loss, x, y, sample_weight, check="columns")
    loss = complete(loss, model, data.y.array)
    options: dict[str, Any] = {"batch_size": batch_size, "sample_weight": data.weights, "seed": seed}
    batches = MiniBatches(data.x.array, data.y.array, drop_last=True, **options)
    limit, note = None, ""
    if curvature:
        limit, note = _max_stable_lr(model, loss, data, given, curvature_rows, seed)
    rates = np.geomspace(low, high, steps)
    losses, start, diverged = _run(model, loss, given, batches, rates, width)
    rates, smoothed = rates[: len(losses)], _smoothed(losses, width, start)
    least = int(np.argmin(smoothed))
    return LRRange(
        lr=rates,
        loss=losses,
        smoothed=smoothed,
        start=start,
        suggestion=float(rates[least]) / SAFETY if smoothed[least] < FALL * smoothed[0] else None,
        diverged_at=float(rates[-1]) if diverged else None,
        max_stable_lr=limit,
        note=note,
    )


def _run(
    model: Sequential, loss: Loss, optimizer: Any, batches: MiniBatches, rates: Vector, width: int
) -> tuple[Vector, float, bool]:
    """Train a copy: the loss of the next batch after each rate, the first loss, and whether it diverged."""
    rest = {name: getattr(optimizer, name) for name in optimizer._fields if name != "lr"}
    rising = type(optimizer)(lambda step: float(rates[min(step, len(rates) - 1)]), **rest)
    trainer = Trainer(model.clone(), loss, optimizer=rising)
    iterator = _endless(batches)

    def step() -> float:
        xb, yb, *weight = next(iterator)
        return trainer.step(xb, Targets(yb), *weight)

    start = step()
    losses, least, diverged = [start], start, False
    while len(losses) <= len(rates) and not diverged:
        try:
            losses.append(step())
        except _core.DivergenceError:
            losses.append(math.inf)
        recent = float(np.mean(losses[-width:]))
        diverged = recent > DIVERGED * max(least, FLOOR * start)
        least = min(least, recent)
    return np.array(losses[1:]), start, diverged


def _endless(batches: MiniBatches) -> Iterator[Any]:
    while True:
        yield from batches


def _smoothed(losses: Vector, width: int, start: float) -> Vector:
    """Return the mean of each loss and its neighbours, fewer at the ends.

    Diverged losses are limited to the bound of divergence; otherwise they would hide earlier ones.
    """
    bounded = np.minimum(losses, DIVERGED * max(float(losses.min()), start))
    side = width // 2
    return np.array([bounded[max(i - side, 0) : i + side + 1].mean() for i in range(len(bounded))])


def _max_stable_lr(
    model: Sequential, loss: Loss, data: Prepared, optimizer: Any, rows: int | None, seed: int
) -> tuple[float | None, str]:
    """Return the largest stable rate at the model's point, or None and the reason."""
    if not isinstance(optimizer, (SGD, Momentum)):
        return None, f"2/λ_max does not apply: {type(optimizer).__name__}'s step is no fixed multiple of the gradient"
    if callable(optimizer.weight_decay) or optimizer._momentum is not None:
        return None, "2/λ_max does not apply where weight decay or momentum change from step to step"
    if optimizer.clip_norm is not None or optimizer.clip_value is not None or optimizer.lr_factors is not None:
        return None, "2/λ_max does not apply with clipping or with rates of their own for layers"
    from ..analysis.derivatives import extreme_eigenpairs  # here, to keep `import gdcore` fast
    from ..analysis.objective import Objective, in_float64

    if rows is not None and rows < len(data.x.array):
        data = data.part(np.sort(_core.permutation(len(data.x.array), seed, 0)[:rows]))
    decay = {name: getattr(optimizer, name) for name in ("weight_decay", "decay_biases")}
    objective = Objective(in_float64(model), loss, data.x, data.y, sample_weight=data.weights, **decay)
    largest = float(extreme_eigenpairs(objective, k=1).values[-1])
    if largest <= 0.0:
        return None, f"no rate is unstable at the start: the largest eigenvalue of the Hessian there is {largest:.3g}"
    momentum: Any = optimizer.momentum if isinstance(optimizer, Momentum) else 0.0
    ahead = 1.0 + 2.0 * momentum if isinstance(optimizer, Momentum) and optimizer.nesterov else 1.0
    return 2.0 * (1.0 + momentum) / (ahead * largest), ""
