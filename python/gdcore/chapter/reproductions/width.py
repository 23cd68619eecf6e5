"""Reproduction 4: model-wise double descent on MNIST-1D, as in the notebook of Greydanus & Kobak (2020)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import _core
from ...experiments import DoubleDescent, LabelledData, Recipe, double_descent, mnist1d
from ...experiments.descent import SIZE
from ...experiments.double_descent import WIDTHS
from ...plotting.figures import BLUE, INK, VERMILION, new_axes, save
from ...table import Table
from ._result import Reproduction, figure_path

__all__ = ["run"]

# What the authors' notebook prints, in percent: training and test error at each width, in its run "with label noise".
PUBLISHED = {
    2: (68.95, 67.62),
    3: (68.78, 68.86),
    4: (60.83, 60.28),
    5: (59.20, 59.15),
    7: (55.15, 56.50),
    9: (53.43, 56.68),
    12: (43.12, 46.79),
    16: (41.53, 50.12),
    21: (35.58, 50.15),
    27: (29.85, 53.56),
    36: (16.62, 54.75),
    47: (8.25, 55.76),
    61: (0.00, 53.28),
    80: (0.00, 51.31),
    104: (0.00, 51.13),
    135: (0.00, 48.56),
    177: (0.00, 46.98),
    230: (0.00, 46.34),
    300: (0.00, 45.92),
}
PUBLISHED_MINUTES = 47.75  # of processor time: "total: 47min 45s"

HE, UNIFORM = "measured", "with PyTorch's initialisation"  # columns of the table

NOTES = (
    "Setting, as in the authors' notebook: 40-h-h-10 ReLU, cross-entropy, rate 0.01, momentum 0.9, batches of 100, "
    "500 epochs, 4,000 training and 12,000 test rows of `make_dataset` with 16,000 samples. They draw each training "
    "label anew with probability 0.15, we exactly 15 % of them, both from all ten classes, so that about 13.5 % are "
    "wrong. Training error is measured on the labels as trained on. Ours are means over {repeats} seeds. Published is "
    "one run, headed *with label noise*; the notebook's other run, headed *without*, trained on the same noisy "
    "labels, because its copy of the data shares the label array. The two show what chance does: the other one peaks "
    "with 55.0 % at 36 and ends with 46.3 %.",
    "The column *measured* is with the initialisation of He et al. 2015 (weights Gaussian with variance 2/M, biases "
    "0), the next with the notebook's, which is the default of PyTorch's layers: weights and biases "
    "uniform on ±1/√M, 0.41 times the standard deviation.",
    "Processor time is of training and measuring, summed over processes that use one thread each, for one sweep over "
    "the widths. The authors' is the total that their notebook prints, on another machine: {ratio} times ours.",
)


def run(
    folder: str | os.PathLike[str],
    *,
    data: LabelledData | None = None,
    widths: Iterable[int] = WIDTHS,
    epochs: int = 500,
    repeats: int = 3,
    n_jobs: int = -1,
) -> Reproduction:
    """Sweep the widths with both initialisations; finished runs are kept in ``folder/width-runs``.

    Parameters
    ----------
    folder : path
        Where ``width.png`` goes.
    data : LabelledData, optional
        MNIST-1D with 4,000 training and 12,000 test rows when left out.
    widths, epochs, repeats, n_jobs
        As for `Recipe` and `double_descent`.
    """
    path = figure_path(folder, "width")
    data = mnist1d() if data is None else data
    results = {}
    for name, build in ((HE, None), (UNIFORM, _Uniform(data.features, data.classes))):
        runs = Path(folder) / "width-runs" / ("he" if build is None else "uniform")
        recipe = Recipe(data, build, epochs=epochs, label_noise=0.15)
        swept = double_descent(recipe, "width", values=widths, repeats=repeats, folder=runs, n_jobs=n_jobs)
        results[name] = replace(swept, axis="width")
    minutes = results[HE].cpu_seconds / 60 / repeats
    draw(results[HE], path)
    notes = tuple(note.format(repeats=repeats, ratio=f"{PUBLISHED_MINUTES / minutes:,.0f}") for note in NOTES)
    title = f"Width: {results[HE].sentence()}"
    return Reproduction("width", title, _table(results, repeats), path, notes)


class _Uniform:
    """Builds the network with the initialisation of PyTorch's Linear: weights and biases uniform on ±1/√M."""

    def __init__(self, features: int, classes: int) -> None:
        self.features, self.classes = features, classes

    def __call__(self, width: int) -> list[_core.Layer]:
        """Return the layers."""
        sizes = (self.features, width, width, self.classes)
        layers: list[_core.Layer] = []
        for i in range(3):
            init = _core.Uniform(sizes[i] ** -0.5)
            layers += [_core.Dense(sizes[i], sizes[i + 1], init=init, bias_init=init), _core.ReLU()]
        return layers[:-1]


def _table(results: dict[str, DoubleDescent], repeats: int) -> Table:
    """Return the threshold, the peak, the processor time, and the test error at each width."""
    points = [
        {"width": h, "seed": 0, "train_error": train, "test_error": test} for h, (train, test) in PUBLISHED.items()
    ]
    published = replace(results[HE], table=Table(points))  # the same rule finds threshold and peak

    def row(quantity: str, known: Any, value: Any) -> dict[str, Any]:
        return {"quantity": quantity, "published": known} | {name: value(r) for name, r in results.items()}

    rows = [
        row("interpolation threshold: first h with no training error", published.threshold, lambda r: r.threshold),
        row("h of the peak of the test error", published.peak, lambda r: r.peak),
        row("processor time of a sweep, minutes", PUBLISHED_MINUTES, lambda r: r.cpu_seconds / 60 / repeats),
    ]
    curves = {name: {line["width"]: line for line in r.curve().rows} for name, r in results.items()}
    for width in curves[HE]:
        line: dict[str, Any] = {"quantity": f"h = {width}: test error, %"}
        if width in PUBLISHED:
            line["published"] = PUBLISHED[width][1]
        line |= {name: 100 * curve[width]["test_error"] for name, curve in curves.items()}
        if "test_se" in curves[HE][width]:
            line["standard error of measured"] = 100 * curves[HE][width]["test_se"]
        rows.append(line)
    return Table(rows)


def draw(result: DoubleDescent, path: Path) -> None:
    """Draw the curve of He's initialisation, and the published points."""
    axes = new_axes(True, "reproductions", size=SIZE)
    result.draw(axes)
    for i, (colour, marker, name) in enumerate(((BLUE, "s", "training"), (VERMILION, "o", "test"))):
        points = [errors[i] / 100 for errors in PUBLISHED.values()]
        axes.plot(
            list(PUBLISHED), points, marker, ls="", ms=6, mfc="none", mec=colour, mew=1.1, label=f"published, {name}"
        )
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower left")
    save(axes, path)
