"""Stacks: many trainers on a GPU, trained together epoch by epoch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _core
from ..callbacks import EarlyStopping
from ..callbacks.early_stopping import chosen
from ..internal.checks import integer
from ..internal.class_weights import trained
from ..internal.features import UNNAMED
from .data import DEFAULT_SIZE, Given, training_data
from .measure import CheckedData, measured
from .rates import scaled, wide
from .sources import ArraySource
from .validation import validation_of

if TYPE_CHECKING:
    from ..internal.arrays import Data
    from ..trainer import Trainer

__all__ = ["Stacked", "batches_of", "fit_all", "fit_stack"]

Task = TypeVar("Task")
MOST_OUTPUTS = 2**28  # numbers, for metrics
AT_ONCE = 1024  # trainers whose models are on the device at a time, at most
MEMORY = 2**31  # bytes of theirs
ARENAS = 12  # of the size of the parameters: a model's, its gradients and states, and those of the stack
SAME = ("x", "y", "sample_weight", "validation", "epochs", "batch_size", "shuffle", "drop_last")  # in a stack


class Stacked(NamedTuple):
    """What `fit_stack` did: the trainers that it left, by their index, and the errors of those that diverged."""

    left: list[int]
    errors: dict[int, _core.DivergenceError]


def fit_stack(
    trainers: Sequence[Trainer],
    x: Data,
    y: Data,
    *,
    epochs: int,
    batch_size: int | None = DEFAULT_SIZE,
    validation: Sequence[Data] | None = None,
    callbacks: Sequence[Sequence[object]] | None = None,
    sample_weight: Data | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Stacked:
    """Train many trainers on the same data; those that are alike and on a GPU are trained together.

    Each trainer ends as after its own ``fit`` with these arguments on that GPU, bit for bit: weights, optimiser state,
    steps, history (``seconds`` is the time of the whole stack's epoch), early stopping. Trainers are alike if their
    models, losses and optimisers differ in seeds, initial weights, learning rates, weight decay and schedules alone.

    Parameters
    ----------
    trainers : sequence of Trainer
        The trainers, each with a model of its own.
    x, y, epochs, batch_size, sample_weight, shuffle, drop_last
        As for `Trainer.fit`.
    validation : (x, y) or (x, y, weights), optional
        Data to measure at the end of each epoch, as for `Trainer.fit`. With a fraction, which each trainer's seed
        splits in its own way, no trainer is taken.
    callbacks : sequence, optional
        For each trainer its callbacks, with state of their own: none, or one `EarlyStopping`.

    Returns
    -------
    Stacked
        ``left``: the trainers that were not taken, to be fitted one by one: on a CPU, of float64, with other callbacks,
        layers or losses for which the device has no fused step, or like no other trainer. ``errors``: by the trainer's
        index, the error that its ``fit`` would have raised.

    Raises
    ------
    TypeError, ValueError
        If the data does not fit, before any trainer of its group is changed.
    KeyboardInterrupt
        On Ctrl-C. Each trainer has the epochs that all had completed, as after an interrupted ``fit``.
    """
    epochs = integer(epochs, "epochs", minimum=1)
    given = Given(x, y, sample_weight, validation, False, batch_size, shuffle, drop_last, None, False)
    if callbacks is not None and len(callbacks) != len(trainers):
        raise ValueError(f"callbacks: got {len(callbacks)} lists for {len(trainers)} trainers; expected one for each")
    own: list[list[Any]] = [[] for _ in trainers] if callbacks is None else [list(each) for each in callbacks]
    left = set(range(len(trainers)))
    errors: dict[int, _core.DivergenceError] = {}
    for members in _groups(trainers, own, given):
        watching: list[EarlyStopping | None] = [next(iter(own[i]), None) for i in members]
        group = _Group([trainers[i] for i in members], watching, given, epochs)
        if group.taken():
            left -= set(members)
            errors |= {members[i]: error for i, error in group.run().items()}
    return Stacked(sorted(left), errors)


def _groups(trainers: Sequence[Trainer], callbacks: list[list[Any]], given: Given) -> list[list[int]]:
    """Return the indices of trainers that are alike, where there are at least two."""
    validation = None if given.validation is None else validation_of(given.validation, batches=True)
    if given.y is None or (validation is not None and validation.parts is None):
        return []
    used: set[int] = set()  # models and callbacks
    able = []
    for i, trainer in enumerate(trainers):
        owned = {id(each) for each in (trainer.model, *callbacks[i])}
        monitors = (
            {"loss"} if validation is None else {"loss", "val_loss", *(f"val_{name}" for name in trainer.metrics)}
        )
        watched = [type(each) is EarlyStopping and each.monitor in monitors for each in callbacks[i]]
        fits = trainer.model.device == "cuda" and trainer._fit is None
        if fits and watched in ([], [True]) and not owned & used:
            able.append(i)
        used |= owned
    found: dict[Any, list[int]] = {}
    firsts = _core._alike([trainers[i]._core for i in able])
    for i, first in zip(able, firsts, strict=True):
        trainer = trainers[i]
        model, names = trainer.model, tuple(trainer.metrics)
        key = (first, model.classes, model.outputs, trainer._known(), trainer.check_finite, names)
        found.setdefault(key, []).append(i)
    return [members for members in found.values() if len(members) > 1]


def batches_of(
    tasks: Sequence[Task], make: Callable[[Task], Trainer], name: Callable[[int], str], *, alone: bool
) -> Iterator[tuple[int, list[Trainer], list[str]]]:
    """Make the trainers of tasks, one at a time if `alone`, else as many as memory allows.

    Yields the number of the first task, the trainers from there on, and the names of their tasks. The first trainer
    tells how much memory each takes.
    """
    first = 0
    while first < len(tasks):
        trainers: list[Trainer] = []
        names: list[str] = []
        count = 1
        while len(trainers) < count:
            names.append(name(first + len(trainers)))
            with named(names[-1]):
                trainers.append(make(tasks[first + len(trainers)]))
            if len(trainers) == 1 < len(tasks) - first and not alone:
                size = ARENAS * trainers[0].model.flat_parameters().nbytes
                count = min(len(tasks) - first, max(1, min(AT_ONCE, MEMORY // max(1, size))))
        yield first, trainers, names
        first += count


def fit_all(
    trainers: Sequence[Trainer], calls: Sequence[dict[str, Any]], names: Sequence[str]
) -> Iterator[tuple[int, str, float]]:
    """Fit each trainer as ``trainer.fit(**call)``; those that `fit_stack` takes, together.

    Yields the index of each trainer when it is fitted, the message of its `DivergenceError` or "", and the seconds: in
    a stack its share of them. Other errors are raised, with the trainer's name as a note.
    """
    groups: dict[Any, list[int]] = {}
    for i, call in enumerate(calls):
        known = set(call) <= {*SAME, "callbacks"} and call.get("epochs") is not None
        values = [call[name] if isinstance(call.get(name), int) else id(call.get(name)) for name in SAME]
        groups.setdefault(tuple(values) if known else i, []).append(i)
    for members in groups.values():
        alone, started = members, time.perf_counter()
        if len(members) > 1:
            shared = {name: value for name, value in calls[members[0]].items() if name != "callbacks"}
            own = [list(calls[i].get("callbacks", ())) for i in members]
            left, errors = fit_stack([trainers[i] for i in members], callbacks=own, **shared)
            alone = [members[j] for j in left]
            seconds = (time.perf_counter() - started) / max(1, len(members) - len(left))
            for j in sorted({*range(len(members))} - {*left}):
                yield members[j], str(errors.get(j, "")), seconds
        for i in alone:
            note, started = "", time.perf_counter()
            with named(names[i]):
                try:
                    trainers[i].fit(**calls[i])
                except _core.DivergenceError as error:
                    note = str(error)
            yield i, note, time.perf_counter() - started


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Add a name, if it is not empty, to the notes of an exception."""
    try:
        yield
    except Exception as error:
        if name:
            error.add_note(name)
        raise


class _Group:
    """Trainers that are alike, and their epochs."""

    def __init__(
        self, trainers: list[Trainer], watching: list[EarlyStopping | None], given: Given, epochs: int
    ) -> None:
        self._trainers, self._watching, self._given, self._epochs = trainers, watching, given, epochs
        lead = trainers[0]
        source, validation, columns = training_data(lead, given, epochs, lead.seed, UNNAMED)
        assert isinstance(source, ArraySource)
        assert validation is None or isinstance(validation, CheckedData)
        self._source, self._validation = source, validation
        loss = trained(lead.loss, lead.model, source)
        for trainer in trainers:
            trainer._weigh(loss)
            trainer._learn(columns)
        self._stack = _core._TrainerStack([trainer._core for trainer in trainers])
        self._rows: list[dict[str, npt.NDArray[np.float64]]] = []  # by epoch, a value for each trainer
        self._trained = np.zeros(len(trainers), np.int64)  # epochs that count
        self._first = np.array([trainer.epoch for trainer in trainers], np.int64)
        self._stop = _Stopping(watching)
        self._failed = np.full(len(trainers), -1, np.int64)  # the batch with a loss that is not finite
        constant = [trainer._step_rates.constant for trainer in trainers]
        self._constant = None  # the rates if none changes
        if None not in constant and all(trainer.decay_scale == 1.0 for trainer in trainers):
            self._constant = np.array(constant, np.float64) * [trainer._lr_scale for trainer in trainers]

    def taken(self) -> bool:
        """Return whether the device trains and measures all of them at once."""
        source, validation = self._source, self._validation
        data, size = source.data, source.batch_size
        if not self._stack.trains(data.dataset, data.rows, batch_size=size, drop_last=source.drop_last):
            return False
        if validation is None:
            return True
        fits = not self._trainers[0].metrics or math.prod(self._shape(validation)) <= MOST_OUTPUTS
        return fits and self._stack.measures(validation.dataset, validation.rows)

    def _shape(self, validation: CheckedData) -> tuple[int, int, int]:
        """Return the shape of all outputs: trainers, rows, outputs."""
        return len(self._trainers), len(validation), self._trainers[0].model.out_features

    def run(self) -> dict[int, _core.DivergenceError]:
        """Train; return the errors of those that diverged."""
        active = np.ones(len(self._trainers), bool)
        try:
            for epoch in range(self._epochs):
                if not active.any():
                    break
                active = self._epoch(epoch, active)
        finally:
            errors = self._finish()
        return errors

    def _epoch(self, epoch: int, active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Train and measure an epoch; return which trainers go on."""
        started = time.perf_counter()
        source, stack = self._source, self._stack
        before = np.array(stack.steps)
        seeds = np.array([trainer._seed for trainer in self._trainers], np.uint64)
        keys = np.column_stack([seeds, (self._first + epoch).astype(np.uint64)]) if source.shuffle else None
        sums = stack.run(
            source.data.dataset,
            source.data.rows,
            shuffle=keys,
            batch_size=source.batch_size,
            drop_last=source.drop_last,
            rates=self._rates(before),
            active=active,
        )
        done = np.array(stack.steps) - before
        failed = active & (done < source.batches)
        self._failed[failed] = done[failed]
        active = active & ~failed
        row = {"loss": _means(sums)}
        if self._validation is not None and active.any():
            row |= self._measure(self._validation, active)
        row["lr"] = self._last_rates()
        row["seconds"] = np.full(len(active), time.perf_counter() - started)
        self._rows.append(row)
        self._trained[active] = epoch + 1
        if self._stop.watched:
            better, active = self._stop.update(row, active, self._first + epoch + 1)
            stack.keep(better)
        return active

    def _measure(self, validation: CheckedData, active: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the columns "val_..." with a value for each trainer."""
        lead, label = self._trainers[0], validation._label
        outputs = np.empty(self._shape(validation), np.float32) if lead.metrics else None
        flat = None if outputs is None else outputs.reshape(-1, lead.model.out_features)
        sums = self._stack.evaluate(validation.dataset, rows=validation.rows, active=active, outputs=flat)
        columns = {"val_loss": _means(sums)}
        members = np.flatnonzero(active)
        for i in members[:1] if outputs is None else members:  # one of them checks the sum of the weights
            seen = None if outputs is None else outputs[i]
            values = measured(self._trainers[i], "val_", tuple(sums[i]), label, seen, validation.truth)
            for name in values.keys() - {"val_loss"}:
                columns.setdefault(name, np.full(len(active), np.nan))[i] = values[name]
        return {name: columns[name] for name in ("val_loss", *(f"val_{each}" for each in lead.metrics))}

    def _rates(self, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the rates of the epoch: those of each trainer, or those of each trainer and batch."""
        batches = self._source.batches
        if self._constant is not None:
            return self._constant
        rates = [
            scaled(trainer._step_rates.epoch(int(step), batches), trainer._lr_scale, trainer._decay_scale)
            for trainer, step in zip(self._trainers, steps, strict=True)
        ]
        if any(each.ndim == 2 for each in rates):
            rates = [wide(each) if each.ndim == 1 else each for each in rates]
        if not all(len(each) == 1 for each in rates):
            rates = [np.broadcast_to(each, (batches, *each.shape[1:])) for each in rates]
        return np.concatenate(rates)

    def _last_rates(self) -> npt.NDArray[np.float64]:
        """Return each trainer's rate of its last step."""
        if self._constant is not None:
            return self._constant
        steps = zip(self._trainers, self._stack.steps, strict=True)
        return np.array([each._rates.at(max(step - 1, 0)) * each._lr_scale for each, step in steps])

    def _finish(self) -> dict[int, _core.DivergenceError]:
        """Copy everything back to the trainers; return the errors of those that diverged."""
        errors = {}
        for i, trainer in enumerate(self._trainers):
            for epoch in range(int(self._trained[i])):
                row = {name: float(values[i]) for name, values in self._rows[epoch].items()}
                trainer._history._append({"epoch": int(self._first[i]) + epoch + 1, **row}, "row")
            stopping, state = self._watching[i], None
            if stopping is not None and stopping.restore_best and self._stop.epoch[i] > 0:
                self._stack.give_back(i, kept=True)
                state = trainer.model.copy_state()
            if state is None or self._failed[i] >= 0:
                self._stack.give_back(i, kept=False)
            error = self._error(i, trainer)
            if error is not None:
                errors[i] = error
            if stopping is None:
                trainer.stop, trainer._history._chosen = False, None
                continue
            stopping.take(*self._stop.result(i, int(self._first[i] + self._trained[i])), state)
            trainer._history._chosen = chosen([stopping])
            trainer.stop = stopping.finished
            if state is not None and self._failed[i] >= 0:
                stopping.restore(trainer.model)
        return errors

    def _error(self, i: int, trainer: Trainer) -> _core.DivergenceError | None:
        """Return the error of a trainer that diverged: a step that failed is repeated, which changes nothing."""
        try:
            if self._failed[i] < 0:
                if trainer._check_finite:
                    trainer._core.check_states()
                return None
            source, _, _ = training_data(trainer, self._given, self._epochs, trainer.seed, UNNAMED)
            assert isinstance(source, ArraySource)
            source.begin(trainer, int(self._failed[i]))
            source.advance(trainer, 0.0, 0.0)
        except _core.DivergenceError as error:
            return error
        raise AssertionError("a step of a stack failed that does not fail alone")


class _Stopping:
    """The states of `EarlyStopping` for all trainers."""

    def __init__(self, watching: list[EarlyStopping | None]) -> None:
        self._callbacks = watching
        self.watched = any(each is not None for each in watching)
        nothing = EarlyStopping(patience=1)
        settings = [nothing if each is None else each for each in watching]
        self._on = np.array([each is not None for each in watching])
        monitors = [None if each is None else each.monitor for each in watching]
        self._watched_by = {
            each: np.array([monitor == each for monitor in monitors]) for each in set(monitors) if each is not None
        }
        self._sign = np.array([1.0 if each.mode == "min" else -1.0 for each in settings])
        self._patience = np.array([each.patience for each in settings])
        self._least = np.array([each.min_delta for each in settings])
        self._last = np.array([each.ties == "last" for each in settings])
        self._best = self._sign * np.inf
        self._since = np.zeros(len(watching), np.int64)
        self.epoch = np.zeros(len(watching), np.int64)  # of the best value

    def update(
        self, row: dict[str, npt.NDArray[np.float64]], active: npt.NDArray[np.bool_], epoch: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Take an epoch's values; return whose weights are the best ones now, and which trainers go on."""
        on = active & self._on
        values = np.full(len(on), np.nan)
        for monitor, watching in self._watched_by.items():
            if monitor in row:  # nothing is measured where all trainers have failed
                values = np.where(watching, row[monitor], values)
        for i in np.flatnonzero(on & np.isnan(values)):
            callback = self._callbacks[i]
            assert callback is not None
            callback._watch.value({callback.monitor: np.nan}, "EarlyStopping")  # warns
        with np.errstate(invalid="ignore"):
            better = on & (self._sign * (self._best - values) > self._least)
        kept = better | (on & self._last & (self.epoch > 0) & (values == self._best))
        self._best = np.where(better, values, self._best)
        self.epoch = np.where(kept, epoch, self.epoch)
        self._since = np.where(better, 0, self._since + on)
        return kept, active & ~(on & (self._since >= self._patience))

    def result(self, i: int, epochs: int) -> tuple[float, int, int, int]:
        """Return the best value, the epochs since, the number of epochs, and the best epoch."""
        return float(self._best[i]), int(self._since[i]), epochs, int(self.epoch[i])


def _means(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return loss / weight for each row, nan where the weight is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[:, 1] != 0.0, sums[:, 0] / sums[:, 1], np.nan)
