"""Promise: misuse by users never crashes the interpreter; the error says what is wrong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import _core


def build(**options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(5, 16), gd.BatchNorm(16), gd.ReLU(), gd.Dense(16, 3), seed=0, **options)
    return gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=gd.Adam(1e-2))


def data(rows: int = 64) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 5)).astype(np.float32), rng.integers(0, 3, rows)


@pytest.mark.parametrize("how", ["step", "fit", "divergence"])
def test_no_way_back_through_a_step_that_is_over(how: str, device: str) -> None:
    """The caller owns the batch of a step and may have freed it; backward needs a forward pass first."""
    trainer, (x, y) = build(device=device), data()
    if how == "step":
        trainer.step(x.copy(), y)
    elif how == "fit":
        trainer.fit(x.copy(), y, epochs=1, batch_size=64)
    else:
        trainer.model.parameters()["layers.3.weight"][:] = np.inf
        with pytest.raises(gd.DivergenceError):
            trainer.step(x.copy(), y)
    with pytest.raises(RuntimeError, match="forward"):
        trainer.model.backward(np.ones((64, 3), np.float32))


def test_labels_that_change_after_they_were_checked(device: str) -> None:
    """The values are checked again when they are read: batch by batch on the CPU, once for all epochs on a GPU."""
    trainer, (x, y) = build(device=device), data()
    y = y.astype(np.int32)
    untouched = build(device=device)
    untouched.fit(x, y.copy(), epochs=2, batch_size=16)

    class Spoil:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            y[:] = 10**9

    if device == "cpu":
        with pytest.raises(ValueError, match="label 1e\\+09"):
            trainer.fit(x, y, epochs=2, batch_size=16, callbacks=[Spoil()])
    else:
        trainer.fit(x, y, epochs=2, batch_size=16, callbacks=[Spoil()])
        helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(untouched.model))
    with pytest.raises(ValueError, match="label 1e\\+09"):
        trainer.step(x, y)


@pytest.mark.parametrize(
    ("dtype", "label"),
    [("int64", 2**32 + 1), ("int64", -(2**40)), ("uint64", 2**63), ("uint32", 2**32 - 1), ("int64", -1), ("int16", 3)],
)
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
def test_changed_labels_of_any_type_are_no_classes(dtype: str, label: int, weights: list[float] | None) -> None:
    """Labels are kept in 32 bits: a larger one does not become the class that its lower bits are."""
    x, y = data()
    y = y.astype(dtype)
    model = gd.Sequential(gd.Dense(5, 3), seed=0, device="cpu")  # a GPU reads the labels once for all epochs
    trainer = gd.Trainer(model, gd.CrossEntropy(class_weights=weights), optimizer=gd.SGD(0.1))

    class Spoil:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            y[5] = label

    with pytest.raises(ValueError, match="got the label"):
        trainer.fit(x, y, epochs=2, batch_size=16, callbacks=[Spoil()])


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [gd.LayerNorm(2**62)],
        lambda: [gd.BatchNorm(2**62)],
        lambda: [gd.Dense(2**30, 2**30)],
        lambda: [gd.Dense(2**20, 2**23), gd.Dense(2**23, 2**22)],
        lambda: [gd.Dense(3 * 10**9, 2)],
    ],
)
def test_sizes_beyond_any_machine(layers: Any) -> None:
    with pytest.raises((ValueError, MemoryError)):
        gd.Sequential(*layers(), seed=0)


def test_rows_beyond_any_machine() -> None:
    x = np.broadcast_to(np.zeros((1, 5), np.int8), (2**60, 5))
    trainer = build()
    for call in (lambda: trainer.step(x, x), lambda: trainer.model.forward(x), lambda: trainer.model.predict(x)):
        with pytest.raises(ValueError, match="do not fit into memory"):
            call()


def test_a_dataset_belongs_to_its_model() -> None:
    trainer, other = build(), gd.Sequential(gd.Dense(5, 100), seed=0)
    x, _ = data()
    foreign = _core.Dataset(x, np.full(64, 99), None, gd.CrossEntropy(), other, True)
    with pytest.raises(ValueError, match="another model"):
        trainer.core.evaluate(foreign, batch_size=8)


CHANGES: dict[str, Callable[[gd.Trainer], Any]] = {
    "freeze": lambda trainer: trainer.model.set_frozen("layers.0", True),
    "initialize": lambda trainer: trainer.model.initialize(1),
    "steps": lambda trainer: setattr(trainer.core, "steps", 3),
    "reset": lambda trainer: trainer.core.reset(),
}


@pytest.mark.parametrize("call", CHANGES)
def test_changes_during_another_threads_computation_are_refused(call: str) -> None:
    """The other thread is in the middle of a step, in its loss, until the change was refused."""
    computing, refused, waited = threading.Event(), threading.Event(), []

    def loss(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        computing.set()
        waited.append(refused.wait(100))
        return np.mean((y - t) ** 2, axis=1), 2 * (y - t) / y.shape[1]

    def made() -> gd.Trainer:
        model = gd.Sequential(gd.Dense(5, 16), gd.ReLU(), gd.Dense(16, 5), seed=0)
        return gd.Trainer(model, loss=gd.CustomLoss(loss, outputs="numbers"), optimizer=gd.Adam(1e-2))

    trainer, undisturbed = made(), made()
    x, _ = data()
    thread = threading.Thread(target=trainer.step, args=(x, x))
    thread.start()
    try:
        assert computing.wait(100)
        helpers.refuses(lambda: CHANGES[call](trainer), RuntimeError, "another thread")
    finally:
        refused.set()
        thread.join()
    undisturbed.step(x, x)
    assert waited == [True, True]
    helpers.same_bits(helpers.snapshot(trainer.model, trainer), helpers.snapshot(undisturbed.model, undisturbed))
    CHANGES[call](trainer)  # now it may


def test_a_signal_handler_may_use_what_it_interrupts() -> None:
    """A layer norm in a signal handler, during another one's backward pass, does not change the sums of that pass."""
    rng = np.random.default_rng(0)
    model = gd.Sequential(gd.LayerNorm(700), gd.Dense(700, 1), seed=0)
    inner = gd.Sequential(gd.LayerNorm(900), gd.Dense(900, 1), seed=0)
    x, dout = rng.standard_normal((20_000, 700)).astype("f"), np.ones((20_000, 1), "f")
    small = rng.standard_normal((500, 900)).astype("f")
    model.forward(x)
    model.backward(dout)
    exact = {name: array.copy() for name, array in model.gradients().items()}
    calls, inside = 0, False

    def handler(*_: object) -> None:
        nonlocal calls, inside
        if inside:  # a slow machine: the next signal came before the end of this handler
            return
        calls, inside = calls + 1, True
        inner.forward(small)
        inner.backward(np.ones((500, 1), "f"))
        inside = False

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.025)
    try:
        for _ in range(10):
            model.forward(x)
            model.backward(dout)
            for name, array in model.gradients().items():
                helpers.same_bits(array, exact[name])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls > 0


def test_backward_goes_through_the_mask_of_its_own_forward_pass(device: str) -> None:
    model = gd.Sequential(gd.Dense(5, 50), gd.Dropout(0.5), seed=0, device=device)
    trainer = gd.Trainer(model, loss=gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    x, _ = data()
    out = model.forward(x)
    trainer.steps = 7  # another dropout stream
    dx = model.backward(np.ones_like(out))
    kept = (out != 0).astype(np.float32) * 2
    np.testing.assert_allclose(dx, kept @ model.parameters()["layers.0.weight"], rtol=1e-5, atol=1e-5)
    assert ((model.forward(x) == 0) != (out == 0)).any()


def test_a_saved_nan_comes_back(device: str, tmp_path: Path) -> None:
    model = build(device=device).model
    model.parameters()["layers.0.weight"][0, 0] = np.nan
    model.save(tmp_path / "m.safetensors")
    loaded = gd.load(tmp_path / "m.safetensors", device=device)
    helpers.same_bits(loaded.flat_parameters(), model.flat_parameters())
