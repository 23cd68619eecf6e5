"""Promise: another thread's prediction or measurement never ends a run of `fit`: the run waits for it. Any other
simultaneous use of one model by two threads is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gdcore as gd
import numpy as np
import pytest

RNG = np.random.default_rng(2)
X = RNG.standard_normal((4000, 60)).astype(np.float32)
Y = RNG.integers(0, 4, 4000)


def trainer_of() -> gd.Trainer:
    model = gd.Sequential(gd.Dense(60, 128), gd.ReLU(), gd.Dense(128, 4), seed=0)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-3), seed=0)


CALLS: dict[str, Callable[[gd.Trainer], Any]] = {
    "predict": lambda trainer: trainer.model.predict(X),
    "evaluate": lambda trainer: trainer.evaluate(X, Y),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_run_outlives_what_another_thread_asks(call: str) -> None:
    trainer, alone, done = trainer_of(), trainer_of(), threading.Event()
    refused: list[str] = []

    def ask() -> None:
        while not done.is_set():
            try:
                CALLS[call](trainer)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        trainer.fit(X, Y, epochs=6, batch_size=100, validation=(X[:1000], Y[:1000]))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    alone.fit(X, Y, epochs=6, batch_size=100, validation=(X[:1000], Y[:1000]))
    assert trainer.epoch == 6
    assert all("in use" in text and "model.predictor()" in text for text in refused)
    np.testing.assert_array_equal(trainer.model.flat_parameters(), alone.model.flat_parameters())
    assert list(trainer.history["val_loss"]) == list(alone.history["val_loss"])
