"""A trainer's C++ object: created from its attributes, copied, and recreated when class weights change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..internal.arrays import Array
from ..internal.attributes import Hinted, attributes_of, restore_attributes
from ..internal.checks import real, shown
from ..internal.class_weights import balanced, complete, numeric, weighted
from ..internal.features import Learns
from ..schedules import Rates
from .rates import StepRates, of_one_step, scaled
from .state import Position, TrainingState

if TYPE_CHECKING:
    from ..history import History
    from ..internal.labels import Classes
    from ..io.checkpoint import Saved
    from ..metrics import Call
    from .fit import Fit
    from .step_log import StepLog

__all__ = ["Connected"]


class Connected(Hinted, Learns):
    """A trainer and its C++ object ``_core``.

    ``_complete`` is the loss with a numeric weight for each class of ``_classes``, the model's classes at that time. It
    is None until "balanced" has counted labels.
    """

    __slots__ = (
        *("_check_finite", "_classes", "_complete", "_core", "_decay_scale", "_dropout_schedule", "_fit", "_loss"),
        *("_lr_scale", "_optimizer", "_rates", "_step", "_step_rates"),
    )
    _loss: _core.Loss
    _metrics: Mapping[str, Call]
    _optimizer: _core.Optimizer
    _complete: _core.Loss | None
    _classes: Classes | None
    _check_finite: bool
    _lr_scale: float
    _decay_scale: float
    _dropout_schedule: Callable[[int], float] | None
    _history: History
    _seed: int
    _step_log: StepLog
    _stop: bool

    def _connect(self) -> None:
        """Create the C++ object, with an optimiser that has made no step."""
        self._classes = self._model.classes
        loss = complete(self._loss, self._model)
        if not balanced(self._loss):
            self._complete = loss
        elif self._complete is not None:
            loss = self._complete
        self._core = _core.Trainer(self._model, loss, self._optimizer)
        self._rates = Rates(self._optimizer.lr)
        self._step_rates = StepRates(self._rates, self._optimizer, self._dropout_schedule, self._core.most_dropout)
        self._fit: Fit | None = None
        self._step = self._plain_step()

    def __repr__(self) -> str:
        """Return loss, optimiser and metrics, and how far the training is."""
        parts = [f"{self._loss}", f"optimizer={shown(self._optimizer, 120)}"]
        parts += [f"metrics={list(self._metrics)}"] if self._metrics else []
        return f"{type(self).__name__}({', '.join(parts)}; {self._history.height} epochs, {self._core.steps} steps)"

    @property
    def lr(self) -> float:
        """Learning rate of the next step: the optimiser's rate or schedule, times ``lr_scale``."""
        return self._rates.at(self._core.steps) * self._lr_scale

    @property
    def lr_scale(self) -> float:
        """Factor on the learning rate, initially 1; `ReduceOnPlateau` reduces it."""
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, scale: float) -> None:
        scale = real(scale, "lr_scale", low=0)
        self._step = self._plain_step(scale)
        self._lr_scale = scale

    @property
    def decay_scale(self) -> float:
        """Factor on the optimiser's weight decay, initially 1."""
        return self._decay_scale

    @decay_scale.setter
    def decay_scale(self, scale: float) -> None:
        scale = real(scale, "decay_scale", low=0)
        self._step = self._plain_step(decay_scale=scale)
        self._decay_scale = scale

    def _rates_now(self) -> Array:
        """Return the rates of the next step, as the core takes them for a range of steps."""
        return scaled(self._step_rates.at(self._core.steps), self._lr_scale, self._decay_scale)

    def _rates_of_step(self) -> Any:
        """Return the rates of the next step, as the core takes them for one step."""
        if self._step_rates.alone and self._decay_scale == 1.0:
            return self.lr
        return of_one_step(self._rates_now())

    def __getstate__(self) -> dict[str, Any]:
        """Return the whole state of training, for copies and pickles: a checkpoint's contents, and the objects."""
        with self._model._hold(inside=False):  # another thread that makes steps waits
            self._check_thread("copying a trainer", "copy it when that has ended")
            attributes, slots = attributes_of(self, "_core", "_fit", "_rates", "_step", "_step_rates")
            states = {name: np.array(array) for name, array in self._core.state().items()}
            model = self._model.copy_state()  # taken now, because the model itself is copied later
            return {"attributes": (attributes, slots), "steps": self._core.steps, "optimizer": states, "model": model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state that `__getstate__` returned; an unfinished epoch does not count."""
        restore_attributes(self, state["attributes"])
        self._connect()
        self._model.restore_state(state["model"])
        self._core.steps = state["steps"]
        for name, array in self._core.state().items():
            array[...] = state["optimizer"][name]

    def _check_thread(self, call: str, instead: str) -> None:
        """Raise RuntimeError if `fit` runs in another thread: between its steps, epochs are unfinished."""
        if self._fit is not None and self._fit.thread != threading.get_ident():
            raise RuntimeError(f"{call}: fit is running in another thread; {instead}")

    def _state(self) -> TrainingState:
        """Return the state of training; arrays are views."""
        fit, epoch = self._fit, self._history.last_epoch
        return TrainingState(
            model=self._model,
            loss=self._loss,
            optimizer=self._optimizer,
            dropout_schedule=self._dropout_schedule,
            states=self._core.state(),
            squares=self._core._squares(),
            columns=self._known(),
            class_weights=self._counted_weights(),
            steps=self._core.steps,
            seed=self._seed,
            lr_scale=self._lr_scale,
            decay_scale=self._decay_scale,
            stopped=self._stop,
            first_epoch=epoch if fit is None else fit.first_epoch,
            position=Position() if fit is None else fit.position,
            settings=None if fit is None else fit.settings(),
            callbacks=[] if fit is None else fit.callbacks,
            history=self._history,
        )

    def _restore(self, saved: Saved) -> None:
        """Set everything to the contents of a checkpoint, which have been checked."""
        from ..io import checkpoint

        with self._model._hold(inside=False):
            self._check_thread("load_checkpoint", "do it when that has ended")
            weights = saved.training["class_weights"]
            if weights is not None and balanced(self._loss):
                self._weigh(weighted(self._loss, weights))
            self.decay_scale = float(saved.training["decay_scale"])
            checkpoint.apply(saved, self._state())
            self._learn(saved.columns(self._model))
            self._core.steps = saved.training["steps"]
            self._seed, self._lr_scale = saved.seed, float(saved.training["lr_scale"])
            self._step = self._plain_step()
            same_run = self._history.begins_with(saved.history)
            self._step_log.cut(saved.training["steps"] if same_run else 0)
            self._history.replace(saved.history)

    def _resume(self, fit: Fit, saved: Saved) -> None:
        """Make `fit` continue the run that wrote a checkpoint; a checkpoint that does not fit changes nothing."""
        from ..io import checkpoint
        from .callback_states import MatchedStates

        saved = checkpoint.fitting_run(saved, self._state(), fit.settings(), fit.batches)
        states = MatchedStates(saved.callbacks, fit.callbacks, saved.where)
        states.rehearse(self)
        self._restore(saved)
        fit.resume(self._history.last_epoch, saved, states.restore)

    def _counted_weights(self) -> tuple[float, ...] | None:
        """Return the class weights that "balanced" has counted, for a checkpoint: a custom loop cannot count again."""
        return None if self._complete is None or not balanced(self._loss) else numeric(self._complete)

    def _plain_step(
        self, lr_scale: float | None = None, decay_scale: float | None = None
    ) -> Callable[..., float] | None:
        """Return the core's step method with its constant arguments bound; the factors default to the current ones.

        Returns None if a rate changes with the step, labels need looking up, inputs hold category codes, or the dtype
        cannot hold a scaling.
        """
        lr, model = self._step_rates.constant, self._model
        if lr is None or self._complete is None or not model.takes_numbers or model.has_codes:
            return None
        if self._check_finite and model.unrepresentable() is not None:
            return None
        options: dict[str, Any] = {} if self._check_finite else {"check_finite": False}
        factors = (
            self._lr_scale if lr_scale is None else lr_scale,
            self._decay_scale if decay_scale is None else decay_scale,
        )
        if factors != (1.0, 1.0):
            options["rates"] = of_one_step(scaled(np.array([lr]), *factors))
        return partial(self._core.step, **options) if options else self._core.step

    def _weigh(self, loss: _core.Loss | None = None) -> None:
        """Set the core's class weights to those of the model's current classes, or of `loss`; its state is kept.

        Raises
        ------
        ValueError
            If "balanced" has counted no labels, or a weight belongs to no current class.
        RuntimeError
            If `fit` is running: its labels were looked up in other classes.
        """
        if loss is None:
            if self._complete is None:
                raise ValueError(
                    "class_weights: got 'balanced', which fit computes from all labels; expected fit(x, y) first"
                )
            if self._classes is self._model.classes:
                return
            loss = self._complete if balanced(self._loss) else complete(self._loss, self._model)
        if loss != self._complete:
            if self._fit is not None:
                raise RuntimeError("classes: got new ones while fit is running, which would change its class weights")
            state: dict[str, Any] = self.__getstate__()
            state["attributes"][1]["_complete"] = loss
            self.__setstate__(state)
        self._classes = self._model.classes
        self._step = self._plain_step()
