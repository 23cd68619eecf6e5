"""Stop when a measure has not improved for some epochs, and keep the best weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..history import Chosen, number
from ..internal import json_values
from ..internal.arguments import explained
from ..internal.attributes import Setting
from ..internal.checks import choice, flag, integer
from .callback import Callback
from .kept_state import STATE, check_kept, check_model
from .watch import Watch, Watched

if TYPE_CHECKING:
    from ..model import Sequential, State
    from ..trainer import Trainer

__all__ = ["EarlyStopping", "chosen", "deciding"]


def _ties(value: object, name: str) -> str:
    return choice(value, name, ("first", "last"))


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
        Whether less or more is better; known for the loss and metrics by name, needed for others.
    restore_best : bool
        Whether the best weights are restored when training ends, for any reason. The trainer's optimiser keeps its
        state; a later `fit` continues from the best weights.
    ties : {"first", "last"}
        Which of several epochs with the best value is the best one: with a measure of few values, such as the accuracy
        on some rows, the last one has been trained longest. An equal value is no improvement, for `patience`.

    Attributes
    ----------
    best : float
        Best value so far; infinite before the first.
    best_epoch : int
        Its epoch, from 1; 0 before the first.

    Notes
    -----
    In a custom loop: ``if stopping.update(value, model): break``, and ``stopping.restore(model)`` after the loop.
    Training beyond the smallest validation error fits the noise; see `History.plot`.

    Each `fit` starts anew: the best value of an earlier one is forgotten, though its weights may be better, so save
    them first. ``trainer.fit(..., epochs=5)`` goes on from the weights that were kept, with the optimiser's state of
    the last epoch. With `EarlyStopping` again, `History.best_epoch` then is the best of those five epochs; of a column,
    ``best_epoch("val_loss")``, it is the best of all.

    ``patience``, ``min_delta``, ``restore_best`` and ``ties`` may be set at any time, also before `fit` resumes
    a run.
    """

    __slots__ = ("_epochs", "_extended", "_kept", "_restore_best", "_spare", "_ties")
    restore_best: Setting[bool] = Setting("Whether the best weights are kept and given back.", flag)
    ties: Setting[str] = Setting("Which of equal epochs is the best: 'first' or 'last'.", _ties)

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        *,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
        ties: str = "first",
    ) -> None:
        self._watch = Watch(monitor, mode, min_delta)
        self.patience = patience
        self.restore_best = restore_best
        self.ties = ties
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
        """Take the value of another epoch, keep the weights if it is the best, and return whether to stop.

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
            True after `patience` epochs without improvement.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind; the epoch does not count then.
        """
        value = number(value, "value")
        check_model(model)
        count = self._epochs + 1 if epoch is None else integer(epoch, "epoch")
        equal = self.ties == "last" and self.best_epoch > 0 and value == self.best
        if equal or self._watch.better(value):
            state = model.copy_state(self._spare) if self.restore_best else None
            self._kept, self._spare = (count, state), self._kept[1]
        self._epochs = count
        self._watch.improved(value)
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether `patience` epochs have passed without improvement."""
        return self._watch.since >= self.patience

    @property
    def extended(self) -> bool:
        """Whether this callback stopped the run that `fit` resumes, and has more patience now."""
        return self._extended and not self.finished

    def restore(self, model: Sequential) -> None:
        """Restore the weights of the best epoch in `model`.

        Raises
        ------
        RuntimeError
            If no weights are kept.
        """
        check_model(model)
        state = self._kept[1]
        if state is None:
            raise RuntimeError(
                "restore: no weights are stored, as update() has had no finite value or restore_best is False"
            )
        model.restore_state(state)

    def take(self, best: float, since: int, epochs: int, best_epoch: int, state: State | None) -> None:
        """Take the results of a run whose epochs were watched elsewhere."""
        self._reset()
        self._watch.best, self._watch.since = best, since
        self._epochs, self._kept = epochs, (best_epoch, state)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Clear the values of an earlier run."""
        self._reset()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Take the epoch's value; stop the trainer when due."""
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
        """Restore the best value and weights."""
        json_values.mapping(state, "EarlyStopping: state")
        epochs, best = (
            json_values.whole(state.get(name), f"EarlyStopping: {name}") for name in ("epochs", "best_epoch")
        )
        finished = json_values.flag(state.get("finished", False), "EarlyStopping: finished")
        self._watch.load(state, "EarlyStopping")
        arrays = {name: state[name] for name in STATE if name in state}
        self._extended = finished
        self._epochs, self._kept = epochs, (best, arrays or None)

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Refuse weights of another model than the trained one."""
        json_values.mapping(state, "EarlyStopping: state")
        check_kept({name: state[name] for name in STATE if name in state}, trainer.model, "EarlyStopping")


def deciding(callbacks: Iterable[object]) -> EarlyStopping | None:
    """Return the callback that chooses the epoch of the weights: the last `EarlyStopping` that restores them, if any.

    Where none restores weights, it is the last `EarlyStopping`.
    """
    found = [each for each in callbacks if isinstance(each, EarlyStopping)]
    return next((each for each in reversed(found) if each.restore_best), found[-1] if found else None)


def chosen(callbacks: Iterable[object]) -> Chosen | None:
    """Return the epoch that an `EarlyStopping` chose in a finished run, if one did."""
    by = deciding(each for each in callbacks if isinstance(each, EarlyStopping) and each.best_epoch > 0)
    return None if by is None else Chosen(by.monitor, by.mode, by.best_epoch)
