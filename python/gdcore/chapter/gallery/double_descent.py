"""Pictures of random labels and double descent, in small problems that take seconds (slides 51-56).

Each picture has a function that computes it, with the seed of data, initial weights, shuffling and label noise.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from ... import _core, experiments
from ...experiments import DoubleDescent, LabelledData, RandomLabels, Recipe, double_descent, gaussian_clusters
from ...plotting import figures

__all__ = [
    "double_descent_by_decay",
    "double_descent_by_epochs",
    "double_descent_by_samples",
    "double_descent_by_width",
    "random_labels",
]

PathLike = str | os.PathLike[str]

WIDTHS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 64, 128, 256, 1024)
JOBS = 2  # runs at a time for a picture; the results do not depend on it


def one_layer(features: int, classes: int, width: int) -> list[_core.Layer]:
    """Return the layers of a network with one hidden layer of ReLU units."""
    return [_core.Dense(features, width), _core.ReLU(), _core.Dense(width, classes)]


def runs(seed: int, repeats: int, n_jobs: int) -> dict[str, Any]:
    """Return the options of a sweep; the seeds of its runs differ for each seed of the data."""
    return {"seed": 100 * seed, "repeats": repeats, "n_jobs": n_jobs, "progress": False}


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Zhang et al. 2016, table 1: CIFAR10, no augmentation, no weight decay. Test accuracy after training on true and on
# random labels; each time the network fitted all training labels (100.0 %).
ZHANG = {"Inception": (0.8575, 0.0978), "MLP 3×512": (0.5239, 0.1048)}


def fit_labels(seed: int, *, shares: Iterable[float] = SHARES, repeats: int = 2, n_jobs: int = 1) -> RandomLabels:
    """Train a network 50-200-200-10 on 500 rows of ten clusters, with shares of the labels drawn at random."""
    data = gaussian_clusters(500, 1000, spread=1.5, seed=seed)
    recipe = Recipe(data, width=200, optimizer=_core.Momentum(lr=0.003, momentum=0.9), epochs=100, batch_size=100)
    return experiments.random_labels(recipe, shares=shares, **runs(seed, repeats, n_jobs))


def random_labels(path: PathLike) -> None:
    """Draw accuracies on true and on random labels, with those of Zhang et al. (slide 51)."""
    left = fit_labels(0, n_jobs=JOBS).plot(path)
    right = left.figure.axes[1]
    for (name, accuracies), marker in zip(ZHANG.items(), ("^", "D"), strict=True):
        right.plot((0, 1), accuracies, marker, ls="", ms=7, mfc="none", mec=figures.INK, label=f"Zhang et al., {name}")
    right.legend(frameon=False, labelcolor=figures.INK, fontsize=9, loc="upper right", bbox_to_anchor=(1.0, 0.95))
    figures.save(left, path)


def by_width(seed: int, *, widths: Iterable[int] = WIDTHS, repeats: int = 5, n_jobs: int = 1) -> DoubleDescent:
    """Train networks of many widths on 800 rows of five classes, each of four clusters, a fifth of the labels redrawn.

    The classes are so complex that narrow networks cannot learn them well.
    """
    data = gaussian_clusters(800, 2000, features=20, classes=20, spread=1.1, seed=seed)
    data = data._replace(y=data.y % 5, y_test=data.y_test % 5)
    return double_descent(narrow(data), "width", values=widths, **runs(seed, repeats, n_jobs))


def narrow(data: LabelledData) -> Recipe:
    """Return the recipe of the sweeps over the width: 20 features, 5 classes, one hidden layer."""

    def build(width: int) -> list[_core.Layer]:
        return one_layer(20, 5, width)

    optimizer = _core.Momentum(lr=0.02, momentum=0.9)
    return Recipe(data, build, optimizer=optimizer, epochs=200, batch_size=50, label_noise=0.2)


def double_descent_by_width(path: PathLike) -> None:
    """Draw test error against parameters: a peak where the training rows are just fitted (slides 52-53)."""
    by_width(0, n_jobs=JOBS).plot(path)


def by_epochs(seed: int, *, repeats: int = 4, n_jobs: int = 1) -> DoubleDescent:
    """Train a network 200-256-5 on 300 rows of five clusters, a fifth of the labels redrawn, with full batches."""
    data = gaussian_clusters(300, 1500, features=200, classes=5, spread=2.4, seed=seed)
    recipe = Recipe(
        data,
        lambda width: one_layer(200, 5, width),
        width=256,
        optimizer=_core.Momentum(lr=0.01, momentum=0.9),
        epochs=500,
        batch_size=None,
        label_noise=0.2,
    )
    return double_descent(recipe, "epochs", **runs(seed, repeats, n_jobs))


def double_descent_by_epochs(path: PathLike) -> None:
    """Draw test error against epochs: it peaks when a large network has just fitted all labels (slide 54)."""
    by_epochs(0, n_jobs=JOBS).plot(path)


SCALES = (1.0, 0.3, 0.05)  # strong features with half of the signal, medium ones without, weak ones with the rest
FEATURES = (5, 75, 10)
DECAYS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4)


def three_scales(seed: int, train: int, test: int) -> LabelledData:
    """Return features (rows, 90) of three scales, and two classes that depend on the strong and on the weak ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((train + test, sum(FEATURES)))
    strong, weak = (rng.standard_normal(size) for size in (FEATURES[0], FEATURES[2]))
    score = x[:, : len(strong)] @ strong / np.linalg.norm(strong) + x[:, -len(weak) :] @ weak / np.linalg.norm(weak)
    x, y = (x * np.repeat(SCALES, FEATURES)).astype(np.float32), (score > 0).astype(np.int64)
    return LabelledData(x[:train], y[:train], x[train:], y[train:])


def by_decay(seed: int, *, decays: Iterable[float] = DECAYS, repeats: int = 3, n_jobs: int = 1) -> DoubleDescent:
    """Train a network 90-8-2 without activation on 300 rows with many strengths of weight decay; see `three_scales`."""
    recipe = Recipe(
        three_scales(seed, 300, 4000),
        lambda width: [_core.Dense(sum(FEATURES), width), _core.Dense(width, 2)],
        width=8,
        optimizer=_core.Momentum(lr=0.4, momentum=0.9),
        epochs=1500,
        batch_size=None,
        label_noise=0.2,
    )
    return double_descent(recipe, "weight_decay", values=decays, **runs(seed, repeats, n_jobs))


def double_descent_by_decay(path: PathLike) -> None:
    """Draw test error against weight decay, from strong to weak: it falls, rises and falls again (slide 54)."""
    by_decay(0, n_jobs=JOBS).plot(path)


ROWS = (150, 600)


def by_samples(
    seed: int, *, widths: Iterable[int] = WIDTHS[:-1], repeats: int = 5, n_jobs: int = 1
) -> tuple[DoubleDescent, ...]:
    """Train networks of many widths on 150 and on 600 rows of five clusters, a fifth of the labels redrawn."""
    rng, widths = np.random.default_rng(seed), tuple(widths)
    centres = rng.standard_normal((5, 20))
    centres *= 3 / np.linalg.norm(centres, axis=1, keepdims=True)
    y = rng.integers(0, 5, ROWS[1] + 3000)
    x = (centres[y] + rng.standard_normal((len(y), 20))).astype(np.float32)
    return tuple(
        double_descent(
            narrow(LabelledData(x[:rows], y[:rows], x[ROWS[1] :], y[ROWS[1] :])),
            "width",
            values=widths,
            **runs(seed, repeats, n_jobs),
        )
        for rows in ROWS
    )


def worse_with_more(few: DoubleDescent, many: DoubleDescent) -> list[int]:
    """Return the numbers of parameters, without a gap, at which more rows give a larger error, beyond its noise.

    Around the largest difference of the two mean errors; each counts if it is above two standard errors.
    """
    one, other = few.curve(), many.curve()
    gap = np.array(other["test_error"]) - np.array(one["test_error"])
    above = gap > 2 * np.hypot(one["test_se"], other["test_se"])
    low = high = int(gap.argmax())
    if not above[low]:
        return []
    while low > 0 and above[low - 1]:
        low -= 1
    while high + 1 < len(above) and above[high + 1]:
        high += 1
    return list(one["parameters"][low : high + 1])


def double_descent_by_samples(path: PathLike) -> None:
    """Draw test error against parameters for 150 and 600 rows: near the threshold more are worse (slides 55-56)."""
    results = by_samples(0, n_jobs=JOBS)
    axes = figures.new_axes(True, "gallery", size=(7.6, 4.4))
    styles = ((figures.BLUE, figures.DASHED, "s"), (figures.VERMILION, "-", "o"))
    for rows, result, (colour, style, marker) in zip(ROWS, results, styles, strict=True):
        curve = result.curve()
        values, test = curve["parameters"], np.array(curve["test_error"])
        axes.plot(values, test, color=colour, ls=style, marker=marker, ms=4, label=f"test, {rows} training rows")
        band = np.array(curve["test_se"])
        axes.fill_between(values, test - band, test + band, color=colour, alpha=0.2, lw=0)
        if result.threshold is not None:
            label = f"all {rows} fitted from {result.threshold:,}"
            axes.axvline(result.threshold, color=colour, lw=1.4, ls="-." if style == "-" else ":", label=label)
    worse = worse_with_more(*results)
    if worse:
        axes.axvspan(worse[0], worse[-1], color=figures.GRID, zorder=0, label="more rows, more errors")
    figures.log_ticks(axes)
    axes.set_ylim(bottom=0)
    figures.dress(axes, _title(results, worse), "parameters of the network", "share of wrong rows")
    figures.save(axes, path)


def _title(results: tuple[DoubleDescent, ...], worse: list[int]) -> str:
    """Return where and by how much more rows were worse."""
    if not worse:
        return f"At no size are {ROWS[1]} rows worse than {ROWS[0]} beyond the noise"
    errors = [dict(zip(r.curve()["parameters"], r.curve()["test_error"], strict=True)) for r in results]
    at = max(worse, key=lambda value: errors[1][value] - errors[0][value])
    return (
        f"From {worse[0]:,} to {worse[-1]:,} parameters {ROWS[1]} rows are worse than {ROWS[0]}: "
        f"{errors[1][at]:.3f} against {errors[0][at]:.3f} at {at:,}"
    )
