"""Promise: weight decay, momentum and dropout that are functions of the step have the function's values in every step,
over 100 steps as in NumPy, alike in `fit`, `step`, resumed runs and copies; a constant function changes no bit."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest
from gdcore import schedules
from gdcore.training.stack import fit_stack

RNG = np.random.default_rng(3)
X = RNG.standard_normal((60, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True) + RNG.standard_normal((60, 1)).astype(np.float32)
COSINE = schedules.cosine(1.0, 20)
CYCLE = schedules.one_cycle(0.85, 60, initial=0.95, final=0.95)


def own(step: int) -> float:
    """A user's function."""
    return 0.5 + 0.4 * math.sin(step)


def build(
    optimizer: gd.Optimizer, device: str = "cpu", p: float | None = None, dtype: Any = np.float32, **options: Any
) -> gd.Trainer:
    dropout = () if p is None else (gd.Dropout(p),)
    layers = (gd.Dense(3, 5), gd.Tanh(), *dropout, gd.Dense(5, 1))
    model = gd.Sequential(*layers, seed=0, device=device, dtype=dtype)
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=optimizer, **options)


def state(trainer: gd.Trainer) -> np.ndarray:
    """Weights and the optimiser's states in one vector."""
    states = [np.array(array).reshape(-1) for array in trainer.core.state().values()]
    return np.concatenate([trainer.model.copy_state()["parameters"], *states])


# ---------------------------------------------------------------------------------------------------------- formulas
RULES: dict[str, Callable[..., gd.Optimizer]] = {
    "SGD": lambda lr, **k: gd.SGD(lr, **k),
    "Momentum": lambda lr, **k: gd.Momentum(lr, **k),
    "AdaGrad": lambda lr, **k: gd.AdaGrad(lr, 1e-3, **k),
    "RMSProp": lambda lr, **k: gd.RMSProp(lr, 0.99, eps=1e-3, **k),
    "Adam": lambda lr, **k: gd.Adam(lr, (0.5, 0.999), eps=1e-4, **k),
    "AdamW": lambda lr, **k: gd.AdamW(lr, (0.5, 0.999), eps=1e-4, **k),
}


@pytest.mark.parametrize("decay", [schedules.cosine(0.3, 60, final=0.01), own], ids=["cosine", "function"])
@pytest.mark.parametrize("rule", RULES)
def test_weight_decay_is_the_functions_over_a_hundred_steps(rule: str, decay: Any, device: str) -> None:
    spec = RULES[rule](schedules.exponential(0.02, 0.99), weight_decay=decay)
    assert spec.weight_decay is decay and "weight_decay=" in repr(spec)
    trainer = build(spec, device, dtype=np.float64)
    reference = helpers.reference_of(trainer.model)
    trainer.fit(X, Y, epochs=100, batch_size=None, shuffle=False)
    for step in range(100):
        reference.step(trainer.loss, X, Y, None, spec, 0.02 * 0.99**step, decay=decay(step))
    for name, expected in reference.parameters.items():
        np.testing.assert_allclose(np.asarray(trainer.model.parameters()[name]), expected, rtol=0, atol=1e-9)


def adam(w: Any, g: Any, states: Any, lr: float, beta1: Any, step: int) -> None:
    """Adam with β₁ of each step: s / (1 - Π β₁) is then an average of the gradients with weights that add up to 1."""
    s, r = states
    s[...] = beta1(step) * s + (1 - beta1(step)) * g
    r[...] = 0.99 * r + 0.01 * g * g
    given = 1 - math.prod(beta1(i) for i in range(step + 1))
    w -= lr * (s / given) / (np.sqrt(r / (1 - 0.99 ** (step + 1))) + 1e-8)


@pytest.mark.parametrize("first", [0, 30])
@pytest.mark.parametrize("momentum", [CYCLE, own], ids=["cycle", "function"])
@pytest.mark.parametrize("rule", ["Momentum", "Nesterov", "Adam"])
def test_momentum_is_the_functions_over_a_hundred_steps(rule: str, momentum: Any, first: int, device: str) -> None:
    """Also from a later step on, where Adam's product starts before the first."""
    model = gd.Sequential(gd.Dense(6, 4), seed=0, dtype="float64", device=device)
    nesterov = rule == "Nesterov"
    spec = gd.Adam(0.05, (momentum, 0.99)) if rule == "Adam" else gd.Momentum(0.05, momentum, nesterov=nesterov)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=spec)
    trainer.steps = first
    weight = np.array(model.parameters()["layers.0.weight"])
    states = [np.zeros_like(weight) for _ in range(2)]
    rng = np.random.default_rng(1)
    for step in range(first, first + 100):
        gradient = rng.standard_normal(weight.shape)
        model.forward(np.ones((2, 6)))
        model.backward(np.ones((2, 4)))
        model.gradients()["layers.0.weight"][...] = gradient
        trainer.optimizer_step()
        if rule == "Adam":
            adam(weight, gradient, states, 0.05, momentum, step)
        else:
            now = gd.Momentum(0.05, momentum(step), nesterov=nesterov)
            oracle.update(now, weight, gradient, states, 0.05, step + 1, 0.0)
    np.testing.assert_allclose(np.asarray(model.parameters()["layers.0.weight"]), weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [16, 60])
def test_dropout_has_the_functions_rate_in_every_step(size: int, device: str) -> None:
    """A step with the factor f is one of a model whose layer has p · f, bit for bit."""
    factors = [1.0, 0.5, 0.0, 1.5, 0.25]
    trainer = build(gd.Adam(0.05), device, 0.4, dropout_schedule=lambda step: factors[step])
    for step, factor in enumerate(factors):
        other = build(gd.Adam(0.05), device, 0.4 * factor)
        other.model.restore_state(trainer.model.copy_state())
        for name, array in other.core.state().items():
            array[...] = np.asarray(trainer.core.state()[name])
        other.steps = step
        rows = slice(size * step % 44, None) if size < 60 else slice(None)
        loss = trainer.step(X[rows][:size], Y[rows][:size])
        if 0.4 * factor > 0:
            assert loss == other.step(X[rows][:size], Y[rows][:size])
            helpers.same_bits(state(trainer), state(other))
        else:
            other.step(X[rows][:size], Y[rows][:size])
            np.testing.assert_allclose(state(trainer), state(other), rtol=0, atol=1e-6)


# -------------------------------------------------------------------------------------------------- the same everywhere
ALL: dict[str, Callable[[], dict[str, Any]]] = {
    "adam": lambda: {"optimizer": gd.AdamW(0.05, (CYCLE, 0.99), weight_decay=COSINE), "dropout_schedule": COSINE},
    "momentum": lambda: {"optimizer": gd.Momentum(CYCLE, own, weight_decay=own), "dropout_schedule": own},
    "decay": lambda: {"optimizer": gd.SGD(0.05, weight_decay=COSINE)},
    "dropout": lambda: {"optimizer": gd.Adam(0.05, weight_decay=0.01), "dropout_schedule": COSINE},
}
EVERY = pytest.mark.parametrize("kind", ALL)


def make(kind: str, device: str = "cpu") -> gd.Trainer:
    return build(device=device, p=0.3, **ALL[kind]())


@EVERY
def test_fit_steps_and_batches_are_alike(kind: str, device: str) -> None:
    fitted, stepped, iterated = (make(kind, device) for _ in range(3))
    for trainer in (fitted, stepped, iterated):
        trainer.lr_scale, trainer.decay_scale = 0.5, 2.0
    fitted.fit(X, Y, epochs=3, batch_size=16)
    batches = gd.MiniBatches(X, Y, batch_size=16, seed=0)
    iterated.fit(batches, epochs=3)
    batches = gd.MiniBatches(X, Y, batch_size=16, seed=0)
    for _ in range(3):
        for x, y in batches:
            stepped.step(x, y)
    helpers.same_bits(state(fitted), state(stepped))
    helpers.same_bits(state(fitted), state(iterated))


@EVERY
def test_a_resumed_run_and_copies_have_the_same_bits(kind: str, tmp_path: Path, device: str) -> None:
    path = tmp_path / "c.safetensors"
    unbroken, broken, resumed = (make(kind, device) for _ in range(3))
    unbroken.fit(X, Y, epochs=4, batch_size=16)
    broken.fit(X, Y, epochs=2, batch_size=16, callbacks=gd.Checkpoint(path))
    resumed.fit(X, Y, until_epoch=4, batch_size=16, resume=path)
    copies = [copy.deepcopy(broken), pickle.loads(pickle.dumps(broken))]
    for trainer in (resumed, broken, *copies):
        trainer.fit(X, Y, until_epoch=4, batch_size=16)
        helpers.same_bits(state(trainer), state(unbroken))


@EVERY
def test_a_step_at_a_time_has_the_same_bits(kind: str, device: str) -> None:
    class Often:
        def on_step(self, trainer: gd.Trainer) -> None:
            pass

    whole, cut = make(kind, device), make(kind, device)
    whole.fit(X, Y, epochs=3, batch_size=16)
    cut.fit(X, Y, epochs=3, batch_size=16, callbacks=[Often()])
    helpers.same_bits(state(whole), state(cut))


def test_constant_functions_change_no_bit(device: str) -> None:
    def train(**options: Any) -> np.ndarray:
        trainer = build(device=device, p=0.3, **options)
        trainer.fit(X, Y, epochs=3, batch_size=16)
        return state(trainer)

    one = schedules.constant(1.0)
    plain = train(optimizer=gd.Momentum(0.05, 0.8, weight_decay=0.1))
    momentum = gd.Momentum(0.05, lambda step: 0.8, weight_decay=schedules.constant(0.1))
    helpers.same_bits(plain, train(optimizer=momentum, dropout_schedule=one))
    helpers.same_bits(train(optimizer=gd.AdamW(0.05)), train(optimizer=gd.AdamW(0.05, weight_decay=lambda step: 0.01)))


@pytest.mark.parametrize("call", ["restarts", "sweep", "sweep settings", "Ensemble.train"])
def test_many_trainings_follow_the_schedule_of_dropout(call: str, device: str) -> None:
    """They take what `Trainer` takes, but for the seed and the check of values: data is checked once for all."""

    def make(seed: int = 0) -> gd.Sequential:
        return build(gd.SGD(0.1), device, 0.4, seed=seed).model

    given = {"loss": gd.MeanSquaredError(), "optimizer": gd.Adam(0.05), "dropout_schedule": COSINE}
    fit: dict[str, Any] = {"validation": (X, Y), "epochs": 3, "batch_size": 16, "progress": False}
    if call == "restarts":
        (start,) = gd.restarts(make, 1, X, Y, keep_models=True, **given, **fit).starts
        made = start.model
    elif call == "Ensemble.train":
        made = gd.Ensemble.train(make, 1, X, Y, **given, **fit).models[0]
    elif call == "sweep":
        made = gd.sweep(make, {"epochs": [3]}, X, Y, **given, **{**fit, "epochs": 1}).best
    else:
        del given["dropout_schedule"]
        found = gd.sweep(make, {"dropout_schedule": [None, COSINE]}, X, Y, keep_models=True, **given, **fit)
        made = found.starts[1].model
    alone = build(gd.Adam(0.05), device, 0.4, dropout_schedule=COSINE)
    alone.fit(X, Y, epochs=3, batch_size=16)
    assert made is not None
    helpers.same_bits(made.flat_parameters(), alone.model.flat_parameters())
    face = {"restarts": gd.restarts, "Ensemble.train": gd.Ensemble.train}.get(call, gd.sweep)
    wanted = set(inspect.signature(gd.Trainer).parameters) - {"model", "seed", "check_finite"}
    assert wanted <= set(inspect.signature(face).parameters)


@pytest.mark.cuda
def test_a_stack_has_the_bits_of_each_alone(device: str) -> None:
    if device == "cpu":
        pytest.skip("stacks are trained on GPUs")

    def trainers() -> list[gd.Trainer]:
        made = []
        for seed, decay in enumerate((0.3, 0.1, 0.2)):
            layers = (gd.Dense(3, 5), gd.Tanh(), gd.Dropout(0.3), gd.Dense(5, 1))
            model = gd.Sequential(*layers, seed=seed, device=device)
            optimizer = gd.Adam(0.05, (CYCLE if seed else 0.9, 0.99), weight_decay=schedules.cosine(decay, 20))
            factor = COSINE if seed < 2 else None
            made.append(gd.Trainer(model, gd.MeanSquaredError(), optimizer=optimizer, dropout_schedule=factor))
        made[1].decay_scale = 0.5
        return made

    alone, together = trainers(), trainers()
    for trainer in alone:
        trainer.fit(X, Y, epochs=3, batch_size=16)
    assert fit_stack(together, X, Y, epochs=3, batch_size=16).left == []
    for one, other in zip(alone, together, strict=True):
        helpers.same_bits(state(one), state(other))


def test_the_example_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs/training-tools.md").read_text(encoding="utf-8")
    code = text.split("## Schedules and averages")[1].split("```python\n")[1].split("```")[0]
    x = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float32)
    y = np.sin(x[:, :3].sum(1, keepdims=True))
    names: dict[str, Any] = {"gd": gd, "x": x[:200], "y": y[:200], "xv": x[200:], "yv": y[200:]}
    exec(code, names)
    trainer, stopping = names["trainer"], names["stopping"]
    assert trainer.steps == 7 * trainer.epoch and stopping.best == min(trainer.history["val_loss"])
    assert trainer.evaluate(names["xv"], names["yv"])["loss"] == stopping.best < trainer.history["val_loss"][0]


# ------------------------------------------------------------------------------------------------------- decay_scale
DECAYS: dict[str, Any] = {"one": 0.5, "each": [0.5, 0.25], "named": {"layers.0": 0.5, "layers.2.bias": 0.25}}


def scaled(decay: Any, scale: float) -> Any:
    if isinstance(decay, dict):
        return {name: value * scale for name, value in decay.items()}
    return [value * scale for value in decay] if isinstance(decay, list) else decay * scale


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("rule", ["SGD", "Momentum", "AdamW"])
def test_a_scale_is_another_decay(rule: str, decay: str, device: str) -> None:
    """After some steps, too: the optimiser's state stays."""
    given = DECAYS[decay]
    trainer = build(RULES[rule](0.05, weight_decay=given), device)
    for step, scale in enumerate((1.0, 0.5, 0.0, 2.0, 1.0)):
        trainer.decay_scale = scale
        other = build(RULES[rule](0.05, weight_decay=scaled(given, scale)), device)
        other.model.restore_state(trainer.model.copy_state())
        for name, array in other.core.state().items():
            array[...] = np.asarray(trainer.core.state()[name])
        other.steps = trainer.steps
        assert trainer.step(X, Y) == other.step(X, Y) and trainer.steps == step + 1
        helpers.same_bits(state(trainer), state(other))


def test_a_scale_set_inside_an_epoch_takes_effect_from_the_next_step_on(device: str) -> None:
    """Without gradients a weight shrinks by the product of 1 - ηλ scale."""

    class Scale:
        every = 2

        def on_step(self, trainer: gd.Trainer) -> None:
            trainer.decay_scale = 1.0 / trainer.steps

    model = gd.Sequential(gd.Dense(3, 1, bias=False), seed=0, dtype="float64", device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.AdamW(0.1, weight_decay=0.5))
    start = np.array(model.flat_parameters())
    trainer.fit(np.zeros((20, 3)), np.zeros(20), epochs=1, batch_size=2, callbacks=[Scale()])
    scales = [1.0, 1.0, *(1 / (step - step % 2) for step in range(2, 10))]
    expected = start * np.prod([1 - 0.05 * scale for scale in scales])
    np.testing.assert_allclose(np.asarray(model.flat_parameters()), expected, rtol=1e-13)


# ------------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize("bad", [-0.5, math.nan, math.inf, "half", True])
def test_bad_values_are_refused_and_change_nothing(bad: Any) -> None:
    trainer = build(gd.Adam(0.01, weight_decay=0.1))
    with pytest.raises((ValueError, TypeError), match="decay_scale"):
        trainer.decay_scale = bad
    assert trainer.decay_scale == 1.0
    cases: dict[str, dict[str, Any]] = {
        "weight_decay": {"optimizer": gd.SGD(0.1, weight_decay=lambda step: bad)},
        "momentum": {"optimizer": gd.Adam(0.1, (lambda step: bad, 0.99))},
        "dropout_schedule": {"optimizer": gd.SGD(0.1), "dropout_schedule": lambda step: bad},
    }
    for name, options in cases.items():
        trainer = build(p=0.5, **options)
        before = helpers.snapshot(trainer.model)
        for call in (lambda t=trainer: t.fit(X, Y, epochs=1), lambda t=trainer: t.step(X, Y)):
            with pytest.raises((ValueError, TypeError), match=name):
                call()
            helpers.same_bits(helpers.snapshot(trainer.model), before)
            assert trainer.steps == 0


def test_values_that_are_too_large_are_refused_and_change_nothing() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"optimizer": gd.Momentum(0.1, lambda step: 1.0)}, "momentum: the schedule gave 1.0 at step 0"),
        ({"optimizer": gd.Adam(0.1, (lambda step: 1.0, 0.9))}, "momentum"),
        ({"optimizer": gd.Momentum(0.1, lambda step: 1 - 1e-12)}, "momentum.*float32"),
        ({"optimizer": gd.SGD(0.1), "dropout_schedule": lambda step: 2.0}, "dropout_schedule.*gave 2.0.*up to 0.5"),
        ({"optimizer": gd.SGD(0.1, weight_decay=lambda step: 1e300)}, "weight_decay.*float32"),
    )
    for options, word in cases:
        trainer = build(p=0.5, **options)
        before = helpers.snapshot(trainer.model)
        helpers.refuses(lambda t=trainer: t.fit(X, Y, epochs=1), ValueError, word)
        helpers.refuses(lambda t=trainer: t.step(X, Y), ValueError, word)
        helpers.same_bits(helpers.snapshot(trainer.model), before)
    trainer = build(gd.SGD(0.1, weight_decay=0.5))
    trainer.decay_scale = 1e300
    helpers.refuses(lambda: trainer.step(X, Y), ValueError, "weight_decay")
    for decay in (0.5, None):
        trainer = build(gd.SGD(0.1, weight_decay=decay))
        trainer.decay_scale = 1e-60
        assert math.isfinite(trainer.step(X, Y)) and trainer.decay_scale == 1e-60


def test_what_is_no_schedule_is_refused() -> None:
    given: tuple[tuple[Any, type[Exception], str], ...] = (
        (lambda: gd.Momentum(0.1, "x"), TypeError, "momentum"),
        (lambda: gd.Momentum(0.1, None), TypeError, "momentum"),
        (lambda: gd.Momentum(0.1, True), TypeError, "momentum"),
        (lambda: gd.Adam(0.1, (own,)), TypeError, "betas"),
        (lambda: gd.Adam(0.1, (0.9, own)), TypeError, "betas"),
        (lambda: gd.Adam(0.1, {own, 0.9}), TypeError, "betas"),
        (lambda: gd.Adam(0.1, own), TypeError, "betas"),
        (lambda: gd.Adam(0.1, (own, 1.0)), ValueError, "betas"),
        (lambda: gd.Adam(0.1, weight_decay={"layers.0": own}), TypeError, "weight_decay"),
        (lambda: build(gd.SGD(0.1), p=0.5, dropout_schedule=0.5), TypeError, "dropout_schedule.*function"),
        (lambda: build(gd.SGD(0.1), p=0.5, dropout_schedule="x"), TypeError, "dropout_schedule.*function"),
        (lambda: build(gd.SGD(0.1), dropout_schedule=own), ValueError, "dropout_schedule.*drops nothing"),
    )
    for call, kind, word in given:
        helpers.refuses(call, kind, word)


def test_a_loop_whose_forward_pass_knows_no_schedule_is_refused() -> None:
    trainer = build(gd.SGD(0.1), p=0.5, dropout_schedule=own)
    trainer.model.forward(X)
    trainer.model.backward(np.ones((60, 1), np.float32))
    helpers.refuses(trainer.optimizer_step, RuntimeError, "dropout_schedule")
    with pytest.raises(AttributeError, match="dropout_schedule"):
        trainer.dropout_schedule = None  # type: ignore[misc]


def test_another_schedule_does_not_resume(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    make("adam").fit(X, Y, epochs=1, callbacks=gd.Checkpoint(path))
    others: dict[str, dict[str, Any]] = {
        "weight_decay": {"optimizer": gd.AdamW(0.05, (CYCLE, 0.99)), "dropout_schedule": COSINE},
        "betas": {"optimizer": gd.AdamW(0.05, weight_decay=COSINE), "dropout_schedule": COSINE},
        "dropout_schedule": {"optimizer": ALL["adam"]()["optimizer"]},
    }
    for word, options in others.items():
        trainer = build(p=0.3, **options)
        helpers.refuses(lambda t=trainer: t.fit(X, Y, epochs=1, resume=path), ValueError, f"other settings.*{word}")


def test_specs_with_functions_compare_copy_and_show_themselves() -> None:
    spec = gd.Adam(0.1, (CYCLE, 0.99), weight_decay=COSINE)
    assert spec == gd.Adam(0.1, (CYCLE, 0.99), weight_decay=COSINE) != gd.Adam(0.1, weight_decay=COSINE)
    assert spec.betas == (CYCLE, 0.99) and spec.weight_decay == COSINE
    assert pickle.loads(pickle.dumps(spec)) == spec and repr(COSINE) in repr(spec)
    assert gd.Momentum(0.1, own).momentum is own and gd.Momentum(0.1, 0.5).momentum == 0.5
