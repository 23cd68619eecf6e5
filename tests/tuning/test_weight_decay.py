"""Promise: with consistent weight decay, a network trained on a x + b and c y + d is the same function as one trained
on x and y; with one λ for all it is not; the transformed network computes the same function; bad input is refused."""

from __future__ import annotations

import copy
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.tuning.weight_decay import consistent_weight_decay, transform_network

A, B, C, D = 5.0, -2.0, 0.3, 7.0  # x → A x + B, y → C y + D
CHANGED = {"x_scale": A, "x_shift": B, "y_scale": C, "y_shift": D}


def tanh_net(seed: int = 0, **options: Any) -> gd.Sequential:
    layers = [gd.Dense(2, 4), gd.Tanh(), gd.Dense(4, 3), gd.Tanh(), gd.Dense(3, 1)]
    return gd.Sequential(*layers, seed=seed, dtype="float64", **options)


def data(rng: Any, rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((rows, 2))
    return x, np.sin(2 * x[:, :1]) + 0.5 * x[:, 1:] + 0.2 * rng.standard_normal((rows, 1))


class Total:
    """The loss plus Σ λ/2 Σ w², one λ for each weight of the model, as a function of all parameters."""

    def __init__(self, model: Any, loss: Any, x: Any, y: Any, decay: list[float]) -> None:
        self.objective = analysis.Objective(model, loss, x, y)
        parts, rest = [], list(decay)
        for name, view in model.parameters().items():
            parts.append(np.full(view.size, rest.pop(0) if name.endswith("weight") else 0.0))
        assert not rest
        self.decay = np.concatenate(parts)

    def value(self, w: np.ndarray) -> float:
        return self.objective.value(w) + 0.5 * float(self.decay @ w**2)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.objective.gradient(w) + self.decay * w

    def hessian(self, w: np.ndarray) -> np.ndarray:
        return analysis.derivatives.dense_hessian(self.objective, w) + np.diag(self.decay)


# ------------------------------------------------------------------------------------------------ the objective
LAYERS: dict[str, list[Any]] = {
    "tanh": [gd.Dense(2, 4), gd.Tanh(), gd.Dense(4, 3), gd.Tanh(), gd.Dense(3, 1)],
    "two layers": [gd.Dense(2, 4), gd.ReLU(), gd.Dense(4, 1)],
    "one layer": [gd.Dense(2, 1)],
    "norms": [gd.Dense(2, 4), gd.BatchNorm(4), gd.ReLU(), gd.Dense(4, 3), gd.LayerNorm(3), gd.GELU(), gd.Dense(3, 1)],
    "standardizer": [gd.Standardizer(2, mean=[0.3, -1.0], std=[2.0, 0.5]), gd.Dense(2, 4), gd.Tanh(), gd.Dense(4, 1)],
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("a", [A, -0.01])
def test_loss_and_penalty_change_by_one_factor_everywhere(name: str, a: float, rng: Any) -> None:
    """With the mean of squares: c², at any weights."""
    model = gd.Sequential(*LAYERS[name], seed=0, dtype="float64")
    x, y = data(rng)
    weights = sum(isinstance(layer, gd.Dense) for layer in model.layers)
    decay = [0.1, 0.02, 0.3][:weights]
    new_decay = consistent_weight_decay(model, decay, x_scale=a, y_scale=C)
    for _ in range(3):
        helpers.randomize(model, rng, 0.7)
        new = transform_network(model, x_scale=a, x_shift=B, y_scale=C, y_shift=D)
        before = Total(model, gd.MeanSquaredError(), x, y, decay)
        after = Total(new, gd.MeanSquaredError(), a * x + B, C * y + D, new_decay)
        totals = before.value(before.objective.point), after.value(after.objective.point)
        assert totals[1] == pytest.approx(C**2 * totals[0], rel=1e-11)
        plain = Total(new, gd.MeanSquaredError(), a * x + B, C * y + D, decay)
        assert plain.value(after.objective.point) != pytest.approx(C**2 * totals[0], rel=1e-3)


def test_the_loss_of_classes_stays_as_it_is(rng: Any) -> None:
    model = gd.Sequential(gd.Dense(2, 4), gd.Tanh(), gd.Dense(4, 3), seed=0, dtype="float64")
    x, y = rng.standard_normal((20, 2)), rng.integers(0, 3, 20)
    new_decay = consistent_weight_decay(model, 0.1, x_scale=A)
    assert new_decay == [0.1 * A**2, 0.1]
    new = transform_network(model, x_scale=A, x_shift=B)
    before = Total(model, gd.CrossEntropy(), x, y, [0.1, 0.1])
    after = Total(new, gd.CrossEntropy(), A * x + B, y, new_decay)
    assert after.value(after.objective.point) == pytest.approx(before.value(before.objective.point), rel=1e-12)


def test_the_factors() -> None:
    decay = consistent_weight_decay(tanh_net(), [1.0, 2.0, 3.0], x_scale=10.0, y_scale=3.0)
    assert decay == pytest.approx([900.0, 18.0, 3.0])  # a²c², c², 1
    assert consistent_weight_decay(tanh_net(), 0.5) == [0.5, 0.5, 0.5]
    only = gd.Sequential(gd.Dense(2, 1), seed=0)
    assert consistent_weight_decay(only, 0.5, x_scale=10.0, y_scale=3.0) == pytest.approx([50.0])
    scaled = gd.Sequential(gd.Standardizer(2, mean=[0, 0], std=[1, 1]), gd.Dense(2, 3), gd.Dense(3, 1), seed=0)
    assert consistent_weight_decay(scaled, 0.5, x_scale=10.0) == [0.5, 0.5]
    normed = gd.Sequential(gd.BatchNorm(2), gd.Dense(2, 1), gd.Sigmoid(), seed=0)
    assert consistent_weight_decay(normed, 0.5) == [0.5], "without a change nothing is asked of the layers"
    gd.Trainer(tanh_net(), gd.MeanSquaredError(), optimizer=gd.SGD(0.1, weight_decay=decay))


# ------------------------------------------------------------------------------------------------ training
def trained(total: Total, start: np.ndarray) -> np.ndarray:
    """The minimum near `start`, to a gradient of 1e-9 of the first."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    settings: dict[str, Any] = {"method": "trust-exact", "jac": total.gradient, "hess": total.hessian}
    w = minimize(total.value, start, options={"gtol": 1e-6, "maxiter": 2000}, **settings).x
    for _ in range(20):  # Newton's last steps, too small for a comparison of values
        w = w - np.linalg.solve(total.hessian(w), total.gradient(w))
    assert np.linalg.norm(total.gradient(w)) < 1e-9 * np.linalg.norm(total.gradient(start))
    assert np.linalg.eigvalsh(total.hessian(w))[0] > 0
    return w


def test_both_networks_trained_to_the_minimum_are_the_same_function(rng: Any) -> None:
    """Equal to 1e-6, with shifts, from corresponding starts; one λ for all layers gives another function."""
    x, y = data(rng)
    new_x, new_y, probe = A * x + B, C * y + D, rng.standard_normal((50, 2))
    decay = [0.01] * 3
    model = tanh_net()
    start = transform_network(model, **CHANGED)
    predictions = {}
    for name, net, rows, numbers in (
        ("before", model, (x, y), decay),
        (
            "consistent",
            copy.deepcopy(start),
            (new_x, new_y),
            consistent_weight_decay(model, decay, x_scale=A, y_scale=C),
        ),
        ("plain", copy.deepcopy(start), (new_x, new_y), decay),
    ):
        total = Total(net, gd.MeanSquaredError(), *rows, numbers)
        total.objective.move(trained(total, total.objective.point))
        predictions[name] = net.predict(probe) if name == "before" else (net.predict(A * probe + B) - D) / C
    spread = np.ptp(predictions["before"])
    assert spread > 0.5
    assert np.abs(predictions["consistent"] - predictions["before"]).max() < 1e-6 * spread
    assert np.abs(predictions["plain"] - predictions["before"]).max() > 0.1 * spread


def test_linear_regression_by_gradient_descent(rng: Any) -> None:
    """One layer, a convex problem: the trainer itself, with shifts, to convergence."""
    x, y = data(rng)
    predictions = {}
    for name, rows, decay in (
        ("before", (x, y), [0.2]),
        (
            "consistent",
            (A * x + B, C * y + D),
            consistent_weight_decay(gd.Sequential(gd.Dense(2, 1)), 0.2, x_scale=A, y_scale=C),
        ),
        ("plain", (A * x + B, C * y + D), [0.2]),
    ):
        model = gd.Sequential(gd.Dense(2, 1), seed=0, dtype="float64")
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01, weight_decay=decay))
        for _ in range(6000):
            trainer.step(*rows)
        predictions[name] = model.predict(x) if name == "before" else (model.predict(A * x + B) - D) / C
    assert np.abs(predictions["consistent"] - predictions["before"]).max() < 1e-9
    assert np.abs(predictions["plain"] - predictions["before"]).max() > 0.01


def test_gradient_descent_step_by_step_with_the_rates_of_the_new_units(rng: Any) -> None:
    """Without shifts the new weights are multiples t w of the old: with rates η t²/c² the paths correspond."""
    x, y = data(rng)
    model = tanh_net()
    new = transform_network(model, x_scale=A, y_scale=C)
    t = {f"layers.{i}.{kind}": 1.0 for i in (0, 2, 4) for kind in ("weight", "bias")}
    t |= {"layers.0.weight": 1 / A, "layers.4.weight": C, "layers.4.bias": C}
    factors = {name: value**2 / C**2 for name, value in t.items()}
    decay = consistent_weight_decay(model, 0.05, x_scale=A, y_scale=C)
    first = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1, weight_decay=0.05))
    second = gd.Trainer(new, gd.MeanSquaredError(), optimizer=gd.SGD(0.1, weight_decay=decay, lr_factors=factors))
    for _ in range(200):
        assert second.step(A * x, C * y) == pytest.approx(C**2 * first.step(x, y), rel=1e-9)
    for name, values in model.parameters().items():
        np.testing.assert_allclose(new.parameters()[name], t[name] * values, rtol=1e-8, atol=1e-12)


# ------------------------------------------------------------------------------------------------ transform_network
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_transformed_network_is_the_same_function(name: str, dtype: Any, rng: Any) -> None:
    layers = [*LAYERS[name][:-1], gd.Dense(LAYERS[name][-1].in_features, 3)]
    model = gd.Sequential(*layers, seed=4, dtype=dtype)
    helpers.randomize(model, rng)
    model.freeze("layers.1" if name == "standardizer" else "layers.0")
    before = helpers.snapshot(model)
    x = rng.standard_normal((40, 2)).astype(dtype)
    a, b, c, d = np.array([0.5, -4.0]), np.array([1.0, 3.0]), np.array([2.0, -1.0, 0.1]), np.array([0.0, 1.0, -5.0])
    new = transform_network(model, x_scale=a, x_shift=b, y_scale=c, y_shift=d)
    expected = c * model.predict(x) + d
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(new.predict((a * x + b).astype(dtype)), expected, rtol=tolerance, atol=tolerance)
    helpers.same_bits(before, helpers.snapshot(model))
    assert new.frozen() == model.frozen() and new.dtype == dtype and new.seed == 4
    back = transform_network(new, x_scale=1 / a, x_shift=-b / a, y_scale=1 / c, y_shift=-d / c)
    np.testing.assert_allclose(back.predict(x), model.predict(x), rtol=tolerance, atol=tolerance)


def test_without_a_change_it_is_a_copy(rng: Any) -> None:
    model = gd.Sequential(gd.LayerNorm(2), gd.Dense(2, 2), gd.ReLU(), seed=0, classes=["no", "yes"])
    new = transform_network(model)
    helpers.same_bits(helpers.snapshot(model), helpers.snapshot(new))
    assert new is not model and new.classes == model.classes
    new.parameters()["layers.1.weight"][...] = 0.0
    assert model.parameters()["layers.1.weight"].any()


def test_a_standardizer_takes_what_it_would_learn(rng: Any) -> None:
    x = rng.standard_normal((50, 2)) * [3, 0.1] + 5
    a, b = np.array([-2.0, 100.0]), np.array([1.0, 0.0])
    model = gd.Sequential(gd.Standardizer().fit(x), gd.Dense(2, 1), seed=0, dtype="float64")
    new = transform_network(model, x_scale=a, x_shift=b)
    learned = gd.Standardizer().fit(a * x + b)
    np.testing.assert_allclose(new.layers[0].mean, learned.mean, rtol=1e-12)
    np.testing.assert_allclose(new.layers[0].std, learned.std, rtol=1e-12)
    weights = model.parameters()["layers.1.weight"]
    helpers.same_bits(new.parameters()["layers.1.weight"], weights * [-1.0, 1.0])


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "model": (lambda m: consistent_weight_decay(None, 0.1), TypeError, "^model"),
    "model class": (lambda m: transform_network(gd.Sequential), TypeError, "^model"),
    "no weights": (lambda m: consistent_weight_decay(m["norm"], 0.1), ValueError, "^model: got no layer"),
    "negative": (lambda m: consistent_weight_decay(m["net"], -0.1), ValueError, "^weight_decay"),
    "nan": (lambda m: consistent_weight_decay(m["net"], [0.1, np.nan]), ValueError, r"^weight_decay\[1\]"),
    "numbers": (
        lambda m: consistent_weight_decay(m["net"], [0.1]),
        ValueError,
        "^weight_decay: got 1 numbers; expected 2",
    ),
    "text": (lambda m: consistent_weight_decay(m["net"], "0.1"), TypeError, "^weight_decay"),
    "dict": (lambda m: consistent_weight_decay(m["net"], {"layers.0": 1.0}), TypeError, "^weight_decay"),
    "none": (lambda m: consistent_weight_decay(m["net"], None), TypeError, "^weight_decay"),
    "zero scale": (lambda m: consistent_weight_decay(m["net"], 0.1, x_scale=0.0), ValueError, "^x_scale: got 0"),
    "infinite scale": (lambda m: consistent_weight_decay(m["net"], 0.1, y_scale=np.inf), ValueError, "^y_scale"),
    "scale text": (lambda m: consistent_weight_decay(m["net"], 0.1, x_scale="2"), TypeError, "^x_scale"),
    "scales": (
        lambda m: consistent_weight_decay(m["net"], 0.1, x_scale=[1, 2]),
        ValueError,
        "^x_scale: got 2 numbers.*Stand",
    ),
    "y scales": (
        lambda m: consistent_weight_decay(m["net"], 0.1, y_scale=np.ones(1)),
        ValueError,
        "^y_scale: got 1 num",
    ),
    "norm first": (lambda m: consistent_weight_decay(m["first"], 0.1, x_scale=2), ValueError, "^x_scale: .*BatchNorm"),
    "norm last": (lambda m: consistent_weight_decay(m["last"], 0.1, y_scale=2), ValueError, "^y_scale: .*Sigmoid"),
    "classes": (lambda m: consistent_weight_decay(m["classes"], 0.1, y_scale=2), ValueError, "^y_scale: .*classes"),
    "transform first": (lambda m: transform_network(m["first"], x_shift=1), ValueError, "^x_scale"),
    "transform last": (lambda m: transform_network(m["last"], y_shift=1), ValueError, "^y_scale"),
    "transform classes": (lambda m: transform_network(m["classes"], y_shift=1), ValueError, "^y_scale"),
    "no bias": (lambda m: transform_network(m["bare"], x_shift=1), ValueError, "^x_shift: layer 0"),
    "no last bias": (lambda m: transform_network(m["bare"], y_shift=[1]), ValueError, "^y_shift: layer 0"),
    "transform zero": (lambda m: transform_network(m["net"], x_scale=[1, 0]), ValueError, "^x_scale: got 0"),
    "transform nan": (lambda m: transform_network(m["net"], x_shift=[1, np.nan]), ValueError, "^x_shift"),
    "shape": (lambda m: transform_network(m["net"], x_shift=[1, 2, 3]), ValueError, r"^x_shift: got shape \(3,\)"),
    "matrix": (lambda m: transform_network(m["net"], y_scale=np.ones((1, 1))), ValueError, "^y_scale"),
    "transform text": (lambda m: transform_network(m["net"], y_shift="1"), TypeError, "^y_shift"),
    "only a standardizer": (lambda m: transform_network(m["scaler"], x_scale=2), ValueError, "^x_scale"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    models = {
        "net": gd.Sequential(gd.Dense(2, 3), gd.Tanh(), gd.Dense(3, 1), seed=0),
        "norm": gd.Sequential(gd.BatchNorm(2), seed=0),
        "first": gd.Sequential(gd.BatchNorm(2), gd.Dense(2, 1), seed=0),
        "last": gd.Sequential(gd.Dense(2, 1), gd.Sigmoid(), seed=0),
        "classes": gd.Sequential(gd.Dense(2, 2), seed=0, classes=["a", "b"]),
        "bare": gd.Sequential(gd.Dense(2, 1, bias=False), seed=0),
        "scaler": gd.Sequential(gd.Standardizer(2, mean=[0, 0], std=[1, 1]), seed=0),
    }
    before = {key: helpers.snapshot(model) for key, model in models.items()}
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(models), kind, words)
    for key, model in models.items():
        helpers.same_bits(before[key], helpers.snapshot(model))
