"""A trainer's part in C++: made from its attributes, copied, and made anew where the loss gets other class weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._attributes import attributes_of, restore_attributes
from ._class_weights import complete
from ._features import Learns
from .schedules import Rates

if TYPE_CHECKING:
    from ._fit import Fit

__all__ = ["Connected"]


class Connected(Learns):
    """A trainer and its part in C++, ``_core``.

    ``_complete`` is the loss with a number for each class, None as long as "balanced" has counted no labels.
    """

    __slots__ = ("_check_finite", "_complete", "_core", "_fit", "_loss", "_lr_scale", "_optimizer", "_rates", "_step")
    _loss: _core.Loss
    _optimizer: _core.Optimizer
    _complete: _core.Loss | None
    _check_finite: bool
    _lr_scale: float

    def _connect(self) -> None:
        """Make the part in C++, with an optimiser that has made no step."""
        loss = complete(self._loss, self._model) if self._complete is None else self._complete
        self._core = _core.Trainer(self._model, loss, self._optimizer)
        self._rates = Rates(self._optimizer.lr)
        self._fit: Fit | None = None
        self._step = self._plain_step()

    def __getstate__(self) -> dict[str, Any]:
        """Return the whole state of training, for copies and pickles: what a checkpoint holds, and the objects."""
        with self._model._hold(inside=False):  # another thread that makes steps waits
            self._check_thread("copying a trainer", "copy it when that has ended")
            attributes, slots = attributes_of(self, "_core", "_fit", "_rates", "_step")
            states = {name: np.array(array) for name, array in self._core.state().items()}
            model = self._model.copy_state()  # of this moment: the model itself is copied later
            return {"attributes": (attributes, slots), "steps": self._core.steps, "optimizer": states, "model": model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on where the trainer that the state is of was; an epoch that it had begun does not count."""
        restore_attributes(self, state["attributes"])
        self._connect()
        self._model.restore_state(state["model"])
        self._core.steps = state["steps"]
        for name, array in self._core.state().items():
            array[...] = state["optimizer"][name]

    def _check_thread(self, call: str, instead: str) -> None:
        """Refuse what another thread's `fit` makes meaningless: between its steps, epochs are not whole."""
        if self._fit is not None and self._fit.thread != threading.get_ident():
            raise RuntimeError(f"{call}: fit is at work in another thread; {instead}")

    def _plain_step(self) -> Callable[..., float] | None:
        """Return the core's own method with what is the same in every step bound to it.

        None where the rate is not, or a scaling that the dtype does not hold is to be refused.
        """
        lr = self._optimizer.lr
        if callable(lr) or self._complete is None or (self._check_finite and self._model._unheld is not None):
            return None
        options: dict[str, Any] = {} if self._check_finite else {"check_finite": False}
        if self._lr_scale != 1.0:
            options["lr"] = lr * self._lr_scale
        return partial(self._core.step, **options) if options else self._core.step

    def _balance(self, loss: _core.Loss) -> None:
        """Give the core the loss with what "balanced" means for the training labels; its state goes on."""
        if loss != self._complete:
            state: dict[str, Any] = self.__getstate__()
            state["attributes"][1]["_complete"] = loss
            self.__setstate__(state)

    def _check_balanced(self) -> None:
        if self._complete is None:
            raise ValueError("class_weights: got 'balanced', which fit finds in all labels; expected fit(x, y) first")
