"""One point of a sweep over networks: a network trained on labels with noise, measured at some of its epochs."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.checks import instance, integer, is_iterable, optional, real, shown
from ..internal.immutable import remade
from ..io import specs
from ..metrics import accuracy
from ..model import Sequential
from ..schedules import rates_of
from ..trainer import Trainer
from ..training.rates import functions_of
from ..tuning.store import Point
from ._sweep import PointSweep, run_sweep
from .data import LabelledData, labelled_data, redraw_labels

__all__ = [
    "Build",
    "Recipe",
    "distinct",
    "label_share",
    "log_spaced",
    "points_over",
    "seeds",
    "sweep_networks",
    "whole_numbers",
]

Build: TypeAlias = Callable[[int], Sequence[_core.Layer]]


@explained
@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Recipe:
    """What is trained and how: all settings that the runs of an experiment share.

    `double_descent` and `random_labels` vary one of them and keep the others. ``dataclasses.replace(recipe, epochs=5)``
    is a recipe with another setting.

    Parameters
    ----------
    data : LabelledData
        Training and test rows, such as `gaussian_clusters` and `mnist1d` make, or four arrays (x, y, x_test, y_test):
        inputs (N, features) and (N_test, features), labels (N,) and (N_test,), whole numbers from 0.
    build : function, optional
        ``build(width)`` returns the network's layers as a list; features-width-width-classes with ReLU between them and
        He's initialisation (biases 0) when left out.
    width : int
        Units in each hidden layer: the argument of `build`.
    optimizer : Optimizer
        ``gd.Momentum(lr=0.01, momentum=0.9)`` when left out.
    epochs : int
        Epochs of training, without early stopping.
    batch_size : int or None
        Rows in a batch; None takes all.
    label_noise : float
        Share of the training labels, from 0 to 1, that is drawn anew from all classes; see `redraw_labels`. The test
        labels are not changed.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """

    data: LabelledData
    build: Build | None = None
    _: KW_ONLY
    width: int = 300
    optimizer: _core.Optimizer = field(default_factory=partial(_core.Momentum, lr=0.01, momentum=0.9))
    epochs: int = 300
    batch_size: int | None = 100
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        """Check all settings."""
        if self.build is not None and not callable(self.build):
            raise TypeError(f"build: got {shown(self.build)}; expected a function from the width to a list of layers")
        instance(self.optimizer, _core.Optimizer, "optimizer", "gd.Momentum(lr=0.01)")
        checked = {
            "data": labelled_data(self.data),
            "width": integer(self.width, "width", minimum=1),
            "epochs": integer(self.epochs, "epochs", minimum=1),
            "batch_size": optional(partial(integer, minimum=1), self.batch_size, "batch_size"),
            "label_noise": label_share(self.label_noise),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def layers(self, width: int) -> Sequence[_core.Layer]:
        """Return the layers of the network with `width` units in each hidden layer.

        Raises
        ------
        TypeError
            If `build` does not return a list of layers.
        """
        if self.build is None:
            return relu_network(self.data.features, self.data.classes, width)
        layers = self.build(width)
        if isinstance(layers, _core.Layer) or not isinstance(layers, Sequence):
            raise TypeError(f"build: got {shown(layers)} for width {width}; expected a list of layers")
        return layers

    def settings(self) -> dict[str, Any]:
        """Return the settings that a resumed sweep must share; all others are part of each point."""
        return {
            "data": self.data.fingerprint(),
            "optimizer": specs.without_values(specs.encode(self.optimizer)),  # see `_checksum`
            "batch_size": self.batch_size,
        }


def points_over(recipe: Recipe, name: str, values: Iterable[Any], *, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Return the points of a sweep over one setting of a recipe, for the seeds `seed`, seed + 1, ..."""
    fixed: dict[str, Any] = {"width": recipe.width, "samples": len(recipe.data.x), "label_noise": recipe.label_noise}
    fixed["epochs"] = [recipe.epochs]
    return [{**fixed, name: value, "seed": run} for run in seeds(seed, repeats) for value in values]


def relu_network(features: int, classes: int, width: int) -> list[_core.Layer]:
    """Return the layers features-width-width-classes with ReLU between them, He's initialisation."""
    zero = _core.Constant(0.0)
    return [
        _core.Dense(features, width, bias_init=zero),
        _core.ReLU(),
        _core.Dense(width, width, bias_init=zero),
        _core.ReLU(),
        _core.Dense(width, classes, bias_init=zero),
    ]


def sweep_networks(
    points: Sequence[Point],
    recipe: Recipe,
    *,
    folder: str | os.PathLike[str] | None,
    **where: Any,
) -> PointSweep:
    """Train a network for each point {width, samples, label_noise, epochs, seed}; `epochs` lists those to measure.

    A point may also have a ``weight_decay``, which replaces that of the recipe's optimiser. `where` has arguments of
    `run_sweep`.
    """
    data = recipe.data
    layers: dict[int, Sequence[_core.Layer]] = {}
    for width in sorted({point["width"] for point in points}):
        model = _model(recipe, width, 0)
        if (model.in_features, model.out_features) != (data.features, data.classes):
            raise ValueError(
                f"build: width {width} gives {model.in_features} inputs and {model.out_features} outputs; expected "
                f"{data.features} and {data.classes}, the columns and classes of the data"
            )
        layers[width] = model.layers
    return run_sweep(
        [{**point, "checksum": _checksum(layers[point["width"]], point, recipe)} for point in points],
        partial(train_network, recipe=recipe),
        settings=recipe.settings(),
        folder=folder,
        **where,
    )


def train_network(point: Point, recipe: Recipe) -> list[dict[str, Any]]:
    """Return a row for each epoch of ``point["epochs"]``; errors are shares of wrong rows, from 0 to 1.

    The training error is measured on the labels used in training, noise included.
    """
    data, seed = recipe.data, point["seed"]
    model = _model(recipe, point["width"], seed)
    decay = {name: point[name] for name in ("weight_decay",) if name in point}
    optimizer = remade(recipe.optimizer, **decay) if decay else recipe.optimizer
    y = redraw_labels(data.y, point["label_noise"], classes=data.classes, seed=seed)
    x = data.x
    if point["samples"] < len(x):  # smaller sets are prefixes of larger ones
        rows = _core.permutation(len(x), seed, 0)[: point["samples"]]
        x, y = x[rows], y[rows]
    trainer = Trainer(model, _core.CrossEntropy(), optimizer=optimizer, metrics=[accuracy], seed=seed)
    table = []
    for epoch in point["epochs"]:
        trainer.fit(x, y, until_epoch=epoch, batch_size=recipe.batch_size)
        train, test = trainer.evaluate(x, y), trainer.evaluate(data.x_test, data.y_test)
        table.append(
            {
                "width": point["width"],
                "samples": len(x),
                "label_noise": point["label_noise"],
                **decay,
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


def _checksum(layers: Sequence[_core.Layer], point: Point, recipe: Recipe) -> str:
    """Return a checksum of the results of a recipe's functions for a point: its layers, and a schedule's rates.

    Functions themselves cannot be compared: two of them may have the same name.
    """
    made = json.dumps(specs.encode(layers)).encode()
    steps = point["epochs"][-1] * _core.batch_count(point["samples"], recipe.batch_size or point["samples"], False)
    for function in functions_of(recipe.optimizer):
        made += rates_of(function, 0, steps).tobytes()
    return f"{zlib.crc32(made):08x}"


def _model(recipe: Recipe, width: int, seed: int) -> Sequential:
    return Sequential(*recipe.layers(width), seed=seed, device="cpu")


def distinct(values: Iterable[Any], name: str, check: Callable[[Any, str], Any], what: str) -> list[Any]:
    """Return distinct values in ascending order, each as ``check(value, name)`` returns it; `what` names the kind."""
    if isinstance(values, (str, bytes, Mapping)) or not is_iterable(values):
        raise TypeError(f"{name}: got {shown(values)}; expected a list of {what}")
    found = sorted({check(value, f"{name}[{i}]") for i, value in enumerate(values)})
    if not found:
        raise ValueError(f"{name}: got none; expected a list of {what}")
    return found


def whole_numbers(values: Iterable[Any], name: str) -> list[int]:
    """Return distinct whole numbers from 1 on, in ascending order."""
    return distinct(values, name, partial(integer, minimum=1), "whole numbers")


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
