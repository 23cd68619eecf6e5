"""What `Trainer.fit` is given as data, checked: where batches come from, and what is measured after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..internal.arrays import Array
from ..internal.checks import integer, shown
from ..internal.features import Columns
from ..internal.numbers import SAFE, TINY, vdot
from ..internal.prepared import Check, Prepared, prepared
from .measure import Held, HeldBatches
from .sources import ArraySource, IterableSource
from .validation import Validation, validation_of

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
    """Return the data of a run of `epochs` epochs, those that a resumed run has done included; change nothing.

    Rows set aside for validation are drawn by `seed`; `known` are the names of columns in the run that goes on.
    """
    if given.y is None:
        return _from_batches(trainer, given, epochs, known)
    if given.steps_per_epoch is not None:
        raise ValueError(
            f"steps_per_epoch: got {shown(given.steps_per_epoch)} for arrays; expected it for an iterable of batches"
        )
    model, loss, finite = trainer.model, trainer.loss, trainer.check_finite
    arrays = (given.x, given.y, given.sample_weight)
    training = Held(model, loss, *arrays, known=trainer._known(known), check="columns", finite=finite)
    wanted = _wanted(given.validation)
    if wanted.share is not None:
        rows, others = wanted.split(len(training), seed)
        held: Held | HeldBatches | None = training.part(others, "validation")
        training = training.part(rows)
    else:
        held = _to_validate(trainer, wanted, training.columns, epochs)
    source = ArraySource(model, training, given.batch_size, shuffle=given.shuffle, drop_last=given.drop_last)
    return TrainingData(source, held, training.columns)


def _from_batches(trainer: Trainer, given: Given, epochs: int, known: Columns) -> TrainingData:
    if given.sample_weight is not None:
        raise ValueError("sample_weight: got weights for an iterable; expected them in its batches: (x, y, weights)")
    if given.measure_training:
        raise ValueError("measure_training: got True for an iterable of batches; expected arrays x and y")
    wanted = _wanted(given.validation)
    if wanted.share is not None:
        raise ValueError("validation: got a fraction for an iterable of batches; expected (x, y)")
    steps = given.steps_per_epoch
    steps = None if steps is None else integer(steps, "steps_per_epoch", minimum=1)
    source = IterableSource(trainer.model, given.x, epochs, steps, trainer._known(known), known)
    return TrainingData(source, _to_validate(trainer, wanted, source.columns, epochs), source.columns)


def _wanted(validation: Any) -> Validation:
    return Validation() if validation is None else validation_of(validation, batches=True)


def _to_validate(trainer: Trainer, wanted: Validation, known: Columns, epochs: int) -> Held | HeldBatches | None:
    """Return what is to be measured at the end of an epoch, of data that is no part of the training data."""
    if wanted.batches is not None:
        return HeldBatches(trainer.model, wanted.batches, "validation", epochs, trainer._known(known), known)
    if wanted.parts is None:
        return None
    finite = trainer.check_finite
    return Held(trainer.model, trainer.loss, *wanted.parts, "validation", known=trainer._known(known), finite=finite)


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
