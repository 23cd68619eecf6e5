"""The common part of callbacks for experiment trackers: which rows to write, the run's parameters, how it ended."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..history import History
from ..internal import json_values
from ..internal.attributes import Closed, Fixed
from ..internal.checks import optional_module, shown
from ..network.summary import short
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Tracker", "parameters_of"]

T = TypeVar("T", bound="Tracker")
LONGEST = 500  # characters of a parameter


class Tracker(Closed, Callback):
    """Write the parameters of a run and each row of the history to an experiment tracker.

    A run of the tracker begins with the first epoch of a `fit` and is closed at its end. It is continued by a later
    `fit` of the same trainer, and by one that resumes from a checkpoint; a new run gets all epochs of the history.
    Subclasses define ``_begin``, ``_describe``, ``_write`` and ``_end``, and name their arguments in ``_settings``.
    """

    __slots__ = ("_before", "_copied", "_is_open", "_own", "_parameters", "_row", "_run")
    records = True
    _settings: tuple[str, ...] = ()
    parameters: Fixed[Mapping[str, Any]] = Fixed("Parameters written besides the trainer's.", "make another callback")

    def __init__(self, parameters: Mapping[str, Any] | None) -> None:
        given = {} if parameters is None else parameters
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise TypeError(f"parameters: got {shown(parameters)}; expected a dict of values by their names")
        self._parameters = dict(given)
        self._copied = False
        self._start()

    def _start(self) -> None:
        self._is_open, self._own = False, True  # False: a run that the user has opened, and closes
        self._run: str | None = None  # what identifies the run: an id, a path
        self._row: dict[str, float] = {}  # the last row written
        self._before: BaseException | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles: of the arguments, as a copy writes a run of its own."""
        arguments = {name: getattr(self, name) for name in ("_parameters", *self._settings)}
        return _rebuilt, (type(self), arguments, getattr(self, "__dict__", {}))

    def _begin(self, run: str | None) -> str:
        """Open `run`, or else another one, and return what identifies it."""
        raise NotImplementedError

    def _describe(self, parameters: dict[str, Any]) -> None:
        """Write the parameters of a new run."""

    def _write(self, epoch: int, row: dict[str, float]) -> None:
        """Write a row of the history, without the number of its epoch."""

    def _end(self, error: BaseException | None) -> None:
        """Close the run; `error` has ended it, if there is one."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Remember which exception the caller is handling, as it is none of this run."""
        self._is_open, self._before = False, sys.exception()

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first epoch of a `fit`, open the run, and write what it lacks of the history."""
        if self._is_open:
            return
        history = trainer.history
        earlier = self._run if _begins_with(history, self._row) else None
        self._run = self._begin(earlier)
        self._is_open = True
        if earlier is None or self._run != earlier:
            self._row = {}
            self._describe(parameters_of(trainer) | self._parameters)
        for i in range(int(self._row.get("epoch", 0)), history.height):
            self._add(history.row(i))

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Write the epoch's row."""
        self._add(trainer.history.last)

    def _add(self, row: dict[str, float]) -> None:
        self._write(int(row["epoch"]), {name: value for name, value in row.items() if name != "epoch"})
        self._row = row

    def on_train_end(self, trainer: Trainer) -> None:
        """Close the run, with what ended it."""
        error, before, self._before = sys.exception(), self._before, None
        if self._is_open:
            self._is_open = False
            self._end(None if error is before else error)

    def state_dict(self) -> dict[str, Any]:
        """Return the run and its last row, so that a resumed training continues it."""
        known = self._own and bool(self._row)
        return {"run": self._run if known else None, "row": dict(self._row) if known else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the run of a resumed training."""
        who = type(self).__name__
        run, row = state.get("run"), json_values.mapping(state.get("row"), f"{who}: row")
        if run is not None:
            json_values.text(run, f"{who}: run")
            json_values.whole(row.get("epoch"), f"{who}: epoch")
        self._run, self._row, self._own = run, dict(row), True

    def _module(self, name: str, extra: str) -> Any:
        return optional_module(name, type(self).__name__, f'"gdcore[{extra}]"')


def _begins_with(history: History, row: Mapping[str, float]) -> bool:
    """Return whether a row that was written is one of the history."""
    if not row or not 0 < row["epoch"] <= history.height:
        return False
    there = history.row(int(row["epoch"]) - 1)
    return all(there.get(name) == value or value != value for name, value in row.items())


def _rebuilt(kind: type[T], arguments: Mapping[str, Any], own: Mapping[str, Any]) -> T:
    made = kind.__new__(kind)
    for name, value in arguments.items():
        setattr(made, name, value)
    made._copied = True
    Tracker._start(made)
    getattr(made, "__dict__", {}).update(own)
    return made


def parameters_of(trainer: Trainer) -> dict[str, Any]:
    """Return what a tracker shows of a run: loss, optimiser, layers, data and seeds, as numbers and short text."""
    model, fit = trainer.model, trainer._fit
    settings = {} if fit is None else fit.settings()
    settings["validation"] = settings.get("validation") or 0  # rows
    facts = {
        "loss": _plain(trainer.loss),
        "optimizer": _plain(trainer.optimizer),
        "initial_lr": trainer.lr,
        "layers": shown(_Text(", ".join(map(short, model.layers))), LONGEST),
        "parameters": sum(array.size for array in model.parameters().values()),
        "dtype": str(model.dtype),
        "precision": model.precision,
        "device": str(model.device),
        "model_seed": model.seed,
        "seed": trainer.seed,
        "until_epoch": trainer.last_epoch,
    }
    return facts | {name: value for name, value in settings.items() if value is not None}


class _Text(str):
    """Text whose repr has no quotes."""

    def __repr__(self) -> str:
        return str(self)


def _plain(spec: object) -> str:
    """Return a spec as text, without the addresses of functions."""
    return shown(_Text(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(spec))), LONGEST)
