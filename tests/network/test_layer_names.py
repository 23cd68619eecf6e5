"""Promise: a layer's name is the prefix of its parameters' names everywhere: views, freezing, rates, transfer, files,
copies, summaries; its number remains valid, and an ambiguous name is refused."""

from __future__ import annotations

import copy
import io
import pickle
import re
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(3)
X = RNG.standard_normal((30, 4))
Y = (X[:, 0] > 0).astype(np.int64)
LAYERS: dict[str, Any] = {
    "Dense": lambda name: gd.Dense(4, 3, name=name),
    "ReLU": lambda name: gd.ReLU(name=name),
    "LeakyReLU": lambda name: gd.LeakyReLU(0.1, name=name),
    "Tanh": lambda name: gd.Tanh(name=name),
    "Sigmoid": lambda name: gd.Sigmoid(name=name),
    "GELU": lambda name: gd.GELU("tanh", name=name),
    "Softplus": lambda name: gd.Softplus(name=name),
    "Dropout": lambda name: gd.Dropout(0.1, name=name),
    "BatchNorm": lambda name: gd.BatchNorm(4, name=name),
    "LayerNorm": lambda name: gd.LayerNorm(4, name=name),
    "Standardizer": lambda name: gd.Standardizer(mean=[0.0], std=[1.0], name=name),
}


def network(named: bool = True, seed: int = 0) -> gd.Sequential:
    names = ["scaling", "hidden", "norm", "act", "head"] if named else [None] * 5
    scaling = gd.Standardizer(name=names[0]).fit(X)
    hidden, norm = gd.Dense(4, 5, name=names[1]), gd.BatchNorm(5, name=names[2])
    return gd.Sequential(scaling, hidden, norm, gd.ReLU(name=names[3]), gd.Dense(5, 2, name=names[4]), seed=seed)


def trained(model: gd.Sequential, **optimizer: Any) -> gd.Sequential:
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1, **optimizer))
    trainer.fit(X, Y, epochs=2)
    return model


@pytest.mark.parametrize("kind", LAYERS)
def test_a_name_is_part_of_the_layer(kind: str) -> None:
    make = LAYERS[kind]
    layer = make("own")
    assert layer.name == "own" and make(None).name is None
    assert "name='own'" in repr(layer) and " name=" not in repr(make(None)).replace("(", " ")
    assert layer == make("own") != make("other") and layer != make(None) and hash(layer) == hash(make("own"))
    for copied in (copy.copy(layer), pickle.loads(pickle.dumps(layer)), eval(repr(layer), vars(gd) | {"array": list})):
        assert copied.name == "own"
    with pytest.raises(AttributeError, match="name"):
        layer.name = "else"


@pytest.mark.parametrize("name", ["", "layers", "training", "2nd", "a.b", "a b", "a-b", "class Ä"])
def test_what_is_no_name_is_refused(name: str) -> None:
    for make in LAYERS.values():
        helpers.refuses(lambda make=make: make(name), ValueError, r"name.*(got|is) .*identifier")


def test_a_name_is_text() -> None:
    helpers.refuses(lambda: gd.Dense(2, 3, name=5), TypeError, "name")
    assert gd.Dense(2, 3, name="größe_1").name == "größe_1"


def test_arrays_are_called_by_it() -> None:
    model = network()
    assert list(model.parameters()) == list(model.gradients())
    assert list(model.parameters()) == [
        "hidden.weight",
        "hidden.bias",
        "norm.gamma",
        "norm.beta",
        "head.weight",
        "head.bias",
    ]
    assert list(model.buffers()) == ["scaling.mean", "scaling.std", "norm.running_mean", "norm.running_std"]
    assert list(network(named=False).parameters())[-1] == "layers.4.bias"
    mixed = gd.Sequential(gd.Dense(2, 3), gd.Dense(3, 1, name="head"), seed=0)
    assert list(mixed.parameters()) == ["layers.0.weight", "layers.0.bias", "head.weight", "head.bias"]
    helpers.refuses(
        lambda: gd.Sequential(gd.Dense(2, 3, name="a"), gd.ReLU(), gd.Dense(3, 3, name="a")),
        ValueError,
        r"layers\[0\].*layers\[2\].*\"a\"",
    )


def test_results_do_not_depend_on_names() -> None:
    helpers.same_bits(trained(network()).predict(X), trained(network(named=False)).predict(X))


@pytest.mark.parametrize("names", [("head",), ("layers.4",), ("head.weight", "layers.4.bias")])
def test_freezing_by_name_and_by_number(names: tuple[str, ...]) -> None:
    model = network()
    model.freeze(*names)
    assert model.frozen() == ["head.weight", "head.bias"]
    before = helpers.copies(model.parameters())
    trained(model)
    for name, view in model.parameters().items():
        assert np.array_equal(np.asarray(view), before[name]) == name.startswith("head."), name
    model.unfreeze(*names)
    assert model.frozen() == []
    for wrong in ("heads", "hea", "layers.9", "scaling", "norm.running_mean"):
        helpers.refuses(lambda wrong=wrong: model.freeze(wrong), ValueError, "prefixes")


@pytest.mark.parametrize("argument", ["lr_factors", "weight_decay"])
def test_rates_and_decay_by_name_and_by_number(argument: str) -> None:
    by_name = trained(network(), **{argument: {"head": 0.5, "hidden.bias": 0.25}})
    by_number = trained(network(), **{argument: {"layers.4": 0.5, "layers.1.bias": 0.25}})
    plain = trained(network(named=False), **{argument: {"layers.4": 0.5, "layers.1.bias": 0.25}})
    helpers.same_bits(by_name.predict(X), by_number.predict(X))
    helpers.same_bits(by_name.predict(X), plain.predict(X))
    assert not np.array_equal(by_name.predict(X), trained(network()).predict(X))


def test_a_parameter_overrules_its_layer_however_long_their_names_are() -> None:
    short = gd.Sequential(gd.Dense(4, 2, name="h"), seed=0)
    for factors in ({"h.bias": 0.0, "layers.0": 1.0}, {"layers.0": 1.0, "h.bias": 0.0}):
        model = trained(short.clone(), lr_factors=factors)
        assert not np.asarray(model.parameters()["h.bias"]).any()
        assert not np.array_equal(
            np.asarray(model.parameters()["h.weight"]), np.asarray(short.parameters()["h.weight"])
        )
    same = r"lr_factors.*\"h\".*\"layers.0\".*same"
    helpers.refuses(lambda: trained(short.clone(), lr_factors={"h": 1.0, "layers.0": 2.0}), ValueError, same)
    helpers.refuses(lambda: trained(short.clone(), lr_factors={"g": 1.0}), ValueError, 'lr_factors.*"g"')


def test_transfer_by_name() -> None:
    source, target = network(seed=1), network(seed=2)
    assert target.load_parameters(source, only="head") == ["head.weight", "head.bias"]
    assert target.load_parameters(source, only=["layers.1", "head.bias"]) == [
        "hidden.weight",
        "hidden.bias",
        "head.bias",
    ]
    for name in ("head.weight", "hidden.bias"):
        helpers.same_bits(np.array(target.parameters()[name]), np.array(source.parameters()[name]))
    # Names of a source are used literally: a named head is not set from another network's layer 4.
    plain = network(named=False, seed=3)
    helpers.refuses(lambda: target.load_parameters(plain), ValueError, "source: got no array 'hidden.weight'")
    rename = {f"layers.{i}": str(layer.name) for i, layer in enumerate(target.layers)}
    target.load_parameters(plain, rename=rename)
    helpers.same_bits(target.predict(X), plain.predict(X))


def test_files_and_copies_keep_names(tmp_path: Path) -> None:
    model = trained(network())
    model.freeze("head")
    model.save(tmp_path / "m")
    for again in (gd.load(tmp_path / "m"), copy.copy(model), pickle.loads(pickle.dumps(model)), model.clone()):
        assert again.layers == model.layers and again.frozen() == ["head.weight", "head.bias"]
        helpers.same_bits(helpers.snapshot(again), helpers.snapshot(model))
        assert repr(again) == repr(model) and "name='head'" in repr(again)
    plain = io.BytesIO()
    network(named=False).save(plain)
    assert b'"name"' not in plain.getvalue() and b"name" in (tmp_path / "m").read_bytes()


def test_a_run_is_resumed_by_name(tmp_path: Path) -> None:
    def trainer(named: bool = True) -> gd.Trainer:
        return gd.Trainer(network(named), gd.CrossEntropy(), optimizer=gd.Adam(0.01, lr_factors={"layers.4": 0.5}))

    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(X, Y, epochs=4)
    first.fit(X, Y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")])
    assert "0.head.weight" in first.core.state()
    second.fit(X, Y, epochs=2, resume=tmp_path / "c")
    helpers.same_bits(helpers.snapshot(second.model), helpers.snapshot(whole.model))
    helpers.refuses(lambda: trainer(False).fit(X, Y, epochs=2, resume=tmp_path / "c"), ValueError, "layers")


def test_summaries_and_messages_use_it() -> None:
    model = network()
    model.freeze("head")
    assert re.search(r"Dense\(5, 2\) head \(frozen\) +2 +12", model.summary())
    assert "norm" in model.summary() and "Dense(4, 5) hidden" in model.summary()
    helpers.refuses(
        lambda: gd.Sequential(gd.Dense(2, 3), gd.Dense(4, 1, name="head")), ValueError, r"head: .*in_features: got 4"
    )
    model.unfreeze()
    model.parameters()["hidden.weight"][...] = 1e30
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    with pytest.raises(gd.DivergenceError, match=r"hidden\.weight|out of (hidden|norm|head)"):
        trainer.fit(X * 1e9, Y, epochs=1)


def test_analysis_and_tuning_take_named_layers() -> None:
    model = network()
    found = gd.analysis.variance_by_layer(model, X)
    assert found.layers[1] == "scaling Standardizer" and found.layers[-1] == "head Dense"
    assert list(gd.analysis.identical_units(model).units) == ["hidden"]
    other = gd.transform_network(network(), x_scale=2.0, x_shift=1.0)
    assert other.layers[0].name == "scaling" and next(iter(other.buffers())) == "scaling.mean"


def test_pytorch_goes_by_order() -> None:
    torch = pytest.importorskip("torch")
    model, other = network(seed=1), network(seed=2)
    state = model.to_torch()
    assert set(state) == set(network(named=False).to_torch()) and "4.weight" in state
    other.from_torch(state)
    helpers.same_bits(other.predict(X), model.predict(X))
    state["4.weight"] = torch.zeros(3, 3)
    helpers.refuses(lambda: other.from_torch(state), ValueError, r"head\.weight")
