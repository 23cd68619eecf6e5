"""One call of ``Trainer.fit``: epochs, measurements and callbacks."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..callbacks import Callback, EarlyStopping
from ..callbacks.early_stopping import chosen
from ..history import History, number
from ..internal.checks import integer, is_iterable, shown
from ..metrics.names import unmeasured
from ..parquet.files import MissingFile, UnreadableFile
from .measure import CheckedData, Measured
from .rates import Numbers
from .sources import SLICE_SECONDS, ArraySource, Source
from .state import Position
from .step_log import StepLog

if TYPE_CHECKING:
    from ..io.checkpoint import Saved
    from ..trainer import Trainer

BEGINNING = Position()  # of an epoch
SHORT_EPOCH = SLICE_SECONDS / 4
MOST_EPOCHS = 1024  # in one call of C++
EVENTS = ("on_train_begin", "on_epoch_begin", "on_step", "on_progress", "on_measure", "on_epoch_end", "on_train_end")


class Fit:
    """A run of training: batch source, validation data and callbacks.

    Parameters
    ----------
    source : Source
        Source of the batches.
    validation : Measured or None
        Data to measure at the end of an epoch, as "val_...".
    callbacks : sequence
        Objects with some of the methods of `Callback`.
    first_epoch : int
        Number of finished epochs at the start; for a resumed run, at the start of the original run.
    last_epoch : int
        Number of finished epochs at the end.
    metrics : collection of str
        Names of the metrics.
    measure_training : bool
        Whether the training data is measured at the end of an epoch too.
    log : StepLog or None
        The log of losses by steps, if there is one.
    """

    def __init__(
        self,
        source: Source,
        validation: Measured | None,
        callbacks: Sequence[object],
        *,
        first_epoch: int,
        last_epoch: int,
        metrics: Collection[str],
        measure_training: bool,
        log: StepLog | None,
    ) -> None:
        self._source, self._log = source, log
        self._validation = validation
        self._training = source.data if measure_training else None
        self.callbacks = checked_callbacks(callbacks) + ([] if log is None else [log])
        self.thread = threading.get_ident()  # the training thread
        self.first_epoch, self.last_epoch = first_epoch, last_epoch
        self.position = BEGINNING
        self._seconds = math.inf  # of the last epoch
        self.stopped = False  # whether a callback had stopped the resumed run
        self._restore: Callable[[], None] | None = None
        self._check_monitors(tuple(metrics))
        self._on_step = [
            (integer(getattr(callback, "every", 1), f"callbacks[{i}].every", minimum=1), hook)
            for i, callback in enumerate(self.callbacks)
            for hook in _hooks([callback], "on_step")
        ]
        self._on_measure = _hooks(self.callbacks, "on_measure")
        if len(self._on_measure) > 1:
            raise ValueError(f"callbacks: got {len(self._on_measure)} with on_measure; expected one at most")

    @property
    def batches(self) -> int | None:
        """Number of batches in an epoch, None if unknown."""
        return self._source.batches

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same when this run is resumed."""
        return {
            **self._source.settings(),
            "validation": None if self._validation is None else self._validation.setting(),
            "measure_training": self._training is not None,
        }

    def check(self, trainer: Trainer) -> None:
        """Let callbacks refuse the run before anything is changed."""
        for hook in _hooks(self.callbacks, "check_fit"):
            hook(trainer)

    def resume(self, epoch: int, saved: Saved, restore: Callable[[], None]) -> None:
        """Continue after `epoch` epochs; `restore` restores the callbacks' states after ``on_train_begin``."""
        self.stopped = saved.training["stopped"]
        self.position, self._restore = saved.position, restore
        self._source.resume(epoch - self.first_epoch)

    def run(self, trainer: Trainer) -> None:
        """Train until the last epoch is done or a callback stops the run."""
        trainer.stop, trainer._history._chosen = False, None
        started: list[object] = []
        try:
            for callback in self.callbacks:
                for hook in _hooks([callback], "on_train_begin"):
                    hook(trainer)
                started.append(callback)
            if self._restore is not None:
                self._restore()
            self._listen()
            trainer.stop = trainer.stop or self._stays_stopped(trainer.epoch)
            while trainer.epoch < self.last_epoch and not trainer._stop:
                if self._seconds > SHORT_EPOCH or self._observed(trainer):
                    self._epoch(trainer)
                else:
                    self._epochs(trainer)
        except (UnreadableFile, MissingFile) as error:
            error.args = (f"{error}; found in epoch {trainer.epoch + 1}, after {trainer.steps} steps",)
            raise
        finally:
            trainer._history._chosen = chosen(started)
            with ExitStack() as stack:  # calls every hook in order, even if one raises
                stack.callback(self._source.close)
                started.sort(key=lambda callback: not _hooks([callback], "on_measure"))  # the one with it comes first
                for hook in reversed(_hooks(started, "on_train_end")):
                    stack.callback(hook, trainer)

    def _stays_stopped(self, epoch: int) -> bool:
        """Return whether a resumed run stays stopped, with a warning if epochs would be left."""
        waiting = [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]
        if not self.stopped or (any(c.extended for c in waiting) and not any(c.finished for c in waiting)):
            return False
        if epoch < self.last_epoch:
            warnings.warn(
                f"resume: a callback had stopped this run after epoch {epoch}, so that no epoch is left "
                "to train; EarlyStopping with more patience goes on, as does a fit without resume after "
                "trainer.load_checkpoint(path)",
                stacklevel=5,  # past the check of the arguments of `fit`
            )
        return True

    def _listen(self) -> None:
        """Look up the hooks of frequent events once; at the end of an epoch, callbacks that only record come last."""
        ordered = sorted(self.callbacks, key=lambda callback: bool(getattr(callback, "records", False)))
        self._on_epoch_begin = _hooks(self.callbacks, "on_epoch_begin")
        self._on_progress = _hooks(self.callbacks, "on_progress")
        ends = [(callback, _hooks([callback], "on_epoch_end")) for callback in ordered]
        self._on_epoch_end = [(callback, hook) for callback, hooks in ends for hook in hooks]

    def _observed(self, trainer: Trainer) -> bool:
        """Return whether an epoch needs Python: for callbacks, metrics, functions of the step, or parts of the data."""
        hooks = self._on_epoch_begin, self._on_progress, self._on_epoch_end, self._on_step, self._on_measure
        metrics = self._validation is not None and (type(self._validation) is not CheckedData or trainer.metrics)
        return bool(
            any(hooks)
            or metrics
            or self._log is not None
            or self._training is not None
            or type(self._source) is not ArraySource
            or trainer._step_rates.constant is None
            or isinstance(trainer.loss, _core.CustomLoss)
        )

    def _epochs(self, trainer: Trainer) -> None:
        """Train short epochs that nothing observes, measured and recorded as by `_finish`, for a slice of time."""
        source, validation, first = self._source, self._validation, trainer.epoch
        assert isinstance(source, ArraySource)
        assert validation is None or isinstance(validation, CheckedData)
        table = np.full((min(self.last_epoch - first, MOST_EPOCHS), 5), np.nan)
        lr = trainer.lr

        def record() -> None:
            done = table[~np.isnan(table[:, 4])]
            if trainer.epoch > first or not len(done):
                return
            rows = {
                "epoch": list(range(first + 1, first + 1 + len(done))),
                "loss": _means(done[:, 0], done[:, 1]),
                "lr": [lr] * len(done),
                "seconds": done[:, 4].tolist(),
            }
            if validation is not None:
                rows["val_loss"] = _means(done[:, 2], done[:, 3])
            trainer._history._extend(rows, len(done))
            self._seconds = rows["seconds"][-1]

        try:
            try:
                source.run_epochs(trainer, validation, table, first - self.first_epoch, self.last_epoch - first)
            finally:
                record()
        finally:
            record()  # if Ctrl-C has ended the first call

    def _epoch(self, trainer: Trainer) -> None:
        source = self._source
        for hook in self._on_epoch_begin:
            hook(trainer)
        batch, loss_sum, weight_sum, before = self.position
        started = time.perf_counter() - before
        source.begin(trainer, batch)
        while not source.done:
            batch, loss_sum, weight_sum = self._advance(trainer, loss_sum, weight_sum, started)
            if self._on_progress or not source.done:
                self.position = Position(batch, loss_sum, weight_sum, time.perf_counter() - started)
                loss = loss_sum / weight_sum if weight_sum else math.nan
                for hook in self._on_progress:
                    hook(trainer, batch, source.batches, loss)
                if trainer._stop and not source.done:
                    return  # an unfinished epoch does not count
        self._finish(trainer, loss_sum / weight_sum if weight_sum else math.nan, started)

    def _advance(
        self, trainer: Trainer, loss_sum: float, weight_sum: float, started: float
    ) -> tuple[int, float, float]:
        """Train for a slice of time, with a stop at each step that has a row in the log or a call of ``on_step``."""
        log, every = self._log, [every for every, _ in self._on_step]
        if log is None and not every:
            return self._source.advance(trainer, loss_sum, weight_sum)
        end = time.perf_counter() + SLICE_SECONDS
        if log is not None:
            every.append(log.every)
            log.begin(trainer.steps)
        while True:
            before = trainer.steps
            left = min(each - before % each for each in every)
            done = self._source.advance(trainer, loss_sum, weight_sum, left, log)
            if log is not None:
                log.add(trainer)
            made = trainer.steps
            if self._on_step:
                self.position = Position(*done, time.perf_counter() - started)  # a hook may save a checkpoint
            for each, hook in self._on_step:
                if made > before and made % each == 0:  # at the end of an iterable there may be no step
                    hook(trainer)
            _, loss_sum, weight_sum = done
            if self._source.done or trainer._stop or time.perf_counter() >= end:
                return done

    def _finish(self, trainer: Trainer, loss: float, started: float) -> None:
        """Measure, write the epoch into the history, and call the callbacks.

        After 1, 2, 4, 8 ... epochs and the last one, the optimiser's states must be finite.
        """
        done = trainer.epoch + 1 - self.first_epoch
        if trainer._check_finite and (done & (done - 1) == 0 or trainer.epoch + 1 == self.last_epoch):
            trainer._core.check_states()
        for measuring in self._on_measure:
            measuring(trainer)
        row: dict[str, float] = {"epoch": trainer.epoch + 1, "loss": loss}
        if self._training is not None:
            row |= self._training.measure(trainer)
        if self._validation is not None:
            row |= self._validation.measure(trainer, "val_")
        row["lr"] = trainer._rates.at(max(trainer._core.steps - 1, 0)) * trainer._lr_scale
        row["seconds"] = self._seconds = time.perf_counter() - started
        self.position = BEGINNING
        history = trainer._history
        history._append(row, "row")  # the epoch counts from here on
        if self._on_epoch_end:
            self._measured = frozenset(row)
        for callback, hook in self._on_epoch_end:
            given = history.last
            logs = dict(given)  # a copy, because callbacks add values
            hook(trainer, logs)
            self._add(history, callback, given, logs)

    def _add(self, history: History, callback: object, given: Mapping[str, float], logs: Mapping[str, Any]) -> None:
        """Write the values that a callback added to its logs into the history."""
        added = {name: value for name, value in logs.items() if name not in given or value is not given[name]}
        if not added:
            return
        who = f"callbacks[{self.callbacks.index(callback)}]: {type(callback).__name__}.on_epoch_end: logs"
        try:
            history.complete({name: value for name, value in added.items() if name not in self._measured})
            changed = {name: number(added[name], name) for name in self._measured & added.keys()}
        except TypeError as error:
            raise TypeError(f"{who}: {error}") from None
        for name, value in changed.items():
            if value != given[name] and not (math.isnan(value) and math.isnan(given[name])):
                raise ValueError(
                    f"{who}: got {value} for {name!r}, which was measured as {given[name]}; expected another name"
                )

    def _check_monitors(self, metrics: tuple[str, ...]) -> None:
        """Raise ValueError, before training, for a monitor whose column will not exist."""
        there = {"epoch", "loss", "lr", "seconds"}
        there |= set(metrics) if self._training is not None else set()
        there |= {f"val_{name}" for name in ("loss", *metrics)} if self._validation is not None else set()
        foreign = any(type(callback).__module__.partition(".")[0] != "gdcore" for callback in self.callbacks)
        for callback in self.callbacks:
            monitor = getattr(callback, "monitor", None)
            if not isinstance(callback, Callback) or not isinstance(monitor, str) or monitor in there:
                continue
            if foreign and monitor != "val_loss":  # a user's callback may add columns
                continue
            if monitor.startswith("val_") and self._validation is None:
                raise ValueError(
                    f"validation: needed by {type(callback).__name__}(monitor={monitor!r}): give (x, y) or a fraction"
                )
            raise ValueError(
                f"callbacks: {type(callback).__name__} monitors {monitor!r}, which is not measured; "
                f"{unmeasured(monitor, there)}"
            )


def _means(sums: Numbers, weights: Numbers) -> list[float]:
    """Return each sum divided by its weight, nan where the weight is 0."""
    pairs = zip(sums.tolist(), weights.tolist(), strict=True)
    means = (total / weight if weight else math.nan for total, weight in pairs)
    return [mean if mean == mean else math.nan for mean in means]  # one nan, so that equal histories compare equal


def _hooks(callbacks: Sequence[object], event: str) -> list[Callable[..., object]]:
    """Return the callbacks' methods for an event, without the empty ones of `Callback` itself."""
    inherited = getattr(Callback, event)
    hooks = [getattr(callback, event, None) for callback in callbacks]
    return [hook for hook in hooks if hook is not None and getattr(hook, "__func__", None) is not inherited]


def last_epoch(epochs: object, until_epoch: object, done: int) -> int:
    """Return the epoch at which a call of `fit` ends, if `done` epochs are finished when it begins.

    Raises
    ------
    TypeError, ValueError
        Unless exactly one of the two is given, a whole number of at least 1.
    """
    if (epochs is None) == (until_epoch is None):
        got = "neither epochs nor until_epoch" if epochs is None else "both epochs and until_epoch"
        raise TypeError(f"epochs: got {got}; expected epochs= (that many more) or until_epoch= (that many in all)")
    if epochs is not None:
        return done + integer(epochs, "epochs", minimum=1)
    return max(done, integer(until_epoch, "until_epoch", minimum=1))


def checked_callbacks(callbacks: Sequence[object]) -> list[object]:
    """Return callbacks as a list, also a single one; raise TypeError for objects that are no callbacks."""
    if any(hasattr(callbacks, event) for event in EVENTS):
        callbacks = [callbacks]
    if isinstance(callbacks, (str, bytes, Set, Mapping)) or not is_iterable(callbacks):
        raise TypeError(f"callbacks: got {shown(callbacks)}; expected a list of callbacks")
    checked = list(callbacks)
    for i, callback in enumerate(checked):
        if isinstance(callback, type):
            raise TypeError(
                f"callbacks[{i}]: got the class {callback.__name__}; expected an object: {callback.__name__}(...)"
            )
        if not any(callable(getattr(callback, event, None)) for event in EVENTS):
            raise TypeError(f"callbacks[{i}]: {shown(callback)} has none of the methods {', '.join(EVENTS)}")
    return checked
