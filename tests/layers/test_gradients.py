"""Promise: in float64 the full Jacobian of every layer, and the gradient of every loss through small whole networks,
agree with finite differences to 1e-6, with respect to the input and to every parameter."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

H = 1e-5
LAYERS: dict[str, list[Any]] = {
    "Dense": [gd.Dense(4, 3)],
    "Dense without bias": [gd.Dense(4, 3, bias=False)],
    "Dense wide": [gd.Dense(4, 17)],
    "LayerNorm": [gd.LayerNorm(4)],
    "LayerNorm plain": [gd.LayerNorm(4, affine=False)],
    "LayerNorm eps": [gd.LayerNorm(4, 0.5)],
    "BatchNorm": [gd.BatchNorm(4)],
    "BatchNorm variance": [gd.BatchNorm(4, running="variance")],
    "BatchNorm plain": [gd.BatchNorm(4, affine=False)],
    "BatchNorm eps": [gd.BatchNorm(4, eps=0.5)],
    **{repr(a): [gd.Dense(4, 4), a] for a in helpers.ACTIVATIONS},
    **{f"LayerNorm {a!r}": [gd.LayerNorm(4), a] for a in helpers.ACTIVATIONS},
    **{f"BatchNorm {a!r}": [gd.BatchNorm(4), a] for a in helpers.ACTIVATIONS},
    "deep": [gd.Dense(4, 5), gd.BatchNorm(5), gd.GELU(), gd.Dense(5, 3), gd.LayerNorm(3), gd.Tanh(), gd.Dense(3, 2)],
    "norm after activation": [gd.Dense(4, 5), gd.Softplus(), gd.BatchNorm(5), gd.Dense(5, 2), gd.Sigmoid()],
    "two activations": [gd.Dense(4, 3), gd.Tanh(), gd.Softplus(), gd.Sigmoid()],
    "activation first": [gd.GELU(), gd.Dense(4, 2)],
}


def build(layers: list[Any], device: str, rng: Any) -> gd.Sequential:
    model = gd.Sequential(*layers, seed=0, dtype="float64", device=device)
    helpers.randomize(model, rng, 0.6)
    return model


def away_from_kinks(model: Any, layers: list[Any], rng: Any, rows: int) -> np.ndarray:
    """An input for which no ReLU is within 0.01 of its kink (checked with the oracle's activations)."""
    for _ in range(1000):
        x = rng.standard_normal((rows, 4))
        reference = helpers.reference_of(model)
        reference.forward(x)
        kinked = [t[0] for t, layer in zip(reference.tape, layers, strict=True) if "ReLU" in type(layer).__name__]
        if all(np.abs(before).min() > 0.01 for before in kinked):
            return x
    raise AssertionError("no such input found")


def variables(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": x, **model.parameters()}


def jacobian(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Analytic: one backward pass for each output element; (outputs, size of the variable)."""
    out = model.forward(x)
    rows: dict[str, list] = {name: [] for name in variables(model, x)}
    for i in np.ndindex(out.shape):
        unit = np.zeros(out.shape)
        unit[i] = 1.0
        model.forward(x)
        rows["x"].append(np.array(model.backward(unit)).ravel())
        for name, g in model.gradients().items():
            rows[name].append(np.array(g).ravel())
    return {name: np.array(r) for name, r in rows.items()}


def differences(function: Any, variable: np.ndarray) -> np.ndarray:
    """Central differences of a vector-valued function of an array that is changed in place."""
    columns, flat = [], variable.reshape(-1)
    assert isinstance(variable, gd.DeviceArray) or np.shares_memory(flat, variable)
    for i in range(flat.size):
        value = flat[i]
        flat[i] = value + H
        up = np.array(function())
        flat[i] = value - H
        down = np.array(function())
        flat[i] = value
        columns.append((up - down).ravel() / (2 * H))
    return np.array(columns).T


def agree(analytic: np.ndarray, numeric: np.ndarray) -> None:
    """Element by element to 1e-6, relative to the element or to a hundredth of the largest one."""
    scale = np.maximum(np.abs(numeric), 1e-2 * np.abs(numeric).max())
    assert (np.abs(analytic - numeric) <= 1e-6 * scale + 1e-10).all()


def test_agree_rejects() -> None:
    with pytest.raises(AssertionError):
        agree(np.array([1.0, 2.0]), np.array([1.0, 2.00001]))
    with pytest.raises(AssertionError):
        agree(np.array([np.nan, 2.0]), np.array([1.0, 2.0]))


@pytest.mark.parametrize("name", LAYERS)
def test_full_jacobian(name: str, device: str, rng: Any) -> None:
    model = build(LAYERS[name], device, rng)
    x = away_from_kinks(model, LAYERS[name], rng, rows=3)
    analytic = jacobian(model, x)
    assert set(analytic) == {"x", *model.parameters()}
    for key, variable in variables(model, x).items():
        agree(analytic[key], differences(lambda: model.forward(x), variable))


def losses(rng: Any) -> list[tuple[Any, np.ndarray]]:
    labels, soft = rng.integers(0, 3, 6), rng.dirichlet(np.ones(3), 6)
    return [
        (gd.MeanSquaredError(), rng.standard_normal((6, 3))),
        (gd.CrossEntropy(), labels),
        (gd.CrossEntropy([0.5, 2.0, 1.0], 0.1), labels),
        (gd.CrossEntropy([0.5, 2.0, 1.0], 0.1), soft),
        (gd.BinaryCrossEntropy(), soft),
        (gd.BinaryCrossEntropy([4.0, 1.0, 0.5]), (soft > 0.3).astype(np.float64)),
    ]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize(
    "hidden", [[gd.Tanh()], [gd.BatchNorm(5), gd.GELU()], [gd.LayerNorm(5), gd.Softplus()]], ids=repr
)
def test_whole_network_with_loss(hidden: list, case: int, weighted: bool, device: str, rng: Any) -> None:
    """SGD with rate 1 moves each parameter by minus the gradient of the loss that step returns."""
    model = build([gd.Dense(4, 5), *hidden, gd.Dense(5, 3)], device, rng)
    loss, targets = losses(rng)[case]
    x = rng.standard_normal((6, 4))
    weights = rng.uniform(0.2, 2, 6) if weighted else None

    def value() -> np.ndarray:
        return np.array([oracle.loss(loss, model.forward(x), targets, weights).mean])

    numeric = {name: differences(value, view)[0] for name, view in model.parameters().items()}
    before = helpers.copies(model.parameters())
    trainer = gd.Trainer(model, loss, optimizer=gd.SGD(1.0))
    expected = value()[0]
    assert abs(trainer.step(x, targets, weights) - expected) <= 1e-12 * abs(expected)
    for name, view in model.parameters().items():
        agree((before[name] - view).ravel(), numeric[name])


def test_the_oracle_differentiates_correctly(rng: Any) -> None:
    """The reference network's own backward, against differences of its own forward."""
    layers = LAYERS["deep"]
    model = build(layers, "cpu", rng)
    reference = helpers.reference_of(model)
    x = rng.standard_normal((6, 4))
    dout = rng.standard_normal((6, 2))
    reference.forward(x)
    dx = reference.backward(dout)
    agree(dx.ravel(), differences(lambda: np.array([(reference.forward(x) * dout).sum()]), x)[0])
    for name, variable in reference.parameters.items():
        numeric = differences(lambda: np.array([(reference.forward(x) * dout).sum()]), variable)[0]
        agree(reference.gradients[name].ravel(), numeric)


@pytest.mark.parametrize("name", ["Dense wide", "BatchNorm", "LayerNorm", "deep"])
def test_float32_follows_float64(name: str, device: str, rng: Any) -> None:
    model64 = build(LAYERS[name], device, rng)
    model32 = gd.Sequential(*LAYERS[name], seed=0, device=device)
    helpers.set_parameters(model32, helpers.copies(model64.parameters()))
    x = rng.standard_normal((33, 4)).astype(np.float32)
    out = model64.forward(x.astype(np.float64))
    np.testing.assert_allclose(model32.forward(x), out, rtol=1e-4, atol=1e-5)
    dout = rng.standard_normal(out.shape)
    dx64, dx32 = model64.backward(dout), model32.backward(dout.astype(np.float32))
    np.testing.assert_allclose(dx32, dx64, atol=1e-5 * np.abs(dx64).max() * 10)
