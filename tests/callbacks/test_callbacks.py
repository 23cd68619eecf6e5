"""Promise: callbacks get their events in order; early stopping keeps the best weights (also in a custom loop);
the plateau rule, the log and the progress line do what they say; Ctrl-C and errors leave a usable trainer."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest


def build(device: str = "cpu", **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 8), gd.Tanh(), gd.Dense(8, 1), seed=0, device=device)
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.05), **options)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((60, 3)).astype(np.float32)
    return x, x.sum(1, keepdims=True) + rng.standard_normal((60, 1)).astype(np.float32)


class Recorder:
    """A plain object with every event."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_train_begin(self, trainer: Any) -> None:
        self.events.append("train begin")

    def on_epoch_begin(self, trainer: Any) -> None:
        self.events.append(f"epoch {trainer.epoch + 1} begin")

    def on_epoch_end(self, trainer: Any, logs: dict) -> None:
        assert logs["epoch"] == trainer.epoch and "loss" in logs
        self.events.append(f"epoch {trainer.epoch} end")

    def on_train_end(self, trainer: Any) -> None:
        self.events.append("train end")


def test_events_come_in_order(data: Any) -> None:
    recorder, trainer = Recorder(), build()
    trainer.fit(*data, epochs=2, callbacks=[recorder])
    expected = ["train begin", "epoch 1 begin", "epoch 1 end", "epoch 2 begin", "epoch 2 end", "train end"]
    assert recorder.events == expected
    recorder.events.clear()
    trainer.fit(*data, epochs=1, callbacks=[recorder])
    assert recorder.events == ["train begin", "epoch 3 begin", "epoch 3 end", "train end"]


def test_any_subset_of_events_will_do(data: Any) -> None:
    class OnlyEnd:
        seen = 0

        def on_epoch_end(self, trainer: Any, logs: dict) -> None:
            self.seen += 1
            logs["mine"] = float(self.seen)

    only = OnlyEnd()
    history = build().fit(*data, epochs=3, callbacks=[only])
    assert only.seen == 3 and list(history["mine"]) == [1, 2, 3]


def test_an_object_without_any_event_is_refused(data: Any) -> None:
    class Misspelt:
        def on_epoch_ends(self, trainer: Any, logs: dict) -> None: ...

    helpers.refuses(lambda: build().fit(*data, epochs=1, callbacks=[Misspelt()]), TypeError, "callbacks")


def test_stop(device: str, data: Any) -> None:
    class Stop:
        def on_epoch_end(self, trainer: Any, logs: dict) -> None:
            trainer.stop = trainer.epoch == 2

    trainer = build(device)
    trainer.fit(*data, epochs=10, callbacks=[Stop()])
    assert trainer.epoch == 2
    trainer.fit(*data, epochs=3)
    assert trainer.epoch == 5


def test_progress_is_reported_within_an_epoch() -> None:
    seen = []

    class Watch:
        def on_progress(self, trainer: Any, batch: int, batches: int | None, loss: float) -> None:
            seen.append((batch, batches, loss))

    model = gd.Sequential(gd.Dense(50, 1000), gd.ReLU(), gd.Dense(1000, 1000), gd.ReLU(), gd.Dense(1000, 2), seed=0)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.01))
    x, y = np.ones((3000, 50), np.float32), np.zeros(3000, int)
    trainer.fit(x, y, epochs=2, batch_size=4, callbacks=[Watch()])
    batches = [b for b, _, _ in seen]
    assert len(seen) >= 3 and all(1 <= b <= 750 for b in batches) and all(n == 750 for _, n, _ in seen)
    assert all(math.isfinite(loss) for _, _, loss in seen)


VALUES = [3.0, 2.0, 1.0, 1.5, 1.2, 1.1, 0.5, 0.9]


@pytest.mark.parametrize(("patience", "stops_at", "best"), [(1, 4, 3), (3, 6, 3), (4, None, 7)])
def test_early_stopping_by_hand(patience: int, stops_at: int | None, best: int, device: str) -> None:
    model = build(device).model
    stopping = gd.EarlyStopping(patience=patience)
    stopped = None
    for epoch, value in enumerate(VALUES, 1):
        model.set_flat_parameters(np.full(model.flat_parameters().shape, epoch))
        if stopping.update(value, model):
            stopped = epoch
            break
    assert stopped == stops_at and stopping.best == VALUES[best - 1] and stopping.best_epoch == best
    stopping.restore(model)
    assert (np.asarray(model.flat_parameters()) == best).all()


@pytest.mark.parametrize(("ties", "best"), [("first", 3), ("last", 5)])
def test_early_stopping_keeps_the_first_or_the_last_of_equal_epochs(ties: str, best: int, device: str) -> None:
    """The kept weights differ, the epoch at which training stops does not."""
    model = build(device).model
    stopping = gd.EarlyStopping("val_accuracy", 3, ties=ties)
    for epoch, value in enumerate((0.5, 0.75, 1.0, 0.75, 1.0, math.nan), 1):
        model.set_flat_parameters(np.full(model.flat_parameters().shape, epoch))
        assert stopping.update(value, model) == (epoch == 6)
    stopping.restore(model)
    assert (np.asarray(model.flat_parameters()) == best).all() and (stopping.best, stopping.best_epoch) == (1.0, best)


def test_a_tie_needs_a_best_value_and_a_known_rule() -> None:
    model = build().model
    stopping = gd.EarlyStopping(ties="last", min_delta=0.5)
    stopping.update(math.inf, model)
    assert stopping.best_epoch == 0
    assert [stopping.update(value, model) for value in (2.0, 1.75, 2.0)] == [False] * 3 and stopping.best_epoch == 4
    helpers.refuses(lambda: gd.EarlyStopping(ties="best"), ValueError, "ties.*'first', 'last'")


def test_early_stopping_options() -> None:
    model = build().model
    up = gd.EarlyStopping("val_accuracy", 2)
    assert [up.update(v, model) for v in (0.5, 0.7, 0.6, 0.7)] == [False, False, False, True] and up.best_epoch == 2
    rough = gd.EarlyStopping(patience=2, min_delta=0.5)
    assert [rough.update(v, model) for v in (3.0, 2.6, 2.4, 2.3, 2.2)] == [False, False, False, False, True]
    assert rough.best == 2.4
    nan = gd.EarlyStopping(patience=2)
    assert [nan.update(v, model) for v in (math.nan, 1.0, math.nan, math.nan)] == [False, False, False, True]
    with pytest.raises(RuntimeError):
        gd.EarlyStopping().restore(model)
    with pytest.raises(RuntimeError):
        free = gd.EarlyStopping(restore_best=False)
        free.update(1.0, model)
        free.restore(model)
    with pytest.raises(ValueError, match="mode"):
        gd.EarlyStopping("val_my_measure")
    assert gd.EarlyStopping("val_my_measure", mode="max").update(1.0, model) is False


class Snapshots:
    """Parameters after each epoch (before others change them)."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def on_epoch_end(self, trainer: Any, logs: dict) -> None:
        self.kept.append(np.array(trainer.model.flat_parameters()))


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_in_fit(restore: bool, device: str, data: Any) -> None:
    x, y = data
    trainer, snapshots = build(device), Snapshots()
    stopping = gd.EarlyStopping(patience=3, restore_best=restore)
    noise = np.random.default_rng(0).standard_normal((20, 1)).astype("f")
    history = trainer.fit(x, y, epochs=300, validation=(x[:20], noise), callbacks=[snapshots, stopping])
    losses = history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 300 and stopping.best_epoch == best + 1 and stopping.best == min(losses)
    helpers.same_bits(np.array(trainer.model.flat_parameters()), snapshots.kept[best if restore else -1])


@pytest.mark.parametrize(
    ("monitor", "metrics", "words"),
    [
        ("val_mse", ["r2"], r"; Trainer\(metrics=\['mse'\]\) measures it\. Expected one of epoch, loss, lr"),
        ("val_MSE", ["mean_squared_error"], "did you mean 'val_mean_squared_error'[?] Expected one of"),
        ("r2", ["r2"], "did you mean 'val_r2'[?] Expected"),
        ("val_r2score", [], r"Trainer\(metrics=\['r2'\]\) measures it as 'val_r2'\. Expected"),
        ("val_other", ["r2"], "not measured; expected one of epoch"),
    ],
)
def test_a_monitor_that_is_not_measured(monitor: str, metrics: list[str], words: str, data: Any) -> None:
    trainer, stopping = build(metrics=metrics), gd.EarlyStopping(monitor, mode="max")
    with pytest.raises(ValueError, match=words):
        trainer.fit(*data, epochs=1, validation=data, callbacks=[stopping])
    with pytest.raises(ValueError, match=words):  # a callback that may add it
        trainer.fit(*data, epochs=1, validation=data, callbacks=[Recorder(), stopping])
    with pytest.raises(ValueError, match=r"^validation: needed by EarlyStopping\(monitor='val_r2'\): give"):
        trainer.fit(*data, epochs=1, callbacks=[gd.EarlyStopping("val_r2")])


def test_reduce_on_plateau(device: str, data: Any) -> None:
    trainer = build(device)

    class Flat:
        def on_epoch_end(self, trainer: Any, logs: dict) -> None:
            logs["flat_loss"] = 1.0

    plateau = gd.ReduceOnPlateau("flat_loss", 0.5, patience=2, min_lr=0.01, mode="min")
    history = trainer.fit(*data, epochs=12, callbacks=[Flat(), plateau])
    assert trainer.lr == pytest.approx(0.01) and min(history["lr"]) >= 0.01 - 1e-12
    rates = history["lr"]
    assert rates[0] == 0.05 and sorted(rates, reverse=True) == list(rates)
    assert len(set(np.round(rates, 9))) >= 3


def test_csv_log(data: Any, tmp_path: Path) -> None:
    trainer = build(metrics=[gd.metrics.r2])
    log = gd.CSVLog(tmp_path / "log.csv")
    trainer.fit(*data, epochs=2, validation=0.2, callbacks=[log])
    trainer.fit(*data, epochs=2, validation=0.2, callbacks=[log])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    for name in ("loss", "val_loss", "val_r2", "lr"):
        assert [float(row[name]) for row in rows] == list(trainer.history[name])


def test_progress_line(data: Any, capsys: Any) -> None:
    quiet = io.StringIO()
    build().fit(*data, epochs=2, callbacks=[gd.Progress(file=quiet), gd.Progress()])
    assert quiet.getvalue() == "" and capsys.readouterr().err == ""
    loud = io.StringIO()
    build().fit(*data, epochs=2, validation=0.2, callbacks=[gd.Progress(force=True, file=loud)])
    text = loud.getvalue()
    assert "epoch 2/2" in text and "val_loss" in text and "lr 0.05" in text
    assert text.rstrip("\n").count("\n") == 0  # one line


def test_progress_shows_the_best_of_what_is_watched(data: Any, tmp_path: Path) -> None:
    """Each column once, with the epoch where the callback knows it, in any order of the callbacks."""
    file = io.StringIO()
    stopping, plateau = gd.EarlyStopping(patience=9), gd.ReduceOnPlateau(patience=2)
    saving = gd.Checkpoint(tmp_path / "c.safetensors", keep_best=True, monitor="loss")
    callbacks = [gd.Progress(force=True, file=file), plateau, stopping, saving]
    history = build().fit(*data, epochs=6, validation=0.2, callbacks=callbacks)
    last = file.getvalue().splitlines()[-1].rpartition("\r")[2]
    assert f"best val_loss {min(history['val_loss']):.4g} (epoch {stopping.best_epoch})" in last
    assert f"best loss {min(history['loss']):.4g}" in last and last.count("best") == 2
    nothing = io.StringIO()
    build().fit(*data, epochs=1, callbacks=[gd.Progress(force=True, file=nothing)])
    assert "best" not in nothing.getvalue()


class Interrupt:
    """Sends Ctrl-C to this process when an epoch begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, trainer: Any) -> None:
        if trainer.epoch + 1 == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_tidily_and_training_goes_on(device: str, data: Any) -> None:
    trainer, recorder = build(device), Recorder()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*data, epochs=5, callbacks=[recorder, Interrupt(3)])
    assert recorder.events[-1] == "train end" and trainer.epoch == 2 and trainer.history.epochs == 2
    assert np.isfinite(trainer.model.predict(data[0])).all()
    trainer.fit(*data, epochs=1)
    assert trainer.epoch == 3


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_an_error_in_a_callback_comes_out_and_training_goes_on(event: str, device: str, data: Any) -> None:
    class Broken:
        pass

    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("mine")

    setattr(Broken, event, fail)
    trainer = build(device)
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer.fit(*data, epochs=2, callbacks=[Broken()])
    trainer.fit(*data, epochs=1)
    assert math.isfinite(trainer.history["loss"][-1])


def test_callbacks_do_not_change_the_numbers(device: str, data: Any, tmp_path: Path) -> None:
    plain, watched = build(device), build(device)
    plain.fit(*data, epochs=4, validation=0.2)
    everything = [
        Recorder(),
        gd.CSVLog(tmp_path / "log"),
        gd.Checkpoint(tmp_path / "c"),
        gd.Progress(force=True, file=io.StringIO()),
    ]
    watched.fit(*data, epochs=4, validation=0.2, callbacks=everything)
    helpers.same_bits(plain.model.copy_state(), watched.model.copy_state())
    assert list(plain.history["val_loss"]) == list(watched.history["val_loss"])


def test_a_refused_update_of_early_stopping_does_not_count() -> None:
    trainer, stopping = build(), gd.EarlyStopping(patience=3)
    stopping.update(2.0, trainer.model)
    before = stopping.state_dict()
    refused: list[tuple[Any, Any, Any, str]] = [
        (1.0, trainer, None, "model: got Trainer.*trainer.model"),
        (1.0, None, None, "model: got NoneType"),
        ("1", trainer.model, None, "value"),
        (1.0, trainer.model, "7", "epoch"),
    ]
    for value, model, epoch, words in refused:
        helpers.refuses(lambda v=value, m=model, e=epoch: stopping.update(v, m, epoch=e), TypeError, words)
        helpers.same_bits(stopping.state_dict(), before)
    helpers.refuses(lambda: stopping.restore(trainer), TypeError, "model: got Trainer")
    for state in (None, [1], 3.0, "text"):
        for callback in (stopping, gd.ReduceOnPlateau()):
            with pytest.raises(ValueError, match=f"{type(callback).__name__}: state: got .* expected an object"):
                callback.load_state_dict(state)
    assert (stopping.best, stopping.best_epoch) == (2.0, 1)


def test_early_stopping_takes_the_weights_of_another_network_next() -> None:
    small, large = (gd.Sequential(gd.Dense(3, width), gd.Dense(width, 1), seed=0) for width in (2, 5))
    stopping = gd.EarlyStopping()
    for value, model in ((3.0, small), (2.0, small), (1.0, large), (0.5, small), (0.2, large)):
        stopping.update(value, model)
        expected = model.copy_state()
        model.initialize(7)
        stopping.restore(model)
        helpers.same_bits(model.copy_state(), expected)
