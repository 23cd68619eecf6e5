"""Promise: a network computes its layers and nothing else: results agree with the float64 oracle and do not depend on
absorption of layers, the batch size of prediction, a smaller last batch or earlier calls; parameters are views by
name."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

WITHOUT_KINKS = (gd.Tanh(), gd.Sigmoid(), gd.GELU(), gd.GELU(approximate="tanh"), gd.Softplus())


def random_layers(rng: helpers.Generator, width_in: int, depth: int) -> list[Any]:
    """Dense layers with norms and activations in any order between them."""
    layers: list[Any] = []
    width = width_in
    for _ in range(depth):
        new = int(rng.integers(1, 40))
        layers.append(gd.Dense(width, new, bias=bool(rng.integers(2))))
        width = new
        between = [
            gd.BatchNorm(width, running=str(rng.choice(["std", "variance"])), affine=bool(rng.integers(2))),
            gd.LayerNorm(width, 1e-2, affine=bool(rng.integers(2))),
            *rng.choice(np.array(WITHOUT_KINKS, object), 2),
        ]
        layers += [between[i] for i in rng.permutation(4)[: rng.integers(0, 4)]]
    return layers


@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(1, 4), rows=st.integers(2, 70), width=st.integers(1, 40))
def test_random_networks_follow_the_oracle(seed: int, depth: int, rows: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    model = gd.Sequential(*random_layers(rng, width, depth), seed=seed, dtype="float64")
    helpers.randomize(model, rng)
    reference = helpers.reference_of(model)
    x = rng.standard_normal((rows, width))
    out = np.array(model.forward(x))
    expected = reference.forward(x)
    scale = 1 + np.abs(expected).max()
    assert np.abs(out - expected).max() <= 1e-9 * scale
    dout = rng.standard_normal(out.shape)
    dx, expected = model.backward(dout), reference.backward(dout)
    biggest = max(1.0, *(np.abs(g).max() for g in reference.gradients.values()), np.abs(expected).max())
    assert np.abs(dx - expected).max() <= 1e-8 * biggest
    for name, gradient in reference.gradients.items():
        assert np.abs(model.gradients()[name] - gradient).max() <= 1e-8 * biggest
    assert np.abs(model.predict(x) - reference.forward(x, training=False)).max() <= 1e-9 * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("first", [gd.Dense(6, 6), gd.BatchNorm(6), gd.LayerNorm(6)], ids=repr)
@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
def test_absorption_changes_no_bit(activation: Any, first: Any, dtype: str, device: str, rng: Any) -> None:
    """A dropout of 0 between layer and activation only prevents absorption."""
    together = gd.Sequential(gd.Dense(6, 6), first, activation, gd.Dense(6, 2), seed=1, dtype=dtype, device=device)
    apart = gd.Sequential(
        gd.Dense(6, 6), first, gd.Dropout(0.0), activation, gd.Dense(6, 2), seed=1, dtype=dtype, device=device
    )
    assert len(together.operations()) < len(apart.operations())
    helpers.randomize(together, rng)
    for mine, theirs in zip(apart.parameters().values(), together.parameters().values(), strict=True):
        mine[...] = theirs
    x, dout = rng.standard_normal((37, 6)).astype(dtype), rng.standard_normal((37, 2)).astype(dtype)
    helpers.same_bits(np.array(together.forward(x)), np.array(apart.forward(x)))
    helpers.same_bits(np.array(together.backward(dout)), np.array(apart.backward(dout)))
    for mine, theirs in zip(apart.gradients().values(), together.gradients().values(), strict=True):
        helpers.same_bits(np.array(mine), np.array(theirs))
    helpers.same_bits(together.predict(x), apart.predict(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prediction_does_not_depend_on_the_batch_size(dtype: str, device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(
        gd.Dense(19, 33), gd.BatchNorm(33), gd.GELU(), gd.LayerNorm(33), gd.Dropout(0.5), gd.Dense(33, 5), gd.Sigmoid(),
        seed=0, dtype=dtype, device=device,
    )  # fmt: skip
    x = rng.standard_normal((257, 19)).astype(dtype)
    whole = model.predict(x, batch_size=257)
    for size in (1, 2, 7, 16, 100, 256, 1000):
        helpers.same_at_any_batch_size(model.predict(x, batch_size=size), whole, device)
    for order in (x, x[::-1]):
        pieces = [model.predict(order[i : i + 31]) for i in range(0, 257, 31)]
        helpers.same_at_any_batch_size(np.concatenate(pieces), whole if order is x else whole[::-1].copy(), device)


def test_a_batch_leaves_no_trace_in_the_next(device: str, rng: helpers.Generator) -> None:
    """Earlier calls with larger batches, in other modes or refused do not change a result; masks depend on the step."""

    def make() -> gd.Sequential:
        return gd.Sequential(
            gd.Dense(8, 30), gd.LayerNorm(30), gd.ReLU(), gd.Dropout(0.3), gd.Dense(30, 4), seed=2, device=device
        )

    x = rng.standard_normal((50, 8)).astype(np.float32)
    dout = rng.standard_normal((21, 4)).astype(np.float32)
    fresh, used = make(), make()
    used.forward(np.full((500, 8), 1e10, np.float32))
    used.backward(np.full((500, 4), 1e30, np.float32))
    used.predict(x)
    with pytest.raises(ValueError):
        used.forward(np.ones((5, 9), np.float32))
    helpers.same_bits(np.array(used.forward(x[:21])), np.array(fresh.forward(x[:21])))
    helpers.same_bits(np.array(used.backward(dout)), np.array(fresh.backward(dout)))
    helpers.same_bits(np.array(used.flat_gradients()), np.array(fresh.flat_gradients()))


def test_parameters_are_named_views_of_one_arena() -> None:
    model = gd.Sequential(
        gd.Dense(3, 5), gd.BatchNorm(5), gd.Tanh(), gd.Dense(5, 2, bias=False), gd.LayerNorm(2), seed=0, device="cpu"
    )
    shapes = {name: view.shape for name, view in model.parameters().items()}
    assert shapes == {
        "layers.0.weight": (5, 3), "layers.0.bias": (5,), "layers.1.gamma": (5,), "layers.1.beta": (5,),
        "layers.3.weight": (2, 5), "layers.4.gamma": (2,), "layers.4.beta": (2,),
    }  # fmt: skip
    for views in (model.parameters(), model.gradients(), model.buffers()):
        end = 0
        for view in views.values():
            assert view.flags.writeable and view.flags.c_contiguous and view.ctypes.data % 256 == 0
            assert view.ctypes.data >= end and (end == 0 or view.ctypes.data - end < 256)
            end = view.ctypes.data + view.nbytes
    x = np.ones((2, 3), np.float32)
    before = model.predict(x)
    model.parameters()["layers.4.beta"][...] = 7
    assert (model.predict(x) != before).any()


def test_views_outlive_the_model(device: str) -> None:
    views = gd.Sequential(gd.Dense(300, 300), seed=0, device=device).parameters()
    junk = [np.full(90_000, np.nan, np.float32) for _ in range(20)]
    assert np.isfinite(views["layers.0.weight"]).all() and len(junk) == 20


def test_returned_arrays_are_not_overwritten(device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(gd.Dense(4, 3), gd.Tanh(), seed=0, device=device)
    a, b = rng.standard_normal((2, 6, 4)).astype(np.float32)
    first = model.predict(a)
    kept = first.copy()
    out = model.forward(a)
    out_kept = np.array(out)
    model.predict(b)
    model.forward(b)
    model.backward(np.ones((6, 3), np.float32))
    helpers.same_bits(first, kept)
    helpers.same_bits(np.array(out), out_kept)


def test_attributes_and_operations(device: str) -> None:
    model = gd.Sequential(
        gd.Dense(3, 5), gd.ReLU(), gd.Dropout(0.1), gd.Dense(5, 2), seed=11, dtype="float64", device=device
    )
    assert (model.in_features, model.out_features, model.dtype, model.seed) == (3, 2, "float64", 11)
    assert model.device == device
    assert [oracle.kind(layer) for layer in model.layers] == ["Dense", "ReLU", "Dropout", "Dense"]
    assert len(model.operations()) == 3 and "ReLU" in model.operations()[0]
    text = model.summary()
    assert all(word in text for word in ("Dense", "ReLU", "Dropout", "32"))  # 5*3 + 5 + 2*5 + 2 parameters


def test_gradients_are_overwritten_not_accumulated(device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(
        gd.Dense(4, 9), gd.BatchNorm(9), gd.GELU(), gd.Dense(9, 3), gd.LayerNorm(3), seed=0, device=device
    )
    x, dout = rng.standard_normal((17, 4)).astype(np.float32), rng.standard_normal((17, 3)).astype(np.float32)
    seen = []
    for _ in range(2):
        model.forward(x)
        model.backward(dout)
        seen.append(helpers.copies(model.gradients()))
        for view in model.gradients().values():
            view[...] = np.nan
    helpers.same_bits(seen[0], seen[1])


@pytest.mark.parametrize(
    "frozen", ["layers.0", "layers.0.bias", "layers.1", "layers.1.gamma", "layers.3.beta", "layers.4"]
)
def test_frozen_layers(frozen: str, device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(
        gd.Dense(4, 9), gd.BatchNorm(9), gd.Tanh(), gd.LayerNorm(9), gd.Dense(9, 3), seed=0, device=device
    )
    before = helpers.copies(model.parameters())
    model.freeze(frozen)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(0.1, weight_decay=0.1))
    x, y = rng.standard_normal((20, 4)).astype(np.float32), rng.standard_normal((20, 3)).astype(np.float32)
    trainer.fit(x, y, epochs=2)
    after = helpers.copies(model.parameters())
    for name in before:
        assert (before[name] == after[name]).all() == (name == frozen or name.startswith(f"{frozen}."))
    model.unfreeze(frozen)
    trainer.fit(x, y, epochs=1)
    assert all((after[name] != model.parameters()[name]).any() for name in before)


@pytest.mark.parametrize("kind", ["float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"])
def test_input_types_are_converted(kind: str, device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(gd.Dense(5, 3), gd.Tanh(), seed=0, device=device)
    x = rng.integers(0, 2, (30, 5)).astype(kind)
    expected = model.predict(x.astype(np.float32))
    for layout in (x, np.asfortranarray(x), np.repeat(x, 2, 0)[::2], np.repeat(x, 2, 1)[:, ::2], x[::-1][::-1]):
        helpers.same_bits(model.predict(layout), expected)
    helpers.same_bits(np.array(model.forward(x)), expected)


def test_arrays_of_a_model_cannot_be_replaced_by_others() -> None:
    """Replacing a view in the dictionary is refused; writing into one, or computing in place, changes the model."""
    model = gd.Sequential(gd.Dense(2, 3), gd.BatchNorm(3), seed=0, device="cpu")
    model.backward(model.forward(np.eye(2)))
    for views in (model.parameters(), model.gradients(), model.buffers()):
        name = next(iter(views))
        before = np.array(views[name])
        refused: tuple[Any, ...] = (
            lambda v=views, n=name: v.__setitem__(n, np.zeros_like(v[n])),
            lambda v=views: v.__setitem__("new", np.zeros(1)),
            lambda v=views, n=name: v.pop(n),
            lambda v=views: v.update({}),
        )
        for call in refused:
            helpers.refuses(call, TypeError, r"would not be used: write into them")
        np.testing.assert_array_equal(views[name], before)
        views[name] *= 2
        views[name][...] += 1
        np.testing.assert_array_equal(views[name], 2 * before + 1)
        assert type(copy.deepcopy(views)) is type(pickle.loads(pickle.dumps(views))) is dict
    np.testing.assert_array_equal(model.parameters()["layers.0.weight"], model.flat_parameters()[:6].reshape(3, 2))


def test_layers_may_come_as_one_list() -> None:
    layers = [gd.Dense(3, 4), gd.ReLU(), gd.Dense(4, 2)]
    as_list, as_tuple, one_by_one = (gd.Sequential(*given, seed=5) for given in ([layers], [tuple(layers)], layers))
    for model in (as_list, as_tuple):
        assert repr(model) == repr(one_by_one)
        assert np.array_equal(model.flat_parameters(), one_by_one.flat_parameters())
