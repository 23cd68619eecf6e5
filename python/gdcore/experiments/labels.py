"""Random labels (chapter, slide 51): the same network fits true labels and labels without any meaning."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal.arguments import explained
from ..internal.checks import instance, shown
from ..internal.display import Shown
from ..table import Table
from ._train import Recipe, distinct, label_share, log_spaced, points_over, sweep_networks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RandomLabels", "random_labels"]

FITTED = 0.995  # share of the training rows


@dataclass(frozen=True)
class RandomLabels(Shown):
    """Training and test accuracy of a network on labels of which a share is random.

    Attributes
    ----------
    table : Table
        A row for each run and measured epoch: ``label_noise``, ``seed``, ``epoch``, ``train_error``, ``test_error`` and
        more.
    classes : int
        Number of classes; guessing has the accuracy 1 / classes.
    cpu_seconds : float
        Processor time of all training and measuring, in seconds.
    """

    table: Table
    classes: int
    cpu_seconds: float

    def summary(self) -> Table:
        """Return a row for each share of random labels, means over the seeds after the last epoch.

        Columns: ``label_noise``, ``train_accuracy`` (on the labels used in training), ``test_accuracy`` (on true
        labels), ``epochs_to_fit`` (the first measured epoch at which 99.5 % of the training rows are right; left out if
        there is none).
        """
        rows = []
        for share in sorted(set(self.table["label_noise"])):
            curve = self.curve(share)
            fitted = [e for e, a in zip(curve["epoch"], curve["train_accuracy"], strict=True) if a >= FITTED]
            last = curve.rows[-1]
            row = {"label_noise": share, "train_accuracy": last["train_accuracy"]}
            row["test_accuracy"] = last["test_accuracy"]
            rows.append(row | ({"epochs_to_fit": fitted[0]} if fitted else {}))
        return Table(rows)

    def curve(self, label_noise: float) -> Table:
        """Return ``epoch``, ``train_accuracy`` and ``test_accuracy`` for one share of random labels: means over seeds.

        Raises
        ------
        ValueError
            If no run had this share.
        """
        some = [row for row in self.table.rows if row["label_noise"] == label_noise]
        if not some:
            there = shown(sorted(set(self.table["label_noise"])))
            raise ValueError(f"label_noise: got {shown(label_noise)}; expected one of {there}")
        rows = []
        for epoch in sorted({row["epoch"] for row in some}):
            errors = [(row["train_error"], row["test_error"]) for row in some if row["epoch"] == epoch]
            train, test = 1.0 - np.mean(errors, axis=0)
            rows.append({"epoch": epoch, "train_accuracy": float(train), "test_accuracy": float(test)})
        return Table(rows)

    def _parts(self) -> tuple[Table | str, ...]:
        """Return one sentence about the result, and the summary."""
        return self.sentence(), self.summary()

    def sentence(self) -> str:
        """Return one sentence about the result."""
        rows = self.summary().rows
        first, train = rows[0]["train_accuracy"], rows[-1]["train_accuracy"]
        fitted = "fitted" if train >= FITTED else f"fitted to {train:.1%}"
        too = " too" if len(rows) > 1 and min(first, train) >= FITTED else ""
        ends = [rows[0], rows[-1]] if len(rows) > 1 else rows
        tests = [f"{row['test_accuracy']:.0%} with {row['label_noise']:.0%} random" for row in ends]
        return (
            f"{rows[-1]['label_noise']:.0%} random labels are {fitted}{too}; test accuracy: {', '.join(tests)} "
            f"(guessing: {1 / self.classes:.0%})"
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Draw training accuracy against the epoch for each share, and the final accuracies against the share.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; the ending gives the format. Without a path, it belongs to matplotlib.pyplot.

        Returns
        -------
        matplotlib Axes
            The left one; ``axes.figure.axes`` holds both.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.random_labels import draw

        return draw(self, path)


@explained
def random_labels(
    recipe: Recipe,
    *,
    shares: Iterable[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    repeats: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    within: str | None = None,
    executor: Any = None,
    progress: bool = True,
) -> RandomLabels:
    """Train the same network on true, partly random and fully random labels (Zhang et al. 2016; slide 51).

    A network that is large enough fits all of them; it generalises only from true labels.

    Parameters
    ----------
    recipe : Recipe
        Data, network, optimiser and batch size. Of its epochs, about 40 are measured, evenly spread over the logarithm;
        `shares` replaces its label noise.
    shares : iterable of float
        Shares of the training labels that are drawn anew from all classes, from 0 to 1; see `redraw_labels`.
    repeats, seed, folder, n_jobs, within, executor, progress
        As for `double_descent`.

    Returns
    -------
    RandomLabels
        Table, summary and figure.

    Raises
    ------
    TypeError, ValueError, DivergenceError, ImportError
        As for `double_descent`.
    """
    instance(recipe, Recipe, "recipe", "experiments.Recipe(experiments.gaussian_clusters())")
    levels = distinct(shares, "shares", label_share, "numbers from 0 to 1")
    points = points_over(recipe, "label_noise", levels, repeats=repeats, seed=seed)
    points = [point | {"epochs": log_spaced(recipe.epochs)} for point in points]
    where = {"n_jobs": n_jobs, "within": within, "executor": executor, "progress": progress}
    sweep = sweep_networks(points, recipe, folder=folder, **where)
    return RandomLabels(sweep.table, recipe.data.classes, sweep.cpu_seconds)
