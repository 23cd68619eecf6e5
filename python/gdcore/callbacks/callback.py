"""The events of a training run, as a base class to inherit from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Callback"]


class Callback:
    """The events of a training run; a base class to inherit from, or a list of names to choose from.

    `fit` calls these methods of every callback that has them, in the order of its ``callbacks``. Those that record,
    `Checkpoint`, `CSVLog` and `Progress`, come last at an epoch's end, so that they include the effects of the others.
    A callback may set ``trainer.stop = True`` and ``trainer.lr_scale``, and add numbers to `logs`, which become part of
    the history: of Python, NumPy or other libraries, kept as floats. `logs` is a copy of the epoch's row: removing or
    replacing measured values in it does not change the history.
    """

    __slots__ = ()
    records = False  # True: called after the others at the end of an epoch

    def check_fit(self, trainer: Trainer) -> None:
        """Raise if training would fail, for example for a missing folder; `fit` has changed nothing yet."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Training is about to begin: everything is checked, and the state of a resumed run is restored."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Epoch ``trainer.epoch + 1`` is about to begin (or to continue, in a run resumed inside it)."""

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """`batch` of `batches` (None: unknown) are done, `loss` is their mean; called about every 0.1 s."""

    def on_step(self, trainer: Trainer) -> None:
        """Step ``trainer.steps`` is made, a multiple of the callback's ``every`` (1 if it has no such attribute).

        Each call interrupts the loop in C++, which takes microseconds.
        """

    def on_measure(self, trainer: Trainer) -> None:
        """All steps of epoch ``trainer.epoch + 1`` are made; it is measured next. One callback may change the weights.

        At the end of training that callback's ``on_train_end`` comes first.
        """

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Epoch ``trainer.epoch`` is done; `logs` is a copy of its row of the history, for reading and adding."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Training is over: all epochs done, stopped, interrupted by Ctrl-C, or ended by an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: arrays, and values that JSON can represent."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`, when a run is resumed (after `on_train_begin`).

        It is also called once before, so that a callback can refuse: on an error, nothing else has been changed, and
        the callback's earlier state is restored.
        """

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Raise FormatError or ValueError if `state`, read from a file, does not fit; changes nothing."""
