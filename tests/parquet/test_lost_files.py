"""Promise: a file that is deleted, cut, replaced or overwritten while it is trained on ends the training with an error
that names the file, what happened, the epoch and the step; the steps until then count."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import parquet_cases as cases
import pytest
from gdcore.tables import TabularModel

pytest.importorskip("pyarrow")

ALL = cases.columns_of() | {"label": cases.Y, "weight": cases.WEIGHTS}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if "parquet" in thread.name] == []


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replaced(path: Path) -> None:
    cases.write(path.with_suffix(".new"), ALL, 100)
    os.replace(path.with_suffix(".new"), path)


def overwritten(path: Path) -> None:
    """Random bytes where values are: of the same size, so that it may be read without an error."""
    with path.open("r+b") as file:
        file.seek(4)
        file.write(np.random.default_rng(0).bytes(path.stat().st_size // 2))


HARMS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "deleted": (os.remove, FileNotFoundError, "has been deleted or renamed since .*bring it back, or make another one"),
    "cut": (cut, ValueError, r"has changed since Parquet\(...\) was made, from \d+ to \d+ bytes; make another one"),
    "replaced": (replaced, ValueError, r"has changed since .* bytes.*; make another one"),
    "overwritten": (overwritten, ValueError, r"has changed since .*in place, or replaced, with \d+ bytes as before; "),
}


class Harm(gd.Callback):
    """Does harm in the third step of the second epoch; knows the weights after each step."""

    def __init__(self, path: Path, harm: Callable[[Path], object]) -> None:
        self._path, self._harm = path, harm

    def on_step(self, trainer: gd.Trainer) -> None:
        self.weights, self.steps = helpers.snapshot(trainer.model), trainer.steps
        if trainer.epoch == 1 and self._path.exists() and trainer.steps == 35:
            self._harm(self._path)


@pytest.mark.parametrize("cuts", [(0, 1003), (0, 600, 1003)], ids=["one file", "two files"])
@pytest.mark.parametrize("name", HARMS)
def test_a_file_that_is_trained_on(name: str, cuts: tuple[int, ...], tmp_path: Path) -> None:
    harm, error, message = HARMS[name]
    data = cases.opened(tmp_path, window=130, cuts=cuts)
    path = Path(data.paths[-1])
    whole, made, harmful = path.read_bytes(), cases.trainer(), Harm(path, harm)
    where = r".*; found in epoch 2, after (\d+) steps$"
    with pytest.raises(error, match=rf"{path.name}: " + message.removesuffix("$") + where) as raised:
        made.fit(data, epochs=4, callbacks=[harmful])
    assert made.epoch == 1 and made.steps == harmful.steps >= 35
    assert str(raised.value).endswith(f"after {made.steps} steps") and np.isfinite(made.history["loss"]).all()
    helpers.same_bits(helpers.snapshot(made.model), harmful.weights)
    path.write_bytes(whole)
    made.fit(gd.data.Parquet(tmp_path / "*.parquet", cases.NAMES, "label", window=130), epochs=1)
    assert made.epoch == 2, "the unfinished epoch is done again"


def test_a_file_that_validates(tmp_path: Path) -> None:
    """The best epoch is restored, as after every other end."""
    data = cases.opened(tmp_path, window=130)

    class Delete(gd.Callback):
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            self.weights = helpers.snapshot(trainer.model)
            Path(data.paths[0]).unlink()

    made, delete = cases.trainer(), Delete()
    callbacks = [gd.EarlyStopping(patience=9, restore_best=True), delete]
    with pytest.raises(FileNotFoundError, match=r"part0\.parquet: has been .*; found in epoch 2, after 64 steps$"):
        made.fit(cases.X, cases.Y, epochs=3, validation=data, callbacks=callbacks)
    helpers.same_bits(helpers.snapshot(made.model), delete.weights)
    with pytest.raises(FileNotFoundError, match=r"part0\.parquet: has been deleted .* another one$"):
        made.evaluate(data)
    for call in (made.predict, lambda data: list(data.windows()), lambda data: list(data.windows(tables=True))):
        with pytest.raises(FileNotFoundError, match=r"part0\.parquet: has been deleted"):
            call(data)


@pytest.mark.parametrize("name", HARMS)
def test_models_of_tables(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as before a fit that failed."""
    harm, error, message = HARMS[name]
    data = cases.opened(tmp_path, window=130, cuts=(0, 1003))
    model = TabularModel("classification", ensemble=1, progress=False, device="cpu").fit(cases.X, cases.Y)
    before = model.predict_proba(cases.X[:9])
    train = gd.tables.model.train

    def harmed(*args: Any, **options: Any) -> Any:
        harm(Path(data.paths[0]))
        return train(*args, **options)

    monkeypatch.setattr(gd.tables.model, "train", harmed)
    with pytest.raises(error, match=message + r".*; found in epoch 1, after 0 steps"):
        model.fit(data, "label")
    helpers.same_bits(model.predict_proba(cases.X[:9]), before)
