"""One of many trainings: a trial, what makes its model, and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .. import _core
from ..history import History
from ..internal.arrays import Data
from ..internal.checks import plain_repr
from ..internal.prepared import Prepared, prepared
from ..model import Sequential
from ..trainer import Trainer
from ..training.stack import batches_of, fit_all
from ..training.validation import validation_of
from .starts import Start

__all__ = ["Best", "Maker", "Split", "Training", "Trial", "no_name"]


def no_name(i: int) -> str:
    """Return no name for a task: what computes it alone names it."""
    return ""


class Trial(NamedTuple):
    """One training: its seed, its settings by name, and the number of those settings."""

    seed: int
    settings: dict[str, Any]
    group: int = 0

    def __str__(self) -> str:
        """Return the seed and the settings: "seed 3, epsilon 0.1"."""
        given = {"seed": self.seed, **self.settings}
        several = (list, tuple, dict)
        shown_as = {key: plain_repr(value) if isinstance(value, several) else value for key, value in given.items()}
        return ", ".join(f"{key} {value}" for key, value in shown_as.items())


class Maker(NamedTuple):
    """Functions that return the parts of a training for a trial; `fit` the arguments of `Trainer.fit`."""

    build: Callable[[Trial], Sequential]
    loss: Callable[[Trial], _core.Loss]
    optimizer: Callable[[Trial], _core.Optimizer]
    dropout_schedule: Callable[[Trial], Callable[[int], float] | None]
    callbacks: Callable[[Trial], Sequence[object]]
    fit: Callable[[Trial], dict[str, Any]]

    def trainer(self, trial: Trial, metrics: Any) -> Trainer:
        """Return the trainer of a trial, with its model."""
        return Trainer(
            self.build(trial),
            self.loss(trial),
            optimizer=self.optimizer(trial),
            metrics=metrics,
            seed=trial.seed,
            dropout_schedule=self.dropout_schedule(trial),
        )


class Split(NamedTuple):
    """The training and validation data of every trial."""

    training: Prepared
    validation: Prepared

    @classmethod
    def of(
        cls, trainer: Trainer, x: Data, y: Data, weights: Data | None, validation: Sequence[Data] | float, seed: int
    ) -> Split:
        """Return the data as arrays; `seed` chooses the rows of a share."""
        model, loss = trainer.model, trainer.loss
        given = prepared(model, loss, x, y, weights, check="columns")
        wanted = validation_of(validation, batches=False)
        if wanted.parts is None:
            training, other = wanted.split(len(given.x.array), seed)
            return cls(given.part(training), given.part(other))
        return cls(given, prepared(model, loss, *wanted.parts, "validation: ", known=given.columns))


class Best(NamedTuple):
    """The best trial so far: its measure (less is better), its position, its model."""

    key: float
    position: int
    model: Sequential | None = None

    def pair(self, starts: Sequence[Start]) -> tuple[Sequential, Start]:
        """Return the model and the start."""
        assert self.model is not None  # that of the best is kept
        return self.model, starts[self.position]


@dataclass
class Training:
    """Trains the model of a trial, and measures it: in each process once, with the data.

    Attributes
    ----------
    maker : Maker
        Makes the model of a trial and what trains it.
    metrics : dict
        Measures besides the loss.
    data : Split
        The data.
    monitor, mode : str
        What models are compared by.
    keep : bool
        Whether to return all models; otherwise only those that may be the best of their settings.
    best : dict
        For each number of settings the best trial that this process knows.
    """

    maker: Maker
    metrics: dict[str, Any]
    data: Split
    monitor: str
    mode: str
    keep: bool = False
    best: dict[int, Best] = field(default_factory=dict)

    def __call__(self, position: int, trial: Trial) -> Start:
        """Return the result of a trial."""
        return next(self.together([(position, trial)]))[1]

    def together(
        self, tasks: Sequence[tuple[int, Trial]], name: Callable[[int], str] = no_name
    ) -> Iterator[tuple[int, Start]]:
        """Yield the number of each task and its result; on a GPU, trainings that are alike run at once."""
        made = batches_of(tasks, lambda task: self.maker.trainer(task[1], self.metrics), name, alone=False)
        for first, trainers, names in made:
            some = tasks[first : first + len(trainers)]
            for i, note, fitting in fit_all(trainers, [self._call(trial) for _, trial in some], names):
                (position, trial), started = some[i], time.perf_counter()
                start = self._measured(trial, trainers[i], note)
                seconds = fitting + time.perf_counter() - started
                yield first + i, self._kept(replace(start, seconds=seconds), position, trial.group)

    def _call(self, trial: Trial) -> dict[str, Any]:
        """Return the arguments of `Trainer.fit`."""
        (x, y, weights), validation = self.data
        given = {"x": x, "y": y, "sample_weight": weights, "validation": validation}
        return {**given, **self.maker.fit(trial), "callbacks": self.maker.callbacks(trial)}

    def _kept(self, start: Start, position: int, group: int) -> Start:
        """Return the start, with its model where that may be the best."""
        if start.note or self.keep:
            return start
        mine = self.place(start, position)
        if self.best.get(group, mine) < mine:
            return replace(start, model=None)
        self.best[group] = mine
        return start

    def place(self, start: Start, position: int) -> Best:
        """Return a start in the order of its measure, less is better, then of its position."""
        return Best(start.value if self.mode == "min" else -start.value, position)

    def _measured(self, trial: Trial, trainer: Trainer, note: str) -> Start:
        """Return the result of a trained model; `note` says why it diverged, if it did."""
        (x, y, weights), validation = self.data
        training, measured = {"loss": math.inf}, {"loss": math.inf}
        if not note:
            try:
                training = trainer.evaluate(x, y, sample_weight=weights)
                measured = trainer.evaluate(validation.x, validation.y, sample_weight=validation.weights)
            except _core.DivergenceError as error:
                note = str(error)
        value = measured.get(self.monitor.removeprefix("val_"), math.nan)
        if not note and not math.isfinite(value):
            note = f"{self.monitor} is {value}"
        if note:
            value = math.inf if self.mode == "min" else -math.inf
        if note and not math.isfinite(measured["loss"]):
            training = measured = {"loss": math.inf}
        history = trainer.history
        return Start(
            seed=trial.seed,
            settings=trial.settings,
            value=value,
            loss=training["loss"],
            val_loss=measured["loss"],
            best_epoch=self._best_epoch(history),
            epochs=history.last_epoch,
            seconds=0.0,
            history=history,
            val_metrics={name: measured[name] for name in self.metrics if name in measured},
            note=note,
            model=None if note else trainer.model,
        )

    def _best_epoch(self, history: History) -> int:
        """Return the epoch that `EarlyStopping` chose, or the one with the best measure; 0 if none was finite."""
        if history._chosen is not None:
            return history._chosen.epoch
        ever = self.monitor in history and any(map(math.isfinite, history[self.monitor]))
        return history.best_epoch(self.monitor, self.mode) if ever else 0
