"""Promise: in float64 the full Jacobian of every layer, and the gradient of every loss through small whole networks,
agree with finite differences to 1e-6, with respect to the input and to every parameter."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest
from gradient_cases import LAYERS, LOSSES, agree, away_from_kinks, differences, losses


def build(layers: list[Any], device: str, rng: Any) -> gd.Sequential:
    model = gd.Sequential(*layers, seed=0, dtype="float64", device=device)
    helpers.randomize(model, rng, 0.6)
    return model


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", range(LOSSES))
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
    """The oracle's backward, compared with differences of its forward."""
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
