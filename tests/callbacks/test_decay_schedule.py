"""Promise: a step with `decay_scale` is one with that much weight decay, in every form; a schedule of the decay has the
factors of its formula; changes keep the optimiser's state, and a resumed run has the same bits."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(3)
X = RNG.standard_normal((60, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)
FACTOR = gd.schedules.cosine(1.0, 20)


class Own(gd.Adam):
    """A user's subclass."""


DECAYS: dict[str, Any] = {"one": 0.5, "each": [0.5, 0.25], "named": {"layers.0": 0.5, "layers.2.bias": 0.25}}
OPTIMIZERS: dict[str, Any] = {"SGD": gd.SGD, "Momentum": gd.Momentum, "AdamW": gd.AdamW, "subclass": Own}


def build(optimizer: gd.Optimizer, device: str = "cpu", **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 5), gd.Tanh(), gd.Dense(5, 1), seed=0, device=device)
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=optimizer, **options)


def scaled(decay: Any, scale: float) -> Any:
    if isinstance(decay, dict):
        return {name: value * scale for name, value in decay.items()}
    return [value * scale for value in decay] if isinstance(decay, list) else decay * scale


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scale_is_another_decay(name: str, decay: str, device: str) -> None:
    """After some steps, too: the optimiser's state stays."""
    kind, given = OPTIMIZERS[name], DECAYS[decay]
    trainer = build(kind(0.05, weight_decay=given), device)
    for step, scale in enumerate((1.0, 0.5, 0.0, 2.0, 1.0)):
        trainer.decay_scale = scale
        other = build(kind(0.05, weight_decay=scaled(given, scale)), device)
        other.model.restore_state(trainer.model.copy_state())
        for own, array in other.core.state().items():
            array[...] = np.asarray(trainer.core.state()[own])
        other.steps = trainer.steps
        assert trainer.step(X, Y) == other.step(X, Y) and trainer.steps == step + 1
        helpers.same_bits(trainer.model.copy_state(), other.model.copy_state())
    assert trainer.optimizer.weight_decay == kind(0.05, weight_decay=given).weight_decay


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_schedule_has_the_factors_of_its_formula(every: int, device: str) -> None:
    """Without gradients a weight shrinks by the product of 1 - ηλ factor(step)."""
    seen: list[float] = []

    class Watch:
        def on_step(self, trainer: gd.Trainer) -> None:
            seen.append(trainer.decay_scale)

    model = gd.Sequential(gd.Dense(3, 1, bias=False), seed=0, dtype="float64", device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.AdamW(0.1, weight_decay=0.5))
    start = np.array(model.flat_parameters())
    x, y = np.zeros((20, 3)), np.zeros(20)
    trainer.fit(x, y, epochs=3, batch_size=2, callbacks=[Watch(), gd.DecaySchedule(FACTOR, every=every)])
    factors = [0.5 * (1 + math.cos(math.pi * min(t - t % every, 20) / 20)) for t in range(30)]
    np.testing.assert_allclose(seen, factors, atol=1e-15)
    expected = start * np.prod([1 - 0.05 * factor for factor in factors])
    np.testing.assert_allclose(np.asarray(model.flat_parameters()), expected, rtol=1e-13)


def test_a_constant_factor_of_one_changes_no_bit(device: str) -> None:
    plain, other = (build(gd.Adam(0.01, weight_decay=0.1), device) for _ in range(2))
    plain.fit(X, Y, epochs=2, batch_size=16)
    other.fit(X, Y, epochs=2, batch_size=16, callbacks=[gd.DecaySchedule(gd.schedules.constant(1.0), every=1)])
    helpers.same_bits(plain.model.copy_state(), other.model.copy_state())


@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_run_has_the_same_bits(every: int, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    unbroken, broken, resumed = (build(gd.AdamW(0.01, weight_decay=0.5)) for _ in range(3))
    schedule = gd.DecaySchedule(FACTOR, every=every)
    unbroken.fit(X, Y, epochs=4, batch_size=16, callbacks=[schedule])
    broken.fit(X, Y, epochs=2, batch_size=16, callbacks=[schedule, gd.Checkpoint(path)])
    other = build(gd.AdamW(0.01, weight_decay=0.5))
    other.load_checkpoint(path)
    assert other.decay_scale == broken.decay_scale < 1.0
    copied = copy.deepcopy(broken)
    resumed.fit(X, Y, until_epoch=4, batch_size=16, callbacks=[schedule], resume=path)
    helpers.same_bits(resumed.model.copy_state(), unbroken.model.copy_state())
    for again in (broken, copied, other):
        again.fit(X, Y, epochs=2, batch_size=16, callbacks=[schedule])
        helpers.same_bits(again.model.copy_state(), unbroken.model.copy_state())


def test_class_weights_stay(device: str) -> None:
    labels = (X[:, 0] > 0.5).astype(int)
    model = gd.Sequential(gd.Dense(3, 2), seed=0, device=device)
    loss, optimizer = gd.CrossEntropy("balanced"), gd.Adam(0.01, weight_decay=0.1)
    plain, other = (gd.Trainer(copy.copy(model), loss, optimizer=optimizer) for _ in range(2))
    other.decay_scale = 0.5
    other.decay_scale = 1.0
    for trainer in (plain, other):
        trainer.fit(X, labels, epochs=1)
    other.decay_scale = 0.5
    other.decay_scale = 1.0
    for trainer in (plain, other):
        trainer.fit(X, labels, epochs=1)
    helpers.same_bits(plain.model.copy_state(), other.model.copy_state())


@pytest.mark.parametrize("bad", [-0.5, math.nan, math.inf, "half"])
def test_a_bad_scale_is_refused_and_changes_nothing(bad: Any) -> None:
    trainer = build(gd.Adam(0.01, weight_decay=0.1))
    with pytest.raises((ValueError, TypeError), match="decay_scale"):
        trainer.decay_scale = bad
    assert trainer.decay_scale == 1.0
    with pytest.raises((ValueError, TypeError), match="factor"):
        trainer.fit(X, Y, epochs=1, callbacks=[gd.DecaySchedule(lambda step: bad)])
    assert trainer.steps == 0


def test_small_scales_and_no_decay_are_taken_and_what_is_too_large_changes_nothing() -> None:
    for trainer in (build(gd.SGD(0.1, weight_decay=0.5)), build(gd.SGD(0.1, weight_decay=None))):
        trainer.decay_scale = 1e-60
        assert math.isfinite(trainer.step(X, Y)) and trainer.decay_scale == 1e-60
    trainer = build(gd.SGD(0.1, weight_decay=0.5))
    core = trainer.core
    helpers.refuses(lambda: setattr(trainer, "decay_scale", 1e300), ValueError, "weight_decay")
    assert trainer.decay_scale == 1.0 and trainer.core is core


def test_what_is_no_schedule_is_refused() -> None:
    helpers.refuses(lambda: gd.DecaySchedule(0.5), TypeError, "factor.*function")  # type: ignore[arg-type]
    helpers.refuses(lambda: gd.DecaySchedule(FACTOR, every=0), ValueError, "every")


@pytest.mark.parametrize("decay", [0.0, [0.0, 0.0], {"layers.0": 0.0}])
def test_without_a_decay_it_is_refused(decay: Any) -> None:
    trainer = build(gd.Adam(0.1, weight_decay=decay))
    with pytest.raises(ValueError, match="the optimiser has no weight decay"):
        trainer.fit(X, Y, epochs=1, callbacks=[gd.DecaySchedule(FACTOR)])
    assert trainer.steps == 0
