"""Promise: in every argument that takes a sequence, values and names with keys (a dict, another mapping or a pandas
Series) are matched by key or refused; sets, which have no order, are refused too."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import polars as pl
import pytest
from gdcore import analysis
from gdcore.experiments import Recipe, double_descent, run_sweep

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
Y = np.repeat([1, 0, 2], [25, 10, 5])
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
KEYED: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "dict": dict,
    "UserDict": UserDict,
    "proxy": MappingProxyType,
    "Series": lambda given: pd.Series(list(given.values()), index=list(given), dtype=object),
}


def model(**options: Any) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.ReLU(), gd.Dense(4, 3), seed=0, **options)


def trained(loss: gd.Loss, optimizer: gd.Optimizer, y: Any = Y, **options: Any) -> dict[str, np.ndarray]:
    trainer = gd.Trainer(model(**options), loss, optimizer=optimizer)
    trainer.fit(X, y, epochs=2)
    return helpers.snapshot(trainer.model)


# ---------------------------------------------------------------------------------------------------- by their keys
@pytest.mark.parametrize("kind", KEYED)
def test_class_weights(kind: str) -> None:
    adam = gd.Adam(0.01)
    loss = gd.CrossEntropy(KEYED[kind]({1: 0.5, 0: 3}))
    assert loss.class_weights == {0: 3.0, 1: 0.5} and isinstance(loss.class_weights, dict)
    helpers.same_bits(trained(loss, adam), trained(gd.CrossEntropy([3.0, 0.5, 1.0]), adam))
    names = ("x", "y", "z")
    given = trained(gd.CrossEntropy(KEYED[kind]({"z": 2.0, "x": 0.0})), adam, np.array(names)[Y], classes=names)
    helpers.same_bits(given, trained(gd.CrossEntropy([0.0, 1.0, 2.0]), adam))


def test_class_weights_counted_by_pandas() -> None:
    """value_counts puts the most frequent class first, so that position and class differ."""
    y = pd.Series(Y)
    weights = len(y) / (3 * y.value_counts())
    assert list(weights.index) == [1, 0, 2]
    adam = gd.Adam(0.01)
    balanced = trained(gd.CrossEntropy("balanced"), adam)
    for given in (weights, weights.to_dict(), weights.sort_index(), weights.sort_index().to_numpy()):
        helpers.same_bits(trained(gd.CrossEntropy(given), adam), balanced)


@pytest.mark.parametrize("kind", KEYED)
@pytest.mark.parametrize("argument", ["weight_decay", "lr_factors"])
def test_numbers_by_layer(argument: str, kind: str) -> None:
    def run(given: Any) -> dict[str, np.ndarray]:
        return trained(gd.CrossEntropy(), gd.SGD(0.1, **{argument: given}))

    made = gd.SGD(0.1, **{argument: KEYED[kind]({"layers.2": 0.5, "layers.0": 2.0})})
    assert getattr(made, argument) == {"layers.0": 2.0, "layers.2": 0.5}
    helpers.same_bits(run(KEYED[kind]({"layers.2": 0.5, "layers.0": 2.0})), run([2.0, 0.5]))


@pytest.mark.parametrize("kind", KEYED)
def test_scaling_by_column(kind: str) -> None:
    """As frame.mean() and frame.std() return it, in any order of the columns."""
    mean, std = FRAME.mean().to_dict(), FRAME.std().to_dict()
    plain = gd.Standardizer(mean=list(mean.values()), std=list(std.values()), feature_names=["a", "b", "c"])
    backwards = KEYED[kind](dict(reversed(std.items())))
    assert gd.Standardizer(mean=KEYED[kind](mean), std=backwards) == plain
    assert gd.Standardizer(mean=KEYED[kind](mean), std=backwards, feature_names=["a", "b", "c"]) == plain
    other = gd.Standardizer(mean=backwards, std=KEYED[kind](std))
    assert other.feature_names == ("c", "b", "a") and list(other.std) == list(std.values())[::-1]
    by_number = KEYED[kind](dict(enumerate(mean.values())))
    assert list(gd.Standardizer(mean=by_number, std=[1.0] * 3).mean) == list(mean.values())


@pytest.mark.parametrize("kind", KEYED)
def test_scales_by_column(kind: str) -> None:
    scales = {"c": 4.0, "a": 0.5, "b": 2.0}
    known = model(feature_names=["a", "b", "c"])
    given = gd.transform_network(known, x_scale=KEYED[kind](scales), x_shift=KEYED[kind]({0: 1.0, 1: 2.0, 2: 3.0}))
    expected = gd.transform_network(known, x_scale=[0.5, 2.0, 4.0], x_shift=[1.0, 2.0, 3.0])
    helpers.same_bits(helpers.snapshot(given), helpers.snapshot(expected))
    for refused, argument in (
        (model(), "x_scale"),
        (known, "y_scale"),
        (model(feature_names=["a", "b", "d"]), "x_scale"),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: "):
            gd.transform_network(refused, **{argument: KEYED[kind](scales)})


@pytest.mark.parametrize("kind", KEYED)
def test_parameters_and_new_names(kind: str) -> None:
    source, target = gd.Sequential(gd.Dense(3, 2), seed=1), gd.Sequential(gd.Dense(3, 2), seed=2)
    named = {name.replace("layers.0", "head"): np.array(array) for name, array in source.parameters().items()}
    target.load_parameters(KEYED[kind](named), rename=KEYED[kind]({"head": "layers.0"}))
    helpers.same_bits(helpers.snapshot(target), helpers.snapshot(source))


@pytest.mark.parametrize("kind", KEYED)
def test_metrics_by_column(kind: str) -> None:
    made = gd.Trainer(
        model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1), metrics=KEYED[kind]({"hits": "accuracy", "top": "accuracy"})
    )
    assert list(made.metrics) == ["hits", "top"] and list(made.evaluate(X, Y)) == ["loss", "hits", "top"]


@pytest.mark.parametrize("kind", KEYED)
def test_points_of_a_sweep(kind: str) -> None:
    points = [KEYED[kind]({"width": 3, "rates": KEYED[kind]({"a": 1.0})})]
    table = run_sweep(points, lambda point: [{"text": repr(point)}], progress=False).table
    assert table["text"] == ["{'width': 3, 'rates': {'a': 1.0}}"]


# ---------------------------------------------------------------------------------------------------- refused
SAME = gd.SGD(0.1)
TAKES_NO_KEYS: dict[str, Callable[[Any], Any]] = {
    "pos_weight": lambda v: gd.BinaryCrossEntropy(pos_weight=v),
    "betas": lambda v: gd.Adam(0.1, betas=v),
    "weight_decay": lambda v: gd.consistent_weight_decay(model(), v),
    "only": lambda v: model().load_parameters(model(), only=v),
}
NUMBERED = {0: 0.5, 1: 0.75}


@pytest.mark.parametrize("kind", KEYED)
@pytest.mark.parametrize("argument", TAKES_NO_KEYS)
def test_keys_that_have_no_meaning_are_refused(argument: str, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"\b{argument}\b"):
        TAKES_NO_KEYS[argument](KEYED[kind](NUMBERED))
    with pytest.raises(TypeError, match=rf"\b{argument}\b"):
        TAKES_NO_KEYS[argument](KEYED[kind]({"layers.0": 0.5}))


TAKES_NO_MAPPING: dict[str, Callable[[Any], Any]] = {
    "classes": lambda v: gd.Sequential(gd.Dense(3, 2), classes=v),
    "feature_names": lambda v: gd.Sequential(gd.Dense(2, 2), feature_names=v),
    "callbacks": lambda v: gd.Trainer(model(), gd.CrossEntropy(), optimizer=SAME).fit(X, Y, epochs=1, callbacks=v),
    "batch_sizes": lambda v: analysis.gradient_noise(
        model(dtype="float64"), gd.CrossEntropy(), X, Y, batch_sizes=v, n_batches=2
    ),
    "values": lambda v: double_descent(Recipe((X, Y, X, Y)), values=v, progress=False),
}


@pytest.mark.parametrize("kind", [kind for kind in KEYED if kind != "Series"])  # its values are a sequence of names
@pytest.mark.parametrize("argument", TAKES_NO_MAPPING)
def test_the_keys_of_a_mapping_are_not_taken_for_a_sequence(argument: str, kind: str) -> None:
    helpers.refuses(lambda: TAKES_NO_MAPPING[argument](KEYED[kind]({1: "ant", 2: "bee"})), TypeError, argument)


TAKES_NO_SET: dict[str, Callable[[Any], Any]] = {
    **{name: call for name, call in TAKES_NO_KEYS.items() if name != "only"},
    **{name: TAKES_NO_MAPPING[name] for name in ("classes", "feature_names", "callbacks")},
    "class_weights": lambda v: gd.CrossEntropy(v),
    "weight_decay of an optimiser": lambda v: gd.Adam(0.1, weight_decay=v),
    "lr_factors": lambda v: gd.Adam(0.1, lr_factors=v),
    "mean": lambda v: gd.Standardizer(mean=v, std=[1.0, 1.0]),
    "std": lambda v: gd.Standardizer(mean=[1.0, 1.0], std=v),
}


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize("name", TAKES_NO_SET)
def test_sets_are_refused(name: str, kind: type) -> None:
    with pytest.raises(TypeError, match=rf"\b{name.partition(' ')[0]}\b"):
        TAKES_NO_SET[name](kind([0.5, 0.75]))


TWICE: dict[str, Callable[[Any], Any]] = {
    "class_weights": lambda v: gd.CrossEntropy(v),
    "weight_decay": lambda v: gd.Adam(0.1, weight_decay=v),
    "lr_factors": lambda v: gd.Adam(0.1, lr_factors=v),
    "mean": lambda v: gd.Standardizer(mean=v, std=v),
    "source": lambda v: gd.Sequential(gd.Dense(3, 2)).load_parameters(v),
}


@pytest.mark.parametrize("argument", TWICE)
def test_a_key_that_occurs_twice_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{argument}: got the key 'layers.0' more than once"):
        TWICE[argument](pd.Series([1.0, 2.0, 3.0], index=["layers.2", "layers.0", "layers.0"]))


def test_columns_that_do_not_fit() -> None:
    for mean, std, argument in (
        (FRAME.mean(), [1.0, 1.0, 1.0], "mean"),
        ([1.0, 1.0, 1.0], FRAME.std(), "std"),
        (FRAME.mean(), FRAME.std().rename({"a": "z"}), "std"),
        (FRAME.mean(), FRAME.std()[:2], "std"),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: got numbers of column"):
            gd.Standardizer(mean=mean, std=std)
    with pytest.raises(ValueError, match="feature_names"):
        gd.Standardizer(mean=FRAME.mean(), std=FRAME.std(), feature_names=["a", "b"])


# ---------------------------------------------------------------------------------------------------- without keys
@pytest.mark.parametrize(
    "given", [(0.5, 2.0), np.array([0.5, 2.0], np.float32), pl.Series([0.5, 2.0]), pd.array([0.5, 2.0])], ids=type
)
def test_sequences_are_taken_in_their_order(given: Any) -> None:
    assert gd.BinaryCrossEntropy(given).pos_weight == gd.CrossEntropy(given).class_weights == (0.5, 2.0)
    assert gd.SGD(0.1, weight_decay=given).weight_decay == gd.SGD(0.1, lr_factors=given).lr_factors == (0.5, 2.0)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int8(2), np.array(2.0)], ids=repr)
def test_single_numbers(number: Any) -> None:
    assert gd.BinaryCrossEntropy(number).pos_weight == (2.0,)
    assert gd.SGD(0.1, weight_decay=number).weight_decay == 2.0


# ---------------------------------------------------------------------------------------------------- weights of 0
def test_a_class_that_counts_nothing() -> None:
    """Omitted classes have weight 1, so a single weight of 0 still leaves a mean."""
    loss = gd.CrossEntropy(class_weights={0: 0.0})
    helpers.same_bits(trained(loss, SAME), trained(gd.CrossEntropy([0.0, 1.0, 1.0]), SAME))
    for given in ({0: 0.0, 1: 0.0, 2: 0.0}, [0.0, 0.0, 0.0]):
        helpers.refuses(
            lambda given=given: gd.Trainer(model(), gd.CrossEntropy(given), optimizer=SAME), ValueError, "class_weights"
        )
