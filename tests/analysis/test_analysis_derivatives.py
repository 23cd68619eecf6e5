"""Promise: gradients and Hessian-vector products of every layer, loss and mode agree with finite differences to 1e-6,
the Hessian is their matrix, eigenvalues come from it, and nothing of the model changes."""

from __future__ import annotations

import time
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gradient_cases import LAYERS, LOSSES, agree, away_from_kinks, losses

H = 1e-5
MODES = pytest.mark.parametrize("mode", ["training", "prediction"])


def build(layers: list[Any], rng: Any) -> gd.Sequential:
    model = gd.Sequential(*layers, seed=3, dtype="float64")
    helpers.randomize(model, rng, 0.6)
    for name, view in model.buffers().items():
        if "running" in name:
            view[...] = rng.uniform(0.5, 1.5, view.shape)
    return model


def differences(function: Any, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The derivative of `function` at w along v."""
    return (np.asarray(function(w + H * v)) - np.asarray(function(w - H * v))) / (2 * H)


@MODES
@pytest.mark.parametrize("name", [*LAYERS, "Dropout", "Standardizer"])
def test_every_layer(name: str, mode: Any, rng: Any) -> None:
    extra = {
        "Dropout": [gd.Dense(4, 6), gd.Dropout(0.3), gd.Tanh(), gd.Dropout(0.5), gd.Dense(6, 3)],
        "Standardizer": [gd.Standardizer(4, mean=[0.1, 0.2, 0.3, 0.4], std=[1.0, 2.0, 0.5, 1.5]), gd.Dense(4, 3)],
    }
    layers = {**LAYERS, **extra}[name]
    model = build([gd.Dense(4, 4), *layers] if "Dense" not in repr(layers[0]) else layers, rng)
    x = away_from_kinks(model, list(model.layers), rng, 7) if "ReLU" in name else rng.standard_normal((7, 4))
    objective = analysis.Objective(
        model, gd.MeanSquaredError(), x, rng.standard_normal((7, model.out_features)), mode=mode
    )
    w, v = objective.point, rng.standard_normal(objective.size)
    assert w.size == sum(view.size for view in model.parameters().values())
    agree(np.array([objective.gradient() @ v]), np.array([differences(objective.value, w, v)]))
    agree(objective.hvp(v), differences(objective.gradient, w, v))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", range(LOSSES))
def test_every_loss(case: int, weighted: bool, rng: Any) -> None:
    loss, y = losses(rng)[case]
    model = build([gd.Dense(4, 5), gd.BatchNorm(5), gd.GELU(), gd.Dense(5, 3)], rng)
    weights = rng.uniform(0.2, 2, 6) if weighted else None
    objective = analysis.Objective(model, loss, rng.standard_normal((6, 4)), y, sample_weight=weights)
    w, v = objective.point, rng.standard_normal(objective.size)
    agree(np.array([objective.gradient() @ v]), np.array([differences(objective.value, w, v)]))
    agree(objective.hvp(v), differences(objective.gradient, w, v))


def test_cross_entropy_over_many_classes(rng: Any) -> None:
    """Rows with more logits than the loss processes at once."""
    model = build([gd.Dense(2, 1100)], rng)
    objective = analysis.Objective(model, gd.CrossEntropy(), rng.standard_normal((3, 2)), [5, 1099, 7])
    w, v = objective.point, rng.standard_normal(objective.size)
    agree(objective.hvp(v), differences(objective.gradient, w, v))


def test_values_are_those_of_training(rng: Any) -> None:
    """Promise: the objective equals the loss that step returns and evaluate measures, its gradient that of backward."""
    model = build([gd.Dense(4, 5), gd.BatchNorm(5), gd.Tanh(), gd.Dense(5, 3)], rng)
    x, y = rng.standard_normal((9, 4)), rng.integers(0, 3, 9)
    before = helpers.snapshot(model)
    training = analysis.Objective(model, gd.CrossEntropy(), x, y)
    prediction = analysis.Objective(model, gd.CrossEntropy(), x, y, mode="prediction")
    value, gradient = training.value_and_gradient()
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(1.0))
    assert prediction.value() == pytest.approx(trainer.evaluate(x, y)["loss"], rel=1e-14)
    helpers.same_bits(before, helpers.snapshot(model))
    assert trainer.step(x, y) == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(before["parameters"] - model.flat_parameters(), model.flat_gradients(), atol=1e-15)
    np.testing.assert_allclose(
        gradient, np.concatenate([g.ravel() for g in model.gradients().values()]), rtol=1e-12, atol=1e-15
    )


def test_many_rows_are_one_mean(rng: Any) -> None:
    """Rows that are computed in several batches, with weights that differ from batch to batch."""
    model = build([gd.Dense(4, 1050), gd.Tanh(), gd.LayerNorm(1050), gd.Dense(1050, 3)], rng)
    rows = 7001  # of 2,107 outputs each: four batches, the last one short
    x, y, s = rng.standard_normal((rows, 4)), rng.integers(0, 3, rows), rng.uniform(0, 2, rows) ** 3
    loss = gd.CrossEntropy([0.5, 2.0, 1.0])
    whole = analysis.Objective(model, loss, x, y, sample_weight=s)
    v = rng.standard_normal(whole.size)
    value, gradient, product, total = 0.0, np.zeros(whole.size), np.zeros(whole.size), 0.0
    for part in np.array_split(np.arange(rows), 9):
        some = analysis.Objective(model, loss, x[part], y[part], sample_weight=s[part])
        weight = (s[part] * np.array([0.5, 2.0, 1.0])[y[part]]).sum()
        value += weight * some.value()
        gradient += weight * some.gradient()
        product += weight * some.hvp(v)
        total += weight
    assert whole.value() == pytest.approx(value / total, rel=1e-12)
    for got, expected in ((whole.gradient(), gradient / total), (whole.hvp(v), product / total)):
        np.testing.assert_allclose(got, expected, atol=1e-11 * np.abs(expected).max())


def test_hessian_is_the_matrix_of_products(rng: Any) -> None:
    model = build([gd.Dense(3, 4), gd.Softplus(), gd.Dense(4, 2)], rng)
    x, y = rng.standard_normal((8, 3)), rng.integers(0, 2, 8)
    h = analysis.hessian(model, gd.CrossEntropy(), x, y)
    v = rng.standard_normal(len(h))
    assert (h == h.T).all() and h.shape == (26, 26)
    np.testing.assert_allclose(h @ v, analysis.hvp(model, gd.CrossEntropy(), x, y, v), atol=1e-13)
    np.testing.assert_allclose(
        analysis.gradient(model, gd.CrossEntropy(), x, y), analysis.Objective(model, gd.CrossEntropy(), x, y).gradient()
    )


def test_hessian_of_linear_regression(rng: Any) -> None:
    """Closed form: for y = Xw and the mean of squares, H = 2 XᵀX / N for every w."""
    x, y = rng.standard_normal((20, 5)), rng.standard_normal((20, 1))
    model = gd.Sequential(gd.Dense(5, 1, bias=False), seed=0, dtype="float64")
    h = analysis.hessian(model, gd.MeanSquaredError(), x, y)
    np.testing.assert_allclose(h, 2 * x.T @ x / 20, rtol=1e-13, atol=1e-14)


def test_frozen_parameters_are_no_variables(rng: Any) -> None:
    model = build([gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 4), gd.Tanh(), gd.Dense(4, 2)], rng)
    x, y = rng.standard_normal((8, 3)), rng.integers(0, 2, 8)
    whole = analysis.hessian(model, gd.CrossEntropy(), x, y)
    model.freeze("layers.0", "layers.2.bias")
    objective = analysis.Objective(model, gd.CrossEntropy(), x, y)
    keep = np.r_[16:32, 36:46]
    assert objective.size == 26
    np.testing.assert_allclose(analysis.hessian(model, gd.CrossEntropy(), x, y), whole[np.ix_(keep, keep)], atol=1e-14)
    assert list(objective.arrays(objective.point)) == ["layers.2.weight", "layers.4.weight", "layers.4.bias"]
    model.freeze("layers.2", "layers.4")
    helpers.refuses(lambda: analysis.gradient(model, gd.CrossEntropy(), x, y), ValueError, "model")


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both"])
@pytest.mark.parametrize("hidden", [3, 12])  # dense, and by Lanczos
def test_eigenvalues(which: str, hidden: int, rng: Any) -> None:
    model = build([gd.Dense(4, hidden), gd.Tanh(), gd.Dense(hidden, 3)], rng)
    problem = (model, gd.CrossEntropy(), rng.standard_normal((30, 4)), rng.integers(0, 3, 30))
    values, vectors = np.linalg.eigh(analysis.hessian(*problem))
    found = analysis.eigenvalues(*problem, k=4, which=which)
    expected = {
        "largest": values[-4:],
        "smallest": values[:4],
        "magnitude": np.sort(values[np.argsort(-np.abs(values))[:4]]),
        "both": np.r_[values[:2], values[-2:]],
    }[which]
    np.testing.assert_allclose(found.values, expected, atol=1e-7 * np.abs(values).max())
    for value, vector in zip(found.values, found.vectors.T, strict=True):
        residual = analysis.hvp(*problem, vector) - value * vector
        assert np.linalg.norm(residual) < 1e-6 * np.abs(values).max()
        assert np.linalg.norm(vector) == pytest.approx(1.0)
    helpers.same_bits(found.values, analysis.eigenvalues(*problem, k=4, which=which).values)
    assert vectors.shape[0] == found.vectors.shape[0]


def test_in_float64(rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.ReLU(), gd.Dense(4, 2), seed=1)
    gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(
        rng.standard_normal((20, 3)), rng.integers(0, 2, 20), epochs=2, batch_size=5
    )
    model.freeze("layers.0")
    copy = analysis.in_float64(model)
    assert copy.dtype == "float64" and copy.frozen() == model.frozen()
    for a, b in ((model.parameters(), copy.parameters()), (model.buffers(), copy.buffers())):
        helpers.same_bits({k: np.asarray(v, np.float64) for k, v in a.items()}, helpers.copies(b))


def test_move_and_arrays(rng: Any) -> None:
    model = build([gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 1)], rng)
    objective = analysis.Objective(model, gd.MeanSquaredError(), rng.standard_normal((5, 3)), rng.standard_normal(5))
    w = rng.standard_normal(objective.size)
    value = objective.value(w)
    objective.move(w)
    helpers.same_bits(objective.point, w)
    assert objective.value() == value
    helpers.same_bits(objective.arrays(w), helpers.copies(model.parameters()))


def test_the_function_stays_while_the_model_trains_on(rng: Any) -> None:
    """Promise: an objective stays the same function of w when averages, masks and frozen layers of the model change."""
    model = build([gd.Dense(3, 6), gd.BatchNorm(6), gd.ReLU(), gd.Dropout(0.4), gd.Dense(6, 2)], rng)
    x, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    kept = [analysis.Objective(model, gd.CrossEntropy(), x, y, mode=mode) for mode in ("training", "prediction")]
    w = [objective.point for objective in kept]
    before = [(o.value(), o.gradient(), o.hvp(v)) for o, v in zip(kept, w, strict=True)]
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    trainer.fit(x, y, epochs=3, batch_size=5)
    model.freeze("layers.0")
    for objective, v, (value, gradient, product) in zip(kept, w, before, strict=True):
        assert objective.value(v) == value
        helpers.same_bits(objective.gradient(v), gradient)
        helpers.same_bits(objective.hvp(v, v), product)
        assert objective.size == objective.point.size == 50 and objective.value() != value
        helpers.same_bits(objective.point, np.concatenate([p.ravel() for p in model.parameters().values()]))


@pytest.mark.timing
def test_cost_of_a_product(rng: Any) -> None:
    """Promise: at most four times the cost of a gradient; eight matrix products per layer against three."""
    model = build(
        [gd.Dense(128, 256), gd.BatchNorm(256), gd.Tanh(), gd.Dense(256, 256), gd.GELU(), gd.Dense(256, 10)], rng
    )
    objective = analysis.Objective(model, gd.CrossEntropy(), rng.standard_normal((256, 128)), rng.integers(0, 10, 256))
    v = rng.standard_normal(objective.size)

    def seconds(call: Any) -> float:
        start = time.process_time()  # other work may keep the machine busy
        call()
        return time.process_time() - start

    with gd.thread_limit(1):
        pairs = [(seconds(lambda: objective.hvp(v)), seconds(objective.gradient)) for _ in range(7)]
    product, gradient = map(min, zip(*pairs, strict=True))
    assert product < 4 * gradient


def test_a_million_parameters(rng: Any) -> None:
    """Promise: extreme eigenpairs of models of a million parameters, without a Hessian of 8 TB."""
    model = build([gd.Dense(1000, 1000), gd.Tanh(), gd.Dense(1000, 30)], rng)
    problem = (model, gd.CrossEntropy(), rng.standard_normal((8, 1000)), rng.integers(0, 30, 8))
    found = analysis.eigenvalues(*problem, k=1, tolerance=1e-3)
    value, vector = found.values[0], found.vectors[:, 0]
    assert vector.size == 1_031_030 and value > 0
    assert np.linalg.norm(analysis.hvp(*problem, vector) - value * vector) < 0.1 * value


def test_determinism_over_threads(rng: Any) -> None:
    model = build([gd.Dense(20, 90), gd.BatchNorm(90), gd.Tanh(), gd.Dense(90, 5)], rng)
    objective = analysis.Objective(model, gd.CrossEntropy(), rng.standard_normal((200, 20)), rng.integers(0, 5, 200))
    v, threads = rng.standard_normal(objective.size), gd.get_num_threads()
    first = objective.hvp(v)
    try:
        for _ in range(3):
            helpers.same_bits(first, objective.hvp(v))
        gd.set_num_threads(1)
        np.testing.assert_allclose(first, objective.hvp(v), atol=1e-12 * np.abs(first).max())
    finally:
        gd.set_num_threads(threads)


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "float32": (lambda p: analysis.gradient(p["f32"], *p["rest"]), TypeError, "^model.*float64"),
    "no model": (lambda p: analysis.gradient(None, *p["rest"]), TypeError, "^model"),
    "loss": (lambda p: analysis.hessian(p["model"], "mse", p["x"], p["y"]), TypeError, "^loss"),
    "loss class": (lambda p: analysis.hessian(p["model"], gd.CrossEntropy, p["x"], p["y"]), TypeError, "^loss"),
    "columns": (lambda p: analysis.gradient(p["model"], p["loss"], p["x"][:, :2], p["y"]), ValueError, r"\] x: got 2"),
    "rows": (lambda p: analysis.gradient(p["model"], p["loss"], p["x"], p["y"][:3]), ValueError, "^y"),
    "labels": (lambda p: analysis.gradient(p["model"], p["loss"], p["x"], p["y"] + 9), ValueError, r"y: got the label"),
    "nan model": (
        lambda p: analysis.hvp(*p["nan"], np.ones(8)),
        ValueError,
        "^model: got NaN or infinity in layers.0.bias",
    ),
    "nan model, H": (lambda p: analysis.hessian(*p["nan"]), ValueError, "^model: got NaN or infinity in layers.0.bias"),
    "nan": (lambda p: analysis.gradient(p["model"], p["loss"], p["x"] * np.nan, p["y"]), ValueError, "^x: got nan"),
    "empty": (lambda p: analysis.gradient(p["model"], p["loss"], p["x"][:0], p["y"][:0]), ValueError, "x"),
    "mode": (lambda p: analysis.gradient(*p["all"], mode="eval"), ValueError, "^mode"),
    "weights": (lambda p: analysis.gradient(*p["all"], sample_weight=[1.0]), ValueError, "^sample_weight"),
    "negative": (
        lambda p: analysis.gradient(*p["all"], sample_weight=-np.ones(6)),
        ValueError,
        r"sample_weight: got a n",
    ),
    "v short": (lambda p: analysis.hvp(*p["all"], np.ones(3)), ValueError, r"^v: got shape \(3,\)"),
    "v matrix": (lambda p: analysis.hvp(*p["all"], np.ones((1, 8))), ValueError, "^v"),
    "v nan": (lambda p: analysis.hvp(*p["all"], np.full(8, np.nan)), ValueError, r"^v: got nan at \(0,\)"),
    "v text": (lambda p: analysis.hvp(*p["all"], ["a"] * 8), TypeError, "^v"),
    "memory": (lambda p: analysis.hessian(*p["all"], memory_limit=511), ValueError, "^model.*512 bytes"),
    "memory kind": (lambda p: analysis.hessian(*p["all"], memory_limit="1 GB"), TypeError, "^memory_limit"),
    "k": (lambda p: analysis.eigenvalues(*p["all"], k=9), ValueError, "^k: got 9"),
    "k zero": (lambda p: analysis.eigenvalues(*p["all"], k=0), ValueError, "^k"),
    "which": (lambda p: analysis.eigenvalues(*p["all"], which="LA"), ValueError, "^which"),
    "tolerance": (lambda p: analysis.eigenvalues(*p["all"], tolerance=-1), ValueError, "^tolerance"),
    "w": (lambda p: p["objective"].value(np.ones(9)), ValueError, r"^w: got shape \(9,\)"),
    "move": (lambda p: p["objective"].move(np.full(8, np.inf)), ValueError, "^vector"),
    "in_float64": (lambda p: analysis.in_float64(p["x"]), TypeError, "^model"),
    "batch norm of one row": (
        lambda p: analysis.gradient(p["norm"], p["loss"], p["x"][:1], p["y"][:1]),
        ValueError,
        "BatchNorm",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 2), seed=0, dtype="float64")
    given = {
        "model": model,
        "f32": gd.Sequential(gd.Dense(3, 2), seed=0),
        "norm": gd.Sequential(gd.Dense(3, 2), gd.BatchNorm(2), seed=0, dtype="float64"),
        "loss": gd.CrossEntropy(),
        "x": rng.standard_normal((6, 3)),
        "y": rng.integers(0, 2, 6),
    }
    broken = gd.Sequential(gd.Dense(3, 2), seed=0, dtype="float64")
    broken.parameters()["layers.0.bias"][1] = np.nan
    given["rest"] = (given["loss"], given["x"], given["y"])
    given["nan"] = (broken, *given["rest"])
    given["all"] = (model, *given["rest"])
    given["objective"] = analysis.Objective(*given["all"])
    before = helpers.snapshot(model)
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))


@pytest.mark.parametrize(("layers", "word"), [([3], "got 3"), ([-1], "got -1"), ([1, 1], "twice")])
def test_outputs_refuses(layers: list[int], word: str, rng: Any) -> None:
    model = build([gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 1)], rng)
    objective = analysis.Objective(model, gd.MeanSquaredError(), rng.standard_normal((5, 3)), rng.standard_normal(5))
    helpers.refuses(lambda: objective.core.outputs(layers), ValueError, word)
