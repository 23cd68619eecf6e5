"""Weight decay as a function of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed
from ..internal.checks import integer, shown
from ..schedules import rates_of
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["DecaySchedule"]


@explained
class DecaySchedule(Closed, Callback):
    """Multiply the optimiser's weight decay by a function of the step.

    It sets ``trainer.decay_scale`` when training begins and every `every` steps, to the factor of the last multiple of
    `every`. So a resumed run has the same factors, and `every` limits how finely the decay follows the function.

    Parameters
    ----------
    factor : function
        The factor, at least 0, as a function of the step (0, 1, ...), such as ``gd.schedules.cosine(1.0, steps)``.
    every : int
        Steps between two factors. A change takes as long as copying the optimiser's states twice.
    """

    __slots__ = ("_every", "_factor")
    factor: Fixed[Callable[[int], float]] = Fixed("The factor as a function of the step.", "make another DecaySchedule")
    every: Fixed[int] = Fixed("Steps between two factors.", "make another DecaySchedule")

    def __init__(self, factor: Callable[[int], float], *, every: int = 100) -> None:
        if not callable(factor):
            raise TypeError(f"factor: got {shown(factor)}; expected a function of the step")
        self._factor = factor
        self._every = integer(every, "every", minimum=1)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Set the factor of the first step."""
        self.on_step(trainer)

    def on_step(self, trainer: Trainer) -> None:
        """Set the factor of the next steps."""
        step = trainer.steps - trainer.steps % self._every
        trainer.decay_scale = float(rates_of(self._factor, step, 1, "factor")[0])
