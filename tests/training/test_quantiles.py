"""Promise: losses of numbers train towards what they say, on any device; several quantiles of several targets stand in
the documented order, and every other number of outputs or targets is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(7)
LEVELS = [0.1, 0.5, 0.9]
X = np.ones((501, 1))
Y = np.stack([RNG.exponential(1.0, 501), RNG.standard_normal(501)], axis=1)


def constant(outputs: int, device: str = "cpu", **options: Any) -> gd.Sequential:
    """A model that predicts the same for every row."""
    return gd.Sequential(gd.Dense(1, outputs, bias=False), seed=0, dtype="float64", device=device, **options)


def trained(loss: gd.Loss, outputs: int, y: np.ndarray, device: str = "cpu", weights: Any = None) -> np.ndarray:
    model = constant(outputs, device)
    for rate in (0.1, 0.01, 0.001):
        trainer = gd.Trainer(model, loss, optimizer=gd.Adam(rate))
        trainer.fit(X, y, epochs=150, batch_size=501, sample_weight=weights)
    return np.asarray(model.predict(X[:1])[0])


def test_quantiles_by_target_and_level(device: str) -> None:
    found = trained(gd.Quantile(LEVELS), 6, Y, device).reshape(2, 3)
    np.testing.assert_allclose(found, np.quantile(Y, LEVELS, axis=0).T, atol=0.02)


def test_one_target_is_a_vector() -> None:
    found = trained(gd.Quantile([0.8, 0.2]), 2, Y[:, 0])
    np.testing.assert_allclose(found, np.quantile(Y[:, 0], [0.8, 0.2]), atol=0.02)


def test_the_best_constants() -> None:
    median = np.median(Y, axis=0)
    np.testing.assert_allclose(trained(gd.MeanAbsoluteError(), 2, Y), median, atol=0.02)
    np.testing.assert_allclose(trained(gd.Huber(1e-3), 2, Y), median, atol=0.02)
    np.testing.assert_allclose(trained(gd.Huber(1e3), 2, Y), Y.mean(axis=0), atol=1e-3)


def test_weights_of_rows_repeat_them() -> None:
    counts = RNG.integers(0, 4, 501).astype(np.float64)
    found = trained(gd.Quantile(0.7), 1, Y[:, 1], weights=counts)
    assert found[0] == pytest.approx(np.quantile(np.repeat(Y[:, 1], counts.astype(int)), 0.7), abs=0.02)


def step(loss: gd.Loss, y: Any, outputs: int) -> float:
    return gd.Trainer(constant(outputs), loss, optimizer=gd.SGD(0.1)).step(X[:4], y)


@pytest.mark.parametrize(
    ("levels", "outputs", "shape", "word"),
    [
        (LEVELS, 4, (4,), "levels: got 3 levels for a model with 4 outputs"),
        (LEVELS, 6, (4,), r"y: got 1 columns; expected 2"),
        (LEVELS, 6, (4, 6), r"y: got 6 columns; expected 2"),
        (LEVELS, 3, (4, 3), r"y: got 3 columns; expected 1"),
        (0.5, 2, (4,), r"y: got 1 columns; expected 2"),
    ],
)
def test_widths_that_do_not_fit_are_refused(levels: Any, outputs: int, shape: tuple, word: str) -> None:
    helpers.refuses(lambda: step(gd.Quantile(levels), np.ones(shape), outputs), ValueError, word)


@pytest.mark.parametrize("loss", [gd.Quantile(1 - 1e-9), gd.Quantile(1e-60), gd.Huber(1e-60), gd.Huber(1e60)], ids=repr)
def test_arguments_that_float32_cannot_hold_are_refused(loss: gd.Loss) -> None:
    for dtype in ("float32", "float64"):
        model = gd.Sequential(gd.Dense(1, 1), seed=0, dtype=dtype)
        if dtype == "float64":
            gd.Trainer(model, loss, optimizer=gd.SGD(0.1)).step(X, Y[:, 0])
        else:
            helpers.refuses(lambda m=model: gd.Trainer(m, loss, optimizer=gd.SGD(0.1)), ValueError, "float32")


def test_named_targets_may_come_in_any_order(tmp_path: Path) -> None:
    frame = pd.DataFrame(Y, columns=["price", "time"])
    model = constant(6)
    trainer = gd.Trainer(model, gd.Quantile(LEVELS), optimizer=gd.Adam(0.01))
    trainer.fit(X, frame, epochs=2)
    assert model.target_names == ("price", "time")
    expected = trainer.evaluate(X, Y)
    assert trainer.evaluate(X, frame[["time", "price"]]) == expected
    with pytest.raises(ValueError, match="price"):
        trainer.evaluate(X, frame.rename(columns={"price": "cost"}))
    trainer.save_checkpoint(tmp_path / "c.safetensors")
    other = gd.Trainer(constant(6), gd.Quantile(LEVELS), optimizer=gd.Adam(0.01))
    other.load_checkpoint(tmp_path / "c.safetensors")
    assert other.evaluate(X, frame[["time", "price"]]) == expected and other.model.target_names == ("price", "time")
    assert gd.load(tmp_path / "c.safetensors").target_names == ("price", "time")


OTHERS = [gd.MeanSquaredError(), gd.MeanAbsoluteError(), gd.Huber(1.0), gd.Quantile(0.5), gd.Poisson()]
OTHERS += [gd.CrossEntropy(), gd.BinaryCrossEntropy()]


@pytest.mark.parametrize("loss", OTHERS, ids=repr)
def test_targets_of_other_losses_have_a_name_for_each_output(loss: gd.Loss) -> None:
    """When the trainer is made, and when names are set later: by the model that knows what its outputs are, or by the
    next call that has both names and loss."""
    wrong, word = ["price", "time"], r"target_names: got 2 names.*expected 4, one for each output"
    model = gd.Sequential(gd.Dense(1, 4), seed=0, target_names=wrong)
    helpers.refuses(lambda: gd.Trainer(model, loss, optimizer=gd.SGD(0.1)), ValueError, word)
    assert model.outputs is None and model.target_names == ("price", "time")
    other = constant(4)
    trainer = gd.Trainer(other, loss, optimizer=gd.SGD(0.1))
    if other.outputs != "numbers":
        with pytest.raises(ValueError, match=word):
            other.target_names = wrong
        other.target_names = ["a", "b", "c", "d"]
        return
    other.target_names = wrong
    y = np.ones((len(X), 4))
    named = pd.DataFrame(y[:, :2], columns=wrong)
    calls = [lambda: trainer.fit(X, y, epochs=1), lambda: trainer.evaluate(X, y), lambda: trainer.step(X, named)]
    for call in [*calls, lambda: gd.analysis.Objective(other, loss, X, y)]:
        helpers.refuses(call, ValueError, word)
    other.target_names = ["a", "b", "c", "d"]
    trainer.step(X, y)


def test_quantiles_share_the_name_of_their_target() -> None:
    for names in (["a"], ["a", "b", "c", "d", "e", "f"]):
        model = gd.Sequential(gd.Dense(1, 6), seed=0, target_names=names)
        word = f"target_names: got {len(names)} names.*expected 2, one for each 3 outputs"
        helpers.refuses(
            lambda model=model: gd.Trainer(model, gd.Quantile(LEVELS), optimizer=gd.SGD(0.1)), ValueError, word
        )
    model = gd.Sequential(gd.Dense(1, 6), seed=0, target_names=["price", "time"])
    trainer = gd.Trainer(model, gd.Quantile(LEVELS), optimizer=gd.SGD(0.1))
    assert np.isfinite(trainer.step(X, pd.DataFrame(Y, columns=["price", "time"])[["time", "price"]]))


LOSSES = [gd.Huber(0.5), gd.MeanAbsoluteError(), gd.Quantile([0.25, 0.75]), gd.Poisson(), gd.CrossEntropy(gamma=2.0)]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_resumed_runs_continue_to_the_bit(loss: gd.Loss, tmp_path: Path, device: str) -> None:
    y = RNG.integers(0, 2, 501) if isinstance(loss, gd.CrossEntropy) else np.abs(Y)
    outputs = 4 if isinstance(loss, gd.Quantile) else 2

    def made() -> gd.Trainer:
        model = gd.Sequential(gd.Dense(1, 7), gd.Mish(), gd.Scale(7), gd.Dense(7, outputs), seed=1, device=device)
        return gd.Trainer(model, loss, optimizer=gd.Adam(0.01, lr_factors={"layers.2": 6.0}), seed=5)

    whole, part, rest = made(), made(), made()
    whole.fit(X, y, epochs=4, batch_size=64)
    part.fit(X, y, epochs=2, batch_size=64)
    part.save_checkpoint(tmp_path / "c.safetensors")
    rest.load_checkpoint(tmp_path / "c.safetensors")
    rest.fit(X, y, epochs=2, batch_size=64)
    helpers.same_bits(helpers.snapshot(whole.model), helpers.snapshot(rest.model))
    other = gd.Huber(0.25) if isinstance(loss, gd.Huber) else gd.MeanSquaredError()
    if not isinstance(loss, (gd.Poisson, gd.CrossEntropy)) and outputs == 2:
        wrong = gd.Trainer(made().model, other, optimizer=gd.Adam(0.01, lr_factors={"layers.2": 6.0}), seed=5)
        whole.fit(X, y, epochs=1, callbacks=[gd.Checkpoint(tmp_path / "d.safetensors")])
        with pytest.raises(ValueError, match="loss"):
            wrong.fit(X, y, epochs=1, resume=tmp_path / "d.safetensors")


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_restarts_train_as_alone(loss: gd.Loss, device: str) -> None:
    """Several networks at once have the loss, by value, that each has alone."""
    y = RNG.integers(0, 2, 501) if isinstance(loss, gd.CrossEntropy) else np.abs(Y)
    outputs = 4 if isinstance(loss, gd.Quantile) else 2

    def build(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(1, 5), gd.SiLU(), gd.Dense(5, outputs), seed=seed, device=device)

    options: dict[str, Any] = {"loss": loss, "optimizer": gd.SGD(0.05), "epochs": 2, "batch_size": 100}
    result = gd.restarts(build, 3, X, y, validation=(X, y), keep_models=True, progress=False, **options)
    for seed, start in enumerate(result.starts):
        model = build(seed)
        trainer = gd.Trainer(model, loss, optimizer=gd.SGD(0.05))
        trainer.fit(X, y, epochs=2, batch_size=100)
        np.testing.assert_allclose(start.model.flat_parameters(), model.flat_parameters(), rtol=2e-4, atol=1e-5)
        assert start.val_loss == pytest.approx(trainer.evaluate(X, y)["loss"], rel=1e-4)
