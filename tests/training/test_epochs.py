"""Promise: `epochs` always is the number of further epochs, `until_epoch` the total, after earlier calls and in resumed
runs; if the total is reached already, nothing is trained; a call with neither or both is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(2)
X = RNG.standard_normal((60, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trainer() -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 5), gd.ReLU(), gd.Dropout(0.2), gd.Dense(5, 2), seed=1)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01))


def same(a: gd.Trainer, b: gd.Trainer) -> None:
    assert a.epoch == b.epoch and a.steps == b.steps and a.history["loss"] == b.history["loss"]
    helpers.same_bits(helpers.snapshot(a.model), helpers.snapshot(b.model))


class Counts(gd.Callback):
    """Records the epoch counts that callbacks get."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_epoch_begin(self, trainer: gd.Trainer) -> None:
        self.seen.append((trainer.first_epoch, trainer.last_epoch))


def test_after_earlier_calls() -> None:
    whole, parts, counts = trainer(), trainer(), Counts()
    whole.fit(X, Y, epochs=7)
    parts.fit(X, Y, epochs=2)
    parts.fit(X, Y, until_epoch=5, callbacks=[counts])
    assert counts.seen == [(2, 5)] * 3
    parts.fit(X, Y, epochs=2)
    same(parts, whole)


def test_what_is_done_is_not_trained_again() -> None:
    made, counts = trainer(), Counts()
    made.fit(X, Y, until_epoch=3)
    before = helpers.snapshot(made.model)
    for until in (3, 2, 1):
        assert made.fit(X, Y, until_epoch=until, callbacks=[counts]) is made.history
    assert made.epoch == 3 and not counts.seen
    helpers.same_bits(helpers.snapshot(made.model), before)


@pytest.mark.parametrize("given", [{"epochs": 3}, {"until_epoch": 7}])
def test_in_a_resumed_run(given: dict[str, int], tmp_path: Path) -> None:
    """The file is from the second call of `fit`, after two epochs of each call."""
    whole, first, second, counts = trainer(), trainer(), trainer(), Counts()
    whole.fit(X, Y, epochs=7)
    first.fit(X, Y, epochs=2)
    first.fit(X, Y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")])
    second.fit(X, Y, callbacks=[counts], resume=tmp_path / "c", **given)
    assert counts.seen == [(2, 7)] * 3
    same(second, whole)


@pytest.mark.parametrize("given", [{"epochs": 2}, {"until_epoch": 3}])
def test_an_epoch_that_had_begun_is_the_first_of_them(
    given: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdcore.training.sources.SLICE_SECONDS", 0.0)  # callbacks hear of every batch

    class Cut(gd.Callback):
        def on_progress(self, trainer: gd.Trainer, batch: int, batches: int | None, loss: float) -> None:
            if trainer.epoch == 1 and batch == 2:
                trainer.save_checkpoint(tmp_path / "c")
                raise KeyboardInterrupt

    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(X, Y, epochs=3, batch_size=16)
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, epochs=3, batch_size=16, callbacks=[Cut()])
    second.fit(X, Y, batch_size=16, resume=tmp_path / "c", **given)
    same(second, whole)


def test_a_job_that_restarts_itself(tmp_path: Path) -> None:
    path, whole = tmp_path / "c", trainer()
    whole.fit(X, Y, until_epoch=4)
    for last in (3, 4, 4, 4):  # stopped after 3, then restarted repeatedly
        made = trainer()
        made.fit(X, Y, until_epoch=last, callbacks=[gd.Checkpoint(path)], resume=path if path.exists() else None)
    same(made, whole)


WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "neither": ({}, TypeError, "^epochs: got neither .*until_epoch"),
    "both": ({"epochs": 2, "until_epoch": 2}, TypeError, "^epochs: got both .*until_epoch"),
    "no epochs": ({"epochs": 0}, ValueError, "^epochs"),
    "until none": ({"until_epoch": 0}, ValueError, "^until_epoch"),
    "until half": ({"until_epoch": 2.5}, TypeError, "^until_epoch"),
    "until text": ({"until_epoch": "3"}, TypeError, "^until_epoch"),
}


@pytest.mark.parametrize("resume", [None, "/nonexistent/file"])  # the numbers are looked at before the file
@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers_are_refused(name: str, resume: str | None) -> None:
    arguments, kind, words = WRONG[name]
    made = trainer()
    helpers.refuses(lambda: made.fit(X, Y, resume=resume, **arguments), kind, words)
    assert made.epoch == made.steps == 0


def test_an_iterator_gives_one_epoch() -> None:
    made = trainer()
    made.fit([(X, Y)], epochs=2)
    made.fit(iter([(X, Y)]), until_epoch=3)
    assert made.epoch == 3
    helpers.refuses(lambda: made.fit(iter([(X, Y)]), until_epoch=5), ValueError, "for 2 epochs")


def test_starts_take_both(tmp_path: Path) -> None:
    def build(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 2), seed=seed)

    settings: dict[str, Any] = {"loss": gd.CrossEntropy(), "optimizer": gd.SGD(0.1), "progress": False}
    for given in ({"epochs": 3}, {"until_epoch": 3}):
        found = gd.restarts(build, 2, X, Y, validation=0.25, **settings, **given)
        assert [start.epochs for start in found.starts] == [3, 3]
