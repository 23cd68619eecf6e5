"""What `Trainer.fit` is given as data, checked: where batches come from, and what is measured after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..data import DefaultSize, split_rows
from ..internal.arrays import Array
from ..internal.checks import flag, integer, is_number, real, shown
from ..internal.features import Columns
from ..internal.numbers import SAFE, TINY, vdot
from ..internal.prepared import Check, Prepared, prepared
from .batches import is_batches, parts_of
from .measure import Held, HeldBatches
from .sources import ArraySource, IterableSource

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Given", "TrainingData", "batch", "is_plain", "to_measure", "training_data"]


PLAIN = "?bBhHiIlLqQfd"  # NumPy's codes of the types that the core reads


class Given(NamedTuple):
    """The arguments of `Trainer.fit` about data."""

    x: Any
    y: Any
    sample_weight: Any
    validation: Any
    batch_size: int | None
    shuffle: bool
    drop_last: bool
    steps_per_epoch: int | None
    measure_training: bool


class TrainingData(NamedTuple):
    """Where batches come from, what is measured at the end of an epoch, and the names of the columns."""

    source: ArraySource | IterableSource
    validation: Held | HeldBatches | None
    columns: Columns


def training_data(trainer: Trainer, given: Given, epochs: int, seed: int, known: Columns) -> TrainingData:
    """Return the data of a run of `epochs` epochs; change nothing.

    Rows set aside for validation are drawn by `seed`; `known` are the names of columns in the run that goes on.
    """
    if given.y is None:
        return _from_batches(trainer, given, epochs, seed, known)
    if given.steps_per_epoch is not None:
        raise ValueError(
            f"steps_per_epoch: got {shown(given.steps_per_epoch)} for arrays; expected it for an iterable of batches"
        )
    model, loss, finite = trainer.model, trainer.loss, trainer.check_finite
    arrays = (given.x, given.y, given.sample_weight)
    training = Held(model, loss, *arrays, known=trainer._known(known), check="columns", finite=finite)
    held = _validation(trainer, given.validation, training, epochs, seed)
    if is_number(given.validation):
        training = training.part(split_rows(len(training), float(given.validation), seed, name="validation")[0])
    source = ArraySource(model, training, given.batch_size, shuffle=given.shuffle, drop_last=given.drop_last)
    return TrainingData(source, held, training.columns)


def _from_batches(trainer: Trainer, given: Given, epochs: int, seed: int, known: Columns) -> TrainingData:
    if given.sample_weight is not None:
        raise ValueError("sample_weight: got weights for an iterable; expected them in its batches: (x, y, weights)")
    if given.measure_training:
        raise ValueError("measure_training: got True for an iterable of batches; expected arrays x and y")
    if given.batch_size is not None and not isinstance(given.batch_size, DefaultSize):
        raise ValueError(
            f"batch_size: got {shown(given.batch_size)} for an iterable of batches, which are taken as they come; "
            "expected it to be left out"
        )
    if flag(given.drop_last, "drop_last"):
        raise ValueError("drop_last: got True for an iterable of batches; expected all of them to be trained on")
    if is_number(given.validation):
        raise ValueError("validation: got a fraction for an iterable of batches; expected (x, y)")
    steps = given.steps_per_epoch
    steps = None if steps is None else integer(steps, "steps_per_epoch", minimum=1)
    source = IterableSource(trainer.model, given.x, epochs, steps, trainer._known(known), known)
    return TrainingData(source, _validation(trainer, given.validation, source, epochs, seed), source.columns)


def _validation(
    trainer: Trainer, validation: Any, training: Held | IterableSource, epochs: int, seed: int
) -> Held | HeldBatches | None:
    """Return what is to be measured at the end of an epoch: part of the training data, arrays, or batches."""
    known = training.columns
    if validation is None:
        return None
    if is_number(validation) and isinstance(training, Held):
        share = real(validation, "validation", low=0, high=1)
        return training.part(split_rows(len(training), share, seed, name="validation")[1], "validation")
    if is_batches(validation):
        return HeldBatches(trainer.model, validation, "validation", epochs, trainer._known(known), known)
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        raise TypeError(
            f"validation: got {shown(validation)}; expected (x, y), (x, y, weights), a fraction, or an iterable of "
            "batches"
        )
    parts, finite = parts_of(validation, "validation"), trainer.check_finite
    return Held(trainer.model, trainer.loss, *parts, "validation", known=trainer._known(known), finite=finite)


def is_plain(x: Array) -> bool:
    """Return whether the inputs of a batch can be handed to the core as they are.

    It finds NaN itself, and refuses targets that need converting, but does not find inputs that are too large or all
    too small for float32. Targets that are too large make the loss infinite, so they are looked for then.
    """
    kind = x.dtype.char
    return kind in PLAIN and not (kind == "d" and not TINY < vdot(x, x) < SAFE)


def batch(trainer: Trainer, x: Any, y: Any, weights: Any) -> Prepared:
    """Return inputs, targets and weights of one batch, checked where the trainer wants that."""
    check: Check | None = "batch" if trainer.check_finite else None
    return prepared(trainer.model, trainer.loss, x, y, weights, known=trainer._known(), check=check)


def to_measure(trainer: Trainer, x: Any, y: Any, sample_weight: Any) -> Held | HeldBatches:
    """Return the data of `Trainer.evaluate`: arrays, or, without `y`, an iterable of batches."""
    if y is not None:
        known, finite = trainer._known(), trainer.check_finite
        return Held(trainer.model, trainer.loss, x, y, sample_weight, known=known, finite=finite)
    if sample_weight is not None:
        raise ValueError("sample_weight: got weights for an iterable; expected them in its batches: (x, y, weights)")
    return HeldBatches(trainer.model, x, "x", known=trainer._known())
