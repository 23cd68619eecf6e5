"""Reproduction 3: test accuracy on MNIST-1D of logistic regression and of a small network (Greydanus & Kobak 2020)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ... import _core
from ...callbacks import EarlyStopping
from ...data import train_validation_split
from ...experiments import LabelledData, mnist1d, run_sweep
from ...metrics import accuracy
from ...model import Sequential
from ...plotting.figures import BLUE, GREEN, INK, VERMILION, dress, new_axes, save
from ...table import Table
from ...trainer import Trainer
from ...tuning.store import Point
from ._result import Reproduction, figure_path

__all__ = ["run"]

LINEAR, PLAIN, REGULAR = "logistic regression", "MLP", "MLP, regularised"
PUBLISHED = {LINEAR: (32, 1), PLAIN: (68, 2), REGULAR: (68, 2)}  # percent of the test rows, and its uncertainty
RATES = (1e-3, 3e-3, 1e-2)
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {  # the candidates for validation
    LINEAR: {"lr": RATES, "weight_decay": (0.0, 1e-3), "dropout": (0.0,)},
    PLAIN: {"lr": RATES, "weight_decay": (0.0,), "dropout": (0.0,)},
    REGULAR: {"lr": RATES, "weight_decay": (3e-4, 1e-3, 3e-3), "dropout": (0.0, 0.1, 0.2)},
}

NOTES = (
    "Setting: `make_dataset()`, 4,000 training and 1,000 test rows; gdcore's Adam, batches of 100, the network "
    "40-100-100-10 with ReLU and no residual connections. For each of {seeds} seeds (of weights, shuffling and split) "
    "a fifth of the training rows, stratified, is set aside for validation; a run stops when validation accuracy has "
    "not improved for {patience} epochs and keeps its best weights. Rate, weight decay and dropout are those with the "
    "best mean validation accuracy of all in the grid; the test rows choose nothing. *measured* are the chosen runs, "
    "trained on 3,200 rows, mean and standard deviation over the seeds.",
    "*trained on all rows*: the chosen settings trained anew on all 4,000 training rows, for the number of epochs "
    "that was best for the same seed; the published models were trained on all of them.",
    "The published MLP has a residual connection and no regularisation; about 65 % is what its notebook prints after "
    "6,000 steps. *MLP, regularised* is gdcore's, with weight decay and dropout.",
)
PATIENCE = 40


def run(
    folder: str | os.PathLike[str],
    *,
    data: LabelledData | None = None,
    grids: dict[str, dict[str, tuple[float, ...]]] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    epochs: int = 400,
    n_jobs: int = -1,
) -> Reproduction:
    """Choose settings on validation rows and measure them on test rows; runs are kept in ``folder/mnist1d-runs``.

    Parameters
    ----------
    folder : path
        Where ``mnist1d.png`` goes.
    data : LabelledData, optional
        MNIST-1D with 4,000 training and 1,000 test rows when left out.
    grids : dict, optional
        Rates, weight decays and dropouts to choose from, for each of the three models.
    seeds : sequence of int
        One run of each setting for each seed.
    epochs : int
        Maximum number of epochs of a run.
    n_jobs : int
        Runs at a time, -1 for one a processor.
    """
    path = figure_path(folder, "mnist1d")
    data = mnist1d(4000, 1000) if data is None else data
    grids = GRIDS if grids is None else grids
    settings = {"data": data.fingerprint(), "epochs": epochs, "patience": PATIENCE}
    points: list[Point] = [
        {"model": model, **dict(zip(grid, values, strict=True)), "seed": seed}
        for model, grid in grids.items()
        for values in product(*grid.values())
        for seed in seeds
    ]
    runs = Path(folder) / "mnist1d-runs"
    first = run_sweep(
        points, partial(_validated, data=data, epochs=epochs), settings=settings, folder=runs / "grid", n_jobs=n_jobs
    )
    chosen = {model: _best(first.table, model) for model in grids}
    again = run_sweep(
        [row for rows in chosen.values() for row in rows],
        partial(_retrained, data=data),
        settings=settings,
        folder=runs / "all-rows",
        n_jobs=n_jobs,
    )
    table = Table(_row(model, rows, again.table) for model, rows in chosen.items())
    draw(chosen, again.table, table, path)
    notes = tuple(note.format(seeds=len(seeds), patience=PATIENCE) for note in NOTES)
    return Reproduction("mnist1d", f"MNIST-1D: {_sentence(table)}", table, path, notes)


def _trainer(point: Point, data: LabelledData) -> Trainer:
    drop = [_core.Dropout(point["dropout"])] if point["dropout"] else []
    dense = partial(_core.Dense, bias_init=_core.Constant(0.0))
    layers: list[_core.Layer] = [dense(data.features, data.classes)]
    if point["model"] != LINEAR:
        layers = [dense(data.features, 100), _core.ReLU(), *drop, dense(100, 100), _core.ReLU(), *drop]
        layers.append(dense(100, data.classes))
    optimizer = _core.Adam(point["lr"], weight_decay=point["weight_decay"])
    model = Sequential(*layers, seed=point["seed"], device="cpu")
    return Trainer(model, _core.CrossEntropy(), optimizer=optimizer, metrics=[accuracy])


def _validated(point: Point, data: LabelledData, epochs: int) -> list[dict[str, Any]]:
    """Train on four fifths of the training rows, validate on the others: accuracies of the best epoch."""
    x, xv, y, yv = train_validation_split(data.x, data.y, seed=point["seed"], stratify=True)
    trainer, stopping = _trainer(point, data), EarlyStopping("val_accuracy", patience=PATIENCE)
    trainer.fit(x, y, epochs=epochs, batch_size=min(100, len(x)), validation=(xv, yv), callbacks=[stopping])
    test = trainer.evaluate(data.x_test, data.y_test)["accuracy"]
    return [{**point, "validation": stopping.best, "epochs": stopping.best_epoch, "test": test}]


def _retrained(point: Point, data: LabelledData) -> list[dict[str, Any]]:
    """Train on all training rows for the best number of epochs."""
    trainer = _trainer(point, data)
    trainer.fit(data.x, data.y, epochs=point["epochs"], batch_size=min(100, len(data.x)))
    return [{**point, "all_rows": trainer.evaluate(data.x_test, data.y_test)["accuracy"]}]


def _best(table: Table, model: str) -> list[dict[str, Any]]:
    """Return the runs, one a seed, of the setting with the best mean validation accuracy."""
    groups: dict[tuple[float, ...], list[dict[str, Any]]] = {}
    for row in table.rows:
        if row["model"] == model:
            groups.setdefault((row["lr"], row["weight_decay"], row["dropout"]), []).append(row)
    return max(groups.values(), key=lambda rows: float(np.mean([row["validation"] for row in rows])))


def _row(model: str, rows: list[dict[str, Any]], again: Table) -> dict[str, Any]:
    anew = [row["all_rows"] for row in again.rows if row["model"] == model]
    setting = rows[0]
    return {
        "quantity": f"{model}: test accuracy, %",
        "published": "{} ± {}".format(*PUBLISHED[model]),
        "measured": _spread([row["test"] for row in rows]),
        "trained on all rows": _spread(anew),
        "validation": _spread([row["validation"] for row in rows]),
        "chosen": f"lr {setting['lr']:g}, weight decay {setting['weight_decay']:g}, dropout {setting['dropout']:g}",
    }


def _spread(values: list[float]) -> str:
    percent = 100 * np.array(values)
    return f"{percent.mean():.1f} ± {percent.std(ddof=1) if len(percent) > 1 else 0:.1f}"


def _sentence(table: Table) -> str:
    names = [name.partition(":")[0] for name in table["quantity"]]
    return "; ".join(f"{name} {value} %" for name, value in zip(names, table["measured"], strict=True))


def draw(chosen: dict[str, list[dict[str, Any]]], again: Table, table: Table, path: str | os.PathLike[str]) -> None:
    """Draw each seed's test accuracies and the published one with its uncertainty, a line for each model."""
    axes = new_axes(True, "reproductions", size=(8.4, 3.4))
    series = {
        "measured, each seed (rows without those for validation)": ("o", VERMILION, -0.22),
        "trained on all rows, each seed": ("^", GREEN, 0.0),
    }
    for i, (model, rows) in enumerate(chosen.items()):
        anew = [row["all_rows"] for row in again.rows if row["model"] == model]
        for values, (marker, colour, shift) in zip(([row["test"] for row in rows], anew), series.values(), strict=True):
            percent = [100 * value for value in values]
            axes.plot(percent, [i + shift] * len(percent), marker, color=colour, mfc="none", ms=7, mew=1.3)
        value, spread = PUBLISHED[model]
        axes.errorbar(value, i + 0.22, xerr=spread, fmt="D", color=BLUE, capsize=4, ms=5)
    for name, (marker, colour, _) in series.items():
        axes.plot([], [], marker, color=colour, mfc="none", ms=7, mew=1.3, label=name)
    axes.errorbar([], [], xerr=[], fmt="D", color=BLUE, capsize=4, ms=5, label="published")
    axes.set_yticks(range(len(chosen)), list(chosen))
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    dress(axes, _sentence(table), "test accuracy, %", "", grid="x", legend=False)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower left")
    axes.tick_params(axis="y", labelsize=10, length=0, labelcolor=INK)
    save(axes, path)
