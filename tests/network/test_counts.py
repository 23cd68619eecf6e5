"""Promise: a model of counts predicts expected counts: predictions, metrics, ensembles and copies agree on e^output."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_absolute_error, mean_poisson_deviance

RNG = np.random.default_rng(4)
X = RNG.standard_normal((400, 3))
Y = RNG.poisson(np.exp(0.5 + X @ [0.6, -0.3, 0.0])).astype(np.float64)


def fitted(seed: int = 0, device: str = "cpu", **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 1, init=gd.Constant(0.0)), seed=seed, dtype="float64", device=device)
    trainer = gd.Trainer(model, gd.Poisson(), optimizer=gd.Adam(0.1), **options)
    trainer.fit(X, Y, epochs=60, batch_size=400)
    return trainer


def test_it_is_poisson_regression(device: str) -> None:
    exact = PoissonRegressor(alpha=0.0, tol=1e-8, max_iter=1000).fit(X, Y)
    trainer = fitted(device=device)
    slower = gd.Trainer(trainer.model, gd.Poisson(), optimizer=gd.Adam(0.01))
    slower.fit(X, Y, epochs=300, batch_size=400)
    assert trainer.model.outputs == "counts"
    np.testing.assert_allclose(trainer.model.predict(X)[:, 0], exact.predict(X), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_is_the_exponential_of_forward(dtype: str, device: str) -> None:
    model = gd.Sequential(gd.Dense(3, 2), seed=0, dtype=dtype, device=device)
    before = model.predict(X)
    model.outputs = "counts"
    for x in (X, X.astype(np.float32), X[:1], X.tolist(), np.asfortranarray(X)):
        found = model.predict(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, np.exp(before[: len(found)]), rtol=1e-6)
        helpers.same_bits(model.predict(x), found)
    np.testing.assert_allclose(model.forward(X, training=False), before, rtol=1e-5, atol=1e-6)
    for other in (copy.deepcopy(model), model.predictor()):
        helpers.same_bits(other.predict(X), model.predict(X))


def test_metrics_see_counts() -> None:
    def logs(true: np.ndarray, pred: np.ndarray) -> float:
        return float(np.mean(pred))

    metrics = {
        "mae": "mae",
        "theirs": mean_poisson_deviance,
        "logs": gd.metrics.on_logits(logs),
    }
    trainer = fitted(metrics=metrics)
    found, counts = trainer.evaluate(X, Y), trainer.model.predict(X)[:, 0]
    assert found["mae"] == pytest.approx(mean_absolute_error(Y, counts))
    assert found["theirs"] == pytest.approx(mean_poisson_deviance(Y, counts))
    assert found["logs"] == pytest.approx(np.log(counts).mean())
    assert found["loss"] == pytest.approx((counts - Y * np.log(counts)).mean())


def test_rates_with_exposures_are_counts(device: str) -> None:
    """Rates, weighted by exposures, have the gradient of counts with log exposures added to the outputs."""
    exposure = RNG.uniform(0.5, 3, 400)
    one, two = (gd.Sequential(gd.Dense(3, 1), seed=3, dtype="float64", device=device) for _ in range(2))
    trainer = gd.Trainer(one, gd.Poisson(), optimizer=gd.SGD(1.0))
    trainer.step(X, Y / exposure, exposure)
    mean = np.exp(np.asarray(two.forward(X, training=True))[:, 0])
    two.backward(((mean * exposure - Y) / exposure.sum())[:, None])
    for name, gradient in two.gradients().items():
        moved = np.asarray(two.parameters()[name]) - np.asarray(one.parameters()[name])
        np.testing.assert_allclose(moved, gradient, rtol=1e-9, atol=1e-12)


def test_files_keep_the_meaning(tmp_path: Path) -> None:
    model = fitted().model
    model.save(tmp_path / "counts.safetensors")
    loaded = gd.load(tmp_path / "counts.safetensors")
    assert loaded.outputs == "counts"
    helpers.same_bits(loaded.predict(X), model.predict(X))


def test_ensembles_average_counts() -> None:
    models = [fitted(seed).model for seed in range(2)]
    for model, shift in zip(models, (0.0, 1.0), strict=True):
        model.parameters()["layers.0.bias"][...] += shift
    ensemble = gd.Ensemble(models)
    mean = np.mean([model.predict(X) for model in models], axis=0)
    np.testing.assert_allclose(ensemble.predict(X), mean, rtol=1e-12)
    found = ensemble.evaluate(X, Y, metrics=["mae"])
    assert found["mae"] == pytest.approx(mean_absolute_error(Y, mean[:, 0]))
    assert found["loss"] == pytest.approx((mean[:, 0] - Y * np.log(mean[:, 0])).mean())
    assert "means of counts" in ensemble.summary()
    assert ensemble.evaluate([(X[:100], Y[:100]), (X[100:], Y[100:])])["loss"] == pytest.approx(found["loss"])
    assert len(ensemble.select(X, Y, measure="mae")) >= 1


REFUSED: dict[str, tuple[Any, str]] = {
    "negative counts": (lambda: fitted().fit(X, Y - 5, epochs=1), "y: got a negative number in row"),
    "infinite counts": (lambda: fitted().fit(X, np.full(400, np.inf), epochs=1), "y"),
    "probabilities": (lambda: fitted().model.predict_proba(X), "outputs: got 'counts'"),
    "classes": (lambda: fitted().model.predict_classes(X), "outputs: got 'counts'"),
    "names": (lambda: setattr(fitted().model, "classes", ["a", "b"]), "classes: got names.*'counts'"),
    "another loss": (lambda: gd.Trainer(fitted().model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1)), "Poisson"),
    "a metric of classes": (lambda: fitted(metrics=["accuracy"]), "metrics"),
    "a model with classes": (
        lambda: gd.Trainer(gd.Sequential(gd.Dense(3, 2), classes=["a", "b"]), gd.Poisson(), optimizer=gd.SGD(0.1)),
        "Poisson, which is for counts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, word = REFUSED[case]
    helpers.refuses(call, ValueError, word)


def test_huge_outputs_diverge() -> None:
    model = gd.Sequential(gd.Dense(1, 1, bias_init=gd.Constant(100.0)), seed=0)
    trainer = gd.Trainer(model, gd.Poisson(), optimizer=gd.SGD(0.1))
    with pytest.raises(gd.DivergenceError):
        trainer.step(np.zeros((2, 1)), np.ones(2))
    assert np.isinf(model.predict(np.zeros((2, 1)))).all()


def test_an_ensemble_measures_counts_that_underflow() -> None:
    models = [gd.Sequential(gd.Dense(1, 1, init=gd.Constant(-500.0)), outputs="counts", seed=seed) for seed in range(2)]
    x = np.array([[1.0], [0.0]], np.float32)  # expected counts of 0, as float32 rounds e^-500, and of 1
    assert gd.Ensemble(models).evaluate(x, [0, 1])["loss"] == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_row_of_weight_zero_may_overflow(hidden: bool, dtype: str, device: str) -> None:
    layers = [gd.Dense(1, 1, init=gd.Constant(1.0)) for _ in range(1 + hidden)]
    model = gd.Sequential(*layers, seed=0, dtype=dtype, device=device)
    trainer = gd.Trainer(model, gd.Poisson(), optimizer=gd.SGD(0.1))
    x, y, weight = np.array([[1e3], [0.5]]), np.ones(2), [0.0, 1.0]
    before = np.asarray(model.flat_parameters())
    assert np.isfinite(trainer.evaluate(x, y, sample_weight=weight)["loss"])
    trainer.step(x, y, sample_weight=weight)
    after = np.asarray(model.flat_parameters())
    assert np.isfinite(after).all() and (after != before).any()
    trainer.fit(x, y, epochs=2, sample_weight=weight)
    assert np.isfinite(np.asarray(model.flat_parameters())).all()
    double = gd.Sequential(*layers, seed=0, dtype="float64")
    product = gd.analysis.hvp(double, gd.Poisson(), x, y, np.ones(before.size), sample_weight=weight)
    few = gd.analysis.hvp(double, gd.Poisson(), x[1:], y[1:], np.ones(before.size))
    np.testing.assert_allclose(product, few, rtol=1e-12)
