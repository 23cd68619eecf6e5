"""The state of a trainer as a value, for checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from ..internal.arrays import Array
from ..internal.features import Columns

if TYPE_CHECKING:
    from ..history import History
    from ..model import Sequential

__all__ = ["Position", "TrainingState"]


class Position(NamedTuple):
    """Progress of the running epoch: batches done, their sums of loss and weight, and their seconds."""

    batch: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    seconds: float = 0.0


class TrainingState(NamedTuple):
    """The state of a trainer for a checkpoint; arrays are views of the trainer's memory."""

    model: Sequential
    loss: _core.Loss
    optimizer: _core.Optimizer
    dropout_schedule: Callable[[int], float] | None
    states: dict[str, Array | _core.DeviceArray]  # of the optimiser
    squares: list[str]  # the names of those states that are never negative
    columns: Columns  # names of the columns of inputs and of targets
    class_weights: tuple[float, ...] | None  # counted for "balanced"
    steps: int
    seed: int
    lr_scale: float
    decay_scale: float
    stopped: bool
    first_epoch: int
    position: Position
    settings: dict[str, Any] | None  # of the running fit
    callbacks: list[object]
    history: History
