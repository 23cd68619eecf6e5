"""The starts that are done and the best models; with a folder on the disk, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..history import Chosen, History
from ..internal.checks import FormatError
from ..io import specs
from ..io.described import described
from ..model import load
from .starts import Start
from .store import Point, Rows, Store, key_of, plain
from .trials import Best, Training, Trial

__all__ = ["Kept"]

FACTS = ("value", "loss", "val_loss", "val_metrics", "best_epoch", "note")  # of a start, beside its history


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
        self._points = [plain(self._named_point(trial), "settings") for trial in trials]
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
        facts = {name: getattr(start, name) for name in FACTS} | {"chosen": start.history._chosen}
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
                "data": described(training.data, "folder"),
                "monitor": training.monitor,
                "mode": training.mode,
                "metrics": {name: described(metric, "folder") for name, metric in training.metrics.items()},
            },
            "settings",
        )

    def _named_point(self, trial: Trial) -> Point:
        """Return what a start depends on; an error names it."""
        try:
            return self._point(trial)
        except Exception as error:
            error.add_note(f"at {trial}")
            raise

    def _point(self, trial: Trial) -> Point:
        """Return what a start depends on: its model as built, and what trains it."""
        maker = self._training.maker
        trainer = maker.trainer(trial, ())
        callbacks = [each for each in maker.callbacks(trial) if not getattr(each, "records", False)]
        fit = dict(sorted(maker.fit(trial).items()))  # in whatever order they were given
        parts = [trainer.model, trainer.loss, trainer.optimizer, trainer.dropout_schedule, callbacks, fit]
        checksum = described(parts, "folder")
        return {"seed": trial.seed, **specs.encode(trial.settings, "settings"), "checksum": checksum}

    def _read(self, trial: Trial, rows: Rows, seconds: float) -> Start:
        try:
            facts, *epochs = rows
            known = {name: facts[name] for name in FACTS}
            history = History(epochs)
            history._chosen = Chosen(*facts["chosen"]) if facts["chosen"] else None
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"folder: the line of {trial} in {self._store.folder} is damaged ({type(error).__name__}: {error}); "
                "expected its measures and epochs; without the line it is computed again"
            ) from error
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
        """Load the model of a start; without its file, or if that is damaged, the start is computed again."""
        group = self._trials[i].group
        try:
            model = load(self._path(i))
        except (FileNotFoundError, FormatError):
            del self.starts[i]
            self.best.pop(group, None)
            return
        if self._training.keep:
            self.starts[i] = replace(self.starts[i], model=model)
        else:
            self.best[group] = self.best[group]._replace(model=model)
