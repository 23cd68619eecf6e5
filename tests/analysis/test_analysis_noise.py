"""Promise: the measured noise of mini-batch gradients agrees with σ/√K, with σ of the gradients of single rows; the
model does not change, and memory holds no more than one batch."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.analysis import Objective
from gdcore.analysis.noise import GradientNoise, gradient_noise


def classifier(hidden: int = 8) -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(4, hidden), gd.LayerNorm(hidden), gd.Tanh(), gd.Dense(hidden, 3), seed=2, dtype="float64"
    )


def data(rng: Any, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((rows, 4)), rng.integers(0, 3, rows)


def row_gradients(model: gd.Sequential, loss: Any, x: Any, y: Any, **options: Any) -> np.ndarray:
    rows = range(len(x))
    return np.array([Objective(model, loss, x[n : n + 1], y[n : n + 1], **options).gradient() for n in rows])


def within_errors(result: GradientNoise, sizes: int) -> None:
    """The measured noise is the predicted one, up to 4 standard errors (which must be small), for the first sizes."""
    measured, predicted, error = (a[:sizes] for a in (result.measured, result.predicted, result.standard_error))
    assert (np.abs(measured - predicted) <= 4 * error).all(), str(result)
    assert (error < 0.1 * measured).all()


LOSSES: dict[str, tuple[gd.Loss, Any]] = {
    "labels": (gd.CrossEntropy(label_smoothing=0.1), lambda rng: rng.integers(0, 3, 300).astype(np.int32)),
    "soft targets": (gd.CrossEntropy(), lambda rng: rng.dirichlet(np.ones(3), 300)),
    "positive weight": (gd.BinaryCrossEntropy(3.0), lambda rng: rng.integers(0, 2, (300, 3)).astype(bool)),
    "regression": (gd.MeanSquaredError(), lambda rng: np.asfortranarray(rng.standard_normal((300, 3)))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_sigma_is_that_of_the_rows_and_batches_follow(name: str, rng: Any) -> None:
    loss, make = LOSSES[name]
    model, x, y = classifier(), np.asfortranarray(rng.standard_normal((300, 4)), np.float32), make(rng)
    before = helpers.snapshot(model)
    result = gradient_noise(model, loss, x, y, batch_sizes=(1, 4, 16, 64))
    helpers.same_bits(before, helpers.snapshot(model))
    each = row_gradients(model, loss, x, y)
    g = each.mean(axis=0)
    assert result.sigma == pytest.approx(math.sqrt(((each - g) ** 2).sum(axis=1).mean()), rel=1e-12)
    assert result.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-10)
    assert result.noise_scale == pytest.approx(result.sigma**2 / (g @ g), rel=1e-9)
    np.testing.assert_allclose(result.predicted, result.sigma / np.array([1, 2, 4, 8]), rtol=1e-14)
    within_errors(result, 4)
    assert result.slope == pytest.approx(-0.5, rel=0.05)
    np.testing.assert_allclose(result.ratio, result.measured / result.predicted)


HALF: dict[str, tuple[gd.Loss, Any]] = {
    "labels": (gd.CrossEntropy(), lambda rng: rng.integers(0, 3, 60)),
    "soft targets": (gd.CrossEntropy(), lambda rng: np.eye(3, dtype=np.float16)[rng.integers(0, 3, 60)]),
    "regression": (gd.MeanSquaredError(), lambda rng: rng.standard_normal((60, 3)).astype(np.float16)),
}


@pytest.mark.parametrize("mode", ["prediction", "training"])
@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f2", ">f8", np.longdouble, object, list])
def test_numbers_of_any_type_give_the_same_noise(name: str, mode: Any, kind: Any, rng: Any) -> None:
    """The core reads overwritten rows in place; for some types it would keep a copy."""
    loss, make = HALF[name]
    x, y = rng.standard_normal((60, 4)).astype(np.float16), make(rng)
    layers = [gd.Dropout(0.5)] if mode == "training" else []
    model = gd.Sequential(gd.Dense(4, 3), *layers, gd.Tanh(), gd.Dense(3, 3), seed=0, dtype="float64")
    options: dict[str, Any] = {"batch_sizes": (1, 8), "n_batches": 20, "mode": mode}
    expected = gradient_noise(model, loss, x.astype(np.float64), y.astype(y.dtype.kind + "8"), **options)
    given = [a.tolist() if kind is list else a.astype(kind) if a.dtype.kind == "f" else a for a in (x, y)]
    result = gradient_noise(model, loss, *given, **options)
    helpers.same_bits(result.measured, expected.measured)
    assert result.sigma == expected.sigma or (math.isnan(result.sigma) and layers)


def test_hundred_times_the_batch_has_a_tenth_of_the_noise(rng: Any) -> None:
    result = gradient_noise(classifier(), gd.CrossEntropy(), *data(rng, 1000), batch_sizes=(10, 1000), n_batches=400)
    assert result.predicted[0] / result.predicted[1] == pytest.approx(10)
    assert result.measured[0] / result.measured[1] == pytest.approx(10, rel=0.1)
    assert result.slope == pytest.approx(math.log10(result.measured[1] / result.measured[0]) / 2)


def test_without_replacement(rng: Any) -> None:
    x, y = data(rng, 100)
    problem = (classifier(), gd.CrossEntropy(), x, y)
    result = gradient_noise(*problem, batch_sizes=(1, 25, 75, 100), replace=False)
    k = np.array([1, 25, 75, 100])
    np.testing.assert_allclose(result.predicted, result.sigma / np.sqrt(k) * np.sqrt((100 - k) / 99), rtol=1e-14)
    assert result.measured[3] < 1e-13 * result.sigma and math.isnan(result.ratio[3])  # all rows: no noise
    within_errors(result, 3)
    drawn_again = gradient_noise(*problem, batch_sizes=(25, 75))
    assert drawn_again.measured[1] > 1.5 * result.measured[2]  # √(25/99) makes the difference
    single = gradient_noise(classifier(), gd.CrossEntropy(), x[:1], y[:1], batch_sizes=(1,), replace=False)
    assert single.sigma == single.predicted[0] == single.measured[0] == 0 and math.isnan(single.slope)


def test_standard_error_is_the_spread_of_repetitions(rng: Any) -> None:
    problem = (classifier(), gd.CrossEntropy(), *data(rng, 50))
    found = [gradient_noise(*problem, batch_sizes=(5,), n_batches=40, seed=s) for s in range(60)]
    spread = float(np.std([r.measured[0] for r in found]))
    assert spread == pytest.approx(float(np.mean([r.standard_error[0] for r in found])), rel=0.4)


def test_same_seed_same_bits(rng: Any) -> None:
    problem = (classifier(), gd.CrossEntropy(), *data(rng))
    first, second = (gradient_noise(*problem, batch_sizes=(3,), n_batches=5, seed=1) for _ in range(2))
    helpers.same_bits(first.measured, second.measured)
    assert gradient_noise(*problem, batch_sizes=(3,), n_batches=5, seed=2).measured != first.measured


def test_modes(rng: Any) -> None:
    """Both modes are the same without BatchNorm and Dropout, but for rounding in batches of few rows; in prediction
    BatchNorm's averages are constant."""
    x, y = data(rng)
    options: dict[str, Any] = {"batch_sizes": (2,), "n_batches": 5}
    training = gradient_noise(classifier(), gd.CrossEntropy(), x, y, mode="training", **options)
    prediction = gradient_noise(classifier(), gd.CrossEntropy(), x, y, **options)
    np.testing.assert_allclose(training.measured, prediction.measured, rtol=1e-12)
    model = gd.Sequential(gd.Dense(4, 5), gd.BatchNorm(5), gd.Dropout(0.5), gd.Dense(5, 3), seed=0, dtype="float64")
    each = row_gradients(model, gd.CrossEntropy(), x, y, mode="prediction")
    sigma = gradient_noise(model, gd.CrossEntropy(), x, y, **options).sigma
    assert sigma == pytest.approx(math.sqrt(((each - each.mean(axis=0)) ** 2).sum(axis=1).mean()), rel=1e-12)


def coupled(*middle: gd.Layer) -> gd.Sequential:
    return gd.Sequential(gd.Dense(4, 5), *middle, gd.Tanh(), gd.Dense(5, 3), seed=0, dtype="float64")


def test_batch_norm_in_training(rng: Any) -> None:
    """The distance is measured from the gradient of all rows in one batch; each batch uses its own statistics."""
    model, loss, (x, y) = coupled(gd.BatchNorm(5)), gd.CrossEntropy(), data(rng)
    before = helpers.snapshot(model)
    result = gradient_noise(model, loss, x, y, batch_sizes=(2, 20, 300), mode="training", replace=False, seed=3)
    helpers.same_bits(before, helpers.snapshot(model))
    g, draw = Objective(model, loss, x, y).gradient(), np.random.default_rng(3)
    squares = []
    for k in (2, 20):
        rows = [draw.choice(300, size=k, replace=False) for _ in range(200)]
        squares.append([((Objective(model, loss, x[r], y[r]).gradient() - g) ** 2).sum() for r in rows])
    np.testing.assert_allclose(result.measured[:2], np.sqrt(np.mean(squares, axis=1)), rtol=1e-9)
    assert result.gradient_norm == pytest.approx(np.linalg.norm(g)) and result.measured[2] < 1e-12
    assert math.isnan(result.sigma) and math.isnan(result.noise_scale) and np.isnan(result.predicted).all()
    assert np.isnan(result.ratio).all() and -2 < result.slope < 0  # only sizes with noise; a batch of all rows has none
    assert result.slope == pytest.approx(math.log(result.measured[1] / result.measured[0]) / math.log(10))
    assert result.note.startswith("BatchNorm couples the rows") and result.note in str(result)


def test_dropout_in_training(rng: Any) -> None:
    """Every row of every batch has its own mask, so the noise is that of rows and masks drawn together."""
    model, loss, (x, y) = coupled(gd.Dropout(0.5)), gd.CrossEntropy(), data(rng)
    before = helpers.snapshot(model)
    sizes = (1, 4, 16)
    result = gradient_noise(model, loss, x, y, batch_sizes=sizes, mode="training", n_batches=600)
    helpers.same_bits(before, helpers.snapshot(model))
    rows = [slice(n, n + 1) for n in range(300)] * 4
    each = np.array([Objective(coupled_like(model, s), loss, x[r], y[r]).gradient() for s, r in enumerate(rows)])
    sigma = math.sqrt(((each - each.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(result.measured, sigma / np.sqrt(sizes), rtol=0.1)
    assert result.gradient_norm == pytest.approx(np.linalg.norm(each.mean(axis=0)), rel=0.2)
    assert result.note.startswith("Dropout draws anew") and result.slope == pytest.approx(-0.5, rel=0.1)
    again = gradient_noise(model, loss, x, y, batch_sizes=sizes, mode="training", n_batches=600)
    helpers.same_bits(result.measured, again.measured)
    idle = gradient_noise(coupled(gd.Dropout(0.0)), loss, x, y, batch_sizes=(2,), mode="training", n_batches=5)
    assert idle.note == "" and idle.sigma > 0


def coupled_like(model: gd.Sequential, seed: int) -> gd.Sequential:
    """The same model with other masks."""
    other = gd.Sequential(*model.layers, seed=seed, dtype="float64")
    other.set_flat_parameters(model.flat_parameters())
    return other


def test_both_layers_that_couple(rng: Any, tmp_path: Any) -> None:
    model = coupled(gd.BatchNorm(5), gd.Dropout(0.2))
    result = gradient_noise(model, gd.CrossEntropy(), *data(rng), batch_sizes=(5, 50), n_batches=20, mode="training")
    assert "BatchNorm couples the rows of a batch and Dropout draws anew" in result.note
    axes = result.plot(tmp_path / "noise.svg")
    assert not [text.get_text() for text in axes.get_legend().get_texts() if "predicted" in text.get_text()]
    single = gradient_noise(model, gd.CrossEntropy(), *data(rng), batch_sizes=(5,), n_batches=5, mode="training")
    title = single.plot(tmp_path / "one.svg").get_title(loc="left")
    assert title == f"Gradient noise of a batch of 5 rows: {single.measured[0]:.3g}"


def test_layers_inside_a_block_couple_too(rng: Any) -> None:
    for inside, why in ((gd.BatchNorm(5), "BatchNorm couples"), (gd.Dropout(0.2), "Dropout draws anew")):
        model, options = coupled(gd.Residual(inside)), {"batch_sizes": (4,), "n_batches": 5}
        result = gradient_noise(model, gd.CrossEntropy(), *data(rng), mode="training", **options)
        assert result.note.startswith(why) and np.isnan(result.sigma)


def test_no_gradient_no_scale(rng: Any) -> None:
    """If every row is fitted exactly, there is neither gradient nor noise."""
    model = gd.Sequential(gd.Dense(4, 1, init=gd.Constant(0.0)), seed=0, dtype="float64")
    x = rng.standard_normal((20, 4))
    result = gradient_noise(model, gd.MeanSquaredError(), x, np.zeros(20), batch_sizes=(1, 2), n_batches=3)
    assert result.sigma == result.gradient_norm == 0 and result.noise_scale == math.inf
    assert np.isnan(result.ratio).all() and math.isnan(result.slope)


def test_memory_is_bounded(rng: Any) -> None:
    """Promise: the gradients of all rows, N x P, are never in memory together."""
    model = classifier(2000)
    x, y = data(rng, 200)
    gradient = Objective(model, gd.CrossEntropy(), x, y).gradient()
    tracemalloc.start()
    try:
        gradient_noise(model, gd.CrossEntropy(), x, y, batch_sizes=(1, 50), n_batches=20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert gradient.nbytes < peak < 10 * gradient.nbytes


def test_shown(tmp_path: Any, rng: Any) -> None:
    result = gradient_noise(classifier(), gd.CrossEntropy(), *data(rng), batch_sizes=(100, 1, 10), n_batches=50)
    table = result.table()
    assert table["K"] == [100, 1, 10] and table["predicted"][1] == result.sigma
    text = str(result)
    assert f"{result.sigma:.4g}" in text and f"K^{result.slope:.3f}" in text and "ratio" in text
    axes = result.plot(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > 5000
    assert f"K^{result.slope:.2f}" in axes.get_title(loc="left")
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 10, 100])
    one = gradient_noise(classifier(), gd.CrossEntropy(), *data(rng), batch_sizes=(3,), n_batches=2)
    assert "single row" in one.plot(tmp_path / "one.svg").get_title(loc="left")


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "float32": (lambda p: gradient_noise(p["f32"], *p["rest"]), TypeError, "^model.*float64"),
    "loss": (lambda p: gradient_noise(p["model"], "ce", p["x"], p["y"]), TypeError, "^loss"),
    "rows": (lambda p: gradient_noise(p["model"], p["loss"], p["x"], p["y"][:2]), ValueError, "^y"),
    "nan": (lambda p: gradient_noise(p["model"], p["loss"], p["x"] * np.nan, p["y"]), ValueError, "x"),
    "number": (lambda p: gradient_noise(*p["all"], batch_sizes=10), TypeError, "^batch_sizes: got 10"),
    "text": (lambda p: gradient_noise(*p["all"], batch_sizes="10"), TypeError, "^batch_sizes"),
    "none": (lambda p: gradient_noise(*p["all"], batch_sizes=()), ValueError, "^batch_sizes: got none"),
    "zero": (lambda p: gradient_noise(*p["all"], batch_sizes=(1, 0)), ValueError, r"^batch_sizes\[1\]: got 0"),
    "half": (lambda p: gradient_noise(*p["all"], batch_sizes=(1.5,)), TypeError, r"^batch_sizes\[0\]"),
    "too many": (
        lambda p: gradient_noise(*p["all"], batch_sizes=(1, 13), replace=False),
        ValueError,
        "^batch_sizes: got 13; expected at most 12",
    ),
    "one batch": (lambda p: gradient_noise(*p["all"], n_batches=1), ValueError, "^n_batches: got 1"),
    "batches": (lambda p: gradient_noise(*p["all"], n_batches=None), TypeError, "^n_batches"),
    "replace": (lambda p: gradient_noise(*p["all"], replace="no"), TypeError, "^replace"),
    "seed": (lambda p: gradient_noise(*p["all"], seed=-1), ValueError, "^seed"),
    "mode": (lambda p: gradient_noise(*p["all"], mode="eval"), ValueError, "^mode"),
    "batch norm": (
        lambda p: gradient_noise(p["norm"], *p["rest"], batch_sizes=(5, 1), mode="training"),
        ValueError,
        "^batch_sizes: got 1; expected at least 2 rows.*BatchNorm",
    ),
    "class weights": (
        lambda p: gradient_noise(p["model"], gd.CrossEntropy([1.0, 2.0, 1.0]), p["x"], p["y"]),
        ValueError,
        "^loss.*class weights",
    ),
    "soft sums": (
        lambda p: gradient_noise(p["model"], p["loss"], p["x"], np.full((12, 3), 0.5)),
        ValueError,
        "^y: got soft",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    layers = (gd.Dense(4, 3), gd.Tanh())
    given: dict[str, Any] = {
        "model": gd.Sequential(*layers, seed=0, dtype="float64"),
        "f32": gd.Sequential(*layers, seed=0),
        "norm": gd.Sequential(*layers, gd.BatchNorm(3), seed=0, dtype="float64"),
        "loss": gd.CrossEntropy(),
        "x": rng.standard_normal((12, 4)),
        "y": rng.integers(0, 3, 12),
    }
    given["rest"] = (given["loss"], given["x"], given["y"])
    given["all"] = (given["model"], *given["rest"])
    before = helpers.snapshot(given["model"])
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(given["model"]))
