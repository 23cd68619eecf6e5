"""Promise: the range test trains a copy with a geometrically rising rate, stops where the loss diverges, suggests a
tenth of the rate of least loss, and tells 2/λ_max of a quadratic exactly; bad input is refused, nothing is changed."""

from __future__ import annotations

import copy
import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.tuning.lr_range import lr_range_test


def quadratic(rng: Any) -> tuple[gd.Sequential, Any, np.ndarray, np.ndarray, float]:
    """Linear regression without bias, whose Hessian 2 XᵀX / N is known, and its largest eigenvalue."""
    x = rng.standard_normal((60, 5)) * [3, 1, 1, 0.3, 0.1]
    y = x @ rng.standard_normal((5, 1)) + 0.1 * rng.standard_normal((60, 1))
    model = gd.Sequential(gd.Dense(5, 1, bias=False), seed=0, dtype="float64")
    return model, gd.MeanSquaredError(), x, y, float(np.linalg.eigvalsh(2 * x.T @ x / 60)[-1])


def classes(rng: Any) -> tuple[gd.Sequential, Any, np.ndarray, np.ndarray]:
    x = rng.standard_normal((500, 6))
    model = gd.Sequential(gd.Dense(6, 20), gd.ReLU(), gd.Dense(20, 3), seed=0)
    return model, gd.CrossEntropy(), x, (x @ rng.standard_normal((6, 3))).argmax(1)


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [
        (None, 1.0),
        (gd.SGD(0.5), 1.0),
        (gd.Momentum(0.5, 0.8), 1.8),
        (gd.Momentum(0.5, 0.8, nesterov=True), 1.8 / 2.6),
    ],
)
def test_diverges_just_above_the_largest_stable_rate(optimizer: Any, factor: float, rng: Any) -> None:
    *problem, largest = quadratic(rng)
    options: dict[str, Any] = {"optimizer": optimizer, "batch_size": None, "lr_min": 1e-3, "steps": 2000}
    result = lr_range_test(*problem, **options)
    assert result.max_stable_lr == pytest.approx(2 * factor / largest, rel=1e-10) and result.note == ""
    assert result.diverged_at is not None and 1.0 < result.diverged_at / result.max_stable_lr < 2.0
    assert result.diverged_at == result.lr[-1] < 10.0 and len(result.lr) < 2000
    assert result.suggestion is not None and result.suggestion < result.max_stable_lr


def test_the_bound_of_nesterov_is_where_the_real_optimiser_turns(rng: Any) -> None:
    model, loss, x, y, _ = quadratic(rng)
    optimizer = gd.Momentum(0.5, 0.8, nesterov=True)
    bound = lr_range_test(model, loss, x, y, optimizer=optimizer, batch_size=None, steps=2).max_stable_lr
    assert bound is not None
    losses = {}
    for share in (0.99, 1.01):
        optimizer = gd.Momentum(share * bound, 0.8, nesterov=True)
        trainer = gd.Trainer(copy.deepcopy(model), loss, optimizer=optimizer)
        losses[share] = [trainer.step(x, y) for _ in range(1500)]
    assert losses[0.99][-1] < losses[0.99][0] and losses[1.01][-1] > 1e3 * losses[1.01][0]


def test_rates_and_losses_by_hand(rng: Any) -> None:
    """The rates are geometric, each loss is that of the next batch after the step, the rule gives the suggestion."""
    model, loss, x, y = classes(rng)
    before = helpers.snapshot(model)
    result = lr_range_test(
        model, loss, x, y, lr_min=1e-3, lr_max=1.0, steps=31, batch_size=64, seed=5, smoothing=3, curvature=False
    )
    helpers.same_bits(before, helpers.snapshot(model))
    np.testing.assert_allclose(result.lr, np.geomspace(1e-3, 1.0, 31), rtol=1e-12)
    copy = gd.Sequential(*model.layers, seed=0)
    trainer = gd.Trainer(copy, loss, optimizer=gd.SGD(lambda step: float(result.lr[min(step, 30)])))
    batches, losses = gd.MiniBatches(x, y, batch_size=64, seed=5, drop_last=True), []
    for _ in range(5):
        losses += [trainer.step(xb, yb) for xb, yb in batches]
    assert len(batches) == 7 and result.start == losses[0]
    np.testing.assert_allclose(result.loss, losses[1:32], rtol=1e-5)
    expected = [np.mean(result.loss[max(i - 1, 0) : i + 2]) for i in range(31)]
    np.testing.assert_allclose(result.smoothed, expected, rtol=1e-12)
    assert result.diverged_at is None and result.max_stable_lr is None
    assert result.suggestion == pytest.approx(result.lr[np.argmin(expected)] / 10)


def test_the_suggested_rate_trains(rng: Any) -> None:
    for optimizer in (gd.SGD, gd.Momentum, gd.Adam):
        model, loss, x, y = classes(rng)
        lr = lr_range_test(model, loss, x, y, optimizer=optimizer(1.0), lr_max=100).suggestion
        assert lr is not None
        history = gd.Trainer(model, loss, optimizer=optimizer(lr)).fit(x, y, epochs=5)
        assert history["loss"][-1] < 0.8 * history["loss"][0]


@pytest.mark.parametrize(
    ("optimizer", "word"),
    [
        (gd.Adam(0.1), "Adam's step"),
        (gd.AdaGrad(0.1), "AdaGrad's"),
        (gd.RMSProp(0.1), "RMSProp's"),
        (gd.SGD(0.1, clip_norm=1.0), "clipping"),
        (gd.Momentum(0.1, clip_value=1.0), "clipping"),
        (gd.SGD(0.1, lr_factors=[1.0, 2.0]), "rates of their own"),
    ],
)
def test_no_bound_where_it_does_not_apply(optimizer: Any, word: str, rng: Any) -> None:
    result = lr_range_test(*classes(rng), optimizer=optimizer, steps=20)
    assert result.max_stable_lr is None and word in result.note and word in str(result)


DECAYED: dict[str, tuple[dict[str, Any], Any]] = {  # what decays; λ of weights and biases of the two Dense layers
    "one number": ({"weight_decay": 20.0}, (20, 0, 20, 0)),
    "biases too": ({"weight_decay": 0.5, "decay_biases": True}, (0.5, 0.5, 0.5, 0.5)),
    "each layer": ({"weight_decay": [0.3, 2.0]}, (0.3, 0, 2.0, 0)),
    "by name": ({"weight_decay": {"layers.2.bias": 7.0}}, (0, 0, 0, 7.0)),
}


@pytest.mark.parametrize("name", DECAYED)
@pytest.mark.parametrize("hidden", [4, 12])  # 41 parameters, whose Hessian is formed, and 113
def test_weight_decay_adds_to_the_curvature(name: str, hidden: int, rng: Any) -> None:
    """A step of SGD follows the gradient of E + ½ wᵀDw, whose Hessian is that of E, and D."""
    settings, decay = DECAYED[name]
    layers = (gd.Dense(6, hidden), gd.Tanh(), gd.Dense(hidden, 2), gd.LayerNorm(2))
    model, x, y = gd.Sequential(*layers, seed=0, dtype="float64"), rng.standard_normal((50, 6)), rng.integers(0, 2, 50)
    model.freeze("layers.3")
    before = helpers.snapshot(model)
    result = lr_range_test(model, gd.CrossEntropy(), x, y, optimizer=gd.SGD(0.1, **settings), steps=2)
    helpers.same_bits(before, helpers.snapshot(model))
    d = np.repeat(decay, [array.size for array in list(model.parameters().values())[:4]])
    h = gd.analysis.hessian(model, gd.CrossEntropy(), x, y)
    assert result.max_stable_lr == pytest.approx(2 / np.linalg.eigvalsh(h + np.diag(d))[-1], rel=1e-7)


def test_diverges_above_the_bound_of_weight_decay(rng: Any) -> None:
    """The range test's own training diverges there, at a rate that E alone would allow."""
    model, loss, x, y, largest = quadratic(rng)
    options: dict[str, Any] = {"batch_size": None, "lr_min": 1e-3, "steps": 2000}
    result = lr_range_test(model, loss, x, y, optimizer=gd.SGD(1.0, weight_decay=20.0), **options)
    assert result.max_stable_lr == pytest.approx(2 / (largest + 20.0), rel=1e-9)
    assert result.diverged_at is not None and result.max_stable_lr < result.diverged_at < 2 / largest
    for share, grows in ((0.99, False), (1.01, True)):
        optimizer = gd.SGD(share * result.max_stable_lr, weight_decay=20.0)
        trainer = gd.Trainer(copy.deepcopy(model), loss, optimizer=optimizer)
        losses = [trainer.step(x, y) for _ in range(1500)]
        assert (losses[-1] > 1e3 * losses[0]) == grows


def test_curvature_on_a_part_of_the_rows(rng: Any) -> None:
    model, loss, x, y, largest = quadratic(rng)
    weights = np.r_[np.ones(30), np.zeros(30)]
    half = float(np.linalg.eigvalsh(2 * x[:30].T @ x[:30] / 30)[-1])
    options: dict[str, Any] = {"steps": 2, "batch_size": None}
    assert lr_range_test(model, loss, x, y, sample_weight=weights, **options).max_stable_lr == pytest.approx(2 / half)
    some = lr_range_test(model, loss, x, y, curvature_rows=40, **options).max_stable_lr
    assert some != pytest.approx(2 / largest, rel=1e-6) and some == pytest.approx(2 / largest, rel=0.5)
    assert lr_range_test(model, loss, x, y, curvature_rows=None, **options).max_stable_lr == pytest.approx(2 / largest)


def test_a_loss_that_becomes_infinite_ends_it(rng: Any) -> None:
    x = rng.standard_normal((40, 3))
    model = gd.Sequential(gd.Dense(3, 8), gd.ReLU(), gd.Dense(8, 8), gd.ReLU(), gd.Dense(8, 1), seed=0)
    result = lr_range_test(model, gd.MeanSquaredError(), x, x[:, 0], lr_min=1e-3, lr_max=1e30, steps=12, smoothing=1)
    assert result.loss[-1] > 4 * result.loss.min() and np.isfinite(result.smoothed).all()
    assert result.diverged_at == result.lr[-1] and len(result.lr) < 12
    model.parameters()["layers.0.weight"][...] *= 1e30
    helpers.refuses(
        lambda: lr_range_test(model, gd.MeanSquaredError(), x, x[:, 0], curvature=False), gd.DivergenceError, "step 0"
    )


def test_a_loss_that_never_falls(rng: Any) -> None:
    """At a minimum every rate makes it worse or leaves it: there is nothing to suggest."""
    model, loss, x, y, _ = quadratic(rng)
    model.parameters()["layers.0.weight"][...] = np.linalg.lstsq(x, y, rcond=None)[0].T
    worse = lr_range_test(model, loss, x, y, batch_size=None, lr_min=1.0, lr_max=5.0, steps=200, curvature=False)
    assert worse.suggestion is None and worse.diverged_at is not None and "none" in str(worse)


def test_text_labels_and_norms(rng: Any) -> None:
    x = rng.standard_normal((65, 4))
    y = np.where(x[:, 0] > 0, "yes", "no")
    model = gd.Sequential(gd.Dense(4, 5), gd.BatchNorm(5), gd.ReLU(), gd.Dense(5, 2), seed=0, classes=["no", "yes"])
    before = helpers.snapshot(model)
    result = lr_range_test(model, gd.CrossEntropy(), x, y, batch_size=32, steps=30, optimizer=gd.SGD(1.0))
    helpers.same_bits(before, helpers.snapshot(model))
    assert result.max_stable_lr is not None and math.isfinite(result.max_stable_lr)


def test_same_bits_each_time_and_table(rng: Any, tmp_path: Any) -> None:
    problem = classes(rng)
    first, second = (lr_range_test(*problem, steps=40) for _ in range(2))
    helpers.same_bits(first.loss, second.loss)
    assert list(first.table()) == ["lr", "loss", "smoothed"] and first.table()["loss"] == first.loss.tolist()
    assert f"{first.suggestion:.3g}" in str(first) and f"{first.max_stable_lr:.3g}" in str(first)
    pytest.importorskip("matplotlib")
    axes = first.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 10_000 and axes.get_xscale() == "log"
    assert f"{first.suggestion:.2g}" in axes.get_title(loc="left")


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException], str]] = {
    "model": ({"model": None}, TypeError, "^model"),
    "loss": ({"loss": "mse"}, TypeError, "^loss"),
    "loss class": ({"loss": gd.CrossEntropy}, TypeError, "^loss"),
    "optimizer": ({"optimizer": gd.SGD}, TypeError, "^optimizer"),
    "optimizer number": ({"optimizer": 0.1}, TypeError, "^optimizer"),
    "lr_min": ({"lr_min": 0.0}, ValueError, "^lr_min"),
    "lr_min kind": ({"lr_min": "a"}, TypeError, "^lr_min"),
    "lr_max": ({"lr_max": 1e-6}, ValueError, "^lr_max"),
    "lr_max inf": ({"lr_max": math.inf}, ValueError, "^lr_max"),
    "steps": ({"steps": 1}, ValueError, "^steps"),
    "steps kind": ({"steps": 10.0}, TypeError, "^steps"),
    "smoothing": ({"smoothing": 0}, ValueError, "^smoothing"),
    "smoothing even": ({"smoothing": 4}, ValueError, "^smoothing: got 4; expected an odd number"),
    "batch_size": ({"batch_size": 0}, ValueError, "^batch_size"),
    "batch_size kind": ({"batch_size": "all"}, TypeError, "^batch_size"),
    "curvature_rows": ({"curvature_rows": 0}, ValueError, "^curvature_rows"),
    "seed": ({"seed": -1}, ValueError, "^seed"),
    "x columns": ({"x": np.ones((500, 5))}, ValueError, "x"),
    "x nan": ({"x": np.full((500, 6), np.nan)}, ValueError, "x"),
    "x nan alone": ({"x": np.full((500, 6), np.nan), "curvature": False}, ValueError, "x"),
    "x empty": ({"x": np.ones((0, 6)), "y": []}, ValueError, "^x"),
    "y": ({"y": [0, 1]}, ValueError, "^y"),
    "labels": ({"y": np.full(500, 7)}, ValueError, "label"),
    "weights": ({"sample_weight": [1.0]}, ValueError, "^sample_weight: got 1 rows"),
    "weights text": ({"sample_weight": ["a"] * 500}, TypeError, "^sample_weight"),
    "text labels": ({"y": ["a"] * 500}, TypeError, "^y"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    changes, kind, words = REFUSED[name]
    model, loss, x, y = classes(rng)
    given = {"model": model, "loss": loss, "x": x, "y": y, **changes}
    before = helpers.snapshot(model)
    helpers.refuses(lambda: lr_range_test(**given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))
