"""Pruning by Optuna."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed
from ..internal.checks import optional_module, shown
from ..metrics.names import direction, unmeasured
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["OptunaPruning"]


@explained
class OptunaPruning(Closed, Callback):
    """Tell a trial of Optuna a measure after each epoch, and end a training that Optuna prunes.

    Then `fit` raises ``optuna.TrialPruned``, after all callbacks have ended as usual: logs contain the last epoch.

    Parameters
    ----------
    trial : optuna.Trial
        The trial, in the objective that trains.
    monitor : str
        Column to report, whose better direction must be the study's.

    Raises
    ------
    TypeError
        If `trial` is no trial; if it is copied, as for several starts, whose measures Optuna could not tell apart.
    ValueError
        When `fit` is called, if the study has several objectives, or the other direction.
    """

    __slots__ = ("_before", "_monitor", "_pruned", "_trial")
    records = True
    trial: Fixed[Any] = Fixed("The trial.", "make another OptunaPruning")
    monitor: Fixed[str] = Fixed("Column to report.", "make another OptunaPruning")

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        if isinstance(trial, type) or not all(hasattr(trial, name) for name in ("report", "should_prune")):
            raise TypeError(f"trial: got {shown(trial)}; expected the trial that Optuna gives to the objective")
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: got {shown(monitor)}; expected the name of a column, such as 'val_loss'")
        self._trial, self._monitor, self._pruned = trial, monitor, False
        self._before: BaseException | None = None

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: reports of two trainings to one trial would be mixed up."""
        raise TypeError("an OptunaPruning belongs to one training; make one for each trial")

    def check_fit(self, trainer: Trainer) -> None:
        """Check that Optuna is installed, and that the study's direction is that of the measure."""
        optional_module("optuna", "OptunaPruning", '"gdcore[optuna]"')
        directions = getattr(getattr(self._trial, "study", None), "directions", [])
        if len(directions) > 1:
            raise ValueError(
                f"trial: got a study of {len(directions)} objectives; expected one, as Optuna prunes by one"
            )
        for each in directions:
            towards, known = "min" if each.name == "MINIMIZE" else "max", _known(self._monitor)
            if known not in (None, towards):
                raise ValueError(
                    f"monitor: the best {self._monitor!r} is the {'least' if known == 'min' else 'greatest'}, but the "
                    f"study is to {each.name.lower()}; expected optuna.create_study(direction='{known}imize')"
                )

    def on_train_begin(self, trainer: Trainer) -> None:
        """Remember which exception the caller is handling, as it is none of this run."""
        self._pruned, self._before = False, sys.exception()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Report the measure; stop the trainer when Optuna says so."""
        if self._monitor not in logs:
            raise ValueError(f"monitor: {self._monitor!r} is not measured; {unmeasured(self._monitor, logs)}")
        self._trial.report(logs[self._monitor], trainer.epoch)
        self._pruned = bool(self._trial.should_prune())
        trainer.stop = trainer.stop or self._pruned

    def on_train_end(self, trainer: Trainer) -> None:
        """Raise TrialPruned if Optuna has stopped the training, and nothing else has ended it."""
        before, self._before = self._before, None
        if self._pruned and sys.exception() is before:
            optuna = optional_module("optuna", "OptunaPruning", '"gdcore[optuna]"')
            raise optuna.TrialPruned(f"after epoch {trainer.epoch}")


def _known(monitor: str) -> str | None:
    try:
        return direction(monitor, None)
    except ValueError:  # a measure of the user's own
        return None
