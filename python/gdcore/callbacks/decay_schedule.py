"""Weight decay as a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

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
        Steps between two factors. On the CPU a change takes as long as copying the optimiser's states twice; on a GPU
        the steps are recorded again as well, so changes should be rare there.
    """

    __slots__ = ("_every", "_factor")
    factor: Fixed[Callable[[int], float]] = Fixed("The factor as a function of the step.", "make another DecaySchedule")
    every: Fixed[int] = Fixed("Steps between two factors.", "make another DecaySchedule")

    def __init__(self, factor: Callable[[int], float], *, every: int = 100) -> None:
        if not callable(factor):
            raise TypeError(f"factor: got {shown(factor)}; expected a function of the step")
        self._factor = factor
        self._every = integer(every, "every", minimum=1)

    def check_fit(self, trainer: Trainer) -> None:
        """Refuse an optimiser without weight decay, on which the factor would have no effect."""
        decay: Any = trainer.optimizer.weight_decay
        values = decay.values() if isinstance(decay, Mapping) else decay
        if not np.any(list(values) if isinstance(values, Iterable) else values or 0.0):
            raise ValueError(
                "DecaySchedule: the optimiser has no weight decay; expected one, such as gd.Adam(weight_decay=1e-4)"
            )

    def on_train_begin(self, trainer: Trainer) -> None:
        """Set the factor of the first step."""
        self.on_step(trainer)

    def on_step(self, trainer: Trainer) -> None:
        """Set the factor of the next steps."""
        step = trainer.steps - trainer.steps % self._every
        trainer.decay_scale = float(rates_of(self._factor, step, 1, "factor")[0])
