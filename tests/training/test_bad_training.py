"""Promise: data, trainer and callbacks refuse invalid arguments by name, and a refused call changes nothing: neither
parameters, averages, the optimiser's state, the step count nor the history."""

from __future__ import annotations

import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

N = 20
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
LABELS = np.arange(N) % 2
FLOATS = np.ones((N, 2), np.float32)
WITH_NAN, WITH_INF = X.copy(), X.copy()
WITH_NAN[7, 1], WITH_INF[N - 1, 2] = np.nan, -np.inf


def build(loss: Any = None, **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Tanh(), gd.Dense(4, 2), seed=0)
    trainer = gd.Trainer(model, loss or gd.CrossEntropy(), optimizer=gd.Adam(0.01), **options)
    trainer.step(X, LABELS if loss is None or isinstance(loss, gd.CrossEntropy) else FLOATS)
    return trainer


def everything(trainer: gd.Trainer) -> dict[str, np.ndarray]:
    """Model, step count, epochs, and the next step's result (which shows the optimiser's state)."""
    return helpers.snapshot(trainer.model) | {
        "steps": np.array(trainer.steps),
        "epochs": np.array(trainer.history.epochs),
    }


# what step, fit and evaluate must refuse alike: (x, y, weights, exception, word)
DATA: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "x one column less": (X[:, :2], LABELS, None, ValueError, "x"),
    "x flat": (X.ravel(), LABELS, None, ValueError, "x"),
    "x three dimensions": (X[None], LABELS, None, ValueError, "x"),
    "x text": ("data", LABELS, None, TypeError, "x"),
    "x complex": (X + 1j, LABELS, None, TypeError, "x"),
    "x nan": (WITH_NAN, LABELS, None, ValueError, "x.*7|7.*x"),
    "x infinite": (WITH_INF, LABELS, None, ValueError, "x.*19|19.*x"),
    "x empty": (X[:0], LABELS[:0], None, ValueError, "x"),
    "y one row less": (X, LABELS[:-1], None, ValueError, "y"),
    "y one row more": (X, np.append(LABELS, 0), None, ValueError, "y"),
    "y label too large": (X, LABELS + 1, None, ValueError, "y.*2|2.*y"),
    "y label negative": (X, LABELS - 1, None, ValueError, "y.*-1|-1.*y"),
    "y label huge": (X, np.where(LABELS == 1, 2**40, 0), None, ValueError, "y"),
    "y label of 2³² reads as 0": (X, np.full(N, 2**32), None, ValueError, "y"),
    "y label fraction": (X, LABELS + 0.5, None, (ValueError, TypeError), "y"),
    "y soft one column more": (X, np.ones((N, 3), "f") / 3, None, ValueError, "y"),
    "y soft nan": (X, np.where(np.arange(2 * N).reshape(N, 2) == 9, np.nan, 0.5), None, ValueError, "y"),
    "y three dimensions": (X, np.zeros((N, 2, 1)), None, ValueError, "y"),
    "y text": (X, ["a"] * N, None, TypeError, "y"),
    "y complex": (X, LABELS + 1j, None, TypeError, "y"),
    "y number": (X, 1, None, (ValueError, TypeError), "y"),
    "weights one row less": (X, LABELS, np.ones(N - 1), ValueError, "weight"),
    "weights negative": (X, LABELS, np.where(np.arange(N) == 3, -1.0, 1.0), ValueError, "weight"),
    "weights nan": (X, LABELS, np.where(np.arange(N) == 3, np.nan, 1.0), ValueError, "weight"),
    "weights infinite": (X, LABELS, np.where(np.arange(N) == 3, np.inf, 1.0), ValueError, "weight"),
    "weights two columns": (X, LABELS, np.ones((N, 2)), ValueError, "weight"),
    "weights all 0": (X, LABELS, np.zeros(N), ValueError, "sample_weight"),
    "weights that overflow": (X, LABELS, np.full(N, 1e308), ValueError, "sample_weight"),
    "weights text": (X, LABELS, "equal", TypeError, "weight"),
}


def train(trainer: gd.Trainer, how: str, x: Any, y: Any, weights: Any) -> Any:
    if how == "step":
        return trainer.step(x, y, weights)
    if how == "fit":
        return trainer.fit(x, y, epochs=1, batch_size=5, sample_weight=weights)
    if how == "validation":
        return trainer.fit(X, LABELS, epochs=1, validation=(x, y) if weights is None else (x, y, weights))
    if how == "iterable":
        return trainer.fit([(x, y) if weights is None else (x, y, weights)], epochs=1)
    return trainer.evaluate(x, y, sample_weight=weights)


@pytest.mark.parametrize("how", ["step", "fit", "evaluate", "validation", "iterable"])
@pytest.mark.parametrize("name", DATA)
def test_data(name: str, how: str) -> None:
    x, y, weights, kind, word = DATA[name]
    trainer, untouched = build(), build()
    before = everything(trainer)
    with pytest.raises(kind, match=f"(?s){word}"):
        train(trainer, how, x, y, weights)
    helpers.same_bits(everything(trainer), before)
    assert trainer.step(X, LABELS) == untouched.step(X, LABELS)
    helpers.same_bits(everything(trainer), everything(untouched))


FLOAT_TARGETS: dict[str, tuple[Any, Any, str]] = {
    "one column": (FLOATS[:, :1], ValueError, "y"),
    "three columns": (np.ones((N, 3), "f"), ValueError, "y"),
    "flat": (FLOATS[:, 0], ValueError, "y"),
    "flat of all": (FLOATS.ravel(), ValueError, "y"),
    "one row less": (FLOATS[1:], ValueError, "y"),
    "nan": (FLOATS * np.nan, ValueError, "y"),
    "infinite": (FLOATS * np.inf, ValueError, "y"),
    "text": ("y", TypeError, "y"),
    "complex": (FLOATS * 1j, TypeError, "y"),
    "objects": (np.full(FLOATS.shape, {}, object), TypeError, "y"),
    "number": (1.0, (ValueError, TypeError), "y"),
    "empty": ([], ValueError, "y"),
}


@pytest.mark.parametrize("how", ["step", "fit", "evaluate"])
@pytest.mark.parametrize("loss", [gd.MeanSquaredError(), gd.BinaryCrossEntropy()], ids=repr)
@pytest.mark.parametrize("name", FLOAT_TARGETS)
def test_float_targets(name: str, loss: Any, how: str) -> None:
    y, kind, word = FLOAT_TARGETS[name]
    trainer = build(loss)
    before = everything(trainer)
    with pytest.raises(kind, match=word):
        train(trainer, how, X, y, None)
    helpers.same_bits(everything(trainer), before)


@pytest.mark.parametrize("bad", [-0.1, 1.5, -1e9])
@pytest.mark.parametrize("loss", [gd.BinaryCrossEntropy(), gd.CrossEntropy()], ids=repr)
def test_targets_that_are_no_probabilities_are_refused(loss: Any, bad: float) -> None:
    y = np.full((N, 2), 0.5, np.float32)
    y[3, 1] = bad
    trainer = build(loss)
    before = everything(trainer)
    helpers.refuses(lambda: trainer.step(X, y), ValueError, "y")
    helpers.same_bits(everything(trainer), before)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
@pytest.mark.parametrize("how", ["fit", "evaluate", "validation", "iterable"])
def test_several_classes_a_row_are_refused(how: str, dtype: str) -> None:
    """Of targets of 0 and 1 alone: other sums than 1 weigh the rows of probabilities."""
    one = np.eye(2)[LABELS].astype(dtype)
    for wrong in ([1, 1], [0, 0]):
        several = one.copy()
        several[3] = wrong
        words = rf"y: got {sum(wrong)} classes in row 3; expected one, .*gd\.BinaryCrossEntropy\(\)"
        helpers.refuses(lambda y=several: train(build(), how, X, y, None), ValueError, words)
        train(build(gd.BinaryCrossEntropy()), "fit", X, several, None)
    expected = train(build(), how, X, LABELS, None)
    for given in (one, one * 0.75, np.nextafter(one, 0.5, dtype="f4")):
        found = train(build(), how, X, given, None)
        assert how != "evaluate" or found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


FIT: dict[str, tuple[dict, Any, str]] = {
    "epochs zero": ({"epochs": 0}, ValueError, "epochs"),
    "epochs negative": ({"epochs": -1}, ValueError, "epochs"),
    "epochs fraction": ({"epochs": 1.5}, TypeError, "epochs"),
    "epochs text": ({"epochs": "3"}, TypeError, "epochs"),
    "epochs none": ({"epochs": None}, TypeError, "epochs"),
    "batch zero": ({"batch_size": 0}, ValueError, "batch_size"),
    "batch negative": ({"batch_size": -1}, ValueError, "batch_size"),
    "batch fraction": ({"batch_size": 2.5}, TypeError, "batch_size"),
    "batch text": ({"batch_size": "all"}, TypeError, "batch_size"),
    "validation 0": ({"validation": 0.0}, ValueError, "validation|fraction"),
    "validation 1": ({"validation": 1.0}, ValueError, "validation|fraction"),
    "validation negative": ({"validation": -0.2}, ValueError, "validation|fraction"),
    "validation nan": ({"validation": math.nan}, ValueError, "validation|fraction"),
    "validation text": ({"validation": "some"}, TypeError, "validation"),
    "validation x alone": ({"validation": (X,)}, (TypeError, ValueError), "validation"),
    "validation four": ({"validation": (X, LABELS, None, None)}, (TypeError, ValueError), "validation"),
    "validation array": ({"validation": X}, (TypeError, ValueError), "validation"),
    "callbacks none": ({"callbacks": None}, TypeError, "callbacks"),
    "callback class": ({"callbacks": [gd.EarlyStopping]}, TypeError, "callbacks"),
    "callback text": ({"callbacks": ["stop"]}, TypeError, "callbacks"),
    "monitor missing": ({"callbacks": [gd.EarlyStopping()]}, ValueError, "validation"),
    "resume missing": ({"resume": "/nonexistent/checkpoint"}, FileNotFoundError, "checkpoint"),
    "resume number": ({"resume": 3.5}, TypeError, "resume|path"),
    "unknown": ({"epoch": 3}, TypeError, "epoch"),
}


@pytest.mark.parametrize("name", FIT)
def test_fit(name: str) -> None:
    options, kind, word = FIT[name]
    trainer = build()
    before = everything(trainer)
    with pytest.raises(kind, match=word):
        trainer.fit(X, LABELS, **({"epochs": 2, "batch_size": 5} | options))
    helpers.same_bits(everything(trainer), before)
    assert math.isfinite(trainer.step(X, LABELS))


MODEL = gd.Sequential(gd.Dense(3, 2), seed=0)
CE, SGD = gd.CrossEntropy(), gd.SGD(0.1)
MADE: list[tuple[Any, Any, str]] = [
    (lambda: gd.Trainer(None, CE, optimizer=SGD), TypeError, "model"),
    (lambda: gd.Trainer(gd.Dense(3, 2), CE, optimizer=SGD), TypeError, "model"),
    (lambda: gd.Trainer(gd.Sequential, CE, optimizer=SGD), TypeError, "model"),
    (lambda: gd.Trainer(MODEL, "mse", optimizer=SGD), TypeError, "loss"),
    (lambda: gd.Trainer(MODEL, gd.CrossEntropy, optimizer=SGD), TypeError, "loss"),
    (lambda: gd.Trainer(MODEL, CE, optimizer="adam"), TypeError, "optimizer"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=gd.Adam), TypeError, "optimizer"),
    (lambda: gd.Trainer(MODEL, CE), TypeError, "optimizer"),
    (lambda: gd.Trainer(MODEL, CE, SGD), TypeError, "argument"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=SGD, metrics=["acuracy"]), ValueError, "metrics.*did you mean 'accuracy'"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=SGD, metrics=[gd.metrics.top_k]), TypeError, "metrics"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=SGD, metrics=["accuracy"] * 2), ValueError, "metrics"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=SGD, seed=-1), ValueError, "seed"),
    (lambda: gd.Trainer(MODEL, CE, optimizer=SGD, seed="x"), TypeError, "seed"),
    (lambda: gd.MiniBatches(X, LABELS, batch_size=0), ValueError, "batch_size"),
    (lambda: gd.MiniBatches(X, LABELS, batch_size=1.5), TypeError, "batch_size"),
    (lambda: gd.MiniBatches(X, LABELS[1:], batch_size=2), ValueError, "y"),
    (lambda: gd.MiniBatches(X, LABELS, batch_size=2, sample_weight=np.ones(3)), ValueError, "^sample_weight"),
    (lambda: gd.MiniBatches(X[:0], batch_size=2), ValueError, "x"),
    (lambda: gd.MiniBatches(3.0, batch_size=2), (ValueError, TypeError), "x"),
    (lambda: gd.MiniBatches(None, batch_size=2), TypeError, "x"),
    (lambda: gd.MiniBatches(X, batch_size=2, seed=-1), ValueError, "seed"),
    (lambda: gd.MiniBatches(X, batch_size=2, seed=1.5), TypeError, "seed"),
    (lambda: gd.MiniBatches(X, batch_size=2).set_epoch(-1), ValueError, "epoch"),
    (lambda: gd.train_validation_split(X, LABELS, fraction=0), ValueError, "fraction"),
    (lambda: gd.train_validation_split(X, LABELS, fraction=1), ValueError, "fraction"),
    (lambda: gd.train_validation_split(X, LABELS, fraction=math.nan), ValueError, "fraction"),
    (lambda: gd.train_validation_split(X, LABELS, fraction="half"), TypeError, "fraction"),
    (lambda: gd.train_validation_split(X[:1], LABELS[:1]), ValueError, "fraction|rows"),
    (lambda: gd.train_validation_split(X, LABELS[1:]), ValueError, "y"),
    (lambda: gd.train_validation_split(X, stratify=True), ValueError, "stratify"),
    (lambda: gd.train_validation_split(X, LABELS, stratify=X), ValueError, "stratify"),
    (lambda: gd.train_validation_split(X, LABELS, stratify=LABELS[1:]), ValueError, "stratify"),
    (lambda: gd.Standardizer(4).fit(X), ValueError, "x"),
    (lambda: gd.Standardizer(3).fit(X[:0]), ValueError, "x"),
    (lambda: gd.Standardizer(3).fit(WITH_NAN), ValueError, "x"),
    (lambda: gd.Standardizer(3).fit(WITH_INF), ValueError, "x"),
    (lambda: gd.Standardizer(3).fit(X[0]), ValueError, "x"),
    (lambda: gd.Standardizer().fit(X[:, :0]), ValueError, "x"),
    (lambda: gd.Standardizer(3).fit("x"), TypeError, "x"),
    (lambda: gd.Standardizer(3).transform(X), RuntimeError, "(?i)fit"),
    (lambda: gd.Standardizer(3).inverse_transform(X), RuntimeError, "(?i)fit"),
    (lambda: gd.Standardizer().fit(X).transform(X[:, :2]), ValueError, "x"),
    (
        lambda: gd.Sequential(gd.Standardizer(3), gd.Dense(3, 2)).predict(X),
        (RuntimeError, ValueError),
        "(?i)standardizer",
    ),
    (lambda: gd.EarlyStopping(patience=0), ValueError, "patience"),
    (lambda: gd.EarlyStopping(patience=1.5), TypeError, "patience"),
    (lambda: gd.EarlyStopping(min_delta=-1), ValueError, "min_delta"),
    (lambda: gd.EarlyStopping(mode="least"), ValueError, "mode"),
    (lambda: gd.EarlyStopping(3), TypeError, "monitor"),
    (lambda: gd.ReduceOnPlateau(factor=-0.1), ValueError, "factor"),
    (lambda: gd.ReduceOnPlateau(factor=1.5), ValueError, "factor"),
    (lambda: gd.ReduceOnPlateau(patience=0), ValueError, "patience"),
    (lambda: gd.Checkpoint("c", every=0), ValueError, "every"),
    (lambda: gd.Checkpoint("c", seconds=0), ValueError, "seconds"),
    (lambda: gd.Checkpoint("c", seconds="1"), TypeError, "seconds"),
    (lambda: gd.Checkpoint(None), TypeError, "path|str"),
    (lambda: build().step(X), TypeError, "y|argument"),
    (lambda: setattr(build(), "lr_scale", -1.0), ValueError, "lr_scale"),
    (lambda: setattr(build(), "steps", -1), ValueError, "steps"),
]


@pytest.mark.parametrize("i", range(len(MADE)))
def test_made(i: int) -> None:
    call, kind, word = MADE[i]
    if isinstance(kind, tuple):
        with pytest.raises(kind, match=word):
            call()
    else:
        helpers.refuses(call, kind, word)


def test_the_check_for_nan_can_be_turned_off() -> None:
    trainer = build(check_finite=False)
    with pytest.raises(gd.DivergenceError):
        trainer.step(WITH_NAN, LABELS)
    with pytest.raises(gd.DivergenceError):
        build(check_finite=False).fit(WITH_NAN, LABELS, epochs=1)


def too_steep(optimizer: Any, device: str, **options: Any) -> gd.Trainer:
    """Gradients of 1e25 with a finite loss; their squares overflow in float32."""
    model = gd.Sequential(gd.Dense(3, 1), seed=0, device=device)
    return gd.Trainer(model, gd.MeanAbsoluteError(), optimizer=optimizer, **options)


@pytest.mark.parametrize("kind", [gd.Adam, gd.AdamW, gd.RMSProp, gd.AdaGrad])
def test_squares_of_gradients_that_overflow_are_not_silent(kind: Any, device: str) -> None:
    steep, y = X * np.float32(1e25), np.zeros((N, 1), np.float32)
    with pytest.raises(gd.DivergenceError, match=r"state of layers\.0\.weight .*clip_norm"):
        too_steep(kind(1e-3), device).fit(steep, y, epochs=3, batch_size=5)
    history = too_steep(kind(1e-3, clip_norm=1.0), device).fit(steep, y, epochs=3, batch_size=5)
    assert history["loss"][-1] < history["loss"][0]


def test_states_that_overflow_later_are_found_by_the_end(device: str) -> None:
    steep, y = X * np.float32(1e25), np.zeros((N, 1), np.float32)
    trainer = too_steep(gd.Adam(1e-3), device)
    trainer.fit(X, y, epochs=2)
    trainer.step(steep, y)  # a step alone does not look
    with pytest.raises(gd.DivergenceError, match="step 7"):
        trainer.fit(X, y, epochs=1, batch_size=5)
    with pytest.raises(gd.DivergenceError, match=r"every one of 3 starts diverged.*state of layers"):
        gd.restarts(
            lambda seed: gd.Sequential(gd.Dense(3, 1), seed=seed, device=device),
            3,
            steep,
            y,
            validation=(steep, y),
            loss=gd.MeanAbsoluteError(),
            optimizer=gd.Adam(1e-3),
            epochs=2,
            progress=False,
        )
