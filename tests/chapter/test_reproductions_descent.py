"""Promise: the reproductions of double descent and of MNIST-1D compute what they print: small versions of them agree
with closed forms, continue where they stopped, write their three files, and use no test rows for choices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import experiments
from gdcore.chapter.reproductions import REPRODUCTIONS, epochs, linear_samples, mnist1d, width
from gdcore.chapter.reproductions._result import Reproduction
from gdcore.table import Table

DATA = experiments.gaussian_clusters(60, 200, features=5, classes=3, spread=0.6, seed=7)
SMALL = epochs.Problem(features=4, rows=400, noise=0.5)


def files(result: Reproduction, folder: Path) -> None:
    """The three files exist and contain the result."""
    assert result.figure == folder / f"{result.name}.png" and result.figure.read_bytes()[:4] == b"\x89PNG"
    read = Table.from_csv(folder / f"{result.name}.csv")
    assert read["quantity"] == result.table["quantity"] and len(read.rows) > 1
    text = (folder / f"{result.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {result.title}\n") and f"({result.name}.png)" in text
    assert all(note in text for note in result.notes) and "{" not in text
    assert result.title in str(result)


def lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("sweep.jsonl"))


def test_the_names() -> None:
    assert list(REPRODUCTIONS) == ["quadratic", "linear-samples", "mnist1d", "width", "epochs", "formulas"]
    assert all(callable(run) and run.__doc__ for run in REPRODUCTIONS.values())


def test_linear_samples(tmp_path: Path) -> None:
    options: dict[str, Any] = {"features": 40, "samples": [20, 32, 50, 39, 80], "repeats": 20, "n_jobs": 1}
    result = REPRODUCTIONS["linear-samples"](tmp_path, **options)
    files(result, tmp_path)
    rows = {int(row["quantity"].split()[-1]): row for row in result.table.rows[:-1]}
    assert list(rows) == [20, 32, 39, 50, 80]
    for n in (20, 32, 50, 80):
        row = rows[n]
        assert row["theory"] == experiments.linear_excess_risk(n, 40, noise=0.1)
        assert abs(row["measured"] - row["theory"]) < 5 * row["standard error"]
        assert row["gradient descent"] == pytest.approx(row["measured"], rel=1e-3)
    assert rows[39]["theory"] == math.inf and "gradient descent" not in rows[39]  # some draw is too ill-conditioned
    count = lines(tmp_path)
    assert count == 1 + 5 * 20
    assert REPRODUCTIONS["linear-samples"](tmp_path, **options).table.rows == result.table.rows
    assert lines(tmp_path) == count  # nothing was computed again


@pytest.mark.parametrize(("features", "drawn"), [(1000, True), (40, False)])
def test_published_points_are_of_their_own_problem(
    features: int, drawn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(linear_samples, "save", lambda axes, path: saved.append(axes))
    result = experiments.double_descent_linear(features=features, samples=[500], progress=False)
    linear_samples.draw(result, {}, tmp_path / "linear.png")
    assert ("published" in {line.get_label() for line in saved[0].lines}) is drawn and len(saved) == 1


def test_width(tmp_path: Path) -> None:
    result = REPRODUCTIONS["width"](tmp_path, data=DATA, widths=[2, 12], epochs=3, repeats=2, n_jobs=1)
    files(result, tmp_path)
    rows = {row["quantity"]: row for row in result.table.rows}
    assert rows["interpolation threshold: first h with no training error"]["published"] == 61
    assert rows["h of the peak of the test error"]["published"] == 47
    assert rows["processor time of a sweep, minutes"]["measured"] > 0
    twelve = rows["h = 12: test error, %"]
    assert twelve["published"] == 46.79 and twelve[width.HE] != twelve[width.UNIFORM]
    recipe = experiments.Recipe(DATA, epochs=3, label_noise=0.15)
    own = experiments.double_descent(recipe, values=[12], repeats=2, progress=False)
    assert twelve[width.HE] == 100 * own.curve()["test_error"][0]


def test_the_initialisation_of_pytorch() -> None:
    layers = width._Uniform(40, 10)(100)
    model = gd.Sequential(*layers, seed=0)
    assert [repr(layer) for layer in layers[1::2]] == ["ReLU()"] * 2
    for name, fan_in in (("layers.0", 40), ("layers.2", 100), ("layers.4", 100)):
        weight, bias = (np.abs(model.parameters()[f"{name}.{part}"]) for part in ("weight", "bias"))
        assert 0.98 * fan_in**-0.5 < weight.max() <= fan_in**-0.5 and bias.max() <= fan_in**-0.5 < 3 * bias.max()


def test_closed_form_of_two_scales() -> None:
    """The formula is that of gradient descent on orthogonal features, averaged over the noise."""
    rng = np.random.default_rng(0)
    rows, scales = SMALL.rows, SMALL.each(SMALL.scales)
    x = np.linalg.qr(rng.standard_normal((rows, len(scales))))[0] * math.sqrt(rows) * scales
    theta = np.sqrt(SMALL.each(SMALL.signals) / rows) * SMALL.noise / scales
    for scaled in (False, True):
        y = (x @ theta)[:, None] + SMALL.noise * rng.standard_normal((rows, 4000))
        w, risks = np.zeros_like(x.T @ y), []
        lr = SMALL.each(SMALL.step_sizes(scaled))[:, None]
        for _ in range(30):
            w -= lr * (x.T @ (x @ w - y)) / rows
            risks.append(np.sum((scales[:, None] * (w - theta[:, None])) ** 2, axis=0))
        measured = np.array(risks)
        error = measured.std(axis=1) / math.sqrt(measured.shape[1])
        assert (np.abs(measured.mean(axis=1) - SMALL.closed_form(np.arange(1.0, 31), scaled)) < 5 * error).all()


def test_scaled_steps_bring_the_minima_together() -> None:
    problem = epochs.Problem()
    for scaled, minima in ((False, 2), (True, 1)):
        risk = problem.closed_form(np.arange(1.0, 20000), scaled)
        inner = (risk[1:-1] < risk[:-2]) & (risk[1:-1] < risk[2:])
        assert inner.sum() == minima
    at = 1 + int(problem.closed_form(np.arange(1.0, 20000), True).argmin())
    variance = problem.noise**2 / problem.rows
    best = sum(problem.features * variance * b / (1 + b) for b in problem.signals)  # each feature at its minimum
    assert at == 7 and problem.closed_form(np.array([7.0]), True)[0] == pytest.approx(best, rel=0.01)


def test_epochs(tmp_path: Path) -> None:
    result = REPRODUCTIONS["epochs"](tmp_path, problem=SMALL, steps=3000, repeats=8, n_jobs=1)
    files(result, tmp_path)
    row = next(row for row in result.table.rows if row["quantity"] == "scaled step sizes: risk at the minimum 1")
    assert row["measured"] == pytest.approx(row["closed form"], rel=0.5)  # 8 features, 8 draws
    first = epochs.descend({"scaled": True, "steps": [1, 12000], "seed": 0}, SMALL)
    plain = epochs.descend({"scaled": False, "steps": [12000], "seed": 0}, SMALL)
    assert first[1]["test_error"] == pytest.approx(plain[0]["test_error"], rel=1e-3)  # where both have converged
    start = float(np.sum(SMALL.each(SMALL.signals)) * SMALL.noise**2 / SMALL.rows)
    assert first[0]["test_error"] < start and len(first) == 2


def test_mnist1d(tmp_path: Path) -> None:
    grids = {
        mnist1d.LINEAR: {"lr": (0.03,), "weight_decay": (0.0,), "dropout": (0.0,)},
        mnist1d.REGULAR: {"lr": (1e-5, 0.01), "weight_decay": (1e-3,), "dropout": (0.1,)},
    }
    result = REPRODUCTIONS["mnist1d"](tmp_path, data=DATA, grids=grids, seeds=(0, 1), epochs=30, n_jobs=1)
    files(result, tmp_path)
    assert result.table["published"] == ["32 ± 1", "68 ± 2"]
    assert result.table["chosen"][1] == "lr 0.01, weight decay 0.001, dropout 0.1"  # the other one learns nothing
    for column in ("measured", "trained on all rows", "validation"):
        assert all(50 < float(text.split(" ± ")[0]) <= 100 for text in result.table[column])


def test_validation_rows_choose() -> None:
    common = {"model": "MLP", "weight_decay": 0.0, "dropout": 0.0}
    rows = [
        {**common, "lr": 0.1, "seed": 0, "validation": 0.6, "test": 0.9},
        {**common, "lr": 0.1, "seed": 1, "validation": 0.6, "test": 0.9},
        {**common, "lr": 0.2, "seed": 0, "validation": 0.9, "test": 0.1},
        {**common, "lr": 0.2, "seed": 1, "validation": 0.4, "test": 0.1},
    ]
    assert {row["lr"] for row in mnist1d._best(Table(rows), "MLP")} == {0.2}
