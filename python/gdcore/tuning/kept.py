"""The starts that are done and the best models; with a folder on the disk, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..history import History
from ..io import specs
from ..model import load
from ..schedules import rates_of
from .starts import Start
from .store import Point, Rows, Store, key_of, plain
from .trials import Best, Training, Trial

__all__ = ["Kept"]

FACTS = ("value", "loss", "val_loss", "best_epoch", "note")  # of a start, beside its history
CHECKED_STEPS = 1000  # rates of a schedule that a folder compares


class Kept:
    """The starts that are done and the best of each settings; with a folder, on the disk as well.

    The model of a start is written before its line, and removed after the line of a better one: that of the best is
    there at any moment.
    """

    def __init__(self, folder: Any, training: Training, trials: Sequence[Trial]) -> None:
        self._training, self._trials = training, trials
        self._store = Store(folder, None if folder is None else self._settings())
        self.starts: dict[int, Start] = {}
        self.best: dict[int, Best] = {}
        if folder is None:
            return
        self._points = [plain(self._point(trial), "settings") for trial in trials]
        for i, point in enumerate(self._points):
            found = self._store.finished.get(key_of(point))
            if found is not None:
                self.starts[i] = self._read(trials[i], *found)
        if training.keep:
            for i in [i for i, start in self.starts.items() if not start.note]:
                self._load(i)
        for i, start in self.starts.items():
            self._compare(i, start)
        if not training.keep:
            for i in [each.position for each in self.best.values()]:
                self._load(i)
        training.best = {group: each._replace(model=None) for group, each in self.best.items()}

    def status(self) -> str:
        """Return the best measure so far, and whose it is."""
        found = min((each[:2] for each in self.best.values()), default=None)
        if found is None:
            return ""
        return f"best: {self._training.monitor} {self.starts[found[1]].value:.4g}, {self._trials[found[1]]}"

    def add(self, i: int, start: Start) -> None:
        """Keep a start; its model only if it is the best of its settings, or all are kept."""
        before = self.best.get(self._trials[i].group)
        better = self._compare(i, start)
        model = start.model
        self.starts[i] = start if self._training.keep else replace(start, model=None)
        if self._store.folder is None:
            return
        if model is not None and (better or self._training.keep):
            model.save(self._path(i))
        facts = {name: getattr(start, name) for name in FACTS}
        self._store.add(key_of(self._points[i]), self._points[i], [facts, *start.history.rows], start.seconds)
        if better and before is not None and not self._training.keep:
            self._path(before.position).unlink(missing_ok=True)

    def _compare(self, i: int, start: Start) -> bool:
        """Return whether a start is the best of its settings so far."""
        group, mine = self._trials[i].group, self._training.place(start, i)._replace(model=start.model)
        if start.note or (group in self.best and self.best[group][:2] < mine[:2]):
            return False
        self.best[group] = mine
        return True

    def _settings(self) -> Any:
        training = self._training
        return plain(
            {
                "data": f"{training.data.checksum():08x}",
                "monitor": training.monitor,
                "mode": training.mode,
                "metrics": list(training.metrics),
            },
            "settings",
        )

    def _point(self, trial: Trial) -> Point:
        """Return what a start depends on: also its layers and initial weights, as functions cannot be compared."""
        maker = self._training.maker
        trainer = maker.trainer(trial, ())
        model = trainer.model
        made = model.copy_state()["parameters"].tobytes() + model.flat_parameters().tobytes()  # without the frozen
        if callable(trainer.optimizer.lr):
            made += rates_of(trainer.optimizer.lr, 0, CHECKED_STEPS).tobytes()
        callbacks = [_encoded(each) for each in maker.callbacks(trial) if not getattr(each, "records", False)]
        parts = [model.layers, model.device, model.precision, trainer.loss, trainer.optimizer, callbacks]
        parts.append(maker.fit(trial))
        checksum = zlib.crc32(made + repr(specs.encode(parts)).encode())
        return {"seed": trial.seed, **specs.encode(trial.settings), "checksum": f"{checksum:08x}"}

    def _read(self, trial: Trial, rows: Rows, seconds: float) -> Start:
        facts, *epochs = rows
        history = History(epochs)
        known = {name: facts[name] for name in FACTS}
        return Start(
            seed=trial.seed,
            settings=trial.settings,
            epochs=history.last_epoch,
            seconds=seconds,
            history=history,
            **known,
        )

    def _path(self, i: int) -> Path:
        assert self._store.folder is not None
        name = hashlib.sha256(key_of(self._points[i]).encode()).hexdigest()[:16]
        return self._store.folder / f"model-{name}.safetensors"

    def _load(self, i: int) -> None:
        """Load the model of a start; without its file, the start is computed again."""
        group = self._trials[i].group
        if not self._path(i).exists():
            del self.starts[i]
            self.best.pop(group, None)
        elif self._training.keep:
            self.starts[i] = replace(self.starts[i], model=load(self._path(i)))
        else:
            self.best[group] = self.best[group]._replace(model=load(self._path(i)))


def _encoded(callback: Any) -> dict[str, Any]:
    """Return a callback as a JSON value: its class, and its plain attributes."""
    state = object.__getstate__(callback)  # a dictionary, one of slots beside it, or nothing
    parts = state if isinstance(state, tuple) else (state,)
    plain_kinds = (bool, int, float, str, type(None))
    found = {name: v for part in parts if part for name, v in part.items() if isinstance(v, plain_kinds)}
    return {"class": specs.function_name(type(callback)), **found}
