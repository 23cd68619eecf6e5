"""Promise: the scaling that a model shows, saves and checks is the one that it uses, however it was set; a Standardizer
keeps the names that it was given."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
SOUND = {"mean": [1.0, 2.0, 3.0], "std": [0.5, 1.5, 2.5]}
TINY = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1e-44, 1.0]}  # in float32 a subnormal number


def build(scaling: dict[str, Any], place: int = 0, **options: Any) -> gd.Sequential:
    layers: list[gd.Layer] = [gd.Dense(3, 3), gd.Tanh(), gd.Dense(3, 2)]
    layers.insert(place, gd.Standardizer(**scaling))
    return gd.Sequential(*layers, seed=0, **options)


def by_view(model: gd.Sequential, other: gd.Sequential) -> None:
    for name, array in model.buffers().items():
        array[...] = other.buffers()[name]


def from_torch(model: gd.Sequential, other: gd.Sequential) -> None:
    pytest.importorskip("torch")
    model.from_torch(other.to_torch())


SETS: dict[str, Callable[[gd.Sequential, gd.Sequential], Any]] = {
    "load_parameters": lambda model, other: model.load_parameters(other),
    "restore_state": lambda model, other: model.restore_state(other.copy_state()),
    "from_torch": from_torch,
    "view": by_view,
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("how", SETS)
def test_layers_show_what_is_used(how: str, place: int, tmp_path: Path) -> None:
    model, other = build({"mean": [0.0] * 3, "std": [1.0] * 3}, place), build(SOUND, place)
    SETS[how](model, other)
    shown: Any = model.layers[place]
    np.testing.assert_allclose(shown.mean, SOUND["mean"], rtol=1e-6)
    np.testing.assert_allclose(shown.std, SOUND["std"], rtol=1e-6)
    model.save(tmp_path / "m")
    for each in (gd.load(tmp_path / "m"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert each.layers == model.layers
        helpers.same_bits(each.predict(X), model.predict(X))
    with pytest.raises(RuntimeError, match="layer of a model"):
        shown.fit(X)


def test_what_was_given_stays_in_full_precision() -> None:
    given = gd.Standardizer(mean=[0.1] * 3, std=[0.3] * 3)
    model = gd.Sequential(given, gd.Dense(3, 2))
    assert model.layers[0] == given
    model.restore_state(model.copy_state())
    assert copy.deepcopy(model).layers[0] == given


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("how", ["load_parameters", "restore_state", "view"])
def test_scaling_that_the_dtype_does_not_hold_is_looked_for_after_it_was_set(how: str, place: int) -> None:
    model, sound = build(SOUND, place), build(SOUND, place)
    assert np.isfinite(model.predict(X)).all()
    expected = model.predict(X)
    SETS[how](model, build(TINY, place))
    for call in (model.predict, model.forward, lambda x: model.predict(x.astype(np.float64))):
        with pytest.raises(ValueError, match=r"Standardizer scales column 1 by .*float32 cannot represent"):
            call(X)
    SETS[how](model, sound)
    helpers.same_bits(model.predict(X), expected)


@pytest.mark.parametrize("how", SETS)
def test_a_model_made_with_such_a_scaling_takes_a_sound_one(how: str) -> None:
    model = build({"mean": [0.0] * 3, "std": [1.0, 1e-50, 1.0]})
    with pytest.raises(ValueError, match="1e-50, which float32 cannot represent"):
        model.predict(X)
    SETS[how](model, build(SOUND))
    helpers.same_bits(model.predict(X), build(SOUND).predict(X))
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    trainer.step(X, np.arange(20) % 2)
    model.initialize(0)  # resets the buffers to the layers' arguments
    with pytest.raises(ValueError, match="float32 cannot represent"):
        model.predict(X)


def test_views_that_are_kept_are_watched() -> None:
    model = build(SOUND)
    view = model.buffers()["layers.0.std"][1:]
    assert np.isfinite(model.predict(X)).all() and np.isfinite(model.predict(X)).all()
    for number in (1e-44, 0.0, np.inf, np.nan):
        view[...] = number
        with pytest.raises(ValueError, match="Standardizer scales column 1"):
            model.predict(X)
        assert repr(model)
    view[...] = 2.0
    del view
    assert np.isfinite(model.predict(X)).all()
    assert model._unrepresentable is None  # the fast path is active again


def test_a_standardizer_keeps_the_names_it_was_given() -> None:
    pandas = pytest.importorskip("pandas")
    names = ("a", "b", "c")
    expected = gd.Standardizer(3).fit(X)
    given = gd.Standardizer(3, feature_names=names)
    assert given.fit(X).feature_names == names
    helpers.same_bits(given.mean, expected.mean)
    frame = pandas.DataFrame(X, columns=names)
    for columns in (["a", "b", "c"], ["c", "b", "a"]):
        fitted = gd.Standardizer(3, feature_names=names).fit(frame[columns])
        assert fitted.feature_names == names
        np.testing.assert_allclose(fitted.mean, expected.mean)
    with pytest.raises(ValueError, match="lacks column 'c'"):
        gd.Standardizer(3, feature_names=names).fit(frame.rename(columns={"c": "d"}))


def test_a_standardizer_fitted_again_does_not_describe_another_model() -> None:
    scaling = gd.Standardizer().fit(X)
    model = gd.Sequential(scaling, gd.Dense(3, 2), seed=0)
    before, mean = model.predict(X), scaling.mean
    scaling.fit(X + 10)
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_array_equal(model.layers[0].mean, mean)


@pytest.mark.parametrize("how", [lambda m: m, copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), None])
def test_the_scaling_of_a_model_is_not_fitted_again(how: Any) -> None:
    """Such a change would not reach the network; a new model is made from a copy of the layer, or from the layer."""
    model = gd.Sequential(gd.Standardizer().fit(X), gd.Dense(3, 2), seed=0)
    if how is None:
        file = io.BytesIO()
        model.save(file)
        file.seek(0)
        model = gd.load(file)
    else:
        model = how(model)
    layer, before = model.layers[0], model.predict(X)
    with pytest.raises(RuntimeError, match=r"^fit: .*before the model is made"):
        layer.fit(X + 10)
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_array_equal(layer.transform(X), gd.Standardizer().fit(X).transform(X))
    same = gd.Sequential(*model.layers, seed=0)
    np.testing.assert_array_equal(same.predict(X), gd.Sequential(layer, gd.Dense(3, 2), seed=0).predict(X))
    for copied in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied == layer and not np.array_equal(copied.fit(X + 10).mean, layer.mean)
        other = gd.Sequential(copied, gd.Dense(3, 2), seed=0)
        np.testing.assert_allclose(other.predict(X + 10), same.predict(X), rtol=1e-4, atol=1e-5)
