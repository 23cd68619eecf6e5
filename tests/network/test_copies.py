"""Promise: copies by copy.copy, copy.deepcopy, pickle and joblib keep class and attributes, also of subclasses; they
share no memory with the original, and a trainer's copy continues bit for bit as the original does."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda thing, n=n: pickle.loads(pickle.dumps(thing, n)) for n in (2, pickle.HIGHEST_PROTOCOL)},
}
COPIED = pytest.mark.parametrize("how", COPIES)


class Net(gd.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(gd.Dense(3, width), gd.BatchNorm(width), gd.Dropout(0.3), gd.Dense(width, 2), seed=0)
        self.columns = ["a", "b", "c"]


class Coach(gd.Trainer):
    def __init__(self, rate: float) -> None:
        super().__init__(
            Net(5), gd.CrossEntropy(), optimizer=gd.Adam(rate, clip_norm=1.0), metrics=[gd.metrics.accuracy]
        )
        self.notes = ["first"]


class Rate(gd.Adam):
    def __init__(self) -> None:
        super().__init__(0.1)
        self.notes = ["first"]


class Wide(gd.Dense):
    def __init__(self) -> None:
        super().__init__(3, 100)
        self.notes = ["first"]


class Loss(gd.CrossEntropy):
    def __init__(self) -> None:
        super().__init__(label_smoothing=0.1)
        self.notes = ["first"]


class Patience(gd.EarlyStopping):
    def __init__(self) -> None:
        super().__init__("val_loss", 7)
        self.notes = ["first"]


class Record(gd.History):
    def __init__(self) -> None:
        super().__init__({"epoch": [1, 2], "loss": [0.5, math.nan]})
        self.notes = ["first"]


class Rows(gd.MiniBatches):
    def __init__(self) -> None:
        super().__init__(X, Y, batch_size=7, seed=4)
        self.notes = ["first"]


class Line(gd.Progress):
    def __init__(self) -> None:
        super().__init__(force=True)
        self.notes = ["first"]


SUBCLASSES = [Rate, Wide, Loss, Patience, Record, Rows, Line, lambda: Coach(0.1)]


@COPIED
@pytest.mark.parametrize("make", SUBCLASSES)
def test_subclasses_keep_class_and_attributes(make: Callable[[], Any], how: str) -> None:
    thing = make()
    copied = COPIES[how](thing)
    assert type(copied) is type(thing) and copied.notes == ["first"] and copied is not thing
    if type(thing).__repr__ is not object.__repr__:
        assert repr(copied) == repr(thing)
    if isinstance(thing, (gd.Optimizer, gd.Layer, gd.Loss, gd.History)):
        assert copied == thing


@COPIED
def test_a_model_keeps_class_attributes_and_settings(how: str) -> None:
    net = Net(4)
    net.freeze("layers.0")
    net.classes = ["no", "yes"]
    net.outputs = "classes"
    net.predict(X)
    plain = gd.Sequential(gd.Dense(3, 2), seed=0)
    plain.note = {"made": "by hand"}
    copied, other = COPIES[how](net), COPIES[how](plain)
    assert type(copied) is Net and copied.columns == net.columns and copied.settings() == net.settings()
    assert copied.frozen() == net.frozen() and other.note == plain.note and other.note is not plain.note
    np.testing.assert_array_equal(copied.predict_proba(X), net.predict_proba(X))


def arrays_of(trainer: gd.Trainer) -> dict[str, np.ndarray]:
    parts = {**trainer.model.parameters(), **trainer.model.buffers(), **trainer.core.state()}
    return {name: np.asarray(array) for name, array in parts.items()}


@COPIED
def test_copies_share_no_memory(how: str) -> None:
    trainer = Coach(0.1)
    trainer.fit(X, Y, epochs=1)
    copied = COPIES[how](trainer)
    mine, theirs = arrays_of(trainer), arrays_of(copied)
    same_arrays(mine, theirs)
    assert not any(np.shares_memory(mine[name], theirs[name]) for name in mine)
    copied.fit(X, Y, epochs=1)
    copied.notes.append("second")
    copied.model.columns.append("d")
    assert trainer.epoch == 1 and trainer.notes == ["first"] and len(trainer.model.columns) == 3
    stopping = gd.EarlyStopping(patience=3)
    COPIES[how](stopping).update(0.5, trainer.model)
    assert stopping.best == math.inf


def same_arrays(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name])


def without_seconds(history: gd.History) -> dict[str, list[float]]:
    return {name: column for name, column in history.items() if name != "seconds"}


OPTIMIZERS = [
    gd.SGD(0.1),
    gd.Momentum(0.05, nesterov=True),
    gd.AdaGrad(0.1),
    gd.RMSProp(0.01),
    gd.Adam(gd.schedules.cosine(0.1, 30), decoupled=True, weight_decay=0.1),
]


@COPIED
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trainer_goes_on_to_the_last_bit(optimizer: gd.Optimizer, dtype: str, how: str) -> None:
    layers = (gd.Dense(3, 6), gd.BatchNorm(6), gd.ReLU(), gd.Dropout(0.4), gd.Dense(6, 2))
    trainer = gd.Trainer(gd.Sequential(*layers, seed=1, dtype=dtype), gd.CrossEntropy(), optimizer=optimizer, seed=9)
    copies: list[gd.Trainer] = []

    class Copier:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            copies.append(COPIES[how](trainer))

    settings: dict[str, Any] = {"batch_size": 7, "validation": (X, Y)}
    trainer.fit(X, Y, epochs=3, callbacks=[Copier(), gd.ReduceOnPlateau(patience=1)], **settings)
    trainer.lr_scale = copies[-1].lr_scale
    trainer.fit(X, Y, epochs=2, **settings)
    trainer.step(X, Y)
    copies[-1].fit(X, Y, epochs=2, **settings)
    copies[-1].step(X, Y)
    assert without_seconds(trainer.history) == without_seconds(copies[-1].history)
    same_arrays(arrays_of(trainer), arrays_of(copies[-1]))


@pytest.mark.parametrize("how", ["deepcopy", "pickle 2"])
def test_a_model_stays_the_one_that_its_trainer_has(how: str) -> None:
    trainer = Coach(0.1)
    trainer.model.coach = trainer
    model, copied = COPIES[how]((trainer.model, trainer))
    assert copied.model is model and model.coach is copied and model is not trainer.model


def fitted(trainer: gd.Trainer) -> gd.Trainer:
    trainer.fit(X, Y, epochs=2)
    return trainer


def test_trainers_go_to_worker_processes_and_back() -> None:
    joblib = pytest.importorskip("joblib")
    here = Coach(0.1)
    here.fit(X, Y, epochs=1)
    there = joblib.Parallel(n_jobs=2)(joblib.delayed(fitted)(here) for _ in range(2))
    fitted(here)
    for trainer in there:
        assert type(trainer).__name__ == "Coach" and trainer.notes == ["first"]
        assert without_seconds(trainer.history) == without_seconds(here.history)
        same_arrays(arrays_of(trainer), arrays_of(here))


def test_a_copy_saves_the_same_checkpoint(tmp_path: Path) -> None:
    trainer = Coach(0.1)
    trainer.fit(X, Y, epochs=2)
    trainer.save_checkpoint(tmp_path / "a.safetensors")
    copy.deepcopy(trainer).save_checkpoint(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
