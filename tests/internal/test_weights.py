"""Promise: sample and class weights count relative to each other, at any scale that float64 holds and in either dtype.
If their sum is 0 there is no mean: every entry point says so and changes nothing."""

from __future__ import annotations

import functools
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.data import split_rows

N = 40
RNG = np.random.default_rng(5)
X = RNG.standard_normal((N, 3))
LABELS = np.arange(N) % 3
TARGETS: dict[str, tuple[Any, Any]] = {
    "CrossEntropy": (gd.CrossEntropy(), LABELS),
    "soft": (gd.CrossEntropy(label_smoothing=0.1), RNG.dirichlet(np.ones(3), N)),
    "BinaryCrossEntropy": (gd.BinaryCrossEntropy(pos_weight=2.0), RNG.integers(0, 2, (N, 3))),
    "MeanSquaredError": (gd.MeanSquaredError(), RNG.standard_normal((N, 3))),
}
SCALES = [2.0**-900, 2.0**-166, 2.0**-140, 1.0, 2.0**130, 2.0**900]  # 1e-271, 1e-50, 7e-43, 1, 1e39, 8e270
EVERY_DTYPE = pytest.mark.parametrize("dtype", ["float32", "float64"])
HOW = pytest.mark.parametrize("how", ["fit", "step", "evaluate", "validation", "fraction", "iterable", "analysis"])


def trainer_of(loss: Any, dtype: str, device: str = "cpu") -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 5), gd.Tanh(), gd.Dense(5, 3), seed=0, dtype=dtype, device=device)
    return gd.Trainer(model, loss, optimizer=gd.Adam(0.01))


def run(trainer: gd.Trainer, how: str, y: Any, weights: Any) -> list[float]:
    """The losses returned by each entry point."""
    if how == "step":
        return [trainer.step(X, y, weights) for _ in range(3)]
    if how == "evaluate":
        return [trainer.evaluate(X, y, sample_weight=weights)["loss"]]
    if how == "iterable":
        halves = [(X[part], y[part], weights[part]) for part in (slice(0, 25), slice(25, N))]
        return list(trainer.fit(halves, epochs=2)["loss"])
    if how == "analysis":
        return list(
            gd.analysis.gradient(gd.analysis.in_float64(trainer.model), trainer.loss, X, y, sample_weight=weights)
        )
    if how == "validation":
        return list(trainer.fit(X, y, epochs=2, validation=(X, y, weights))["val_loss"])
    share = {"validation": 0.5} if how == "fraction" else {}
    history = trainer.fit(X, y, epochs=2, batch_size=16, sample_weight=weights, **share)
    return [*history["loss"], *(history["val_loss"] if share else [])]


@EVERY_DTYPE
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("how", ["fit", "step", "evaluate", "validation", "fraction", "iterable"])
def test_the_scale_of_weights_does_not_matter(how: str, targets: str, dtype: str, device: str) -> None:
    """Powers of two scale exactly, so everything is the same to the bit."""
    loss, y = TARGETS[targets]
    weights = RNG.uniform(0.1, 1.0, N)
    expected = trainer_of(loss, dtype, device)
    losses = run(expected, how, y, weights)
    assert all(0 < value < 100 for value in losses)
    for scale in SCALES:
        trainer = trainer_of(loss, dtype, device)
        assert run(trainer, how, y, weights * scale) == losses
        helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(expected.model))


@EVERY_DTYPE
def test_batches_of_an_iterable_count_by_their_weights(dtype: str) -> None:
    """Each batch is scaled separately; the epoch's loss is still the mean over all batches."""
    weights = np.where(np.arange(N) < 25, 1e-45, 3e-45)
    small = run(trainer_of(gd.CrossEntropy(), dtype), "iterable", LABELS, weights)
    plain = run(trainer_of(gd.CrossEntropy(), dtype), "iterable", LABELS, weights * 1e45)
    np.testing.assert_allclose(small, plain, rtol=1e-6)


@EVERY_DTYPE
@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_of_class_weights_does_not_matter(scale: float, dtype: str, device: str) -> None:
    weights = np.array([0.25, 0.5, 1.0])
    expected = trainer_of(gd.CrossEntropy(class_weights=list(weights)), dtype, device)
    trainer = trainer_of(gd.CrossEntropy(class_weights=list(weights * scale)), dtype, device)
    assert run(trainer, "fit", LABELS, None) == run(expected, "fit", LABELS, None)


NOTHING: dict[str, Any] = {
    "zero": np.zeros(N),
    "integer zeros": np.zeros(N, np.int64),
    "float32 zeros": np.zeros(N, np.float32),
    "below any float": np.full(N, 5e-324),
    "beyond any float": np.full(N, 1.5e308),
}


@EVERY_DTYPE
@HOW
@pytest.mark.parametrize("weights", NOTHING)
def test_weights_without_a_sum_are_refused(weights: str, how: str, dtype: str) -> None:
    trainer = trainer_of(gd.CrossEntropy(), dtype)
    before = helpers.snapshot(trainer.model, trainer)
    helpers.refuses(lambda: run(trainer, how, LABELS, NOTHING[weights]), ValueError, "weight.*the sum.*positive")
    helpers.same_bits(helpers.snapshot(trainer.model, trainer), before)
    assert trainer.steps == 0 and trainer.epoch == 0


def test_classes_that_do_not_count_are_refused() -> None:
    """Class weights of 0 for all classes present, in training, validation and parts of the data."""
    loss, y = gd.CrossEntropy(class_weights=[0.0, 1.0, 1.0]), np.zeros(N, int)
    for how in ("fit", "step", "evaluate", "fraction", "analysis"):
        helpers.refuses(lambda how=how: run(trainer_of(loss, "float32"), how, y, None), ValueError, "class_weights")
    trainer = trainer_of(loss, "float32")
    helpers.refuses(
        lambda: trainer.fit(X, LABELS, epochs=1, validation=(X, y)), ValueError, "validation.*class_weights"
    )
    assert trainer.steps == 0
    helpers.refuses(lambda: gd.CrossEntropy(class_weights=[0.0, 0.0]), ValueError, "class_weights")
    helpers.refuses(
        lambda: run(trainer_of(gd.CrossEntropy(), "float32"), "fit", np.zeros((N, 3)), None), ValueError, "y"
    )


def test_a_part_of_the_rows_without_weight_is_refused() -> None:
    """The validation part of a split has its own sum of weights."""
    trainer = trainer_of(gd.CrossEntropy(), "float32")
    _, measured = split_rows(N, 0.25, trainer.seed, name="validation")
    weights = np.ones(N)
    weights[measured] = 0
    fit = functools.partial(trainer.fit, X, LABELS, epochs=1, validation=0.25)
    helpers.refuses(lambda: fit(sample_weight=weights), ValueError, "validation.*weight")
    helpers.refuses(lambda: fit(sample_weight=1 - weights), ValueError, "sample_weight")
    assert trainer.steps == 0


TINY = {"float32": 1e-39, "float64": 1e-310}  # zero or nearly so, relative to 1


@pytest.mark.parametrize("how", ["fit", "step", "evaluate", "validation", "fraction", "iterable"])
def test_sums_of_large_losses_do_not_overflow(how: str) -> None:
    """Weights that would make losses overflow are refused; the largest accepted weights do not."""
    y = 1e14 * TARGETS["MeanSquaredError"][1]  # losses of 1e28
    for scale, refused in ((1e297, True), (1e279 / N, False)):
        trainer = gd.Trainer(
            trainer_of(gd.MeanSquaredError(), "float64").model, gd.MeanSquaredError(), optimizer=gd.SGD(0.0)
        )
        weights = np.full(N, scale)
        if refused:
            helpers.refuses(lambda t=trainer, w=weights: run(t, how, y, w), ValueError, "weight.*1e280")
        else:
            expected = run(trainer, how, y, np.ones(N))
            np.testing.assert_allclose(run(trainer, how, y, weights)[-1], expected[-1], rtol=1e-12)


@EVERY_DTYPE
@pytest.mark.parametrize("share", [1e-3, 1.0, 1e3, 1e6])
def test_class_weights_beyond_the_dtype_are_refused(share: float, dtype: str, device: str) -> None:
    """In a batch of only that class, the step would divide by 0 if the other weight is as large as here."""
    least = max(float(np.finfo(dtype).tiny), 1e-299)  # sums are at least 1e-300
    loss = gd.CrossEntropy(class_weights=[1.0, TINY[dtype] / 1e7 * share, 0.0])
    helpers.refuses(lambda: trainer_of(loss, dtype, device), ValueError, f"class_weights: got.*{dtype}.*at least")
    by_class = gd.CrossEntropy(class_weights={1: TINY[dtype]})
    helpers.refuses(lambda: trainer_of(by_class, dtype, device), ValueError, f"class_weights: got.*{dtype}")
    weights = [share, 1.01 * least * max(share, 1.0), 0.0]
    trainer = trainer_of(gd.CrossEntropy(class_weights=weights), dtype, device)
    expected = trainer_of(gd.CrossEntropy(class_weights=[0.0, 1.0, 0.0]), dtype, device)
    y = np.ones(N, int)
    np.testing.assert_allclose(run(trainer, "step", y, None), run(expected, "step", y, None), rtol=1e-5)


@EVERY_DTYPE
@pytest.mark.parametrize("how", ["fit", "step", "evaluate", "validation", "fraction", "iterable"])
@pytest.mark.parametrize("targets", TARGETS)
def test_sample_weights_beyond_the_dtype_are_refused(targets: str, how: str, dtype: str) -> None:
    """A batch of such rows alone would be left out by `fit`, but trained by `step`."""
    loss, y = TARGETS[targets]
    weights = np.where(np.arange(N) < 20, 1.0, TINY[dtype])
    trainer = trainer_of(loss, dtype)
    before = helpers.snapshot(trainer.model, trainer)
    helpers.refuses(lambda: run(trainer, how, y, weights), ValueError, f"sample_weight: got .* in row .*{dtype}")
    if how != "iterable":  # its first batch may be trained
        helpers.same_bits(helpers.snapshot(trainer.model, trainer), before)
    weights[20:] = 0.0
    assert np.isfinite(run(trainer_of(loss, dtype), "evaluate", y, weights)).all()


@EVERY_DTYPE
def test_soft_targets_beyond_the_dtype_are_refused(dtype: str) -> None:
    y = np.array(TARGETS["soft"][1])
    y[7] = [TINY[dtype], 0.0, 0.0]
    trainer = trainer_of(gd.CrossEntropy(), dtype)
    for how in ("fit", "step", "evaluate"):
        helpers.refuses(lambda how=how: run(trainer, how, y, None), ValueError, f"y: got targets.*in row 7.*{dtype}")
    assert trainer.steps == 0
    y[7] = [TINY[dtype], 1.0, 0.0]  # a value that is negligible in its row is harmless
    assert np.isfinite(run(trainer, "step", y, None)).all()


def unchecked(loss: Any, dtype: str, device: str, x: Any, y: Any, weights: Any, how: str) -> gd.Trainer:
    """Train in one of the ways without the check of values."""
    made = trainer_of(loss, dtype, device)
    trainer = gd.Trainer(made.model, loss, optimizer=made.optimizer, check_finite=False)
    batch = (x, y) if weights is None else (x, y, weights)
    {
        "step": lambda: trainer.step(*batch),
        "fit": lambda: trainer.fit(x, y, sample_weight=weights, epochs=1, batch_size=16),
        "iterable": lambda: trainer.fit([batch], epochs=1),
    }[how]()
    return trainer


@EVERY_DTYPE
@pytest.mark.parametrize("how", ["step", "fit", "iterable"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_rows_of_weight_0_must_be_finite_to_train(bad: float, how: str, dtype: str, device: str) -> None:
    """Their loss does not count, so that it would not show that their gradients are NaN."""
    weights, wrong, targets = np.ones(N), X.copy(), X.copy()
    weights[7], wrong[7, 1], targets[7, 2] = 0.0, bad, bad
    classes = gd.CrossEntropy(class_weights=[1, 0, 2])
    squares = gd.MeanSquaredError()
    before = trainer_of(squares, dtype).model.flat_parameters()
    for loss, x, y, of_rows, name in (
        (squares, wrong, X, weights, "x"),
        (squares, X, targets, weights, "y"),
        (classes, wrong, np.where(np.arange(N) == 7, 1, LABELS), None, "x"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: got -?(nan|inf) in row 7, column [12], whose weight is 0"):
            unchecked(loss, dtype, device, x, y, of_rows, how)
        trainer = gd.Trainer(trainer_of(loss, dtype, device).model, loss, optimizer=gd.SGD(0.1), check_finite=False)
        measured = trainer.evaluate(x, y, sample_weight=of_rows)["loss"]
        assert np.isfinite(measured) or loss is classes, "a measurement leaves out rows of weight 0"
    huge = np.where(weights[:, None] == 0, 1e300, X)
    if dtype == "float32":
        with pytest.raises(ValueError, match=r"x: got 1e\+300 in row 7, column 0"):
            unchecked(squares, dtype, device, huge, X, weights, how)
    right = unchecked(squares, dtype, device, X, X, weights, how).model.flat_parameters()
    assert np.isfinite(right).all() and not np.array_equal(right, before)


def test_parameters_that_are_not_finite_in_the_end() -> None:
    """Infinity that an activation bounds leaves the loss finite, but not the gradients."""
    x = np.where(np.arange(N)[:, None] == 7, np.inf, X)
    x[:, 1:] = X[:, 1:]
    with pytest.raises(gd.DivergenceError, match=r"the last step made parameters nan.*check_finite=False"):
        unchecked(gd.MeanSquaredError(), "float32", "cpu", x, X, None, "iterable")
