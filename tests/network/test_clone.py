"""Promise: `clone` returns a model with other settings and the same values, state, names, class and attributes; for
another dtype, values are rounded to nearest, and values that it cannot hold are refused by name."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(5)
X = RNG.standard_normal((40, 3))
Y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]


class Net(gd.Sequential):
    """A subclass with unusual __init__ arguments."""

    def __init__(self, width: int, dtype: str) -> None:
        layers = (
            gd.Standardizer().fit(X),
            gd.Dense(3, width),
            gd.BatchNorm(width),
            gd.Dropout(0.2),
            gd.Dense(width, 2),
        )
        super().__init__(*layers, seed=4, dtype=dtype, classes=["no", "yes"], feature_names=["a", "b", "c"])
        self.notes = ["first"]


def trained(dtype: str) -> Net:
    model = Net(6, dtype)
    model.freeze("layers.4.bias")
    gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01)).fit(X, Y, epochs=3)
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_settings_are_a_copy(dtype: str) -> None:
    model = trained(dtype)
    copied = model.clone()
    assert type(copied) is Net and copied.settings() == model.settings() and copied.layers == model.layers
    assert copied.frozen() == ["layers.4.bias"] and copied.notes == ["first"] and copied.notes is not model.notes
    helpers.same_bits(helpers.snapshot(copied), helpers.snapshot(model))
    for own, other in zip(copied.parameters().values(), model.parameters().values(), strict=True):
        assert not np.shares_memory(np.asarray(own), np.asarray(other))


@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("float64", "float32"), ("float64", np.float32)])
def test_another_dtype_rounds_to_the_nearest(dtype: str, other: Any) -> None:
    model = trained(dtype)
    copied = model.clone(dtype=other)
    name = np.dtype(other).name
    assert copied.dtype == name and type(copied) is Net and copied.classes == model.classes
    assert copied.frozen() == model.frozen() and copied.seed == model.seed and copied.notes == ["first"]
    for own, was in ((copied.parameters(), model.parameters()), (copied.buffers(), model.buffers())):
        for key, view in own.items():
            assert np.asarray(view).dtype == name
            helpers.same_bits(np.asarray(view), np.asarray(was[key]).astype(name))
    assert copied.predict(X).dtype == name
    np.testing.assert_allclose(copied.predict(X), model.predict(X), rtol=1e-4, atol=1e-5)


def test_what_the_dtype_does_not_hold_is_refused_by_name() -> None:
    model = trained("float64")
    model.parameters()["layers.1.weight"][0, 0] = 1e300
    before = helpers.snapshot(model)
    helpers.refuses(lambda: model.clone(dtype="float32"), ValueError, r"dtype: layers\.1\.weight: got 1e\+300")
    helpers.same_bits(helpers.snapshot(model), before)
    model.parameters()["layers.1.weight"][0, 0] = np.nan  # a diverged model may be cloned to another dtype
    assert np.isnan(np.asarray(model.clone(dtype="float32").parameters()["layers.1.weight"])[0, 0])


def test_the_seed_is_for_what_is_drawn_later() -> None:
    model = trained("float32")
    copied = model.clone(seed=9)
    assert (model.seed, copied.seed) == (4, 9)
    helpers.same_bits(helpers.snapshot(copied), helpers.snapshot(model))
    assert not np.array_equal(copied.forward(X), model.clone().forward(X))  # dropout
    copied.initialize(4)
    fresh = Net(6, "float32")
    helpers.same_bits(
        np.asarray(copied.parameters()["layers.1.weight"]), np.asarray(fresh.parameters()["layers.1.weight"])
    )


def test_a_copy_in_float64_computes_in_full() -> None:
    model = gd.Sequential(gd.Dense(2, 2), precision="tf32", seed=0)
    assert model.clone().precision == "tf32" and model.clone(precision="bfloat16").precision == "bfloat16"
    copied = model.clone(dtype="float64")
    assert copied.precision == "float32" and copied.clone(dtype="float32", precision="tf32").precision == "tf32"
    helpers.refuses(lambda: model.clone(dtype="float64", precision="tf32"), ValueError, "precision")


WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "dtype": ({"dtype": "float16"}, ValueError, "dtype"),
    "device": ({"device": "tpu"}, ValueError, "device"),
    "precision": ({"precision": "half"}, ValueError, "precision"),
    "seed": ({"seed": -1}, ValueError, "seed"),
    "seed text": ({"seed": "a"}, TypeError, "seed"),
    "layers": ({"layers": 3}, TypeError, "layers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str) -> None:
    arguments, kind, word = WRONG[name]
    helpers.refuses(lambda: Net(3, "float32").clone(**arguments), kind, word)
