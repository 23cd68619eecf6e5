"""Promise: epochs that nothing observes, trained by C++ one after the other, have the bits, the history and the errors
of epochs that a callback observes; after Ctrl-C and ``trainer.stop``, every finished epoch is in the history."""

from __future__ import annotations

import _thread
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.training.sources import ArraySource

RNG = np.random.default_rng(3)
X = RNG.standard_normal((61, 4))
Y = (X[:, 0] > 0).astype(np.int64)
WEIGHTS = RNG.random(61)
EPOCHS = 40  # so that the optimiser's states are checked several times


class Observes(gd.Callback):
    """Is called after each epoch."""

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        pass


def trainer(optimizer: gd.Optimizer | None = None, **options: Any) -> gd.Trainer:
    layers = (gd.Dense(4, 6), gd.BatchNorm(6), gd.ReLU(), gd.Dropout(0.2), gd.Dense(6, 2))
    optimizer = gd.Adam(0.01) if optimizer is None else optimizer
    return gd.Trainer(gd.Sequential(*layers, seed=1), gd.CrossEntropy(), optimizer=optimizer, seed=2, **options)


def rows(made: gd.Trainer) -> dict[str, list[float]]:
    """Return the history without times, which are positive; nan is one object, which equals itself in lists."""
    assert all(seconds > 0.0 for seconds in made.history["seconds"])
    return {name: column for name, column in made.history.items() if name != "seconds"}


def same(a: gd.Trainer, b: gd.Trainer) -> None:
    assert a.steps == b.steps and rows(a) == rows(b) and list(a.history) == list(b.history)
    helpers.same_bits(helpers.snapshot(a.model), helpers.snapshot(b.model))


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the epochs of each call of C++, and let it make short calls too."""
    counted: list[int] = []
    run = ArraySource.run_epochs

    def counting(self: ArraySource, made: gd.Trainer, validation: Any, table: Any, done: int, left: int) -> None:
        table = table[: 5 + len(counted) % 3]
        try:
            run(self, made, validation, table, done, left)
        finally:
            counted.append(int((~np.isnan(table[:, 4])).sum()))

    monkeypatch.setattr(ArraySource, "run_epochs", counting)
    monkeypatch.setattr("gdcore.training.fit.SHORT_EPOCH", 60.0)  # on a busy machine, too
    return counted


CASES: dict[str, tuple[Callable[[], gd.Trainer], dict[str, Any]]] = {
    "plain": (trainer, {}),
    "validation": (trainer, {"validation": (X[:20], Y[:20])}),
    "share": (trainer, {"validation": 0.3, "stratify": True}),
    "weights": (trainer, {"validation": (X, Y, WEIGHTS), "sample_weight": WEIGHTS}),
    "in order": (trainer, {"shuffle": False, "batch_size": None}),
    "whole batches": (trainer, {"drop_last": True, "batch_size": 8}),
    "factors": (lambda: scaled(trainer(gd.AdamW(0.01))), {"batch_size": 10}),
    "not a number": (lambda: trainer(check_finite=False), {"validation": (np.where(X > 2, np.nan, X), Y)}),
}


def scaled(made: gd.Trainer) -> gd.Trainer:
    made.lr_scale, made.decay_scale = 0.3, 0.7
    return made


@pytest.mark.parametrize("case", CASES)
def test_same_as_observed(case: str, calls: list[int]) -> None:
    make, given = CASES[case]
    alone, observed = make(), make()
    for _ in range(2):  # the second call continues
        alone.fit(X, Y, epochs=EPOCHS, **given)
        made = len(calls)
        assert sum(calls) >= EPOCHS - 1 and made > 2
        observed.fit(X, Y, epochs=EPOCHS, callbacks=[Observes()], **given)
        assert len(calls) == made
    same(alone, observed)


def of_step(step: int) -> float:
    return 0.01


OBSERVED: dict[str, tuple[Callable[[], gd.Trainer], dict[str, Any]]] = {
    "a function of the step": (lambda: trainer(gd.SGD(of_step)), {}),
    "a schedule": (lambda: trainer(gd.SGD(gd.schedules.warmup(of_step, 3))), {}),
    "a dropout schedule": (lambda: trainer(dropout_schedule=of_step), {}),
    "metrics": (lambda: trainer(metrics=["accuracy"]), {"validation": 0.3}),
    "training data": (trainer, {"measure_training": True}),
    "a log": (trainer, {"log_every": 3}),
}


@pytest.mark.parametrize("case", OBSERVED)
def test_python_between_epochs_where_something_needs_it(case: str, calls: list[int]) -> None:
    make, given = OBSERVED[case]
    make().fit(X, Y, epochs=3, **given)
    assert not calls


def test_a_row_for_columns_of_earlier_calls(calls: list[int]) -> None:
    made = trainer()
    made.fit(X, Y, epochs=2, validation=0.3)
    made.fit(X, Y, epochs=9)
    assert calls and made.history["epoch"] == list(range(1, 12))
    assert [np.isnan(value) for value in made.history["val_loss"]] == [False] * 2 + [True] * 9


def test_divergence(calls: list[int]) -> None:
    """The loss doubles until it overflows: finished epochs count, and the error is the same."""
    found, made = [], []
    for callbacks in ([], [Observes()]):
        model = gd.Sequential(gd.Dense(4, 1), seed=1)
        each = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(1.0))
        with pytest.raises(gd.DivergenceError) as error:
            each.fit(100 * X, X[:, :1], epochs=EPOCHS, validation=(X, X[:, :1]), batch_size=None, callbacks=callbacks)
        found.append(str(error.value))
        made.append(each)
    assert sum(calls) >= 2 and 2 < made[0].epoch < EPOCHS
    assert found[0] == found[1]
    same(*made)


@pytest.mark.parametrize("end", ["interrupt", "stop"])
def test_ends(end: str, calls: list[int]) -> None:
    made = trainer()

    def later() -> None:
        while made.epoch < 3:
            time.sleep(0.001)
        if end == "interrupt":
            _thread.interrupt_main()
        else:
            made.stop = True

    thread = threading.Thread(target=later)
    thread.start()
    if end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            made.fit(X, Y, epochs=10**30)
    else:
        made.fit(X, Y, epochs=10**30)  # more than the core counts
    thread.join()
    batches = 2
    assert calls and made.history["epoch"] == list(range(1, made.epoch + 1))
    assert 0 <= made.steps - batches * made.epoch <= (batches if end == "interrupt" else 0)


@pytest.mark.parametrize("at", range(6))
def test_ctrl_c_after_the_steps(at: int) -> None:
    """Ctrl-C at each of the calls between the return of C++ and the history: the rows are there all the same."""
    made, seen = trainer(), [-1]

    def trace(frame: types.FrameType, event: str, function: Any) -> None:
        if event == "c_return" and seen[0] < 0 and getattr(function, "__name__", "") == "run_epochs":
            seen[0] = 0
        elif event == "call" and 0 <= seen[0] <= at:
            seen[0] += 1
            if seen[0] == at + 1:
                raise KeyboardInterrupt

    sys.setprofile(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.fit(X, Y, epochs=EPOCHS)
    finally:
        sys.setprofile(None)
    assert made.epoch > 1 and made.steps == 2 * made.epoch
    assert made.history["epoch"] == list(range(1, made.epoch + 1))


def test_metrics_that_are_set_meanwhile_are_measured() -> None:
    made = trainer()

    def later() -> None:
        while made.epoch < 3:
            time.sleep(0.001)
        made.metrics = ["accuracy"]
        while not made.stop and "val_accuracy" not in made.history:
            time.sleep(0.001)
        made.stop = True

    thread = threading.Thread(target=later)
    thread.start()
    made.fit(X, Y, epochs=10**9, validation=0.3)
    thread.join()
    assert "val_accuracy" in made.history


def test_long_epochs_are_sliced(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    """Where an epoch takes long, C++ returns within it, for Ctrl-C and progress."""
    monkeypatch.setattr("gdcore.training.fit.SHORT_EPOCH", 0.0)
    made = trainer()
    made.fit(X, Y, epochs=3)
    assert not calls and made.epoch == 3


def test_arguments_are_checked() -> None:
    made = trainer()
    data = gd._core.Dataset(X.astype(np.float32), Y, None, made.loss, made.model)
    given: dict[str, Any] = {"shuffle": None, "batch_size": 8, "drop_last": False, "validation": None}
    given |= {"measured": None, "measured_size": 1024, "done_and_left": (0, 1), "check_states": True, "seconds": 1.0}
    with pytest.raises(ValueError, match="table"):
        made._core.run_epochs(data, None, rates=np.array([0.1]), table=np.empty((2, 4)), **given)
    with pytest.raises(ValueError, match="rates: expected those of one step"):
        made._core.run_epochs(data, None, rates=np.full(3, 0.1), table=np.empty((2, 5)), **given)
    frozen = np.empty((2, 5))
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="write"):
        made._core.run_epochs(data, None, rates=np.array([0.1]), table=frozen, **given)
    assert made.steps == 0
