"""One point of a sweep over networks: a network trained on labels with noise, measured at some of its epochs."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..internal.checks import instance, integer, is_iterable, real, shown
from ..io import specs
from ..metrics import accuracy
from ..model import Sequential
from ..schedules import rates_of
from ..trainer import Trainer
from ._sweep import Point, Sweep, run_sweep
from .data import LabelledData, redraw_labels

__all__ = ["Build", "Recipe", "label_share", "log_spaced", "recipe", "seeds", "sweep_networks", "whole_numbers"]

Build: TypeAlias = Callable[[int], Sequence[_core.Layer]]


@dataclass(frozen=True)
class Recipe:
    """What the points of a sweep have in common: data, networks, and how they are trained."""

    data: LabelledData
    build: Build
    optimizer: _core.Optimizer
    batch_size: int | None

    def settings(self) -> dict[str, Any]:
        """Return what a resumed sweep must agree in, whatever its points; layers and rates are part of each point."""
        return {
            "data": self.data.fingerprint(),
            "optimizer": specs.without_values(specs.encode(self.optimizer)),  # see `_checksum`
            "batch_size": self.batch_size,
        }


def recipe(
    data: LabelledData, build: Build | None, optimizer: _core.Optimizer | None, batch_size: int | None
) -> Recipe:
    """Return a checked recipe: two hidden layers of ReLU units, momentum 0.9 and rate 0.01 where nothing is given."""
    if build is None:
        build = partial(relu_network, data.features, data.classes)
    elif not callable(build):
        raise TypeError(f"build: got {shown(build)}; expected a function from the width to a list of layers")
    if optimizer is None:
        optimizer = _core.Momentum(lr=0.01, momentum=0.9)
    instance(optimizer, _core.Optimizer, "optimizer", "gd.Momentum(lr=0.01)")
    if batch_size is not None:
        batch_size = integer(batch_size, "batch_size", minimum=1)
    return Recipe(data, build, optimizer, batch_size)


def relu_network(features: int, classes: int, width: int) -> list[_core.Layer]:
    """Return the layers features-width-width-classes with ReLU between them, He's initialisation."""
    return [
        _core.Dense(features, width),
        _core.ReLU(),
        _core.Dense(width, width),
        _core.ReLU(),
        _core.Dense(width, classes),
    ]


def sweep_networks(
    points: Sequence[Point],
    common: Recipe,
    *,
    folder: str | os.PathLike[str] | None,
    n_jobs: int,
    progress: bool,
) -> Sweep:
    """Train a network for each point {width, samples, label_noise, epochs, seed}; `epochs` lists those to measure."""
    layers: dict[int, Sequence[_core.Layer]] = {}
    for width in sorted({point["width"] for point in points}):
        model = _model(common, width, 0)
        if (model.in_features, model.out_features) != (common.data.features, common.data.classes):
            raise ValueError(
                f"build: width {width} gives {model.in_features} inputs and {model.out_features} outputs; expected "
                f"{common.data.features} and {common.data.classes}, the columns and classes of the data"
            )
        layers[width] = model.layers
    return run_sweep(
        [{**point, "checksum": _checksum(layers[point["width"]], point, common)} for point in points],
        partial(train_network, common=common),
        settings=common.settings(),
        folder=folder,
        n_jobs=n_jobs,
        progress=progress,
    )


def train_network(point: Point, common: Recipe) -> list[dict[str, Any]]:
    """Return a row for each epoch of ``point["epochs"]``; errors are shares of wrong rows, from 0 to 1.

    The training error is measured on the labels as they were trained on, noise included.
    """
    data, seed = common.data, point["seed"]
    model = _model(common, point["width"], seed)
    y = redraw_labels(data.y, point["label_noise"], classes=data.classes, seed=seed)
    x = data.x
    if point["samples"] < len(x):  # the same rows in the same order for every number of rows: sets grow
        rows = _core.permutation(len(x), seed, 0)[: point["samples"]]
        x, y = x[rows], y[rows]
    trainer = Trainer(model, _core.CrossEntropy(), optimizer=common.optimizer, metrics=[accuracy], seed=seed)
    table = []
    for epoch in point["epochs"]:
        trainer.fit(x, y, until_epoch=epoch, batch_size=common.batch_size)
        train, test = trainer.evaluate(x, y), trainer.evaluate(data.x_test, data.y_test)
        table.append(
            {
                "width": point["width"],
                "samples": len(x),
                "label_noise": point["label_noise"],
                "seed": seed,
                "epoch": epoch,
                "parameters": sum(array.size for array in model.parameters().values()),
                "train_loss": train["loss"],
                "train_error": 1.0 - train["accuracy"],
                "test_loss": test["loss"],
                "test_error": 1.0 - test["accuracy"],
            }
        )
    return table


def _checksum(layers: Sequence[_core.Layer], point: Point, common: Recipe) -> str:
    """Return a checksum of what the functions of a recipe give for a point: its layers, and a schedule's rates.

    Of a function, nothing else can be compared: two of them may have one name.
    """
    made = json.dumps(specs.encode(layers)).encode()
    if callable(common.optimizer.lr):
        steps = point["epochs"][-1] * _core.batch_count(point["samples"], common.batch_size or point["samples"], False)
        made += rates_of(common.optimizer.lr, 0, steps).tobytes()
    return f"{zlib.crc32(made):08x}"


def _model(common: Recipe, width: int, seed: int) -> Sequential:
    layers = common.build(width)
    if isinstance(layers, _core.Layer) or not isinstance(layers, Sequence):
        raise TypeError(f"build: got {shown(layers)} for width {width}; expected a list of layers")
    return Sequential(*layers, seed=seed, device="cpu")


def whole_numbers(values: Iterable[int], name: str, *, maximum: float = math.inf) -> list[int]:
    """Return distinct whole numbers from 1 on, in ascending order."""
    if isinstance(values, (str, bytes, Mapping)) or not is_iterable(values):
        raise TypeError(f"{name}: got {shown(values)}; expected a list of whole numbers")
    numbers = sorted({integer(value, f"{name}[{i}]", minimum=1) for i, value in enumerate(values)})
    if not numbers:
        raise ValueError(f"{name}: got none; expected at least one whole number")
    if numbers[-1] > maximum:
        raise ValueError(f"{name}: got {numbers[-1]}; expected at most {maximum}, the rows of x")
    return numbers


def log_spaced(last: int, count: int = 40) -> list[int]:
    """Return about `count` whole numbers from 1 to `last`, evenly spread over the logarithm."""
    return [int(value) for value in np.unique(np.geomspace(1, last, count).round().astype(int))]


def seeds(seed: int, repeats: int) -> list[int]:
    """Return the seeds of the repetitions: `seed` and the numbers that follow it."""
    first = integer(seed, "seed")
    return [first + i for i in range(integer(repeats, "repeats", minimum=1))]


def label_share(label_noise: float, name: str = "label_noise") -> float:
    """Return a share of labels, from 0 to 1."""
    return real(label_noise, name, low=0, high=1)
