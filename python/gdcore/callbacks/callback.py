"""The events of a training run, as a base class to inherit from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Callback"]


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
