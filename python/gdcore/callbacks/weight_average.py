"""Moving averages of the weights, measured in place of the weights and kept at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal import flat, json_values
from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed, Setting
from ..internal.checks import flag, integer, real, shown
from .callback import Callback
from .kept_state import STATE, check_kept, check_model

if TYPE_CHECKING:
    from ..model import Sequential, State
    from ..trainer import Trainer

__all__ = ["WeightAverage"]

TRAINED = "trained_"  # prefix of the weights in training, in the state


@explained
class WeightAverage(Closed, Callback):
    """Average the weights over the steps of a run, measure the average after each epoch, and keep it at the end.

    The average after t updates is Σ_i d^(t-i) w_i / Σ_i d^(t-i) of the weights w_1, ..., w_t after them: an exponential
    moving average with the bias correction of Adam, so that the initial weights have no part in it. Running averages
    of BatchNorm are averaged likewise; weights that do not change stay the same.

    Parameters
    ----------
    decay : float
        d for one step, from 0 to below 1. The average is over about 1 / (1 - d) steps.
    every : int
        Steps between two updates, whose d is then ``decay ** every``. An update takes some 50 µs and three passes over
        the weights, on a GPU a copy of them to the host.
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
    starts from the weights that were kept, and the average starts anew.

    In a custom loop: ``average.update(model)`` after each step (or each `every` steps), ``average.apply(model)`` at the
    end.
    """

    __slots__ = ("_average", "_decay", "_every", "_keep", "_trained", "_updates")
    decay: Fixed[float] = Fixed("Weight of the earlier average, for one step.", "the average so far is made with it")
    every: Fixed[int] = Fixed("Steps between two updates.", "the average so far is made with it")
    updates: Fixed[int] = Fixed("Number of updates since the run began.", "it counts the updates; fit begins anew")
    keep: Setting[bool] = Setting("Whether the averaged weights are kept at the end.", flag)

    def __init__(self, decay: float = 0.999, *, every: int = 1, keep: bool = True) -> None:
        self._decay = real(decay, "decay", low=0, high=1)
        if self._decay == 1:
            raise ValueError(f"decay: got {shown(decay)}; expected a number of at least 0 and below 1")
        self._every = integer(every, "every", minimum=1)
        self.keep = keep
        self._reset()

    def _reset(self) -> None:
        self._updates = 0
        self._average: State | None = None
        self._trained: State | None = None  # the weights in training, while the model has the average

    def update(self, model: Sequential) -> None:
        """Include the current weights of `model` in the average."""
        check_model(model)
        if self._average is None:
            self._average, self._updates = model.copy_state(), 1
            return
        factor = self._decay**self._every
        rate = (1.0 - factor) / (1.0 - factor ** (self._updates + 1))
        with np.errstate(over="ignore", invalid="ignore"):  # weights that are not finite stay not finite
            for name, views in (("parameters", model.parameters()), ("buffers", model.buffers())):
                for own, average in flat.parts(self._average[name], views):
                    change = np.asarray(views[own]) - average
                    change *= rate
                    average += change
        self._updates += 1

    def apply(self, model: Sequential) -> None:
        """Set the weights of `model` to the average.

        Raises
        ------
        RuntimeError
            If there is no average yet.
        """
        check_model(model)
        if self._average is None:
            raise RuntimeError("apply: there is no average yet; call update(model) after a step first")
        model.restore_state(self._average)

    def _return(self, model: Sequential) -> None:
        """Give the model the weights in training again, if it has the average."""
        if self._trained is not None:
            model.restore_state(self._trained)
            self._trained = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Clear the average of an earlier run."""
        self._reset()

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Go on with the weights in training."""
        self._return(trainer.model)

    def on_step(self, trainer: Trainer) -> None:
        """Include the weights of another step."""
        self.update(trainer.model)

    def on_measure(self, trainer: Trainer) -> None:
        """Give the model the averaged weights."""
        if self._average is not None:
            trained = trainer.model.copy_state()
            self.apply(trainer.model)
            self._trained = trained

    def on_train_end(self, trainer: Trainer) -> None:
        """Leave the averaged weights, or those of the last step, also where training ends inside an epoch."""
        if not self.keep:
            self._return(trainer.model)
        elif self._trained is None and self._average is not None:
            self.apply(trainer.model)
        self._trained = None

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and the weights in training if the model does not have them."""
        trained = {f"{TRAINED}{name}": array for name, array in (self._trained or {}).items()}
        settings = {"decay": self._decay, "every": self._every}
        return settings | {"updates": self._updates} | (self._average or {}) | trained

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average; the next epoch begins with the weights in training."""
        json_values.mapping(state, "WeightAverage: state")
        for name in ("decay", "every"):
            if state.get(name) != getattr(self, name):
                got, now = shown(state.get(name)), getattr(self, name)
                raise ValueError(f"WeightAverage: other settings: {name}: saved {got}, now {now}")
        self._updates = json_values.whole(state.get("updates"), "WeightAverage: updates")
        self._average, self._trained = _arrays(state, ""), _arrays(state, TRAINED)

    def check_state(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Refuse weights of another model than the trained one."""
        json_values.mapping(state, "WeightAverage: state")
        for prefix in ("", TRAINED):
            check_kept(_arrays(state, prefix) or {}, trainer.model, "WeightAverage")
        if (json_values.whole(state.get("updates"), "WeightAverage: updates") > 0) != (STATE[0] in state):
            raise json_values.wrong("WeightAverage: updates", state["updates"], "0 exactly where there is no average")


def _arrays(state: Mapping[str, Any], prefix: str) -> State | None:
    """Return copies of the arrays of a model's state whose names begin with `prefix`, None if there are none."""
    return {name: np.array(state[prefix + name]) for name in STATE if prefix + name in state} or None
