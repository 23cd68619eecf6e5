"""Promise: a constant that a model's dtype rounds to 0, to 1 or to infinity is refused when the model or trainer is
made, and float64 accepts every value that it can hold; a message about weights gives their values."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((24, 3))
X[:, 1] = 0  # gradients that are exactly 0
Y = (X[:, 0] > 0).astype(int)


def trained(optimizer: Any = None, *layers: Any, dtype: str = "float32") -> gd.Trainer:
    model = gd.Sequential(*(layers or (gd.Dense(3, 2),)), seed=0, dtype=dtype)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=optimizer or gd.SGD(0.1))
    trainer.fit(X, Y, epochs=2)
    assert all(np.isfinite(a).all() for a in model.parameters().values())
    return trainer


NEARLY_ONE = 1 - 1e-12
FOCAL = r"gamma: got .*; expected a number from 0 to 1e\+06 \(Lin"
POSITIVE = r"pos_weight: got .*; expected numbers from 0 to 1e\+12, such as how many"
CASES: dict[str, tuple[Any, str]] = {
    "AdaGrad eps": (lambda **k: trained(gd.AdaGrad(0.1, eps=1e-46), **k), "AdaGrad.*eps: got 1e-46, which is 0"),
    "RMSProp eps": (lambda **k: trained(gd.RMSProp(0.1, eps=1e-46), **k), "RMSProp.*eps: got 1e-46, which is 0"),
    "Adam eps": (lambda **k: trained(gd.Adam(0.1, eps=1e-46), **k), "Adam.*eps: got 1e-46, which is 0"),
    "AdamW eps": (lambda **k: trained(gd.Adam(0.1, eps=1e-60, decoupled=True), **k), "Adam.*got 1e-60, which is 0"),
    "Adam eps too large": (lambda **k: trained(gd.Adam(0.1, eps=1e39), **k), r"Adam.*eps: got 1e\+39, which is inf"),
    "momentum": (lambda **k: trained(gd.Momentum(1e-9, NEARLY_ONE), **k), "momentum: got 0.9999.*, which is 1 in"),
    "RMSProp beta": (lambda **k: trained(gd.RMSProp(0.1, NEARLY_ONE), **k), "beta: got 0.9999.*, which is 1 in"),
    "Adam beta 1": (lambda **k: trained(gd.Adam(0.1, (NEARLY_ONE, 0.9)), **k), "betas: got 0.9999.*, which is 1 in"),
    "Adam beta 2": (lambda **k: trained(gd.Adam(0.1, (0.9, NEARLY_ONE)), **k), "betas: got 0.9999.*, which is 1 in"),
    "clip value": (lambda **k: trained(gd.SGD(0.1, clip_value=1e-46), **k), "clip_value: got 1e-46, which is 0"),
    "clip norm": (lambda **k: trained(gd.SGD(0.1, clip_norm=1e-46), **k), "clip_norm: got 1e-46, which is 0"),
    "LayerNorm eps": (
        lambda **k: trained(None, gd.Dense(3, 4), gd.LayerNorm(4, 1e-46), gd.Dense(4, 2), **k),
        "LayerNorm.*eps: got 1e-46, which is 0",
    ),
    "BatchNorm eps": (
        lambda **k: trained(None, gd.Dense(3, 4), gd.BatchNorm(4, eps=1e-46), gd.Dense(4, 2), **k),
        "BatchNorm.*eps: got 1e-46, which is 0",
    ),
    "Normal eps": (lambda **k: trained(None, gd.Dense(3, 2, init=gd.Normal(1e-46)), **k), "Normal.*eps: got 1e-46"),
    "Uniform eps": (lambda **k: trained(None, gd.Dense(3, 2, init=gd.Uniform(1e-46)), **k), "Uniform.*eps: got 1e-46"),
    "Constant": (lambda **k: trained(None, gd.Dense(3, 2, bias_init=gd.Constant(1e-46)), **k), "Constant.*value: got"),
}
TOO_LARGE: dict[str, tuple[Any, str]] = {
    "Constant": (lambda: gd.Sequential(gd.Dense(3, 2, bias_init=gd.Constant(1e39))), "Constant.*value"),
    "Uniform": (lambda: gd.Sequential(gd.Dense(3, 2, init=gd.Uniform(1e39))), "Uniform.*eps"),
    "Normal": (lambda: gd.Sequential(gd.Dense(3, 2, init=gd.Normal(3e38))), "Normal.*eps"),
    "weight decay": (lambda: trained(gd.SGD(0.1, weight_decay=1e39)), "weight_decay"),
    "lr factors": (lambda: trained(gd.SGD(0.1, lr_factors=[1e39])), "lr_factors"),
    "lr": (lambda: trained(gd.SGD(1e39)), "lr"),
    "pos_weight": (
        lambda: gd.Trainer(
            gd.Sequential(gd.Dense(3, 1)), gd.BinaryCrossEntropy(pos_weight=1e39), optimizer=gd.SGD(0.1)
        ),
        "pos_weight",
    ),
}

BEYOND: dict[str, tuple[Any, str]] = {
    "focal": (lambda: gd.CrossEntropy(gamma=1e300), FOCAL),
    "focal of answers": (lambda: gd.BinaryCrossEntropy(gamma=1.1e6), FOCAL),
    "pos_weight": (lambda: gd.BinaryCrossEntropy(1.1e12), POSITIVE),
    "pos_weights": (lambda: gd.BinaryCrossEntropy([1.0, 1e20]), POSITIVE),
    "ELU": (lambda: gd.ELU(1e30), r"alpha: got 1e\+30; expected a positive number below 1e30"),
    "LayerNorm": (lambda: gd.LayerNorm(4, 1e30), r"eps: got 1e\+30; expected a positive number below 1e30"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_refused_where_formulas_overflow(name: str) -> None:
    """In any dtype: squares of gradients in float32 overflow, and infinity is multiplied by 0."""
    make, word = BEYOND[name]
    with pytest.raises(ValueError, match=word):
        make()


@pytest.mark.parametrize("name", CASES)
def test_refused_where_the_dtype_rounds_it_away(name: str) -> None:
    make, word = CASES[name]
    helpers.refuses(make, ValueError, word)


@pytest.mark.parametrize("name", [name for name in CASES if name != "Adam eps too large"])
def test_float64_takes_it(name: str) -> None:
    CASES[name][0](dtype="float64")


@pytest.mark.parametrize("name", TOO_LARGE)
def test_refused_where_the_dtype_makes_it_infinite(name: str) -> None:
    make, word = TOO_LARGE[name]
    helpers.refuses(make, ValueError, word)


def test_the_smallest_eps_that_float32_holds_trains() -> None:
    trained(gd.Adam(0.01, eps=1e-45))


def test_a_message_about_weights_is_true() -> None:
    """Weights that were not finite before the step are reported as such, not as the largest weight."""
    trainer = trained()
    trainer.model.parameters()["layers.0.weight"][1, 2] = np.nan
    with pytest.raises(gd.DivergenceError) as info:
        trainer.step(X, Y)
    message = str(info.value)
    assert "not finite before this step" in message and "layers.0.weight[1, 2] = nan" in message
    assert "largest weight" not in message

    trainer = trained()
    trainer.model.parameters()["layers.0.weight"][1, 2] = 3e38
    with pytest.raises(gd.DivergenceError, match=r"the largest weight is layers.0.weight\[1, 2\] = 3e\+38"):
        trainer.step(np.full((2, 3), 100.0), [0, 1])
