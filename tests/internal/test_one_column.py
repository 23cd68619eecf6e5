"""Promise: weights and targets in one column, (N, 1), an array or a frame, are the same as (N,), to the last bit, at
every entry point; weights of any other shape are refused, naming sample_weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import analysis
from gdcore.experiments.data import labelled_data

pd, pl = (pytest.importorskip(name) for name in ("pandas", "polars"))

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 3))
Y = np.arange(24) % 2
W = RNG.uniform(0.5, 2.0, 24)
COLUMNS: dict[str, Callable[[Any], Any]] = {
    "array": lambda a: a[:, None],
    "column of a table": lambda a: np.stack([a, a], axis=1)[:, :1],
    "list": lambda a: a[:, None].tolist(),
    "pandas": lambda a: pd.DataFrame({"c": a}),
    "polars": lambda a: pl.DataFrame({"c": a}),
}
LOSSES: dict[str, tuple[Any, int]] = {
    "classes": (gd.CrossEntropy(), 2),
    "balanced": (gd.CrossEntropy("balanced"), 2),
    "yes_no": (gd.BinaryCrossEntropy(), 1),
    "numbers": (gd.MeanSquaredError(), 1),
}


def trainer(kind: str, dtype: str = "float32", measured: bool = True) -> gd.Trainer:
    loss, outputs = LOSSES[kind]
    metrics = {"numbers": ["r2", "mean_squared_error"]}.get(kind, ["accuracy", "log_loss", "roc_auc"])
    network = gd.Sequential(gd.Dense(3, outputs), seed=0, device="cpu", dtype=dtype)
    return gd.Trainer(network, loss, optimizer=gd.SGD(0.1), metrics=metrics if measured else ())


def table(history: gd.History) -> dict[str, Any]:
    return {name: list(column) for name, column in history.items() if name != "seconds"}


def evaluated(kind: str, *data: Any, **options: Any) -> Any:
    made = trainer(kind)
    if kind == "balanced":
        made.fit(X, Y, epochs=1)
    return made.evaluate(*data, **options)


def stepped(kind: str, y: Any, w: Any) -> Any:
    made = trainer(kind)
    if kind == "balanced":
        made.fit(X, Y, epochs=1)
    return made.step(X, y, w)


def restarted(kind: str, y: Any, w: Any) -> Any:
    loss, outputs = LOSSES[kind]

    def found(validation: Any) -> Any:
        return gd.restarts(
            lambda seed: gd.Sequential(gd.Dense(3, outputs), seed=seed, device="cpu"),
            2,
            X,
            y,
            validation=validation,
            sample_weight=w,
            loss=loss,
            optimizer=gd.SGD(0.1),
            epochs=1,
            progress=False,
        ).best_start.val_loss

    return found((X, y, w)), found(0.25)


def rest(value: Any) -> list[Any]:
    return [] if value is None else [value]


ENTRIES: dict[str, Callable[[str, Any, Any], Any]] = {
    "fit": lambda kind, y, w: table(
        trainer(kind).fit(X, y, epochs=2, sample_weight=w, validation=0.25, measure_training=True)
    ),
    "validation": lambda kind, y, w: table(trainer(kind).fit(X, Y, epochs=1, validation=[X, y, *rest(w)])),
    "validation batches": lambda kind, y, w: table(trainer(kind).fit(X, Y, epochs=1, validation=[(X, y, *rest(w))])),
    "step": stepped,
    "evaluate": lambda kind, y, w: evaluated(kind, X, y, sample_weight=w),
    "evaluate batches": lambda kind, y, w: evaluated(kind, [(X, y, *rest(w))]),
    "evaluate MiniBatches": lambda kind, y, w: evaluated(
        kind, gd.MiniBatches(X, y, batch_size=7, shuffle=False, sample_weight=w)
    ),
    "restarts": restarted,
    "lr_range_test": lambda kind, y, w: gd.lr_range_test(
        trainer(kind).model, LOSSES[kind][0], X, y, steps=3, sample_weight=w
    ).table(),
    "Objective": lambda kind, y, w: analysis.gradient(
        trainer(kind, "float64").model, LOSSES[kind][0], X, y, sample_weight=w
    ),
}
UNWEIGHTED: dict[str, Callable[[str, Any], Any]] = {
    "fit batches": lambda kind, y: table(trainer(kind).fit([(X, y)], epochs=2)),
    "gradient_noise": lambda kind, y: (
        analysis.gradient_noise(trainer(kind, "float64").model, LOSSES[kind][0], X, y, batch_sizes=(2,)).measured
    ),
    "variance_by_layer": lambda kind, y: analysis.variance_by_layer(
        trainer(kind, "float64").model, X, loss=LOSSES[kind][0], y=y
    ).gradient[1:],
    "split": lambda kind, y: gd.train_validation_split(X, fraction=0.25, stratify=y)[0],
    "experiments": lambda kind, y: labelled_data((X, y, X, y)).y_test,
    "redraw_labels": lambda kind, y: gd.experiments.redraw_labels(y, 0.5),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


@pytest.mark.parametrize("entry", ENTRIES)
def test_one_column_is_a_vector(entry: str) -> None:
    for kind in LOSSES:
        y = X[:, 0] if kind == "numbers" else Y
        expected = ENTRIES[entry](kind, y, W)
        assert not same(expected, ENTRIES[entry](kind, y, None))
        for name, column in COLUMNS.items():
            assert same(ENTRIES[entry](kind, column(y), column(W)), expected), (kind, name)


@pytest.mark.parametrize("entry", UNWEIGHTED)
def test_targets_of_one_column(entry: str) -> None:
    kinds = [kind for kind in LOSSES if kind != "balanced" or entry == "variance_by_layer"]
    for kind in kinds:
        expected = UNWEIGHTED[entry](kind, Y)
        for name, column in COLUMNS.items():
            assert same(UNWEIGHTED[entry](kind, column(Y)), expected), (kind, name)


def test_batches_of_either_shape_go_together() -> None:
    for kind in LOSSES:
        expected = evaluated(kind, X, Y, sample_weight=W)
        for y, w in ((Y[12:, None], W[12:]), (Y[12:], W[12:, None]), (Y[12:, None], W[12:, None])):
            mixed = evaluated(kind, [(X[:12], Y[:12], W[:12]), (X[12:], y, w)])
            assert mixed == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
    with pytest.raises(ValueError, match="x: got batches of labels and of soft targets"):
        evaluated("classes", [(X, Y), (X, np.eye(2)[Y])])


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "log_loss", "f1", "r2", "balanced_accuracy", "brier"])
def test_metrics_take_columns(name: str) -> None:
    metric, p = getattr(gd.metrics, name), (Y + RNG.integers(0, 2, 24)) % 2
    expected = metric(Y, p, sample_weight=W)
    for kind, column in COLUMNS.items():
        assert metric(column(Y), column(p), sample_weight=column(W)) == expected, kind


@pytest.mark.parametrize("entry", ENTRIES)
def test_weights_of_other_shapes(entry: str) -> None:
    for bad in (np.ones((24, 2)), np.ones((24, 1, 1)), 1.0, np.ones((1, 24)), np.ones(23)):
        with pytest.raises(ValueError, match="sample_weight"):
            ENTRIES[entry]("classes", Y, bad)
