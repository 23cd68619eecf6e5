"""Promise: each schedule equals its formula at every step, evaluated step by step or for an epoch at once, and the
trainer uses the rate of the current step."""

from __future__ import annotations

import math
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import schedules


def one_cycle(t: int, shape: Any, peak: float, low: float, final: float) -> float:
    """The rate of a cycle of 20 steps up to 0.3, reached at step `peak`; `shape` maps [0, 1] to [0, 1]."""
    if t < peak:
        return low + (0.3 - low) * shape(t / peak)
    return final + (0.3 - final) * shape(max(0.0, (20 - t) / (20 - peak)))


def half_wave(u: float) -> float:
    return math.sin(math.pi * u / 2) ** 2


def restarted(t: int, length: int, factor: int) -> float:
    while t >= length:
        t, length = t - length, length * factor
    return 0.01 + 0.29 * math.cos(math.pi * t / length / 2) ** 2


FORMULAS: dict[str, tuple[Any, Any]] = {
    "constant": (schedules.constant(0.3), lambda t: 0.3),
    "step_decay": (schedules.step_decay(0.3, every=7, factor=0.5), lambda t: 0.3 * 0.5 ** (t // 7)),
    "exponential": (schedules.exponential(0.3, 0.9), lambda t: 0.3 * 0.9**t),
    "exponential every": (schedules.exponential(0.3, 0.5, every=10), lambda t: 0.3 * 0.5 ** (t / 10)),
    "cosine": (
        schedules.cosine(0.3, 20, final=0.01),
        lambda t: 0.01 + 0.29 * 0.5 * (1 + math.cos(math.pi * min(t, 20) / 20)),
    ),
    "flat_cosine": (
        schedules.flat_cosine(0.3, 20, final=0.01),
        lambda t: 0.01 + 0.29 * math.cos(math.pi / 4 * (max(1.0, min(t, 20) / 10) - 1) * 2) ** 2,
    ),
    "flat_cosine 0.2": (
        schedules.flat_cosine(0.3, 20, flat=0.2),
        lambda t: 0.3 if t < 4 else 0.3 * half_wave(max(20 - t, 0) / 16),
    ),
    "cosine_restarts": (schedules.cosine_restarts(0.3, 6, final=0.01), lambda t: restarted(t, 6, 1)),
    "cosine_restarts 2": (schedules.cosine_restarts(0.3, 3, factor=2, final=0.01), lambda t: restarted(t, 3, 2)),
    "cosine_restarts 3": (schedules.cosine_restarts(0.3, 1, factor=3, final=0.01), lambda t: restarted(t, 1, 3)),
    "coslog4": (
        schedules.coslog4(0.3, 30),
        lambda t: 0.3 * math.sin(math.pi * math.log2(1 + 15 * t / 30)) ** 2 if t < 30 else 0.0,
    ),
    "one_cycle": (schedules.one_cycle(0.3, 20), lambda t: one_cycle(t, half_wave, 6, 0.012, 0)),
    "one_cycle linear": (
        schedules.one_cycle(0.3, 20, rise=0.33, initial=0.1, final=0.02, shape="linear"),
        lambda t: one_cycle(t, lambda u: u, 6.6, 0.1, 0.02),
    ),
    "warmup restarts": (
        schedules.warmup(schedules.cosine_restarts(0.3, 6, final=0.01), 2),
        lambda t: 0.1 * (t + 1) if t < 2 else restarted(t - 2, 6, 1),
    ),
    "power_law": (schedules.power_law(0.3), lambda t: 0.3 / math.sqrt(1 + t)),
    "power_law 1": (schedules.power_law(0.3, power=1, scale=5), lambda t: 0.3 / (1 + t / 5)),
    "warmup": (schedules.warmup(0.3, 4), lambda t: 0.3 * (t + 1) / 5 if t < 4 else 0.3),
    "warmup cosine": (
        schedules.warmup(schedules.cosine(0.3, 10), 5),
        lambda t: 0.3 * (t + 1) / 6 if t < 5 else 0.15 * (1 + math.cos(math.pi * min(t - 5, 10) / 10)),
    ),
    "warmup function": (
        schedules.warmup(lambda t: 0.3 / (1 + t), 3),
        lambda t: 0.3 * (t + 1) / 4 if t < 3 else 0.3 / (t - 2),
    ),
}
EACH = pytest.mark.parametrize("name", FORMULAS)


@EACH
def test_formula(name: str) -> None:
    schedule, formula = FORMULAS[name]
    rates = [schedule(step) for step in range(50)]
    assert all(type(rate) is float for rate in rates)
    np.testing.assert_allclose(rates, [formula(t) for t in range(50)], rtol=1e-13, atol=1e-16)


@EACH
def test_at_once_is_step_by_step_to_the_bit(name: str) -> None:
    schedule, _ = FORMULAS[name]
    for first, count in ((0, 50), (3, 1), (4, 9), (17, 30), (0, 0)):
        rates = schedule.rates(first, count)
        helpers.same_bits(rates, np.array([schedule(first + i) for i in range(count)], np.float64))


@EACH
def test_repr_equality_and_pickling(name: str) -> None:
    schedule, _ = FORMULAS[name]
    assert schedule == schedule and schedule != schedules.constant(0.123)
    if name != "warmup function":
        namespace = {n: getattr(schedules, n) for n in schedules.__all__}
        assert eval(repr(schedule), namespace) == schedule
        copy = pickle.loads(pickle.dumps(schedule))
        assert copy == schedule and hash(copy) == hash(schedule) and copy(7) == schedule(7)


@EACH
def test_the_trainer_follows(name: str, device: str) -> None:
    """A parameter under a constant gradient of 1 has moved by the sum of the rates."""
    schedule, formula = FORMULAS[name]
    model = gd.Sequential(gd.Dense(1, 1, bias=False), seed=0, dtype="float64", device=device)
    weight = model.parameters()["layers.0.weight"]
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(schedule))
    for step in range(30):
        before = weight[0, 0]
        assert abs(trainer.lr - formula(step)) < 1e-14
        model.forward(np.ones((1, 1)))
        model.backward(np.ones((1, 1)))
        trainer.optimizer_step()
        assert abs(before - weight[0, 0] - formula(step)) < 1e-14


def test_fit_step_and_optimizer_step_count_alike(device: str, rng: helpers.Generator) -> None:
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 1))
    schedule = schedules.exponential(0.1, 0.9)

    def model() -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 1), seed=0, dtype="float64", device=device)

    fitted, stepped = model(), model()
    gd.Trainer(fitted, gd.MeanSquaredError(), optimizer=gd.SGD(schedule)).fit(
        x, y, epochs=3, batch_size=5, shuffle=False
    )
    trainer = gd.Trainer(stepped, gd.MeanSquaredError(), optimizer=gd.SGD(schedule))
    for _ in range(3):
        for i in range(0, 20, 5):
            trainer.step(x[i : i + 5], y[i : i + 5])
    helpers.same_bits(np.array(fitted.flat_parameters()), np.array(stepped.flat_parameters()))


def test_the_waves_of_coslog4_double_in_length() -> None:
    rates = schedules.coslog4(2.0, 15).rates(0, 16)
    np.testing.assert_allclose(rates[[0, 1, 3, 7, 15]], 0, atol=1e-15)  # log2(1 + step) is whole
    assert schedules.coslog4(2.0, 15_000).rates(0, 15_000).max() == pytest.approx(2.0, rel=1e-6)


def test_restarts_and_cycles_begin_and_end_where_they_should() -> None:
    waves = schedules.cosine_restarts(0.3, 4, factor=2)
    assert [waves(t) for t in (0, 4, 12, 28, 60)] == [0.3] * 5 and waves(3) > waves(11) > waves(27) > 0
    cycle = schedules.one_cycle(0.5, 10, rise=0.4, final=0.125)
    assert (cycle(0), cycle(4), cycle(10), cycle(1000)) == (0.5 / 25, 0.5, 0.125, 0.125)
    assert schedules.one_cycle(0.5, 2**40, rise=1e-300)(0) == 0.5 / 25


BAD = {
    "lr negative": (lambda: schedules.constant(-1), ValueError, "lr"),
    "lr nan": (lambda: schedules.cosine(math.nan, 10), ValueError, "lr"),
    "lr infinite": (lambda: schedules.exponential(math.inf, 0.9), ValueError, "lr"),
    "lr text": (lambda: schedules.constant("fast"), TypeError, "lr"),
    "every zero": (lambda: schedules.step_decay(0.1, every=0), ValueError, "every"),
    "every fraction": (lambda: schedules.step_decay(0.1, every=1.5), TypeError, "every"),
    "factor negative": (lambda: schedules.step_decay(0.1, every=1, factor=-1), ValueError, "factor"),
    "factor zero": (lambda: schedules.exponential(0.1, 0), ValueError, "factor"),
    "exponential every": (lambda: schedules.exponential(0.1, 0.9, every=0), ValueError, "every"),
    "steps zero": (lambda: schedules.cosine(0.1, 0), ValueError, "steps"),
    "steps text": (lambda: schedules.cosine(0.1, "10"), TypeError, "steps"),
    "final negative": (lambda: schedules.cosine(0.1, 5, final=-0.1), ValueError, "final"),
    "factor of restarts": (lambda: schedules.cosine_restarts(0.1, 5, factor=0), ValueError, "factor"),
    "factor fraction": (lambda: schedules.cosine_restarts(0.1, 5, factor=1.5), TypeError, "factor"),
    "steps of coslog4": (lambda: schedules.coslog4(0.1, 0), ValueError, "steps"),
    "flat negative": (lambda: schedules.flat_cosine(0.1, 5, flat=-0.1), ValueError, "flat"),
    "flat one": (lambda: schedules.flat_cosine(0.1, 5, flat=1), ValueError, "flat"),
    "rise zero": (lambda: schedules.one_cycle(0.1, 5, rise=0), ValueError, "rise"),
    "rise one": (lambda: schedules.one_cycle(0.1, 5, rise=1), ValueError, "rise"),
    "initial negative": (lambda: schedules.one_cycle(0.1, 5, initial=-1), ValueError, "initial"),
    "shape": (lambda: schedules.one_cycle(0.1, 5, shape="square"), ValueError, "shape"),
    "power negative": (lambda: schedules.power_law(0.1, power=-1), ValueError, "power"),
    "scale zero": (lambda: schedules.power_law(0.1, scale=0), ValueError, "scale"),
    "warmup schedule": (lambda: schedules.warmup("x", 3), TypeError, "schedule"),
    "warmup steps": (lambda: schedules.warmup(0.1, -1), ValueError, "steps"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name: str) -> None:
    call, kind, word = BAD[name]
    with pytest.raises(kind, match=word) as info:
        call()
    assert type(info.value) is kind


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, "fast", None, True, np.True_, np.ma.masked])
def test_a_bad_rate_stops_before_anything_moves(bad: Any, device: str) -> None:
    model = gd.Sequential(gd.Dense(2, 1), seed=0, device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(lambda step: bad))
    before = helpers.snapshot(model)
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    for call in (lambda: trainer.step(x, y), lambda: trainer.fit(x, y, epochs=1)):
        with pytest.raises((ValueError, TypeError), match="lr"):
            call()
        helpers.same_bits(helpers.snapshot(model), before)
