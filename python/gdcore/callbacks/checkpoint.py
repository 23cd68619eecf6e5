"""Saves the training state at intervals; `gdcore.io.checkpoint` has the file format."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed, Setting
from ..internal.checks import flag, optional, real
from ..io import destination
from .callback import Callback
from .watch import Watch, epochs

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from ..trainer import Trainer

__all__ = ["Checkpoint"]


@explained
class Checkpoint(Closed, Callback):
    """Save the training state at intervals, for ``fit(resume=path)``.

    Parameters
    ----------
    path : path
        The file; each checkpoint replaces the one before, once it is safely on the disk.
    every : int, optional
        Save after every `every` epochs; 1 when neither this nor `seconds` is given. The last epoch is always saved.
    seconds : float, optional
        Save when so many seconds have passed since the last save, also inside an epoch.
    keep_best : bool
        Whether to save the best model too, as ``<name>.best<ending>`` beside `path` (attribute ``best_path``).
    monitor : str
        Column that determines the best model.
    mode : {"min", "max"}, optional
        Whether less or more is better; known for the loss and metrics by name, needed for others.

    Raises
    ------
    TypeError
        When `fit` is called, if a schedule, or the function of a `CustomLoss`, uses something that cannot be pickled:
        it could not be compared later.

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
        self._path = destination.path_of(path, "path", "a path")
        self.every = 1 if every is None and seconds is None else every
        self.seconds = seconds
        stem, ending = os.path.splitext(self._path)
        keep_best = flag(keep_best, "keep_best")
        self._best_path = f"{stem}.best{ending}" if keep_best else None
        self._watch = Watch(monitor, mode, 0.0) if keep_best else None
        self._saved = time.monotonic()

    @property
    def monitor(self) -> str | None:
        """Column that determines the best model, None if it is not kept."""
        return None if self._watch is None else self._watch.monitor

    def check_fit(self, trainer: Trainer) -> None:
        """Check that the files can be written, and functions of loss and schedules compared with those of a file."""
        from ..io import checkpoint, specs  # here, to keep `import gdcore` fast

        for name in checkpoint.OTHERS:
            specs.encode(getattr(trainer, name), name)
        for path in (self.path, self.best_path):
            if path is not None:
                destination.check(path, "path")

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start the clock, and clear the values of an earlier run."""
        self._saved = time.monotonic()
        if self._watch is not None:
            self._watch.reset()

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """Save when due."""
        if self.seconds is not None and time.monotonic() - self._saved >= self.seconds:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Save when due, and save a new best model."""
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
        """Restore the best value."""
        if self._watch is not None and state:
            self._watch.load(state, "Checkpoint")
