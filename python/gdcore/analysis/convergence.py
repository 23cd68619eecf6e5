"""`convergence_factors`: rates of gradient descent and heavy ball for each eigendirection (chapter, slides 22-27)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data, to_array
from ..internal.checks import real
from ..internal.display import Shown
from ..model import Sequential
from ..table import Table
from .derivatives import MEMORY_LIMIT
from .objective import Mode, Objective, Vector, finite_array
from .quadratic import QuadraticModel, as_quadratic, rounding
from .stability import momentum_below_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ConvergenceFactors", "convergence_factors"]


@dataclass(frozen=True, eq=False)
class ConvergenceFactors(Shown):
    """The factor of each eigendirection in a step of gradient descent, and the best settings.

    Directions are in the order of the eigenvalues, ascending. Directions with an eigenvalue of zero (up to rounding)
    are flat: at a minimum nothing moves along them. Results over all directions exclude them.

    Attributes
    ----------
    lr, momentum : float
        η and μ as given.
    eigenvalues : ndarray
        λ_i, shape (P,).
    roots : ndarray
        Shape (P, 2), complex: the roots of z² - (1+μ-ηλ_i)z + μ, the factors of a step of heavy ball; without momentum
        they are 1-ηλ_i and 0.
    factors : ndarray
        Shape (P,). Without momentum 1-ηλ_i, with its sign (slides 23-24); with momentum the larger magnitude of the two
        roots.
    flat : int
        Number of flat directions.
    slowest : float
        The largest magnitude of a factor: the asymptotic factor of the distance to the minimum per step.
    best_lr, best_rate : float
        η = 2/(λ_1+λ_n) for gradient descent and its slowest factor (κ-1)/(κ+1), with κ = λ_n/λ_1.
    best_momentum_lr, best_momentum, best_momentum_rate : float
        η = (2/(√λ_1+√λ_n))² and μ = ((√κ-1)/(√κ+1))² for heavy ball (Polyak 1964) and its factor √μ. All five are
        nan if an eigenvalue is negative: then no setting converges.
    """

    lr: float
    momentum: float
    eigenvalues: Vector
    roots: npt.NDArray[np.complex128]
    factors: Vector
    flat: int
    slowest: float
    best_lr: float
    best_rate: float
    best_momentum_lr: float
    best_momentum: float
    best_momentum_rate: float

    @property
    def converges(self) -> bool:
        """Whether every direction that is not flat shrinks: all factors have a magnitude below 1 (slide 25)."""
        return self.slowest < 1.0

    @property
    def condition_number(self) -> float:
        """κ = λ_n/λ_1 over the directions that are not flat; nan if an eigenvalue is negative."""
        values = self.eigenvalues[self._curved]
        return float(values[-1] / values[0]) if values[0] > 0 else math.nan

    @property
    def _curved(self) -> npt.NDArray[np.bool_]:
        """Mask of the directions that are not flat."""
        return np.asarray(np.abs(self.eigenvalues) > rounding(self.eigenvalues))

    @property
    def _stuck(self) -> int:
        """Number of directions that are neither flat nor shrink."""
        return int(np.sum(np.abs(self.factors[self._curved]) >= 1.0))

    def steps(self, tolerance: float = 1e-6) -> float:
        """Return the number of steps in which the slowest direction shrinks to `tolerance` times its distance.

        Parameters
        ----------
        tolerance : float
            Above 0 and at most 1.

        Returns
        -------
        float
            ln(tolerance)/ln(slowest), not rounded; infinity if it does not converge. With momentum this uses the
            asymptotic rate; a run needs some steps more to reach it.
        """
        return steps_at(self.slowest, real(tolerance, "tolerance", low=0.0, high=1.0, open_low=True))

    def predict(self, alpha0: npt.ArrayLike, steps: npt.ArrayLike) -> Vector:
        """Return the coordinates after some steps of the optimiser from rest: α_i(T) = (1-ηλ_i)^T α_i(0) (slide 24).

        Parameters
        ----------
        alpha0 : array
            α(0), shape (P,): `QuadraticModel.coordinates` of the start of training.
        steps : int or array of int
            T, at least 0: one value or an array.

        Returns
        -------
        ndarray
            α(T), shape (P,), or one row for each T, (..., P). With momentum it follows
            α(τ+1) = (1+μ-ηλ_i) α(τ) - μ α(τ-1) with α(-1) = α(0). Overflow of float64 gives infinity, or nan with
            momentum.

        Raises
        ------
        TypeError
            If an argument is not a numeric array, or `steps` not of whole numbers.
        ValueError
            If `alpha0` has another length or is not finite, or `steps` is negative.
        """
        start = np.asarray(to_array(alpha0, "alpha0"), dtype=np.float64)
        if start.shape != self.eigenvalues.shape:
            raise ValueError(
                f"alpha0: got shape {start.shape}; expected {self.eigenvalues.shape}, one for each eigenvalue"
            )
        finite_array(start, "alpha0")
        counts = to_array(steps, "steps")
        if counts.dtype.kind not in "iu":
            raise TypeError(f"steps: got an array of {counts.dtype}; expected whole numbers")
        if counts.size and counts.min() < 0:
            raise ValueError(f"steps: got {counts.min()}; expected numbers of at least 0")
        with np.errstate(over="ignore", invalid="ignore"):
            if self.momentum == 0:
                return np.asarray(self.factors ** counts[..., None] * start)
            step = np.zeros((len(start), 2, 2))  # (α(τ), α(τ-1)) -> (α(τ+1), α(τ))
            step[:, 0, 0] = 1.0 + self.momentum - self.lr * self.eigenvalues
            step[:, 0, 1], step[:, 1, 0] = -self.momentum, 1.0
            after = [np.linalg.matrix_power(step, int(n))[:, 0].sum(axis=1) * start for n in counts.ravel()]
        return np.array(after).reshape(*counts.shape, len(start))

    def table(self, tolerance: float = 1e-6) -> Table:
        """Return one row for each direction: eigenvalue, factor, and the steps to shrink to `tolerance`."""
        goal = real(tolerance, "tolerance", low=0.0, high=1.0, open_low=True)
        return Table(
            {"direction": i, "eigenvalue": float(value), "factor": float(factor), "steps": steps_at(abs(factor), goal)}
            for i, (value, factor) in enumerate(zip(self.eigenvalues, self.factors, strict=True), 1)
        )

    def settings(self, tolerance: float = 1e-6) -> Table:
        """Return the given and the best settings, without and with momentum: rate, factor and `steps`."""
        goal = real(tolerance, "tolerance", low=0.0, high=1.0, open_low=True)
        rows = [
            ("as given", self.lr, self.momentum, self.slowest),
            ("best without momentum", self.best_lr, 0.0, self.best_rate),
            ("best with momentum", self.best_momentum_lr, self.best_momentum, self.best_momentum_rate),
        ]
        return Table(
            {"setting": name, "lr": lr, "momentum": momentum, "slowest factor": rate, "steps": steps_at(rate, goal)}
            for name, lr, momentum, rate in rows
            if not math.isnan(rate)
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Plot the magnitude of the factor against the eigenvalue, for the given and the best settings.

        Parameters
        ----------
        path : path, optional
            File to save the figure in; the suffix gives the format: .png, .svg, .pdf. Without it the figure is open in
            matplotlib.pyplot, for a notebook or ``plt.show()``.

        Returns
        -------
        matplotlib Axes
            For further changes, or to save with ``axes.figure.savefig``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save

        axes: Axes = new_axes(path is not None, "ConvergenceFactors.plot")
        values = self.eigenvalues[self._curved]
        positive = bool(values[0] > 0)
        along = (np.geomspace if positive else np.linspace)(values[0], values[-1], 1001)
        styles = [("-", BLUE), (DASHED, VERMILION), (":", GREEN)]
        for row, (style, colour) in zip(self.settings().rows, styles, strict=False):
            mu = row["momentum"]
            sizes = np.abs(_roots(1.0 + mu - row["lr"] * along, mu)[:, 0])
            label = f"{row['setting']}: η = {row['lr']:.3g}" + (f", μ = {mu:.3g}" if mu else "")
            axes.plot(along, sizes, ls=style, color=colour, lw=2, label=label)
        axes.plot(values, np.abs(self.factors[self._curved]), "o", color=BLUE, ms=5)
        axes.axhline(1.0, color=INK, lw=1)
        axes.set_xscale("log" if positive else "linear")
        axes.set_ylim(0.0, max(1.05, 1.05 * self.slowest))
        if self.converges:
            best = steps_at(self.best_momentum_rate, 1e-6)
            title = (
                f"{self.steps(1e-6):,.0f} steps to a millionth of the distance, at the rate of the end;\n"
                f"{best:,.0f} with the best momentum"
            )
        else:
            title = f"Does not converge: directions that do not shrink, {self._stuck} of {len(self.factors)}"
        dress(axes, title, "eigenvalue λ of the Hessian", "|factor| per step (above 1: grows)")
        save(axes, path)
        return axes

    def _parts(self) -> tuple[Table | str, ...]:
        """Return one sentence about convergence, and the table of `settings`."""
        count = len(self.factors)
        if self.converges:
            verdict = f"converges: each step multiplies the slowest of {count} directions by {self.slowest:.6g}"
        else:
            verdict = (
                f"does not converge: directions that do not shrink, {self._stuck} of {count}; each step multiplies the "
                f"worst by {self.slowest:.6g}"
            )
        flat = f" (flat ones left out: {self.flat})" if self.flat else ""
        return f"{verdict}{flat}", self.settings()


@explained
def convergence_factors(
    model: Sequential | Objective | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    lr: float | None = None,
    *,
    momentum: float = 0.0,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> ConvergenceFactors:
    """Return the factor of each eigendirection in a full-batch step of ``gd.SGD(lr)`` or ``gd.Momentum(lr, momentum)``.

    On the local quadratic model the directions are independent. Without momentum each step multiplies a direction by
    1-ηλ_i (slides 23-24); with momentum the factors are the roots of z² - (1+μ-ηλ_i)z + μ (slide 26).

    Parameters
    ----------
    model : Sequential, Objective or QuadraticModel
        A model in float64, together with `loss`, `x` and `y`; or an objective or a quadratic model with ``lr=`` alone.
    loss, x, y, at, mode, sample_weight, memory_limit
        As for `QuadraticModel`.
    lr : float
        η, above 0. Required.
    momentum : float
        μ, at least 0 and below 1.

    Returns
    -------
    ConvergenceFactors
        Factors, verdict, the best settings, and `predict`.

    Raises
    ------
    TypeError
        If `lr` is left out, a QuadraticModel is given together with other data, or an argument has the wrong type.
    ValueError
        If `lr` or `momentum` is out of range, or the Hessian is zero; and as for `QuadraticModel`.
    """
    eta, mu = real(lr, "lr", low=0.0, open_low=True), momentum_below_one(momentum)
    values = as_quadratic(
        model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight, memory_limit=memory_limit
    ).eigenvalues
    curved = np.abs(values) > rounding(values)
    if not curved.any():
        raise ValueError("model: got one whose Hessian is zero; expected a nonzero Hessian")
    roots = _roots(1.0 + mu - eta * values, mu)
    factors = 1.0 - eta * values if mu == 0 else np.max(np.abs(roots), axis=1)
    return ConvergenceFactors(
        lr=eta,
        momentum=mu,
        eigenvalues=values,
        roots=roots,
        factors=factors,
        flat=int(np.sum(~curved)),
        slowest=float(np.max(np.abs(factors[curved]))),
        **_best(values[curved]),
    )


def _roots(middle: Vector, momentum: float) -> npt.NDArray[np.complex128]:
    """Return the two roots of z² - middle z + momentum, the larger first, shape (P, 2)."""
    spread = np.sqrt((middle * middle - 4.0 * momentum).astype(np.complex128))
    larger = 0.5 * (middle + np.where(middle < 0, -spread, spread))  # no cancellation; the product gives the other
    smaller = np.divide(momentum, larger, out=np.zeros_like(larger), where=larger != 0)
    return np.stack([larger, smaller], axis=1)


def _best(values: Vector) -> dict[str, Any]:
    """Return the best settings for ascending eigenvalues, nan if one is negative."""
    names = ("best_lr", "best_rate", "best_momentum_lr", "best_momentum", "best_momentum_rate")
    low, high = float(values[0]), float(values[-1])
    if low < 0:
        return dict.fromkeys(names, math.nan)
    ends = math.sqrt(low) + math.sqrt(high)
    rate = (math.sqrt(high) - math.sqrt(low)) / ends
    found = (2.0 / (low + high), (high - low) / (low + high), (2.0 / ends) ** 2, rate**2, rate)
    return dict(zip(names, found, strict=True))


def steps_at(factor: float, tolerance: float) -> float:
    """Return the number of multiplications by `factor` that shrink a value to `tolerance` times itself."""
    if tolerance == 1.0:
        return 0.0
    if factor >= 1.0:
        return math.inf
    return math.log(tolerance) / math.log(factor) if factor > 0 else 1.0
