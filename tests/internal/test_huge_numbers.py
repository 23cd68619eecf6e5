"""Promise: every argument that takes a number refuses ints and Fractions beyond the range of floats by name, as it does
infinity; so do rates of a schedule. A metric that large counts as infinite."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.analysis.initialization import identical_units
from gdcore.experiments import Recipe, early_stopping_and_decay, random_labels

HUGE = {"int": 10**400, "fraction": Fraction(10**400, 3), "unprintable": 10**5000, "negative": -(10**400)}
X, Y = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2


def model(**options: Any) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.ReLU(), gd.Dense(4, 2), seed=0, **options)


def trainer() -> gd.Trainer:
    return gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1))


def plane(span: Any) -> Any:
    return analysis.loss_surface(model(dtype="float64"), gd.CrossEntropy(), X, Y, span=span, points=3)


TAKES: dict[str, Callable[[Any], Any]] = {
    "lr": gd.SGD,
    "eps": lambda v: gd.Adam(0.1, eps=v),
    "clip_norm": lambda v: gd.Adam(0.1, clip_norm=v),
    "label_smoothing": lambda v: gd.CrossEntropy(label_smoothing=v),
    "p": gd.Dropout,
    "decay": lambda v: gd.BatchNorm(3, v),
    "value": gd.Constant,
    "momentum": lambda v: gd.Momentum(0.1, v),
    "min_delta": lambda v: gd.EarlyStopping(min_delta=v),
    "factor": lambda v: gd.ReduceOnPlateau(factor=v),
    "min_lr": lambda v: gd.ReduceOnPlateau(min_lr=v),
    "seconds": lambda v: gd.Checkpoint("run", seconds=v),
    "lr_scale": lambda v: setattr(trainer(), "lr_scale", v),
    "validation": lambda v: trainer().fit(X, Y, epochs=1, validation=v),
    "fraction": lambda v: gd.train_validation_split(X, Y, fraction=v),
    "lr of a constant": gd.schedules.constant,
    "factor of steps": lambda v: gd.schedules.step_decay(0.1, every=2, factor=v),
    "every": lambda v: gd.schedules.exponential(0.1, 0.5, every=v),
    "final": lambda v: gd.schedules.cosine(0.1, 10, final=v),
    "rise": lambda v: gd.schedules.one_cycle(0.1, 10, rise=v),
    "initial": lambda v: gd.schedules.one_cycle(0.1, 10, initial=v),
    "scale": lambda v: gd.schedules.power_law(0.1, scale=v),
    "schedule": lambda v: gd.schedules.warmup(v, 3),
    "lr of a function": lambda v: gd.Trainer(
        model(), gd.CrossEntropy(), optimizer=gd.SGD(lambda step: v)
    ).fit(X, Y, epochs=1),
    "lr of a function of steps": lambda v: gd.Trainer(
        model(), gd.CrossEntropy(), optimizer=gd.SGD(lambda step: v)
    ).step(X, Y),
    "weight_decay": lambda v: gd.consistent_weight_decay(model(), v),
    "x_scale": lambda v: gd.consistent_weight_decay(model(), 0.1, x_scale=v),
    "x_shift": lambda v: gd.transform_network(model(), x_shift=v),
    "epsilon": lambda v: gd.restarts(
        lambda seed, epsilon: model(), 2, X, Y, validation=0.5, epsilon=[v], epochs=1, optimizer=gd.SGD(0.1),
        loss=gd.CrossEntropy(),
    ),
    "tolerance": lambda v: identical_units(model(), tolerance=v),
    "span": plane,
    "shares": lambda v: random_labels(Recipe((X, Y, X, Y)), shares=[v], progress=False),
    "condition": lambda v: early_stopping_and_decay(condition=v, progress=False),
    "noise": lambda v: early_stopping_and_decay(noise=v, progress=False),
}  # fmt: skip


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("name", TAKES)
def test_refused_as_infinity_is(name: str, kind: str) -> None:
    word = rf"(^|\s){name.partition(' ')[0]}\b"
    for value in (HUGE[kind], math.inf):
        helpers.refuses(lambda value=value: TAKES[name](value), ValueError, word)


LISTS: dict[str, Callable[[Any], Any]] = {
    "betas": lambda v: gd.Adam(0.1, betas=(0.9, v)),
    "weight_decay": lambda v: gd.Adam(0.1, weight_decay=[v]),
    "weight_decay by name": lambda v: gd.Adam(0.1, weight_decay={"layers.0": v}),
    "lr_factors": lambda v: gd.Adam(0.1, lr_factors=[v]),
    "class_weights": lambda v: gd.CrossEntropy([1.0, v]),
    "class_weights by class": lambda v: gd.CrossEntropy({0: v}),
    "pos_weight": lambda v: gd.BinaryCrossEntropy([1.0, v]),
    "mean": lambda v: gd.Standardizer(mean=[v], std=[1.0]),
    "v": lambda v: model().set_flat_parameters([v] * 26),
    "x": lambda v: model().predict([[v, v, v]]),
}


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("name", LISTS)
def test_refused_in_lists(name: str, kind: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"(^|\s){name.partition(' ')[0]}\b"):
        LISTS[name](HUGE[kind])


def test_measures_are_infinite() -> None:
    stopping = gd.EarlyStopping()
    stopping.update(1.0, model())
    stopping.update(10**400, model())
    assert stopping.best == 1.0 and gd.History([{"epoch": 1, "loss": 10**400}])["loss"] == [math.inf]
    with pytest.raises(TypeError, match=r"^value: got str 'x'"):
        stopping.update("x", model())


@pytest.mark.parametrize("value", [-(10**5000), 10**5000], ids=["negative", "positive"])
def test_whole_numbers_that_cannot_be_printed(value: int) -> None:
    for call, word in (
        (lambda: gd.Sequential(gd.Dense(3, 2), seed=value), "seed"),
        (lambda: trainer().fit(X, Y, epochs=-abs(value)), "epochs"),
        (lambda: gd.EarlyStopping(patience=-abs(value)), "patience"),
        (lambda: gd.Dense(value, 2), "in_features"),
    ):
        helpers.refuses(call, ValueError, word)
