"""Early stopping and weight decay (slide 50): gradient descent stopped after T steps is like a decay λ ≈ 1/(ηT).

From the origin of a quadratic surface, T steps of rate η fit the share 1 - (1-ηλ_i)^T of the minimum's coordinate along
an eigenvector with eigenvalue λ_i; the minimum under weight decay λ has the share λ_i/(λ_i+λ). Both rise from 0 to 1,
for small λ_i as ηTλ_i and λ_i/λ: equal for λ = 1/(ηT). Both are measured in real training runs here, also on a
network, for which the formulas are not exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._core import SGD, Dense, MeanSquaredError, Momentum, Normal, Tanh
from ..analysis.problems import quadratic_problem, random_rotation
from ..internal.arguments import explained
from ..internal.checks import integer, real, seed_or_random
from ..internal.display import Shown
from ..model import Sequential
from ..table import Table
from ..trainer import Trainer
from ..tuning.parallel import run_all
from ._train import log_spaced, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["EarlyStoppingDecay", "early_stopping_and_decay"]

Array = npt.NDArray[np.float64]

STEEPEST = 0.5  # η λ_max of the quadratic: well below 2, so that every share grows steadily
MOMENTUM = 0.9  # for training with weight decay until convergence
BLOCK, SETTLED, LONGEST = 500, 1e-7, 100_000  # trained until no parameter moves more in a block of steps
DECAYS_PER_DECADE = 7
INITIAL = 0.1  # standard deviation of the network's initial weights: near the origin, which is a stationary point
TEST_ROWS = 300
SHARES = ("steps", "eigenvalue", "stopped", "stopped_predicted", "decayed", "decayed_predicted")


@dataclass(frozen=True)
class EarlyStoppingDecay(Shown):
    """What `early_stopping_and_decay` returns; ``print(result)`` shows both tables.

    Attributes
    ----------
    shares : Table
        For the quadratic, a row for each T and each eigenvalue λ_i: ``steps``, ``eigenvalue``, and the share of the
        minimum's coordinate that is fitted, ``stopped`` after T steps and ``decayed`` with λ = 1/(ηT), each measured
        in a training run, and the predictions of the formulas: ``stopped_predicted``, ``decayed_predicted``.
    matches : Table
        For each problem ("quadratic", "network") and T: ``one_over_lr_steps`` = 1/(ηT); the ``best`` λ of those
        tried, whose predictions differ least from those at step T; ``ratio`` = best · ηT; the root mean square
        ``difference`` of predictions at the best λ and ``difference_there``, at 1/(ηT); and ``size``, the root mean
        square prediction at step T.
    lr : float
        η.
    decays : ndarray
        The λ tried, rising, shape (L,).
    differences : ndarray
        For the network, the root mean square difference of predictions, for each T and λ, shape (T, L).
    stopped_path, decayed_path : ndarray
        Predictions of the network on the test rows along the run, shape (steps, rows), and for each λ, shape (L, rows).
    stopped_at : tuple of int
        Indices of the T in `stopped_path`.
    """

    shares: Table
    matches: Table
    lr: float
    decays: Array
    differences: Array
    stopped_path: Array
    decayed_path: Array
    stopped_at: tuple[int, ...]

    @property
    def times(self) -> list[int]:
        """The T at which training was stopped, rising."""
        return list(dict.fromkeys(self.shares["steps"]))

    def ratios(self, problem: str) -> list[float]:
        """Return the best λ times ηT for each T, for "quadratic" or "network": 1 where λ = 1/(ηT) is best."""
        return [row["ratio"] for row in self.matches.rows if row["problem"] == problem]

    def _parts(self) -> tuple[Table | str, ...]:
        """Return both tables."""
        return self.shares, "", self.matches

    def plot(self, path: str | os.PathLike[str] | None = None) -> list[Axes]:
        """Draw four pictures: shares fitted, difference against λ, best λ against 1/(ηT), and the two paths.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; without a path, it belongs to matplotlib.pyplot.

        Returns
        -------
        list of matplotlib Axes
            In the order above.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.early_stopping import draw

        return draw(self, path)


@explained
def early_stopping_and_decay(
    *,
    times: Sequence[int] = (30, 100, 300, 1000, 3000),
    lr: float = 0.05,
    directions: int = 8,
    condition: float = 1000.0,
    hidden: int = 8,
    rows: int = 40,
    noise: float = 0.3,
    seed: int = 0,
    progress: bool = True,
) -> EarlyStoppingDecay:
    """Compare stopping after T steps with weight decay λ ≈ 1/(ηT), on a quadratic and on a network (slide 50).

    The quadratic is linear regression whose Hessian has eigenvalues from 0.5/η down to 0.5/(η · condition), evenly
    spread over the logarithm. Full-batch gradient descent from zero is stopped at each T; training with weight decay
    1/(ηT) continues until convergence.

    The network, `Dense`-`Tanh`-`Dense` of six inputs, starts near the origin (weights of standard deviation 0.1) and
    learns a noisy function of inputs of different scales. Its predictions on 300 other rows, stopped at each T, are
    compared with those of the same start trained to the end with each of some 25 values of λ, biases decayed too.

    Parameters
    ----------
    times : sequence of int
        The T, in steps, at least two that differ.
    lr : float
        η, above 0; for both problems.
    directions : int
        Eigenvalues of the quadratic, at least 2.
    condition : float
        Ratio of the largest to the smallest, at least 1.
    hidden : int
        Hidden units of the network.
    rows : int
        Its training rows, at least 2.
    noise : float
        Standard deviation of the noise in its targets, whose magnitude is about 1.
    seed : int
        Of data and initial weights.
    progress : bool
        Whether to show progress bars of the runs with weight decay, which take most of the time, on the standard error
        output, on a terminal or in a notebook.

    Returns
    -------
    EarlyStoppingDecay
        Tables ``shares`` and ``matches``, ``.plot(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    DivergenceError
        If `lr` is too large for the network.

    Notes
    -----
    The two agree up to a factor: λ = 1/(ηT) fits the same share of a direction only while the share is small; for
    s = ηTλ_i the exact λ is s/(e^s - 1) of 1/(ηT). The ratio in ``matches`` is the best λ over all directions. On the
    network the minimum under decay is a local one, reached from this start.
    """
    stops = whole_numbers(times, "times")
    if len(stops) < 2:
        raise ValueError(f"times: got {stops}; expected at least two that differ")
    rate = real(lr, "lr", low=0.0, open_low=True)
    spread = real(condition, "condition", low=1.0)
    count = integer(directions, "directions", minimum=2)
    sizes = integer(hidden, "hidden", minimum=1), integer(rows, "rows", minimum=2)
    rng = np.random.default_rng(seed_or_random(integer(seed, "seed")))
    decades = math.log10(stops[-1] / stops[0]) + 2.0  # from three times the largest 1/(ηT) to 0.03 times the smallest
    decays = np.geomspace(0.03 / stops[-1], 3.0 / stops[0], round(decades * DECAYS_PER_DECADE)) / rate
    eigenvalues = np.geomspace(STEEPEST / rate / spread, STEEPEST / rate, count)
    deviation = real(noise, "noise", low=0.0)
    shares, quadratic = _quadratic(stops, rate, eigenvalues, decays, rng, progress)
    stopped, decayed, at = _network(stops, rate, decays, sizes, deviation, rng, seed, progress)
    differences = _rms(stopped[at][:, None] - decayed)
    network = _matches("network", stops, rate, decays, differences, _rms(stopped[at]))
    return EarlyStoppingDecay(
        shares, Table(quadratic + network), rate, decays, differences, stopped, decayed, tuple(at)
    )


def _quadratic(
    times: list[int], lr: float, eigenvalues: Array, decays: Array, rng: np.random.Generator, progress: bool
) -> tuple[Table, list[dict[str, float | str]]]:
    """Return the shares fitted by stopped and by decayed runs, and the best λ for each T."""
    size = len(eigenvalues)
    basis = random_rotation(size, rng)
    problem = quadratic_problem(eigenvalues, basis, minimum=basis @ rng.choice([-1.0, 1.0], size))
    start, x, y = problem.model(np.zeros(size)), problem.x, problem.y
    whole = problem.coordinates(np.zeros(size))

    def shares(model: Sequential) -> Array:
        return 1.0 - problem.coordinates(model.flat_parameters()) / whole

    table: list[dict[str, float]] = []
    differences, fitted = [], []
    each = 1.0 / (lr * np.array(times))
    stopped, decayed = _stopped(start, x, y, lr, times), _settled_each(start, x, y, lr, each, "quadratic", progress)
    for steps, decay, *models in zip(times, each, stopped, decayed, strict=True):
        measured = [shares(model) for model in models]
        predicted = 1.0 - (1.0 - lr * eigenvalues) ** steps, eigenvalues / (eigenvalues + decay)
        columns = zip(eigenvalues, measured[0], predicted[0], measured[1], predicted[1], strict=True)
        table += [dict(zip(SHARES, (steps, *map(float, row)), strict=True)) for row in columns]
        scale = whole * np.sqrt(eigenvalues / 2.0)  # a prediction's mean square is Σ λ_i α_i² / 2
        every = eigenvalues / (eigenvalues + decays[:, None])
        differences.append(np.linalg.norm((measured[0] - every) * scale, axis=1))
        fitted.append(np.linalg.norm(measured[0] * scale))
    return Table(table), _matches("quadratic", times, lr, decays, np.array(differences), np.array(fitted))


def _network(
    times: list[int],
    lr: float,
    decays: Array,
    sizes: tuple[int, int],
    noise: float,
    rng: np.random.Generator,
    seed: int,
    progress: bool,
) -> tuple[Array, Array, list[int]]:
    """Return predictions along one run, predictions for each λ, and the indices of the T in the run."""
    hidden, rows = sizes
    scales = np.geomspace(2.0, 0.2, 6)
    x, test = rng.standard_normal((rows, 6)) * scales, rng.standard_normal((TEST_ROWS, 6)) * scales
    direction = 1.5 / math.sqrt(6) * rng.standard_normal((6, 1)) / scales[:, None]
    y = np.tanh(x @ direction) + noise * rng.standard_normal((rows, 1))
    init = Normal(INITIAL)
    start = Sequential(
        Dense(6, hidden, init=init), Tanh(), Dense(hidden, 1, init=init), seed=seed, dtype="float64", device="cpu"
    )
    steps = sorted({*times, *log_spaced(times[-1])})
    stopped = [model.predict(test).ravel() for model in _stopped(start, x, y, lr, steps)]
    settled = _settled_each(start, x, y, lr, decays, "network", progress)
    decayed = [model.predict(test).ravel() for model in settled]
    return np.array(stopped), np.array(decayed), [steps.index(each) for each in times]


def _stopped(start: Sequential, x: Array, y: Array, lr: float, times: list[int]) -> list[Sequential]:
    """Return copies of a model trained for each number of steps, in one run."""
    model = start.clone()
    trainer = Trainer(model, MeanSquaredError(), optimizer=SGD(lr))
    kept = []
    for steps in times:
        while trainer.steps < steps:
            trainer.step(x, y)
        kept.append(model.clone())
    return kept


def _settled(start: Sequential, x: Array, y: Array, lr: float, decay: float) -> Sequential:
    """Return a copy of a model trained with weight decay on all parameters until convergence."""
    model = start.clone()
    optimizer = Momentum(lr, MOMENTUM, weight_decay=decay, decay_biases=True)
    trainer = Trainer(model, MeanSquaredError(), optimizer=optimizer)
    moved = math.inf
    while moved > SETTLED and trainer.steps < LONGEST:
        before = model.flat_parameters()
        for _ in range(BLOCK):
            trainer.step(x, y)
        moved = np.abs(model.flat_parameters() - before).max()
    return model


def _settled_each(
    start: Sequential, x: Array, y: Array, lr: float, decays: Array, what: str, progress: bool
) -> list[Sequential]:
    """Return such a copy for each λ; the progress bar names `what`."""
    tasks = [(start, x, y, lr, float(decay)) for decay in decays]
    models = dict(run_all(_settled, tasks, what=f"weight decay, {what}", progress=progress))
    return [models[i] for i in range(len(tasks))]


def _rms(values: Array) -> Array:
    rms: Array = np.sqrt(np.mean(values**2, axis=-1))
    return rms


def _matches(
    problem: str, times: list[int], lr: float, decays: Array, differences: Array, sizes: Array
) -> list[dict[str, float | str]]:
    """Return for each T the λ of the least difference, and its ratio to 1/(ηT)."""
    rows: list[dict[str, float | str]] = []
    for steps, each, size in zip(times, differences, sizes, strict=True):
        there, best = 1.0 / (lr * steps), int(np.argmin(each))
        at_there = float(np.interp(math.log(there), np.log(decays), each))
        row: dict[str, float | str] = {"problem": problem, "steps": steps, "one_over_lr_steps": there}
        row |= {"best": float(decays[best]), "ratio": float(decays[best]) / there, "difference": float(each[best])}
        rows.append(row | {"difference_there": at_there, "size": float(size)})
    return rows
