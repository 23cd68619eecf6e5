"""Promise: each optimiser is exactly the chapter's rule, over 100 steps to 1e-12 of a float64 oracle, with weight
decay (one number or per layer), rate factors, clipping by norm and by value, frozen layers and schedules, at every
size."""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

ops = gd._core.ops
RULES: dict[str, Any] = {
    "SGD": lambda lr, **k: gd.SGD(lr, **k),
    "Momentum": lambda lr, **k: gd.Momentum(lr, **k),
    "Momentum 0.5": lambda lr, **k: gd.Momentum(lr, 0.5, **k),
    "Nesterov": lambda lr, **k: gd.Momentum(lr, 0.9, nesterov=True, **k),
    "AdaGrad": lambda lr, **k: gd.AdaGrad(lr, **k),
    "AdaGrad eps": lambda lr, **k: gd.AdaGrad(lr, 1e-3, **k),
    "RMSProp": lambda lr, **k: gd.RMSProp(lr, **k),
    "RMSProp 0.99": lambda lr, **k: gd.RMSProp(lr, 0.99, eps=1e-3, **k),
    "Adam": lambda lr, **k: gd.Adam(lr, **k),
    "Adam betas": lambda lr, **k: gd.Adam(lr, (0.5, 0.999), eps=1e-4, **k),
    "AdamW": lambda lr, **k: gd.AdamW(lr, **({"weight_decay": 0.0} | k)),
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES)


def close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Demand equality to `tolerance` times the largest element."""
    expected = np.asarray(expected, np.float64)
    error, scale = float(np.abs(np.asarray(actual, np.float64) - expected).max()), float(np.abs(expected).max())
    assert error <= tolerance * max(1e-3, scale)


def test_close_rejects() -> None:
    with pytest.raises(AssertionError):
        close([1.0, 1.0 + 3e-12], [1.0, 1.0])
    with pytest.raises(AssertionError):
        close([np.nan], [1.0])


@helpers.ALIGNED
@helpers.DTYPES
@EVERY_RULE
@pytest.mark.parametrize("n", [*helpers.WIDTHS, 1600, 40_003])
def test_sizes(n: int, rule: str, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    """Three steps at every length; in float32 within 1e-6 of the summed terms."""
    spec = RULES[rule](0.01)
    states = [np.zeros(n) for _ in range(oracle.STATES[oracle.kind(spec)])]
    w = rng.standard_normal(n).astype(dtype)
    exact_w, exact_states = w.astype(np.float64), [s.copy() for s in states]
    core_w, core_states = pool.mutable(w, aligned=aligned), [pool.mutable(s, dtype, aligned) for s in states]
    moved = np.zeros(n)
    for step in (1, 2, 3):
        g = rng.standard_normal(n).astype(dtype)
        guarded = pool.copy(g, aligned=aligned)
        ops.optimizer_step(spec, core_w, guarded, core_states, lr=0.01, step=step, weight_decay=0.1, device=device)
        before = exact_w.copy()
        oracle.update(spec, exact_w, g.astype(np.float64), exact_states, 0.01, step, 0.1)
        moved += np.abs(before) + 4 * np.abs(exact_w - before)
    pool.check()
    rounding = 1e-15 if helpers.on_a_gpu(device) else 4e-16  # CUDA's own power function
    helpers.within(core_w, oracle.Sized(exact_w, moved), 3e-7 if dtype == np.float32 else rounding)
    for actual, expected in zip(core_states, exact_states, strict=True):
        close(actual, expected, 1e-6 if dtype == np.float32 else 1e-15)


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("decay", [0.0, 0.05])
@EVERY_RULE
def test_a_hundred_steps(rule: str, decay: float, clip: float | None, device: str, rng: Any) -> None:
    """The kernel alone, with noisy gradients of a curved function, so that errors would accumulate."""
    spec = RULES[rule](0.02, clip_value=clip)
    count = oracle.STATES[oracle.kind(spec)]
    w, states = rng.standard_normal(97), [np.zeros(97) for _ in range(count)]
    mine, my_states = w.copy(), [s.copy() for s in states]
    target = rng.standard_normal(97)
    for step in range(1, 101):
        scale = 1.0 if step % 3 else 0.25
        noise = rng.standard_normal(97)  # keeps the adaptive rules away from 0/0, where rounding decides the sign
        keywords = {"lr": 0.02, "step": step, "weight_decay": decay, "grad_scale": scale, "device": device}
        ops.optimizer_step(spec, w, np.sin(w) + w - target + noise, states, **keywords)
        oracle.update(spec, mine, (np.sin(mine) + mine - target + noise) * scale, my_states, 0.02, step, decay)
    close(w, mine)
    for actual, expected in zip(states, my_states, strict=True):
        close(actual, expected)


SETTINGS: dict[str, dict] = {
    "plain": {},
    "decay": {"weight_decay": 0.03},
    "decay biases": {"weight_decay": 0.03, "decay_biases": True},
    "decay per layer": {"weight_decay": {"layers.0": 0.1, "layers.4": 0.01}},
    "factors": {"lr_factors": {"layers.0": 0.1, "layers.4": 3.0}, "weight_decay": 0.01},
    "clip norm": {"clip_norm": 0.5},
    "clip value": {"clip_value": 0.1},
    "both clips and decay": {"clip_norm": 1.0, "clip_value": 0.05, "weight_decay": 0.02},
}
FROZEN = {
    "none": (),
    "first": ("layers.0",),
    "middle": ("layers.1", "layers.2"),
    "bias": ("layers.0.bias",),
    "gamma": ("layers.1.gamma",),
}


def network(device: str, dtype: str = "float64") -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(4, 9), gd.BatchNorm(9), gd.Dense(9, 5), gd.Tanh(), gd.Dense(5, 3), seed=1, dtype=dtype, device=device
    )


def hand_in_gradients(model: Any, gradients: dict[str, np.ndarray]) -> None:
    """Write given gradients into the buffers that backward fills."""
    model.forward(np.ones((2, 4)))
    model.backward(np.ones((2, 3)))
    for name in set(model.gradients()) - set(model.frozen()):
        model.gradients()[name][...] = gradients[name]


def trajectory(spec: Any, frozen: tuple, device: str, rng: Any, rates: Any, **groups: Any) -> None:
    """100 optimiser steps with random gradients through the trainer and through the oracle."""
    model = network(device)
    helpers.randomize(model, rng)
    if frozen:
        model.freeze(*frozen)
    reference = helpers.reference_of(model)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=spec)
    for step in range(100):
        gradients = {n: rng.standard_normal(p.shape) * 0.3 for n, p in model.parameters().items()}
        hand_in_gradients(model, gradients)
        reference.gradients = gradients
        trainer.optimizer_step()
        reference.optimizer_step(spec, rates(step), frozen=frozen, **groups)
    for name, expected in reference.parameters.items():
        close(model.parameters()[name], expected)


@pytest.mark.parametrize("setting", SETTINGS)
@EVERY_RULE
def test_trajectories_with_settings(rule: str, setting: str, device: str, rng: Any) -> None:
    spec = RULES[rule](0.01, **SETTINGS[setting])
    groups = {"decay": SETTINGS[setting].get("weight_decay", 0.0), "factors": SETTINGS[setting].get("lr_factors")}
    trajectory(spec, (), device, rng, lambda step: 0.01, **groups)


@pytest.mark.parametrize("frozen", FROZEN)
@EVERY_RULE
def test_trajectories_with_frozen_layers(rule: str, frozen: str, device: str, rng: Any) -> None:
    """Frozen parameters keep their bits, are not decayed and do not count in the global norm."""
    spec = RULES[rule](0.01, weight_decay=0.02, clip_norm=0.8)
    trajectory(spec, FROZEN[frozen], device, rng, lambda step: 0.01, decay=0.02)


@EVERY_RULE
def test_trajectories_with_a_schedule(rule: str, device: str, rng: Any) -> None:
    spec = RULES[rule](lambda step: 0.02 / (1 + 0.1 * step), weight_decay=0.01)
    trajectory(spec, (), device, rng, lambda step: 0.02 / (1 + 0.1 * step), decay=0.01)


@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Nesterov", "AdaGrad eps", "RMSProp 0.99", "Adam betas"])
def test_training_a_whole_network(rule: str, device: str, rng: Any) -> None:
    """100 real steps (forward, loss, backward, rule) where nothing amplifies rounding, so that 1e-9 remains."""
    spec = RULES[rule](0.005, weight_decay=1e-3)
    model = gd.Sequential(
        gd.Dense(4, 9, bias=False), gd.BatchNorm(9), gd.Dense(9, 5), gd.Tanh(), gd.Dense(5, 3), seed=1, dtype="float64",
        device=device,
    )  # fmt: skip
    reference = helpers.reference_of(model)
    trainer = gd.Trainer(model, gd.CrossEntropy(label_smoothing=0.1), optimizer=spec)
    x, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    for _ in range(100):
        mine = reference.step(trainer.loss, x, y, None, spec, 0.005, decay=1e-3)
        assert abs(trainer.step(x, y) - mine) <= 1e-9
    for name, expected in reference.parameters.items():
        close(model.parameters()[name], expected, 1e-9)


def test_sequences_count_the_layers_with_weights(device: str, rng: Any) -> None:
    gradients = {n: rng.standard_normal(p.shape) for n, p in network(device).parameters().items()}

    def run(**settings: Any) -> np.ndarray:
        model = network(device)
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1, **settings))
        hand_in_gradients(model, gradients)
        trainer.optimizer_step()
        return np.array(model.flat_parameters())

    prefixes = ["layers.0", "layers.2", "layers.4"]
    for key in ("weight_decay", "lr_factors"):
        values = [0.5, 0.0, 2.0]
        helpers.same_bits(run(**{key: values}), run(**{key: dict(zip(prefixes, values, strict=True))}))


def test_the_first_adam_step_has_length_lr(device: str) -> None:
    for g in (1e-3, 1.0, -50.0):
        w, states = np.zeros(1), [np.zeros(1), np.zeros(1)]
        ops.optimizer_step(gd.Adam(0.1), w, np.array([g]), states, lr=0.1, step=1, weight_decay=0.0, device=device)
        assert abs(w[0] + 0.1 * np.sign(g)) < 2e-6


def test_momentum_under_a_constant_gradient_reaches_the_rate_over_one_minus_mu(device: str) -> None:
    w, states = np.zeros(1), [np.zeros(1)]
    for step in range(1, 301):
        before = w[0]
        ops.optimizer_step(
            gd.Momentum(0.1, 0.9), w, np.ones(1), states, lr=0.1, step=step, weight_decay=0.0, device=device
        )
    assert abs((before - w[0]) - 0.1 / (1 - 0.9)) < 1e-9


def test_a_change_of_rate_does_not_rescale_past_steps(device: str) -> None:
    """The velocity holds the rate: at rate 0 the old velocity still moves the weights."""
    w, states = np.zeros(1), [np.zeros(1)]
    spec = gd.Momentum(0.1, 0.5)
    for step, rate in ((1, 0.1), (2, 0.0)):
        ops.optimizer_step(spec, w, np.ones(1), states, lr=rate, step=step, weight_decay=0.0, device=device)
    np.testing.assert_allclose(w, [-0.15], rtol=1e-15)


@helpers.DTYPES
@pytest.mark.parametrize("limit", [0.1, 1.0, 1e6])
def test_clipping_by_norm_bounds_the_step(limit: float, dtype: Any, device: str, rng: Any) -> None:
    model = network(device, np.dtype(dtype).name)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(1.0, clip_norm=limit))
    gradients = {n: rng.standard_normal(p.shape) for n, p in model.parameters().items()}
    hand_in_gradients(model, gradients)
    before = np.array(model.flat_parameters(), np.float64)
    trainer.optimizer_step()
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert abs(np.linalg.norm(model.flat_parameters() - before) / min(limit, norm) - 1) < 1e-5


def test_zero_gradients_move_nothing(device: str) -> None:
    for make in RULES.values():
        w, n = np.float32([1.5, -2.0, 0.0]), oracle.STATES[oracle.kind(make(0.1))]
        states = [np.zeros(3, np.float32) for _ in range(n)]
        for step in (1, 2):
            zero = np.zeros(3, np.float32)
            ops.optimizer_step(make(0.1), w, zero, states, lr=0.1, step=step, weight_decay=0.0, device=device)
        helpers.same_bits(w, np.float32([1.5, -2.0, 0.0]))


@helpers.DTYPES
@EVERY_RULE
def test_subnormal_states_are_zero_and_nothing_else_is_flushed(rule: str, dtype: Any, device: str) -> None:
    """States below the smallest normal number become exactly 0; the others follow their formula."""
    spec, tiny, least = RULES[rule](0.01), np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal
    signs = [1] if rule.startswith(("Ada", "RMS")) else [1, -1]  # squares have no sign
    values = [s * v for s in signs for v in (0, least, tiny / 2, tiny - least, tiny, 1.5 * tiny, 8 * tiny, 1e-9, 1.0)]
    states = [np.array(values, dtype) for _ in range(oracle.STATES[oracle.kind(spec)])]
    w, g = np.ones(len(values), dtype), np.zeros(len(values), dtype)
    exact_w, exact_states = w.astype(np.float64), [s.astype(np.float64) for s in states]
    for step in (1, 2, 3):
        ops.optimizer_step(spec, w, g, states, lr=0.01, step=step, weight_decay=0.0, device=device)
        oracle.update(spec, exact_w, g.astype(np.float64), exact_states, 0.01, step, 0.0, dtype)
        for actual, expected in zip(states, exact_states, strict=True):
            assert not ((actual != 0) & (np.abs(actual) < tiny)).any()
            assert ((actual == 0) == (expected == 0)).all()
            np.testing.assert_allclose(actual, expected.astype(dtype), rtol=4 * np.finfo(dtype).eps, atol=0)


@helpers.DTYPES
@pytest.mark.parametrize("spec", [gd.Momentum(0.1, 0.5), gd.RMSProp(0.1, 0.5), gd.Adam(0.1, (0.5, 0.5))], ids=repr)
def test_states_without_gradients_reach_zero(spec: Any, dtype: Any, device: str) -> None:
    """Rounding to nearest could keep a subnormal state from decaying to 0, so it is flushed."""
    states = [np.ones(3, dtype) for _ in range(oracle.STATES[oracle.kind(spec)])]
    w, g, steps = np.ones(3, dtype), np.zeros(3, dtype), -np.log2(np.finfo(dtype).tiny)
    for step in range(1, int(steps) + 2):
        ops.optimizer_step(spec, w, g, states, lr=0.1, step=step, weight_decay=0.0, device=device)
    assert all((state == 0).all() for state in states)


def test_a_parameter_named_alone_overrules_its_layer() -> None:
    """The order of the mapping does not matter."""
    x, y = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
    after = []
    for factors in ({"layers.0": 0.5, "layers.0.bias": 0.0}, {"layers.0.bias": 0.0, "layers.0": 0.5}):
        model = gd.Sequential(gd.Dense(3, 2), seed=0)
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1, lr_factors=factors))
        bias = model.parameters()["layers.0.bias"].copy()
        trainer.step(x, y)
        helpers.same_bits(model.parameters()["layers.0.bias"], bias)
        after.append(model.flat_parameters())
    helpers.same_bits(*after)


NUMBERS: dict[str, Callable[[float], Any]] = {
    "0-d array": np.array,
    "Decimal": lambda value: decimal.Decimal(str(value)),
    "NumPy": np.float64,
    "Fraction": fractions.Fraction,
}


@pytest.mark.parametrize("number", NUMBERS)
def test_specs_keep_numbers_of_their_own(number: str) -> None:
    """The caller's own array may change, and other kinds cannot be multiplied by a float."""
    rate, decay = NUMBERS[number](0.25), NUMBERS[number](0.5)
    optimizer = gd.Momentum(rate, weight_decay=[decay, decay], lr_factors={"layers.0": decay})
    loss = gd.CrossEntropy(class_weights={0: decay})
    for each in (rate, decay):
        if isinstance(each, np.ndarray):
            each[...] = 5
    assert repr(optimizer) == repr(gd.Momentum(0.25, weight_decay=[0.5, 0.5], lr_factors={"layers.0": 0.5}))
    assert optimizer == gd.Momentum(0.25, weight_decay=(0.5, 0.5), lr_factors={"layers.0": 0.5})
    assert loss == gd.CrossEntropy(class_weights={0: 0.5}) and repr(loss.class_weights) == "{0: 0.5}"
    trainer = gd.Trainer(gd.Sequential(gd.Dense(4, 3), gd.Dense(3, 3)), loss, optimizer=optimizer)
    trainer.lr_scale = 0.5
    assert trainer.lr == 0.125
    trainer.step(np.ones((6, 4)), np.zeros(6, int))


@helpers.DTYPES
def test_the_decay_of_adamw_shrinks_weights_and_nothing_else(dtype: Any, device: str) -> None:
    """Without a gradient only the decay moves a weight: by ηλw, with the rate of the step; states stay zero."""
    model = gd.Sequential(gd.Dense(2, 3), gd.Dense(3, 1), seed=0, dtype=dtype, device=device)
    schedule = gd.schedules.exponential(0.25, 0.5)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.AdamW(schedule, weight_decay={"layers.0": 0.5}))
    start = {name: np.array(array, np.float64) for name, array in model.parameters().items()}
    for _ in range(3):
        model.forward(np.ones((1, 2), dtype))
        model.backward(np.zeros((1, 1), dtype))
        trainer.optimizer_step()
    shrunk = (1 - 0.125) * (1 - 0.0625) * (1 - 0.03125)
    for name, array in model.parameters().items():
        factor = shrunk if name == "layers.0.weight" else 1.0
        close(array, factor * start[name], 1e-15 if dtype == np.float64 else 3e-7)
    assert all(not np.asarray(state).any() for state in trainer.core.state().values())


def test_adamw_is_a_name_for_adam_with_decoupled_decay() -> None:
    assert gd.AdamW(0.1) == gd.Adam(0.1, decoupled=True, weight_decay=0.01)
    settings = {"decay_biases": True, "lr_factors": {"layers.0": 0.5}, "clip_norm": 1.0, "clip_value": 2.0}
    named = gd.AdamW(0.1, (0.8, 0.9), eps=1e-6, weight_decay=[1.0, 2.0], **settings)
    assert named == gd.Adam(0.1, (0.8, 0.9), eps=1e-6, decoupled=True, weight_decay=[1.0, 2.0], **settings)
    with pytest.raises(TypeError, match="decoupled is not among its arguments"):
        gd.AdamW(0.1, decoupled=False)
