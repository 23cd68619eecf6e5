"""Moving averages of the weights, measured in place of the weights and kept at the end."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal import flat, json_values
from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed, Setting, attributes_of, restore_attributes
from ..internal.checks import flag, integer, real, shown
from .callback import Callback
from .kept_state import STATE, check_kept

if TYPE_CHECKING:
    from ..model import State
    from ..trainer import Trainer

__all__ = ["WeightAverage"]

TRAINED = "trained_"  # prefix of the weights in training, in the state


@explained
class WeightAverage(Closed, Callback):
    """Average the weights over the steps of a run, measure the average after each epoch, and keep it at the end.

    The average after t updates is Σ_i d^(t-i) w_i / Σ_i d^(t-i) of the weights w_1, ..., w_t after them: an exponential
    moving average (Polyak & Juditsky 1992; Tarvainen & Valpola 2017) with the bias correction of Adam, so that the
    initial weights have no part in it and no warm-up of d is needed. Running averages of BatchNorm are averaged
    likewise; weights that do not change stay the same. The pass that updates the weights updates the average.

    Parameters
    ----------
    decay : float
        d for one step, from 0 to below 1. The average is over about 1 / (1 - d) steps.
    every : int
        Steps between two updates, whose d is then ``decay ** every``.
    keep : bool
        Whether the model has the averaged weights when training ends; otherwise those of the last step.

    Attributes
    ----------
    updates : int
        Number of updates since the run began.

    Notes
    -----
    From the end of an epoch's steps until the next epoch begins, the model has the averaged weights: validation and
    metrics measure them, `EarlyStopping` and ``Checkpoint(keep_best=True)`` keep them. A checkpoint holds both; as a
    model file (`gdcore.load`), one of an epoch's end is the average. If training is continued by another `fit`, it
    starts from the weights that were kept, and the average starts anew. A parameter must not be frozen while its
    average is taken (RuntimeError).

    In a custom loop, call ``average.on_train_begin(trainer)`` before the first ``trainer.step``, and
    ``average.on_train_end(trainer)`` after the last; between ``average.on_measure(trainer)`` and
    ``average.on_epoch_begin(trainer)`` the model has the average. A copy of the trainer has no average.
    """

    __slots__ = ("_decay", "_every", "_keep", "_trainer", "_updates")
    decay: Fixed[float] = Fixed("Weight of the earlier average, for one step.", "the average so far is made with it")
    every: Fixed[int] = Fixed("Steps between two updates.", "the average so far is made with it")
    keep: Setting[bool] = Setting("Whether the averaged weights are kept at the end.", flag)

    def __init__(self, decay: float = 0.999, *, every: int = 1, keep: bool = True) -> None:
        self._decay = real(decay, "decay", low=0, high=1)
        if self._decay == 1:
            raise ValueError(f"decay: got {shown(decay)}; expected a number of at least 0 and below 1")
        self._every = integer(every, "every", minimum=1)
        self.keep = keep
        self._updates = 0
        self._trainer: weakref.ref[Trainer] | None = None  # while it trains

    def __getstate__(self) -> Any:
        """Return the settings, for copies and pickles; the average itself belongs to the trainer."""
        return attributes_of(self, "_trainer")

    def __setstate__(self, state: Any) -> None:
        """Restore the settings."""
        restore_attributes(self, state)
        self._trainer = None

    @property
    def updates(self) -> int:
        """Number of updates since the run began."""
        trainer = None if self._trainer is None else self._trainer()
        if trainer is not None and trainer.core.average is not None:
            self._updates = trainer.core.average[2]
        return self._updates

    def on_train_begin(self, trainer: Trainer) -> None:
        """Begin the average anew, from the next step on."""
        trainer.core.begin_average(self._decay, self._every)
        self._trainer, self._updates = weakref.ref(trainer), 0

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Go on with the weights in training."""
        if _swapped(trainer):
            trainer.core.swap_average()

    def on_measure(self, trainer: Trainer) -> None:
        """Give the model the averaged weights."""
        if not _swapped(trainer) and trainer.core.average[2] > 0:
            trainer.core.swap_average()

    def on_train_end(self, trainer: Trainer) -> None:
        """Leave the averaged weights, or those of the last step, also where training ends inside an epoch."""
        if self.keep:
            self.on_measure(trainer)
        else:
            self.on_epoch_begin(trainer)
        self._updates = self.updates
        trainer.core.end_average()
        self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and the weights in training if the model does not have them."""
        settings = {"decay": self._decay, "every": self._every, "updates": self.updates}
        trainer = None if self._trainer is None else self._trainer()
        if trainer is None or self._updates == 0:
            return settings
        parameters, buffers = trainer.core.average_arrays()
        kept = flat.copy_state(parameters, buffers, None)
        if not _swapped(trainer):
            return settings | kept
        average: dict[str, Any] = trainer.model.copy_state()
        return settings | average | {f"{TRAINED}{name}": array for name, array in kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average; the next epoch begins with the weights in training."""
        json_values.mapping(state, "WeightAverage: state")
        for name in ("decay", "every"):
            if state.get(name) != getattr(self, name):
                got, now = shown(state.get(name)), getattr(self, name)
                raise ValueError(f"WeightAverage: other settings: {name}: saved {got}, now {now}")
        self._updates = json_values.whole(state.get("updates"), "WeightAverage: updates")
        trainer = None if self._trainer is None else self._trainer()
        average, trained = _arrays(state, ""), _arrays(state, TRAINED)
        if trainer is None or average is None:
            return
        trainer.core.begin_average(self._decay, self._every, self._updates, trained is not None)
        parameters, buffers = trainer.core.average_arrays()
        flat.restore_state(parameters, buffers, average if trained is None else trained)

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Refuse weights of another model than the trained one."""
        json_values.mapping(state, "WeightAverage: state")
        for prefix in ("", TRAINED):
            check_kept(_arrays(state, prefix) or {}, trainer.model, "WeightAverage")
        if (json_values.whole(state.get("updates"), "WeightAverage: updates") > 0) != (STATE[0] in state):
            raise json_values.wrong("WeightAverage: updates", state["updates"], "0 exactly where there is no average")


def _swapped(trainer: Trainer) -> bool:
    """Return whether the model has the averaged weights.

    Raises
    ------
    RuntimeError
        If the trainer has no average.
    """
    if trainer.core.average is None:
        raise RuntimeError("WeightAverage: this trainer has no average; expected on_train_begin(trainer) before")
    swapped: bool = trainer.core.average[3]
    return swapped


def _arrays(state: Mapping[str, Any], prefix: str) -> State | None:
    """Return copies of the arrays of a model's state whose names begin with `prefix`, None if there are none."""
    return {name: np.array(state[prefix + name]) for name in STATE if prefix + name in state} or None
