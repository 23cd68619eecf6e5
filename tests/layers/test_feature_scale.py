"""Promise: Scale multiplies each feature by its factor at every size, has a rate of its own and no decay, may absorb
any activation, be frozen and saved, and equals a diagonal Dense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import oracle_network
import pytest

RATES = {"scale": 6.0}


def network(device: str, *layers: Any, width: int, dtype: Any = np.float64) -> gd.Sequential:
    return gd.Sequential(*layers, seed=2, dtype=np.dtype(dtype).name, device=device)


@helpers.DTYPES
@helpers.SHAPES
def test_sizes(rows: int, width: int, dtype: Any, device: str, rng: Any) -> None:
    model = network(device, gd.Scale(width), width=width, dtype=dtype)
    factor, x, dout = (rng.standard_normal(shape).astype(dtype) for shape in (width, (rows, width), (rows, width)))
    model.parameters()["layers.0.factor"][...] = factor
    helpers.forward_close(np.asarray(model.forward(x)), oracle.Sized(x * f64(factor), np.abs(x * f64(factor))))
    dx = np.asarray(model.backward(dout))
    helpers.gradient_close(dx, oracle.Sized(dout * f64(factor), np.abs(dout * f64(factor))))
    products = f64(dout) * f64(x)
    found = np.asarray(model.gradients()["layers.0.factor"])
    helpers.gradient_close(found, oracle.Sized(products.sum(0), np.abs(products).sum(0)))
    helpers.same_bits(np.asarray(model.predict(x)), np.asarray(model.forward(x, training=False)))


def f64(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
def test_absorbed_activations(activation: Any, device: str, rng: Any) -> None:
    x, dout = rng.standard_normal((2, 33, 17))
    model = network(device, gd.Scale(17), activation, width=17)
    helpers.randomize(model, rng, 1.0)
    reference = helpers.reference_of(model)
    np.testing.assert_allclose(np.asarray(model.forward(x)), reference.forward(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.asarray(model.backward(dout)), reference.backward(dout), rtol=1e-11, atol=1e-13)
    found = np.asarray(model.gradients()["layers.0.factor"])
    np.testing.assert_allclose(found, reference.gradients["layers.0.factor"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("decay_biases", [False, True])
def test_a_rate_of_its_own_and_no_decay(decay_biases: bool, device: str, rng: Any) -> None:
    x, y = rng.standard_normal((50, 4)), rng.standard_normal((50, 2))
    layers = [gd.Scale(4, name="scale"), gd.Dense(4, 5), gd.Mish(), gd.Scale(5), gd.Dense(5, 2)]
    model = network(device, *layers, width=4)
    named = helpers.copies(model.parameters())
    plain = {name.replace("scale.", "layers.0."): array for name, array in named.items()}
    reference = oracle_network.Reference(layers, plain)
    optimizer = gd.Adam(0.01, weight_decay=0.3, lr_factors=RATES, decay_biases=decay_biases)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=optimizer)
    for _ in range(20):
        trainer.step(x, y)
        reference.step(gd.MeanSquaredError(), x, y, None, optimizer, 0.01, decay=0.3, factors={"layers.0": 6.0})
    assert next(iter(named)) == "scale.factor"
    for (name, view), expected in zip(model.parameters().items(), reference.parameters.values(), strict=True):
        np.testing.assert_allclose(np.asarray(view), expected, rtol=1e-9, atol=1e-11, err_msg=name)


def test_it_starts_at_one_and_equals_a_diagonal_dense(device: str, rng: Any) -> None:
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
    one = network(device, gd.Scale(3), gd.Tanh(), width=3)
    other = network(device, gd.Dense(3, 3, bias=False), gd.Tanh(), width=3)
    assert (np.asarray(one.parameters()["layers.0.factor"]) == 1).all()
    other.parameters()["layers.0.weight"][...] = np.eye(3)
    for model in (one, other):
        gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1)).step(x, y)
    diagonal = np.diag(np.asarray(other.parameters()["layers.0.weight"]))
    np.testing.assert_allclose(np.asarray(one.parameters()["layers.0.factor"]), diagonal, rtol=1e-12)


def test_frozen_saved_and_described(tmp_path: Path, device: str, rng: Any) -> None:
    x, y = rng.standard_normal((20, 3)).astype(np.float32), rng.standard_normal((20, 1))
    model = gd.Sequential(gd.Scale(3), gd.Dense(3, 1), seed=0, device=device)
    model.freeze("layers.0")
    trainer = gd.Trainer(model, gd.Huber(), optimizer=gd.Adam(0.1))
    trainer.step(x, y)
    assert (np.asarray(model.parameters()["layers.0.factor"]) == 1).all()
    model.unfreeze()
    trainer.step(x, y)
    assert (np.asarray(model.parameters()["layers.0.factor"]) != 1).all()
    model.save(tmp_path / "m.safetensors")
    loaded = gd.load(tmp_path / "m.safetensors")
    assert loaded.layers == model.layers
    np.testing.assert_allclose(loaded.predict(x), model.predict(x), rtol=1e-6)
    assert "Scale" in model.summary()
