"""Promise: a resumed run that a callback had stopped continues if there is more patience now, with the same bits as a
run that had it from the start; otherwise nothing is trained and a warning says why; a run that has reached the
requested epochs already trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 2)).astype(np.float32)
Y = RNG.integers(0, 2, 60)


def run(*callbacks: object, epochs: int = 30, **options: Any) -> gd.Trainer:
    trainer = gd.Trainer(gd.Sequential(gd.Dense(2, 2), seed=0), gd.CrossEntropy(), optimizer=gd.Adam(0.1))
    trainer.fit(X, Y, until_epoch=epochs, validation=(X[::-1], Y), callbacks=callbacks, **options)
    return trainer


class Stop(gd.Callback):
    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        trainer.stop = trainer.epoch == 2


def stopping(patience: int, restore_best: bool = False, **options: Any) -> gd.EarlyStopping:
    return gd.EarlyStopping(patience=patience, restore_best=restore_best, **options)


@pytest.mark.parametrize("restore_best", [False, True])  # with the best weights kept in the checkpoint
def test_more_patience_goes_on_as_if_it_had_been_there(restore_best: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    first = run(stopping(1, restore_best), gd.Checkpoint(path))
    assert first.epoch < 30
    again, whole = (
        run(stopping(8, restore_best), gd.Checkpoint(path), resume=path),
        run(stopping(8, restore_best)),
    )
    assert again.epoch == whole.epoch > first.epoch
    assert again.history["val_loss"] == whole.history["val_loss"]
    np.testing.assert_array_equal(again.model.predict(X), whole.model.predict(X))


def test_patience_may_be_set_before_resuming(tmp_path: Path) -> None:
    path, callback = tmp_path / "c.safetensors", stopping(1)
    first = run(callback, gd.Checkpoint(path))
    callback.patience = 100
    assert run(callback, resume=path).epoch == 30 > first.epoch


@pytest.mark.parametrize("patience", [1, 2])
def test_a_stopped_run_stays_stopped_and_says_so(patience: int, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    first = run(stopping(2), gd.Checkpoint(path))
    for _ in range(2):  # a job that restarts itself after its end
        with pytest.warns(UserWarning, match=rf"stopped this run after epoch {first.epoch},.*more patience") as seen:
            again = run(stopping(patience), gd.Checkpoint(path), resume=path)
        assert again.epoch == first.epoch and seen[0].filename == __file__


def test_what_another_callback_stopped_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert run(Stop(), stopping(50), gd.Checkpoint(path)).epoch == 2
    with pytest.warns(UserWarning, match="stopped this run after epoch 2"):
        assert run(Stop(), stopping(60), resume=path).epoch == 2


def test_one_of_two_that_is_still_out_of_patience_stops(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    first = run(stopping(1), stopping(1, min_delta=1e-9), gd.Checkpoint(path))
    with pytest.warns(UserWarning, match="stopped this run"):
        assert run(stopping(9), stopping(1, min_delta=1e-9), resume=path).epoch == first.epoch
    assert run(stopping(9), stopping(9, min_delta=1e-9), resume=path).epoch > first.epoch


def test_a_finished_run_has_nothing_to_say(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    run(gd.Checkpoint(path), epochs=3)
    assert run(gd.Checkpoint(path), epochs=3, resume=path).epoch == 3
