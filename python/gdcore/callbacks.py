"""What may happen around training: early stopping, checkpoints, a smaller rate on a plateau.

A callback is any object with some of the methods of `Callback`; it need not inherit from it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _described, _destination, _flat
from ._arguments import explained
from ._attributes import Closed, Fixed, Setting
from ._checks import flag, optional, real, shown
from ._ranges import ranges_of
from ._watch import Watch, Watched, epochs
from .history import number

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from .model import Sequential, State
    from .trainer import Trainer

STATE = ("parameters", "buffers", "shapes")  # the arrays of Sequential.copy_state

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "ReduceOnPlateau"]


class Callback:
    """The events of a training run; a base class to inherit from, or a list of names to choose from.

    `fit` looks for these methods in every callback and calls those that are there, in the order of its ``callbacks``
    (those that record, `Checkpoint` and `CSVLog`, come last at an epoch's end, so that they see what the others did). A
    callback may set ``trainer.stop = True`` and ``trainer.lr_scale``, and add numbers to `logs`, which then stand in
    the history: Python's, NumPy's, or those of other libraries, kept as floats. `logs` is a copy of the epoch's row, so
    what is taken out of it stays in the history, and what was measured cannot be replaced.
    """

    __slots__ = ()
    records = False  # True: called after the others at the end of an epoch

    def check_fit(self, trainer: Trainer) -> None:
        """Raise where training could not go well, for want of a folder, say: `fit` has changed nothing yet."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Training is about to begin: everything is checked, and a resumed run has its state back."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Epoch ``trainer.epoch + 1`` is about to begin (or to go on, in a run resumed inside it)."""

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """`batch` of `batches` (None: unknown) are done, `loss` is their mean; called about every 0.1 s."""

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Epoch ``trainer.epoch`` is done; `logs` is a copy of its row of the history, to read and to add to."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Training is over: all epochs done, stopped, interrupted by Ctrl-C, or ended by an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold of this callback: arrays, and values that JSON can hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, when a run is resumed (after `on_train_begin`).

        It is called once before too, to let a callback refuse: when an error comes, nothing else has been changed, and
        the callback is given back what its `state_dict` returned before.
        """

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Raise FormatError or ValueError where `state`, which came from a file, does not fit; changes nothing."""


def _factor(value: object, name: str) -> float:
    factor = real(value, name, low=0, high=1, open_low=True)
    if factor == 1:
        raise ValueError(f"{name}: got {shown(value)}; expected a number below 1, which makes the rate smaller")
    return factor


@explained
class EarlyStopping(Watched, Callback):
    """Stop when a measure has not improved for some epochs, and keep the weights of the best one.

    Parameters
    ----------
    monitor : str
        Column to watch: "val_loss", "val_accuracy", ...
    patience : int
        Epochs without improvement after which training stops.
    min_delta : float
        Improvements must be larger than this, in the measure's unit.
    mode : {"min", "max"}, optional
        Which way is better; known for the loss and metrics by name, needed for others.
    restore_best : bool
        Whether the model gets its best weights back when training ends, for whatever reason it ends. The trainer's
        optimiser keeps its state, so a later `fit` goes on from the best weights.

    Attributes
    ----------
    best : float
        Best value so far; infinite before the first.
    best_epoch : int
        Its epoch, from 1; 0 before the first.

    Notes
    -----
    In a loop of one's own: ``if stopping.update(value, model): break``, and ``stopping.restore(model)`` after the loop.
    The smallest validation error is where to stop, as training beyond it fits the noise; see `History.plot`.
    ``patience``, ``min_delta`` and ``restore_best`` may be set at any time, before `fit` resumes a run or during it.
    """

    __slots__ = ("_epochs", "_extended", "_kept", "_restore_best", "_spare")
    restore_best: Setting[bool] = Setting("Whether the best weights are kept and given back.", flag)

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        *,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        self._watch = Watch(monitor, mode, min_delta)
        self.patience = patience
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self._watch.reset()
        self._extended = False
        self._epochs = 0
        self._kept: tuple[int, State | None] = (0, None)
        self._spare: State | None = None

    @property
    def best(self) -> float:
        """Best value so far."""
        return self._watch.best

    @property
    def best_epoch(self) -> int:
        """Epoch of the best value, from 1; 0 before the first."""
        return self._kept[0]

    def update(self, value: float, model: Sequential, *, epoch: int | None = None) -> bool:
        """Take the value of another epoch, keep the weights if it is the best, and tell whether to stop.

        Parameters
        ----------
        value : float
            The measure after this epoch. nan counts as no improvement.
        model : Sequential
            The model, whose parameters and buffers are copied when the value is the best.
        epoch : int, optional
            The epoch's number; the number of calls when left out.

        Returns
        -------
        bool
            True when `patience` epochs have gone by without improvement.
        """
        self._epochs = self._epochs + 1 if epoch is None else epoch
        if self._watch.improved(number(value, "value")):
            state = model.copy_state(self._spare) if self.restore_best else None
            self._kept, self._spare = (self._epochs, state), self._kept[1]
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether `patience` epochs have gone by without improvement."""
        return self._watch.since >= self.patience

    @property
    def extended(self) -> bool:
        """Whether the run that `fit` resumes was stopped here, and there is more patience now."""
        return self._extended and not self.finished

    def restore(self, model: Sequential) -> None:
        """Give `model` the weights of the best epoch.

        Raises
        ------
        RuntimeError
            If no weights are kept.
        """
        state = self._kept[1]
        if state is None:
            raise RuntimeError("restore: no weights are kept: update() saw no best value yet, or restore_best is False")
        model.restore_state(state)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Forget an earlier run."""
        self._reset()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Take the epoch's value; stop the trainer when it is time."""
        if self.update(self._watch.value(logs, "EarlyStopping"), trainer.model, epoch=trainer.epoch):
            trainer.stop = True

    def on_train_end(self, trainer: Trainer) -> None:
        """Restore the best weights."""
        if self.restore_best and self._kept[1] is not None:
            self.restore(trainer.model)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, its epoch, and the best weights."""
        epoch, state = self._kept
        return (
            self._watch.state()
            | {"epochs": self._epochs, "best_epoch": epoch, "finished": self.finished}
            | (state or {})
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the best value and weights."""
        epochs, best = (
            _described.whole(state.get(name), f"EarlyStopping: {name}") for name in ("epochs", "best_epoch")
        )
        finished = _described.flag(state.get("finished", False), "EarlyStopping: finished")
        self._watch.load(state, "EarlyStopping")
        arrays = {name: state[name] for name in STATE if name in state}
        self._extended = finished
        self._epochs, self._kept = epochs, (best, arrays or None)

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Refuse weights of another model than the one that trains."""
        kept = {name: state[name] for name in STATE if name in state}
        if kept:
            model = trainer.model
            _flat.check_state(model.parameters(), model.buffers(), kept, ranges_of(model.layers, model.dtype))
        for name, array in kept.items():
            expected = "int64" if name == "shapes" else trainer.model.dtype
            if array.size != 0 and array.dtype != expected:  # a model without running averages has no buffers
                raise _described.wrong(f"EarlyStopping: {name}", str(array.dtype), expected)


@explained
class ReduceOnPlateau(Watched, Callback):
    """Multiply the learning rate by a factor when a measure has not improved for some epochs.

    Works on ``trainer.lr_scale``, so together with any schedule.

    Parameters
    ----------
    monitor : str
        Column to watch.
    factor : float
        What the rate is multiplied by, above 0 and below 1.
    patience : int
        Epochs without improvement after which it is; then the count starts again.
    min_delta : float
        Improvements must be larger than this, in the measure's unit.
    min_lr : float
        The rate is not made smaller than this.
    mode : {"min", "max"}, optional
        Which way is better; known for the loss and metrics by name, needed for others.

    Notes
    -----
    ``factor``, ``patience``, ``min_delta`` and ``min_lr`` may be set at any time.
    """

    __slots__ = ("_factor", "_min_lr")
    factor: Setting[float] = Setting("What the rate is multiplied by.", _factor)
    min_lr: Setting[float] = Setting("The rate is not made smaller than this.", partial(real, low=0))

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        min_lr: float = 0.0,
        mode: str | None = None,
    ) -> None:
        self._watch = Watch(monitor, mode, min_delta)
        self.patience = patience
        self.factor = factor
        self.min_lr = min_lr

    def on_train_begin(self, trainer: Trainer) -> None:
        """Forget an earlier run."""
        self._watch.reset()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Take the epoch's value; reduce the rate when it is time."""
        if self._watch.improved(self._watch.value(logs, "ReduceOnPlateau")):
            return
        if self._watch.since >= self.patience:
            self._watch.since = 0
            lr = trainer.lr
            if lr > self.min_lr:
                trainer.lr_scale *= max(self.factor, self.min_lr / lr)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the count."""
        return self._watch.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the best value and the count."""
        self._watch.load(state, "ReduceOnPlateau")


@explained
class Checkpoint(Closed, Callback):
    """Save the whole state of training now and then, for ``fit(resume=path)``.

    Parameters
    ----------
    path : path
        The file; each checkpoint replaces the one before, once it is safely on the disk.
    every : int, optional
        Save after every so many epochs; 1 when neither this nor `seconds` is given. The last epoch is always saved.
    seconds : float, optional
        Save when so many seconds have gone by since the last time, inside an epoch too.
    keep_best : bool
        Whether to save the best model too, as ``<name>.best<ending>`` beside `path` (attribute ``best_path``).
    monitor : str
        Column that says which is best.
    mode : {"min", "max"}, optional
        Which way is better; known for the loss and metrics by name, needed for others.

    Notes
    -----
    A checkpoint is a model file too: ``gdcore.load(path)`` returns the model as it was at that moment.
    """

    __slots__ = ("_best_path", "_every", "_path", "_saved", "_seconds", "_watch")
    records = True
    path: Fixed[str] = Fixed("The file.", "make another Checkpoint")
    best_path: Fixed[str | None] = Fixed("The file of the best model, if it is kept.", "it follows from path")
    every: Setting[int | None] = Setting("Epochs between two savings, or None.", partial(optional, epochs))
    seconds: Setting[float | None] = Setting(
        "Seconds between two savings, or None.", partial(optional, partial(real, low=0, open_low=True))
    )

    def __init__(
        self,
        path: StrOrBytesPath,
        *,
        every: int | None = None,
        seconds: float | None = None,
        keep_best: bool = False,
        monitor: str = "val_loss",
        mode: str | None = None,
    ) -> None:
        self._path = _destination.path_of(path, "path", "a path")
        self.every = 1 if every is None and seconds is None else every
        self.seconds = seconds
        stem, ending = os.path.splitext(self._path)
        keep_best = flag(keep_best, "keep_best")
        self._best_path = f"{stem}.best{ending}" if keep_best else None
        self._watch = Watch(monitor, mode, 0.0) if keep_best else None
        self._saved = time.monotonic()

    @property
    def monitor(self) -> str | None:
        """Column that says which model is best, None where it is not kept."""
        return None if self._watch is None else self._watch.monitor

    def check_fit(self, trainer: Trainer) -> None:
        """Make sure that the files can be written."""
        for path in (self.path, self.best_path):
            if path is not None:
                _destination.check(path, "path")

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start the clock, and forget an earlier run."""
        self._saved = time.monotonic()
        if self._watch is not None:
            self._watch.reset()

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """Save when it is time."""
        if self.seconds is not None and time.monotonic() - self._saved >= self.seconds:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Save when it is time, and the best model."""
        if self._watch is not None and self.best_path is not None:
            improved = self._watch.improved(self._watch.value(logs, "Checkpoint"))
            if improved:
                trainer.model.save(self.best_path)
        due = self.every is not None and trainer.epoch % self.every == 0
        late = self.seconds is not None and time.monotonic() - self._saved >= self.seconds
        if due or late or trainer.stop or trainer.epoch == trainer.last_epoch:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {} if self._watch is None else self._watch.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the best value."""
        if self._watch is not None and state:
            self._watch.load(state, "Checkpoint")
