"""Promise: experiments measure what they say; the closed form of linear regression is that of simulated problems."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import experiments
from gdcore.experiments import Recipe
from gdcore.experiments.double_descent import AXES, DECAYS, WIDTHS
from gdcore.experiments.linear import gradient_descent, minimum_norm
from gdcore.table import Table

DATA = experiments.gaussian_clusters(60, 200, features=5, classes=3, spread=0.6, seed=7)
QUIET: dict[str, Any] = {"progress": False}


# ----------------------------------------------------------------------------------------------------------- data
def test_redrawn_labels() -> None:
    y = np.arange(20000) % 10
    before = y.copy()
    for share in (0.0, 0.15, 1.0):
        noisy = experiments.redraw_labels(y, share, seed=3)
        helpers.same_bits(noisy, experiments.redraw_labels(y, share, seed=3))
        differ = (noisy != y).mean()
        expected = share * 0.9  # a tenth is unchanged
        assert abs(differ - expected) <= 4 * math.sqrt(expected * (1 - expected) / len(y))
        assert (noisy != y).sum() <= round(share * len(y)) and noisy.min() == 0 and noisy.max() == 9
    assert (noisy != experiments.redraw_labels(y, 1.0, seed=4)).any()
    assert abs(np.bincount(noisy) / len(y) - 0.1).max() < 4 * math.sqrt(0.09 / len(y))
    helpers.same_bits(y, before)
    assert set(experiments.redraw_labels([0, 1] * 200, 1.0, classes=4)) == {0, 1, 2, 3}


def test_mnist1d() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    data = experiments.mnist1d(37, 60)
    assert (random.random(), np.random.rand()) == expected  # the generator seeds both global states and restores them
    assert data.x.shape == (37, 40) and data.x_test.shape == (60, 40) and data.classes == 10 and data.features == 40
    assert data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert data.fingerprint() == experiments.mnist1d(37, 60).fingerprint()
    assert data.fingerprint() != experiments.mnist1d(37, 60, seed=1).fingerprint()
    counts = np.bincount(np.concatenate([data.y, data.y_test]))
    assert counts.min() >= 7 and counts.max() == 10  # 10 of each class were made, 97 of 100 rows used


def test_gaussian_clusters() -> None:
    data = experiments.gaussian_clusters(3000, 20, features=4, classes=3, spread=0.5, seed=1)
    assert data.x.shape == (3000, 4) and data.x_test.shape == (20, 4) and data.classes == 3
    assert (
        data.fingerprint()
        == experiments.gaussian_clusters(3000, 20, features=4, classes=3, spread=0.5, seed=1).fingerprint()
    )
    assert (
        data.fingerprint() != experiments.gaussian_clusters(3000, 20, features=4, classes=3, spread=0.5).fingerprint()
    )
    for label in range(3):
        rows = data.x[data.y == label]
        assert abs(rows.std(axis=0) - 0.5).max() < 0.05 and 900 < len(rows) < 1100


# ------------------------------------------------------------------------------------------------- linear regression
@pytest.mark.parametrize(("n", "d"), [(8, 24), (18, 24), (40, 24), (90, 24)])
def test_closed_form_is_that_of_simulated_problems(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    beta = rng.standard_normal(d)
    beta *= 1.5 / np.linalg.norm(beta)
    x = rng.standard_normal((3000, n, d))
    y = x @ beta + 0.4 * rng.standard_normal((3000, n))
    risks = np.sum(((np.linalg.pinv(x) @ y[..., None])[..., 0] - beta) ** 2, axis=1)
    expected = experiments.linear_excess_risk(n, d, noise=0.4, norm=1.5)
    assert abs(risks.mean() - expected) < 4 * risks.std(ddof=1) / math.sqrt(len(risks))
    assert risks.std(ddof=1) / math.sqrt(len(risks)) < 0.03 * expected  # otherwise the line above could not fail


def test_closed_form_by_hand() -> None:
    risk = experiments.linear_excess_risk
    assert risk(500, 1000, noise=0.1) == pytest.approx(0.5 + 0.01 * 500 / 499)
    assert risk(2000, 1000, noise=0.1) == pytest.approx(0.01 * 1000 / 999)
    assert [risk(n, 1000, noise=0.1) for n in (999, 1000, 1001)] == [math.inf] * 3
    assert risk(10, 20, noise=0, norm=3) == pytest.approx(4.5) and risk(1000, 1000, noise=0) == 0.0
    assert risk(999, 1000, noise=0, norm=2) == pytest.approx(0.004) and risk(1001, 1000, noise=0) == 0.0


@pytest.mark.parametrize("n", [10, 30, 60])
def test_minimum_norm_is_where_gradient_descent_ends(n: int, rng: Any) -> None:
    x, y = rng.standard_normal((n, 30)), rng.standard_normal(n)
    w, eigenvalues = minimum_norm(x, y)
    np.testing.assert_allclose(w, np.linalg.pinv(x) @ y, rtol=1e-8, atol=1e-8 * np.abs(w).max())
    hessian = np.linalg.eigvalsh(2 * x.T @ x / n)[-len(eigenvalues) :]
    np.testing.assert_allclose(eigenvalues, hessian, rtol=1e-8, atol=1e-10)
    if n != 30:
        lr = 2 / (eigenvalues[0] + eigenvalues[-1])
        once, end = gradient_descent(x, y, gd.SGD(lr=lr), [1, 3000])
        np.testing.assert_allclose(end, w, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(once, lr * 2 * x.T @ y / n, rtol=1e-12, atol=1e-14)


def test_linear_samples(tmp_path: Path) -> None:
    result = experiments.double_descent_linear(
        features=40, samples=[10, 20, 36, 38, 60, 120], repeats=20, progress=False, folder=tmp_path
    )
    curve = result.curve()
    assert curve["samples"] == [10, 20, 36, 38, 60, 120] and curve["runs"] == [20] * 6 and result.threshold == 38
    for row in curve.rows:
        expected = experiments.linear_excess_risk(row["samples"], 40, noise=0.1)
        if abs(row["samples"] - 40) > 3:  # nearer, the risk has no variance
            assert abs(row["test_error"] - expected) < 5 * row["test_se"], row
    run = [row for row in result.table.rows if "gradient_descent_risk" in row]
    assert {row["method"] for row in run} >= {"gradient descent", "with momentum"} and len(run) >= 80
    for row in run:
        assert row["gradient_descent_risk"] == pytest.approx(row["test_error"], rel=1e-3)
    settings = json.loads((tmp_path / "sweep.jsonl").read_text().splitlines()[0])["settings"]
    assert settings["problem"] == "linear regression"


# ------------------------------------------------------------------------------------------------------------- networks
def test_epochs_are_those_of_one_run() -> None:
    """The row of epoch 6 equals training for 6 epochs; training labels are noisy, test labels are not."""
    recipe = Recipe(DATA, width=8, epochs=6, label_noise=0.3, batch_size=16)
    result = experiments.double_descent(recipe, "epochs", values=[2, 6], seed=4, **QUIET)
    for epoch, row in zip((2, 6), result.table.rows, strict=True):
        single = experiments.double_descent(replace(recipe, epochs=epoch), values=[8], seed=4, **QUIET)
        assert single.table.rows == [row]
    whole = experiments.double_descent(recipe, "samples", values=[60], seed=4, **QUIET)
    assert whole.table.rows == [row]
    assert row["parameters"] == 5 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3
    decayed = experiments.double_descent(recipe, "weight_decay", values=[0.2, 0.1], seed=4, **QUIET)
    for decay, row in zip((0.1, 0.2), decayed.table.rows, strict=True):
        other = replace(recipe, optimizer=gd.Momentum(0.01, weight_decay=decay))
        single = experiments.double_descent(other, values=[8], seed=4, **QUIET)
        assert single.table.rows == [{name: value for name, value in row.items() if name != "weight_decay"}]
        assert row["weight_decay"] == decay


def network(*widths: int) -> list[gd.Layer]:
    """The layers that a recipe without `build` has."""
    layers: list[gd.Layer] = []
    for inputs, outputs in pairwise(widths):
        layers += [gd.Dense(inputs, outputs, bias_init=gd.Constant(0.0)), gd.ReLU()]
    return layers[:-1]


def test_recipes_compare_without_error() -> None:
    same, other = replace(RECIPE), replace(RECIPE)
    assert same != other and same in (other, same) and len({same, other, RECIPE}) == 3


def test_what_a_row_holds() -> None:
    """The same network trained by hand."""
    y = experiments.redraw_labels(DATA.y, 0.3, classes=3, seed=2)
    dense = network(5, 8, 8, 3)
    threads = gd.get_num_threads()
    gd.set_num_threads(1)
    try:
        trainer = gd.Trainer(gd.Sequential(*dense, seed=2), gd.CrossEntropy(), optimizer=gd.Momentum(0.01))
        trainer.fit(DATA.x, y, epochs=5, batch_size=10)
        expected = {
            "train_error": np.mean(trainer.model.predict_classes(DATA.x) != y),
            "test_error": np.mean(trainer.model.predict_classes(DATA.x_test) != DATA.y_test),
            "train_loss": trainer.evaluate(DATA.x, y)["loss"],
            "test_loss": trainer.evaluate(DATA.x_test, DATA.y_test)["loss"],
        }
    finally:
        gd.set_num_threads(threads)
    recipe = Recipe(tuple(DATA), epochs=5, batch_size=10, label_noise=0.3)  # a plain tuple of arrays does
    result = experiments.double_descent(recipe, values=[8], seed=2, **QUIET)
    for name, value in expected.items():
        assert result.table[name] == [pytest.approx(value, abs=1e-12)], name


def test_sample_sets_grow() -> None:
    """A set of n rows is the first n of one random order, with the labels of the whole set."""
    y = experiments.redraw_labels(DATA.y, 0.5, classes=3, seed=1)
    order = gd._core.permutation(60, 1, 0)
    recipe = Recipe(DATA, width=4, epochs=3, label_noise=0.5)
    result = experiments.double_descent(recipe, "samples", values=[10, 25], seed=1, **QUIET)
    for n, row in zip((10, 25), result.table.rows, strict=True):
        model = gd.Sequential(*network(5, 4, 4, 3), seed=1)
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Momentum(0.01))
        trainer.fit(DATA.x[order[:n]], y[order[:n]], epochs=3, batch_size=None)  # batches of 100: all of them
        assert row["samples"] == n
        assert row["train_loss"] == pytest.approx(trainer.evaluate(DATA.x[order[:n]], y[order[:n]])["loss"], rel=1e-5)


def test_values_left_out() -> None:
    """The default values of each setting."""
    recipe = Recipe(experiments.gaussian_clusters(250, 20, features=3, classes=2), epochs=3, width=2, batch_size=None)
    swept = {over: experiments.double_descent(recipe, over, **QUIET).table for over in AXES}
    assert {over: AXES[over] in table for over, table in swept.items()} == dict.fromkeys(AXES, True)
    assert swept["width"]["width"] == list(WIDTHS) and swept["width"]["parameters"][0] == 3 * 2 + 2 + 6 + 6
    assert swept["epochs"]["epoch"] == [1, 2, 3] and swept["samples"]["samples"] == [100, 200]
    assert swept["weight_decay"]["weight_decay"] == list(DECAYS)


def test_random_labels() -> None:
    data = experiments.gaussian_clusters(90, 600, features=5, classes=3, spread=0.3, seed=7)
    recipe = Recipe(data, width=100, epochs=400, batch_size=30, optimizer=gd.Adam(0.003))
    result = experiments.random_labels(recipe, shares=[1.0, 0.0], **QUIET)
    true, randomised = result.summary().rows
    assert (true["label_noise"], randomised["label_noise"]) == (0.0, 1.0)
    assert true["train_accuracy"] == randomised["train_accuracy"] == 1.0
    assert true["test_accuracy"] > 0.8 and abs(randomised["test_accuracy"] - 1 / 3) < 0.2
    assert true["epochs_to_fit"] < randomised["epochs_to_fit"]
    said = f"{true['test_accuracy']:.0%} with 0% random, {randomised['test_accuracy']:.0%} with 100% random"
    assert result.sentence() == f"100% random labels are fitted too; test accuracy: {said} (guessing: 33%)"


def test_sentence_of_random_labels() -> None:
    def said(*rows: tuple[float, float, float]) -> str:
        table = Table(
            {"label_noise": share, "seed": 0, "epoch": 1, "train_error": 1 - train, "test_error": 1 - test}
            for share, train, test in rows
        )
        return experiments.RandomLabels(table, 4, 1.0).sentence()

    one = "50% random labels are fitted; test accuracy: 40% with 50% random (guessing: 25%)"
    assert said((0.5, 1.0, 0.4)) == one
    both = "100% random labels are fitted to 90.0%; test accuracy: 25% with 0% random, 25% with 100% random"
    assert said((0.0, 1.0, 0.25), (1.0, 0.9, 0.25)).startswith(both)  # the sentence says nothing of a fall
    assert "are fitted; test" in said((0.0, 0.5, 0.25), (1.0, 1.0, 0.25))  # not "too": the true labels were not


# -------------------------------------------------------------------------------------------------------- results
def made(test: list[list[float]], train: list[float], axis: str = "width") -> experiments.DoubleDescent:
    """A result whose value i has the test errors test[i], one a seed."""
    rows = [
        {axis: 10 * (i + 1), "seed": seed, "train_error": train[i], "test_error": value}
        for i, values in enumerate(test)
        for seed, value in enumerate(values)
    ]
    return experiments.DoubleDescent(axis, "train_error", "test_error", "error", Table(rows), 0.005, 1.0)


TRAIN = [0.5, 0.3, 0.1, 0.0, 0.0]


def test_peak_and_threshold() -> None:
    seen = made([[0.6], [0.4], [0.5], [0.45], [0.3]], TRAIN)
    assert (seen.peak, seen.threshold) == (30, 40)
    assert seen.sentence() == "Test error falls to 0.4 at 20, peaks at 0.5 at 30, falls again to 0.3 at 50 units"
    assert made([[0.6], [0.4], [0.5], [0.45], [0.3]], TRAIN, "samples").threshold == 50
    falling = made([[0.6], [0.5], [0.45], [0.4], [0.399]], [0.5] * 5)
    assert (falling.peak, falling.threshold) == (None, None) and falling.sentence().startswith("No second descent")
    assert made([[0.6], [0.4], [0.405], [0.4], [0.3]], TRAIN).peak is None  # it rises by less than 2 %
    noisy = made([[0.6, 0.6], [0.2, 0.6], [0.5, 0.5], [0.3, 0.5], [0.3, 0.3]], TRAIN)
    assert noisy.curve()["test_se"][1] == pytest.approx(0.2) and noisy.peak is None  # within the noise
    sure = made([[0.6, 0.8], [0.2, 0.6], [0.3, 0.7], [0.1, 0.5], [0.1, 0.4]], TRAIN)
    assert sure.peak == 30  # the seeds differ from each other, but each of them has it
    never_fell = made([[0.3], [0.5], [0.2]], [0.5] * 3)
    assert never_fell.peak is None
    assert never_fell.sentence() == "No second descent: test error is lowest, 0.2, at 30 units"
    assert made([[0.405], [0.4], [0.5], [0.2]], TRAIN).peak is None  # it fell by less than 2 %
    assert made([[0.3, 0.9], [0.5, 0.3], [0.7, 0.5], [0.3, 0.1]], TRAIN).peak is None  # it fell within the noise
    later = made([[0.3], [0.9], [0.2], [0.4], [0.1]], TRAIN)
    assert later.peak == 40  # the higher point at 20 had no fall before it
    assert later.sentence() == "Test error falls to 0.2 at 30, peaks at 0.4 at 40, falls again to 0.1 at 50 units"
    by_decay = made([[0.3], [0.45], [0.5], [0.4], [0.6]], [0.0, 0.0, 0.1, 0.3, 0.5], "weight_decay")
    assert by_decay.curve()["weight_decay"] == [50, 40, 30, 20, 10]  # from strong to weak
    assert (by_decay.peak, by_decay.threshold) == (30, 20)
    assert by_decay.sentence().endswith("falls to 0.4 at 40, peaks at 0.5 at 30, falls again to 0.3 at λ = 10")
    assert "not finite" in made([[0.6], [math.nan], [0.3]], TRAIN).sentence()


def test_pictures(tmp_path: Path) -> None:
    seen = made([[0.6, 0.61], [0.4, 0.41], [0.5, 0.5], [0.45, 0.45], [0.3, 0.31]], TRAIN)
    axes = seen.plot(tmp_path / "width.png")
    own = axes.figure.add_subplot()
    seen.draw(own)
    assert len(own.lines) == len(axes.lines) > 2 and own.get_title(loc="left") == seen.sentence()
    assert axes.get_title(loc="left") == seen.sentence() and axes.get_xlabel() and axes.get_ylabel()
    assert (tmp_path / "width.png").stat().st_size > 5000
    by_decay = made([[0.3], [0.45], [0.5], [0.4], [0.6]], TRAIN, "weight_decay")
    low, high = by_decay.plot(tmp_path / "decay.png").get_xlim()
    assert low > high  # from strong to weak
    result = experiments.random_labels(Recipe(DATA, epochs=3, width=4), shares=[0, 1], **QUIET)
    assert result.sentence() == result.plot(tmp_path / "labels.svg").get_title(loc="left")
    assert "</svg>" in (tmp_path / "labels.svg").read_text()


# ------------------------------------------------------------------------------------------------------- refusals
X, Y, XT, YT = DATA
RECIPE = Recipe(DATA, epochs=1, width=2)
linear = experiments.double_descent_linear


def sweep(over: str = "width", recipe: Any = RECIPE, **given: Any) -> Any:
    return experiments.double_descent(recipe, over, **{**QUIET, **given})


def labels(**given: Any) -> Any:
    return experiments.random_labels(RECIPE, **given, **QUIET)


def build(function: Any) -> Any:
    return sweep(recipe=replace(RECIPE, build=function))


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "recipe": (lambda: sweep(recipe=DATA), TypeError, "^recipe: got LabelledData"),
    "recipe of labels": (lambda: experiments.random_labels(DATA), TypeError, "^recipe: got LabelledData"),
    "over": (lambda: sweep("depth"), ValueError, "^over: got 'depth'; expected one of 'width', 'epochs'"),
    "data missing": (lambda: Recipe(), TypeError, "data is missing"),
    "data": (lambda: Recipe(X), TypeError, "^data: got"),
    "data parts": (lambda: Recipe((X, Y, (XT, YT))), TypeError, "^data: got"),
    "setting": (lambda: Recipe(DATA, label_niose=0.1), TypeError, "label_niose is not among its arguments"),
    "test rows": (lambda: Recipe((X, Y, X, Y[:9])), ValueError, "^y_test"),
    "test columns": (lambda: Recipe((X, Y, X[:, :2], Y)), ValueError, "^x_test: got 2"),
    "rows differ": (lambda: Recipe((X, Y[:9], XT, YT)), ValueError, "^y"),
    "nan": (lambda: Recipe((X * np.nan, Y, XT, YT)), ValueError, "^x"),
    "x shape": (lambda: Recipe((X[0], Y, XT, YT)), ValueError, "^x"),
    "labels": (lambda: Recipe((X, Y - 1, XT, YT)), ValueError, "^y.*label -1"),
    "labels kind": (lambda: Recipe((X, Y + 0.5, XT, YT)), TypeError, "^y"),
    "widths": (lambda: sweep(values=8), TypeError, "^values"),
    "widths none": (lambda: sweep(values=[]), ValueError, "^values"),
    "widths zero": (lambda: sweep(values=[4, 0]), ValueError, r"^values\[1\]"),
    "epochs zero": (lambda: Recipe(DATA, epochs=0), ValueError, "^epochs"),
    "epochs": (lambda: sweep("epochs", values="10"), TypeError, "^values"),
    "epochs list": (lambda: sweep("epochs", values=[0, 3]), ValueError, r"^values\[0\]"),
    "batch_size": (lambda: Recipe(DATA, batch_size=0), ValueError, "^batch_size"),
    "label_noise": (lambda: Recipe(DATA, label_noise=1.5), ValueError, "^label_noise"),
    "repeats": (lambda: sweep(repeats=0), ValueError, "^repeats"),
    "seed": (lambda: sweep(seed=-1), ValueError, "^seed"),
    "optimizer": (lambda: Recipe(DATA, optimizer="adam"), TypeError, "^optimizer"),
    "build": (lambda: Recipe(DATA, [gd.Dense(5, 3)]), TypeError, "^build"),
    "build layer": (lambda: build(lambda h: gd.Dense(5, 3)), TypeError, "^build"),
    "build sizes": (lambda: build(lambda h: [gd.Dense(5, h)]), ValueError, "^build: width 2 "),
    "schedule": (lambda: sweep(recipe=Recipe(DATA, optimizer=gd.SGD(lambda s: -1.0))), ValueError, "^lr: .* step 0"),
    "samples": (lambda: sweep("samples", values=[61]), ValueError, "^values: got 61.*60"),
    "width": (lambda: Recipe(DATA, width=0), ValueError, "^width"),
    "decays": (lambda: sweep("weight_decay", values=0.1), TypeError, "^values: got 0.1; expected a list of numbers"),
    "decays zero": (lambda: sweep("weight_decay", values=[0.1, 0.0]), ValueError, r"^values\[1\]: got 0.0"),
    "decays kind": (lambda: sweep("weight_decay", values=["a"]), TypeError, r"^values\[0\]"),
    "linear width": (lambda: linear(width=3), TypeError, "width"),
    "linear samples": (lambda: linear(samples=[5, 0]), ValueError, r"^samples\[1\]"),
    "linear samples kind": (lambda: linear(samples=5), TypeError, "^samples"),
    "linear repeats": (lambda: linear(repeats=0), ValueError, "^repeats"),
    "features": (lambda: linear(features=1), ValueError, "^features"),
    "noise": (lambda: linear(noise=-1), ValueError, "^noise"),
    "noise kind": (lambda: linear(noise="0.1"), TypeError, "^noise"),
    "shares": (lambda: labels(shares=0.5), TypeError, "^shares"),
    "shares none": (lambda: labels(shares=[]), ValueError, "^shares"),
    "share": (lambda: labels(shares=[0, 2]), ValueError, r"^shares\[1\]"),
    "redraw": (lambda: experiments.redraw_labels([0.5], 0.1), TypeError, "^y"),
    "redraw classes": (lambda: experiments.redraw_labels([0, 5], 0.1, classes=3), ValueError, "^classes"),
    "redraw share": (lambda: experiments.redraw_labels([0, 5], -0.1), ValueError, "^share"),
    "redraw none": (lambda: experiments.redraw_labels(np.zeros(0, int), 0.1), ValueError, "^y"),
    "clusters": (lambda: experiments.gaussian_clusters(classes=1), ValueError, "^classes"),
    "clusters spread": (lambda: experiments.gaussian_clusters(spread=-1), ValueError, "^spread"),
    "mnist1d": (lambda: experiments.mnist1d(0), ValueError, "^train"),
    "mnist1d seed": (lambda: experiments.mnist1d(10, 10, seed=2**32), ValueError, "^seed"),
    "risk": (lambda: experiments.linear_excess_risk(0, 3, noise=1), ValueError, "^samples"),
    "risk norm": (lambda: experiments.linear_excess_risk(1, 3, noise=1, norm=math.nan), ValueError, "^norm"),
    "curve": (lambda: labels(shares=[0]).curve(0.3), ValueError, "^label_noise: got 0.3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    threads, before = gd.get_num_threads(), (X.tobytes(), Y.tobytes())
    call, kind, words = REFUSED[name]
    helpers.refuses(call, kind, words)
    assert (X.tobytes(), Y.tobytes()) == before and gd.get_num_threads() == threads
