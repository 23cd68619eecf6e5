"""Pictures of descent by single points and by batches: escapes, doubled data, the order of the rows (slides 14-15)."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from ... import _core
from ...analysis.objective import Objective, Vector
from ...analysis.recorder import PathRecorder
from ...experiments import gaussian_clusters
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, log_ticks, new_axes, save
from ...trainer import Trainer

__all__ = ["duplicated_data", "order", "single_points_escape"]

PathLike = str | os.PathLike[str]

METHODS = (("all rows in a step", None, VERMILION, "^", DASHED), ("one row in a step", 1, BLUE, "o", "-"))


class Escapes(NamedTuple):
    """Runs on an error of one weight with two minima.

    `grid` and `error` (G,) are the curve E(w), `minima` (2,) the poor and the good minimum, `barrier` the weight of the
    maximum between them, and `paths` (2, runs, epochs + 1) the weights by all rows and by single rows.
    """

    grid: Vector
    error: Vector
    minima: Vector
    barrier: float
    paths: Vector

    @property
    def shares(self) -> Vector:
        """Shares of the runs that are past the barrier: (2, epochs + 1)."""
        return np.asarray((self.paths > self.barrier).mean(axis=1))


def escapes(seed: int, *, runs: int = 40, epochs: int = 100, lr: float = 0.07) -> Escapes:
    """Train tanh(wx) from starts near a poor minimum, by all rows and by single rows at the same rate (slides 14-15).

    Six rows with large x ask for w near 0 and make a narrow minimum there. Fourteen with small x ask for w = 3.
    """
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(4, 0.5, 6), rng.normal(0.4, 0.05, 14)])
    y = np.concatenate([0.2 * rng.standard_normal(6), np.tanh(3 * x[6:]) + 0.05 * rng.standard_normal(14)])
    layers = (_core.Dense(1, 1, bias=False, init=_core.Uniform(0.2)), _core.Tanh())
    loss, inputs = _core.MeanSquaredError(), x[:, None]
    paths = np.empty((2, runs, epochs + 1))
    for run in range(runs):
        for position, (_, batch_size, *_) in enumerate(METHODS):
            model = Sequential(*layers, seed=1000 * seed + run, dtype="float64", device="cpu")
            recorder = PathRecorder()
            trainer = Trainer(model, loss, optimizer=_core.SGD(lr=lr))
            trainer.fit(inputs, y, epochs=epochs, batch_size=batch_size, callbacks=[recorder])
            paths[position, run] = recorder.path[:, 0]
    objective = Objective(Sequential(*layers, seed=0, dtype="float64", device="cpu"), loss, inputs, y)
    grid = np.linspace(-0.6, 4.4, 501)
    error = np.array([objective.value([w]) for w in grid])
    good, poor = int(error.argmin()), int(np.argmax(np.diff(error) > 0))
    barrier = grid[poor + int(error[poor:good].argmax())]
    return Escapes(grid, error, grid[[poor, good]], float(barrier), paths)


def single_points_escape(path: PathLike) -> None:
    """Draw descent by all rows, stuck in a poor minimum, and by single rows, which leave it (slides 14-15)."""
    found = escapes(0)
    left, right = new_axes(True, "gallery", size=(9.6, 4.2), columns=2)
    left.plot(found.grid, found.error, color=INK, lw=1.4)
    run = int(found.paths[0, :, 0].argmin())  # the start farthest from the barrier
    for (label, _, colour, marker, style), paths, share in zip(METHODS, found.paths, found.shares, strict=True):
        heights = np.interp(paths[run], found.grid, found.error)
        look = {"ls": "none", "mfc": "none", "mec": colour, "mew": 1.4, "zorder": 3 if marker == "o" else 4}
        left.plot(paths[run], heights, marker, ms=7, label=label, **look)
        left.plot(paths[run, -1], heights[-1], marker, ms=9, color=colour, zorder=5)
        right.plot(share, ls=style, color=colour, lw=2, label=label)
        right.plot(len(share) - 1, share[-1], marker, ms=9, color=colour, clip_on=False, zorder=5)
    start = found.paths[0, run, 0], float(np.interp(found.paths[0, run, 0], found.grid, found.error))
    left.plot(*start, "s", ms=8, mfc="white", mec=INK, mew=1.5, ls="none", zorder=5, label="start")
    for position, name, below in zip(found.minima, ("poor minimum", "good minimum"), (True, False), strict=True):
        low = float(np.interp(position, found.grid, found.error))
        note = {"textcoords": "offset points", "ha": "center", "va": "top" if below else "bottom", "color": INK}
        left.annotate(f"{name}\nE = {low:.2f}", (position, low), xytext=(0, -12 if below else 12), **note)
    left.set_ylim(bottom=0)
    dress(left, "One run of each: the weight after every epoch", "w", "E(w)")
    dress(right, "Runs past the maximum between the minima", "epoch", "share of the runs", legend=False)
    right.legend(frameon=False, labelcolor=INK, fontsize=9, loc="center right")
    right.set_ylim(-0.03, 1.05)
    ends = [f"{share:.0%}" for share in found.shares[:, -1]]
    title = (
        f"From the same {found.paths.shape[1]} starts at the same η, {ends[1]} of the runs by single rows reach the "
        f"good minimum,\n{ends[0]} of those by all rows"
    )
    save(left, path, title=title)


class Progress(NamedTuple):
    """Errors after numbers of row evaluations, (T,) each; `after(level)` is where the error first falls to a level."""

    rows: Vector
    error: Vector

    def after(self, level: float) -> float:
        """Return the row evaluations until the error is at most `level`, interpolated between epochs."""
        i = int(np.argmax(self.error <= level))
        if self.error[i] > level or i == 0:
            return float("nan")
        return float(np.interp(-level, -self.error[i - 1 : i + 1], self.rows[i - 1 : i + 1]))


def progress(seed: int, copies: int, batch_size: int | None, *, repeats: int = 10) -> Progress:
    """Train a small network on 100 rows, each `copies` times, and return the error after every epoch (slide 14).

    A step has all rows (400 steps at η = 0.1), or one (10,000 steps at η = 0.01; the mean over `repeats` orders).
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((100, 5))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.3 * rng.standard_normal(100)
    x, y = np.repeat(x, copies, axis=0), np.repeat(y, copies)
    epochs, lr = (400, 0.1) if batch_size is None else (100 // copies, 0.01)
    runs = []
    for order_seed in range(1 if batch_size is None else repeats):
        layers = (_core.Dense(5, 20), _core.Tanh(), _core.Dense(20, 1))
        model = Sequential(*layers, seed=seed, dtype="float64", device="cpu")
        trainer = Trainer(model, _core.MeanSquaredError(), optimizer=_core.SGD(lr=lr), seed=order_seed)
        start = trainer.evaluate(x, y)["loss"]
        history = trainer.fit(x, y, epochs=epochs, batch_size=batch_size, measure_training=True)
        runs.append([start, *history["loss"]])
    return Progress(np.arange(epochs + 1.0) * len(x), np.mean(runs, axis=0))


def duplicated_data(path: PathLike) -> None:
    """Draw the error against the rows evaluated: with every row doubled, only batch descent costs twice (slide 14)."""
    level = 0.3
    axes = new_axes(True, "gallery", size=(7.6, 4.4))
    costs = []
    for name, batch_size, colour, marker, _ in METHODS:
        cost = []
        for copies, style in ((1, "-"), (2, DASHED)):
            run = progress(0, copies, batch_size)
            cost.append(run.after(level))
            label = f"{name}, {'100 rows' if copies == 1 else 'each row twice'}"
            axes.plot(run.rows[1:], run.error[1:], ls=style, color=colour, lw=1.8)
            axes.plot(cost[-1], level, marker, ms=8, mfc=colour if copies == 1 else "white", mec=colour, mew=1.5)
            look = {"marker": marker, "ms": 7, "mfc": colour if copies == 1 else "white", "mec": colour}
            axes.plot([], [], ls=style, color=colour, lw=1.8, label=label, **look)
        costs.append(cost[1] / cost[0])
    axes.axhline(level, color=INK, lw=0.9, ls=":")
    log_ticks(axes)
    axes.set_ylim(0, 1.6)
    title = (
        f"With every row doubled, an error of {level:g} costs {costs[0]:.2f} times as many row evaluations\n"
        f"in steps of all rows, {costs[1]:.2f} times as many in steps of one row"
    )
    dress(axes, title, "row evaluations", "error of the training rows", legend=False)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper right")
    save(axes, path)


ORDERS = (
    ("fixed, sorted by class", VERMILION, "^", DASHED),
    ("fixed, one random order", GREEN, "s", (0, (3, 1, 1, 1))),
    ("random, drawn anew each epoch", BLUE, "o", "-"),
)


def orders(seed: int, *, norm: bool, epochs: int = 20) -> Vector:
    """Train on 300 rows in batches of 5 in each of `ORDERS`; return the test errors after each epoch: (3, epochs).

    `norm` puts a BatchNorm after the hidden layer's sums. A row then meets the same companions again and again in a
    fixed order.
    """
    data = gaussian_clusters(300, 1200, features=20, classes=5, spread=2.2, seed=seed)
    ranked = np.argsort(data.y, kind="stable")
    errors = []
    for rows, shuffle in ((ranked, False), (np.arange(300), False), (np.arange(300), True)):
        layers = (_core.Dense(20, 32), *([_core.BatchNorm(32)] if norm else []), _core.ReLU(), _core.Dense(32, 5))
        model = Sequential(*layers, seed=seed, device="cpu")
        trainer = Trainer(model, _core.CrossEntropy(), optimizer=_core.SGD(lr=0.1), metrics=["accuracy"])
        history = trainer.fit(
            data.x[rows],
            data.y[rows],
            epochs=epochs,
            batch_size=5,
            shuffle=shuffle,
            validation=(data.x_test, data.y_test),
        )
        errors.append(1 - np.array(history["val_accuracy"]))
    return np.array(errors)


def order(path: PathLike) -> None:
    """Draw the test error for rows in a fixed order and in one that is drawn anew each epoch (slide 15)."""
    panels = new_axes(True, "gallery", size=(9.6, 4.2), columns=2)
    ends = []
    for axes, norm in zip(panels, (False, True), strict=True):
        errors = np.array([orders(seed, norm=norm) for seed in range(10)])
        means, spread = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
        epoch = np.arange(1, errors.shape[2] + 1)
        for (label, colour, marker, style), mean, band in zip(ORDERS, means, spread, strict=True):
            axes.fill_between(epoch, mean - band, mean + band, color=colour, alpha=0.18, lw=0)
            axes.plot(epoch, mean, ls=style, marker=marker, ms=4.5, color=colour, lw=1.6, label=label)
        dress(axes, "with batch norm" if norm else "without batch norm", "epoch", "test error", legend=not norm)
        axes.set_ylim(0, 0.85)
        axes.set_xticks([1, 5, 10, 15, 20])
        ends.append(means[:, -1])
    title = (
        "Test error with rows sorted by class, in one random order, in a new order each epoch:\n"
        f"{', '.join(f'{end:.0%}' for end in ends[0])} without batch norm, "
        f"{', '.join(f'{end:.0%}' for end in ends[1])} with it"
    )
    save(panels[0], path, title=title)
