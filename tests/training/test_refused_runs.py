"""Promise: a refused fit changes nothing, whatever the reason: neither the trainer nor files, and no part of a
checkpoint to resume from is applied."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
Y = np.arange(40) % 2


def build(seed: int = 0) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 2), seed=seed)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01))


def state(trainer: gd.Trainer) -> dict[str, Any]:
    names = ("seed", "epoch", "steps", "lr_scale", "stop")
    settings = {name: getattr(trainer, name) for name in names} | {"names": trainer.model.feature_names}
    return settings | {"model seed": trainer.model.seed, "history": repr(dict(trainer.history))}


class Refuses(gd.Callback):
    def check_fit(self, trainer: gd.Trainer) -> None:
        raise OSError("no room")


CALLBACKS: dict[str, Callable[[Path], Any]] = {
    "Checkpoint": lambda folder: gd.Checkpoint(folder / "none" / "c"),
    "Checkpoint in a folder's place": lambda folder: gd.Checkpoint(folder / "folder"),
    "best of Checkpoint": lambda folder: gd.Checkpoint(folder / "best", keep_best=True, monitor="loss"),
    "CSVLog": lambda folder: gd.CSVLog(folder / "none" / "log.csv"),
    "CSVLog in a folder's place": lambda folder: gd.CSVLog(folder / "folder"),
    "Progress": lambda folder: gd.Progress(force=True),
    "own": lambda folder: Refuses(),
}


@pytest.mark.parametrize("who", CALLBACKS)
@pytest.mark.parametrize("resumed", [False, True])
def test_callbacks_refuse_before_anything_is_changed(
    who: str, resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(X, columns=["a", "b", "c"])
    build(5).fit(x, Y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")])
    (tmp_path / "folder").mkdir()
    (tmp_path / "best.best").mkdir()
    files = sorted(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    trainer = build()
    before, numbers = state(trainer), helpers.snapshot(trainer.model, trainer)
    log = gd.CSVLog(tmp_path / "log.csv")  # would make its file
    with pytest.raises((OSError, ImportError)):
        trainer.fit(
            x, Y, until_epoch=4, resume=tmp_path / "c" if resumed else None, callbacks=[log, CALLBACKS[who](tmp_path)]
        )
    assert state(trainer) == before
    helpers.same_bits(helpers.snapshot(trainer.model, trainer), numbers)
    assert sorted(tmp_path.iterdir()) == files
    monkeypatch.undo()
    trainer.fit(x, Y, until_epoch=4, resume=tmp_path / "c" if resumed else None, callbacks=[log])
    assert trainer.epoch == 4 and (tmp_path / "log.csv").exists()
