"""A smaller learning rate when a measure has not improved for some epochs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained
from ..internal.attributes import Setting
from ..internal.checks import real, shown
from .callback import Callback
from .watch import Watch, Watched

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["ReduceOnPlateau"]


def _factor(value: object, name: str) -> float:
    factor = real(value, name, low=0, high=1, open_low=True)
    if factor == 1:
        raise ValueError(f"{name}: got {shown(value)}; expected a number below 1, which reduces the rate")
    return factor


@explained
class ReduceOnPlateau(Watched, Callback):
    """Multiply the learning rate by a factor when a measure has not improved for some epochs.

    It changes ``trainer.lr_scale``, so it works with any schedule.

    Parameters
    ----------
    monitor : str
        Column to watch.
    factor : float
        Factor of the rate, above 0 and below 1.
    patience : int
        Epochs without improvement before a reduction; then the count starts again.
    min_delta : float
        Improvements must be larger than this, in the measure's unit.
    min_lr : float
        Lower bound of the rate.
    mode : {"min", "max"}, optional
        Whether less or more is better; known for the loss and metrics by name, needed for others.

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
        """Clear the values of an earlier run."""
        self._watch.reset()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Take the epoch's value; reduce the rate when due."""
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
        """Restore the best value and the count."""
        self._watch.load(state, "ReduceOnPlateau")
