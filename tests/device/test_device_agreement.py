"""Promise: a model trains the same on a GPU as on the CPU except for rounding, with the same dropout masks; a repeated
run gives the same bits; data and saved models work on both devices; an interrupted run leaves a usable model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.tuning.restarts import restarts

pytestmark = pytest.mark.cuda
MODELS: dict[str, list[Any]] = {
    "plain": [gd.Dense(6, 16), gd.ReLU(), gd.Dense(16, 3)],
    "batch norm and dropout": [gd.Dense(6, 16), gd.BatchNorm(16), gd.Tanh(), gd.Dropout(0.3), gd.Dense(16, 3)],
    "layer norm and GELU": [gd.Dense(6, 16), gd.LayerNorm(16), gd.GELU(), gd.Dense(16, 3)],
}
STEPS = 100


@pytest.fixture
def data(rng: helpers.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((80, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)


def make(name: str, device: str, dtype: str = "float32", seed: int = 0) -> gd.Trainer:
    model = gd.Sequential(*MODELS[name], seed=seed, dtype=dtype, device=device)
    return gd.Trainer(model, gd.CrossEntropy(label_smoothing=0.1), optimizer=gd.Momentum(0.02, weight_decay=1e-3))


def losses(trainer: gd.Trainer, data: Any) -> np.ndarray:
    """The training and validation losses of 20 epochs of five steps."""
    history = trainer.fit(*data, epochs=STEPS // 5, batch_size=16, validation=data)
    assert trainer.steps == STEPS
    return np.array([history["loss"], history["val_loss"]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_curve_as_on_the_cpu(name: str, dtype: str, data: Any) -> None:
    host, there = make(name, "cpu", dtype), make(name, "cuda", dtype)
    expected, got = losses(host, data), losses(there, data)
    assert expected[0, -1] < 0.9 * expected[0, 0]  # something was learned
    rounding = {"float32": 2e-6, "float64": 1e-14}[dtype] * STEPS
    np.testing.assert_allclose(got, expected, rtol=rounding)
    np.testing.assert_allclose(
        there.model.flat_parameters(), np.array(host.model.flat_parameters()), rtol=0, atol=rounding
    )
    np.testing.assert_allclose(there.predict(data[0]), host.predict(data[0]), rtol=0, atol=10 * rounding)
    assert abs(losses(make(name, "cpu", dtype, seed=1), data) - expected).max() > 100 * rounding  # which would be seen


@pytest.mark.parametrize("name", MODELS)
def test_repeated_runs_give_the_same_bits(name: str, data: Any) -> None:
    results = []
    for _ in range(2):
        trainer = make(name, "cuda")
        curve = losses(trainer, data)
        results.append(helpers.snapshot(trainer.model, trainer) | {"curve": curve, "out": trainer.predict(data[0])})
    helpers.same_bits(*results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_masks_of_dropout_are_those_of_the_cpu(dtype: str) -> None:
    x = np.ones((33, 17))
    masks = []
    for device in ("cpu", "cuda"):
        model = gd.Sequential(gd.Dropout(0.4), gd.Dense(17, 17), gd.Dropout(0.2), seed=5, dtype=dtype, device=device)
        model.parameters()["layers.1.weight"][...] = np.eye(17)
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.0))
        seen = []
        for _ in range(3):
            seen.append(model.forward(x))
            trainer.step(x, x)
        masks.append(np.array(seen))
    helpers.same_bits(*masks)
    assert (masks[0][0] != masks[0][1]).any() and 0.3 < (masks[0] == 0).mean() < 0.7


# ---------------------------------------------------------------------------------------------------- data and models
@pytest.mark.parametrize("kind", ["memmap", "float64", "iterable", "weights", "soft targets"])
def test_data_of_every_kind(kind: str, data: Any, tmp_path: Path) -> None:
    """The same calls on both devices: fit, step, evaluate and predict."""
    x, y = data
    weights = np.linspace(0.5, 2, len(x)) if kind == "weights" else None
    if kind == "memmap":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "float64":
        x = x.astype(np.float64) + 1e-9  # rounds to other numbers in float32
    elif kind == "soft targets":
        y = np.eye(3)[y] * 0.8 + 0.2 / 3
    results = []
    for device in ("cpu", "cuda"):
        trainer = make("layer norm and GELU", device)
        if kind == "iterable":
            trainer.fit([(x[i : i + 30], y[i : i + 30]) for i in range(0, 80, 30)], epochs=2)
        else:
            trainer.fit(x, y, epochs=2, batch_size=30, sample_weight=weights)
        step = trainer.step(x[:7], y[:7], None if weights is None else weights[:7])
        error = trainer.evaluate(x, y, sample_weight=weights, batch_size=33)["loss"]
        results.append([np.array([step, error]), trainer.predict(x), np.array(trainer.model.flat_parameters())])
    for host, there in zip(*results, strict=True):
        assert there.dtype == host.dtype
        np.testing.assert_allclose(there, host, rtol=1e-5, atol=2e-6)


def test_the_loop_over_minibatches(data: Any) -> None:
    ends = []
    for device in ("cpu", "cuda"):
        trainer = make("plain", device)
        for xb, yb in gd.MiniBatches(*data, batch_size=30, seed=0):
            trainer.step(xb, yb)
        assert trainer.steps == 3
        ends.append(np.array(trainer.model.flat_parameters()))
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("wrote", "reads"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_saved_model_loads_on_the_other_device(wrote: str, reads: str, data: Any, tmp_path: Path) -> None:
    trainer = make("batch norm and dropout", wrote)
    trainer.fit(*data, epochs=1)
    trainer.model.save(tmp_path / "m.safetensors")
    loaded = gd.load(tmp_path / "m.safetensors", device=reads)
    assert loaded.device == reads and trainer.model.device == wrote
    helpers.same_bits(helpers.snapshot(loaded), helpers.snapshot(trainer.model))
    np.testing.assert_allclose(loaded.predict(data[0]), trainer.predict(data[0]), rtol=0, atol=2e-6)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_restarts_on_the_device(data: Any) -> None:
    def compare(device: str) -> Any:
        def build(seed: int) -> gd.Sequential:
            return gd.Sequential(*MODELS["plain"], seed=seed, device=device)

        given = {"loss": gd.CrossEntropy(), "optimizer": gd.SGD(0.1), "epochs": 3, "progress": False}
        return restarts(build, 3, *data, validation=data, n_jobs=1, **given)

    host, there = compare("cpu"), compare("cuda")
    assert there.best.device == "cuda" and there.best_seed == host.best_seed
    np.testing.assert_allclose([s.value for s in there.starts], [s.value for s in host.starts], rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- analysis
CURVED: dict[str, list[Any]] = {
    "plain": [gd.Dense(6, 9), gd.Tanh(), gd.Dense(9, 3)],
    "batch norm": [gd.Dense(6, 9), gd.BatchNorm(9), gd.Sigmoid(), gd.Dense(9, 3)],
    "layer norm": [gd.LayerNorm(6), gd.Dense(6, 9), gd.LayerNorm(9), gd.GELU(), gd.Dense(9, 3), gd.Softplus()],
    "dropout": [gd.Dense(6, 9), gd.Dropout(0.3), gd.Softplus(), gd.Dense(9, 3)],
}


@pytest.mark.parametrize("mode", ["training", "prediction"])
@pytest.mark.parametrize("name", CURVED)
def test_derivatives_are_those_of_the_cpu(name: str, mode: Any, data: Any, rng: helpers.Generator) -> None:
    """Value, gradient and Hessian-vector product in float64, to 1e-12."""
    results = []
    for device in ("cpu", "cuda"):
        model = gd.Sequential(*CURVED[name], seed=2, dtype="float64", device=device)
        objective = analysis.Objective(model, gd.CrossEntropy([1.0, 2.0, 0.5]), *data, mode=mode)
        v = np.random.default_rng(1).standard_normal(objective.size)
        results.append([np.array(objective.value()), objective.gradient(), objective.hvp(v)])
    for host, there in zip(*results, strict=True):
        np.testing.assert_allclose(there, host, rtol=0, atol=1e-12 * np.abs(host).max())


def test_eigenvalues_are_those_of_the_cpu(data: Any) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = gd.Sequential(gd.Dense(6, 4), gd.Tanh(), gd.Dense(4, 3), seed=2, dtype="float64", device=device)
        found.append(analysis.eigenvalues(model, gd.CrossEntropy(), *data, k=2, which="both").values)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- runs that stop
EPOCH = 2000  # steps


@pytest.fixture
def trainer() -> Iterator[gd.Trainer]:
    """A trainer of two steps, and Ctrl-C at the first look at signals at which it has done more, in an epoch's middle.

    A timer goes on until then: however slow or fast the machine is, that is neither before the epoch nor at its end.
    """
    made = make("plain", "cuda")

    def look(*_: Any) -> None:
        if made.steps > 2 and (made.steps - 2) % EPOCH:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGALRM, look)
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_ctrl_c_inside_an_epoch(trainer: gd.Trainer, data: Any) -> None:
    """The weights are those after the counted steps; history, prediction and training still work."""
    x, y = (np.tile(array, (EPOCH // 5, *[1] * (array.ndim - 1))) for array in data)
    short = data[0][:32], data[1][:32]
    trainer.fit(*short, epochs=1, batch_size=16)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=1000, batch_size=16, shuffle=False)
    assert trainer.history.epochs == trainer.epoch
    assert trainer.steps > 2 and (trainer.steps - 2) % EPOCH != 0  # in the middle
    again = make("plain", "cuda")
    again.fit(*short, epochs=1, batch_size=16)
    for step in range(trainer.steps - 2):
        rows = slice(16 * step % len(x), 16 * step % len(x) + 16)
        again.step(x[rows], y[rows])
    helpers.same_bits(helpers.snapshot(trainer.model, trainer), helpers.snapshot(again.model, again))
    assert np.isfinite(trainer.predict(data[0])).all()
    steps = trainer.steps
    trainer.fit(*short, epochs=1, batch_size=16)
    assert trainer.steps == steps + 2


@pytest.mark.parametrize("why", ["loss", "gradient"])
def test_divergence_in_the_middle_of_a_fit(why: str, data: Any) -> None:
    """The message names the step; weights, state and counts are those before it, as on the CPU."""
    x, y = data[0].copy(), data[0][:, :3].copy()
    x[:, 0] = 0
    if why == "loss":
        y[49] = 3e38  # a finite target whose squared distance is not finite: the fourth batch of 16
    else:
        x[49, 0], y[49] = 3e38, 1e4  # times a weight of zero: a finite loss, but a non-finite gradient
    norm = [gd.BatchNorm(4)] if why == "loss" else []

    def build(device: str) -> gd.Trainer:
        layers = [gd.Dense(6, 4, bias=not norm), *norm, gd.Tanh(), gd.Dense(4, 3)]
        model = gd.Sequential(*layers, seed=0, device=device)
        model.parameters()["layers.0.weight"][:, 0] = 0
        return gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-3, clip_norm=1e30))

    ends = []
    for device in ("cpu", "cuda"):
        trainer, before = build(device), build(device)
        with pytest.raises(gd.DivergenceError, match="at step 3") as info:
            trainer.fit(x, y, epochs=5, batch_size=16, shuffle=False)
        assert why in str(info.value)
        assert "The step changed nothing" in str(info.value) and "layers." in str(info.value)
        assert trainer.steps == 3
        for i in range(0, 48, 16):
            before.step(x[i : i + 16], y[i : i + 16])
        helpers.same_bits(helpers.snapshot(trainer.model, trainer), helpers.snapshot(before.model, before))
        ends.append(np.array(trainer.model.flat_parameters()))
        assert np.isfinite(trainer.step(x[:16], y[:16]))
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- threads
def test_models_of_their_own_in_parallel_threads(data: Any) -> None:
    def result(seed: int) -> np.ndarray:
        trainer = make("batch norm and dropout", "cuda", seed=seed)
        trainer.fit(*data, epochs=2, batch_size=40)
        return np.array(trainer.model.flat_parameters())

    alone = [result(seed) for seed in range(3)]
    together: list[Any] = [None] * 3

    def work(seed: int) -> None:
        together[seed] = result(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(together, alone, strict=True):
        helpers.same_bits(mine, theirs)


@pytest.mark.parametrize("call", ["step", "fit", "predict"])
def test_one_model_in_parallel_threads_works_or_raises(call: str, data: Any) -> None:
    trainer, outcomes = make("plain", "cuda"), []
    calls: dict[str, Any] = {
        "step": lambda: trainer.step(*data),
        "fit": lambda: trainer.fit(*data, epochs=1),
        "predict": lambda: trainer.predict(data[0]),
    }

    def work() -> None:
        for _ in range(5):
            try:
                calls[call]()
                outcomes.append("worked")
            except RuntimeError as error:
                refused = any(word in str(error) for word in ("thread", "in use", "already training"))
                outcomes.append("raised" if refused else repr(error))
            except BaseException as error:
                outcomes.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 15 and set(outcomes) <= {"worked", "raised"} and "worked" in outcomes, set(outcomes)
    trainer.step(*data)
    assert np.isfinite(trainer.model.flat_parameters()).all()
