"""Data arguments of `Trainer.fit`, checked: the source of batches, and the data to measure after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..data import strata
from ..internal.arrays import Array
from ..internal.checks import flag, integer, shown
from ..internal.features import Columns
from ..internal.frames import READ
from ..internal.numbers import SAFE, TINY, vdot
from ..internal.prepared import Check, Prepared, prepared
from ..parquet.source import Parquet
from .measure import CheckedBatches, CheckedData, Measured
from .sources import ArraySource, IterableSource, Source
from .validation import Validation, validation_of
from .windows import CheckedWindows, WindowSource

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["DEFAULT_SIZE", "Given", "TrainingData", "batch", "is_plain", "to_measure", "training_data"]


class DefaultSize(int):
    """The default batch size, distinguishable from a given 32."""


DEFAULT_SIZE = DefaultSize(32)


class Given(NamedTuple):
    """The data arguments of `Trainer.fit`."""

    x: Any
    y: Any
    sample_weight: Any
    validation: Any
    stratify: Any
    batch_size: int | None
    shuffle: bool
    drop_last: bool
    steps_per_epoch: int | None
    measure_training: bool


class TrainingData(NamedTuple):
    """The source of batches, the data to measure at the end of an epoch, and the names of the columns."""

    source: Source
    validation: Measured | None
    columns: Columns


def training_data(trainer: Trainer, given: Given, epochs: int, seed: int, known: Columns) -> TrainingData:
    """Return the data of a run of `epochs` epochs, including those done before a resume; change nothing.

    `seed` draws the rows held out for validation; `known` are the names of columns in the resumed run.
    """
    if isinstance(given.x, Parquet):
        return _from_windows(trainer, given, epochs, known)
    if given.y is None:
        return _from_batches(trainer, given, epochs, known)
    if given.steps_per_epoch is not None:
        raise ValueError(
            f"steps_per_epoch: got {shown(given.steps_per_epoch)} for arrays; expected it for an iterable of batches"
        )
    model, loss, finite = trainer.model, trainer.loss, trainer.check_finite
    arrays = (given.x, given.y, given.sample_weight)
    training = CheckedData(model, loss, *arrays, known=trainer._known(known), check="columns", finite=finite)
    wanted, labels = _wanted(given.validation), strata(given.stratify, training.labels(), training.labels())
    if labels is not None and wanted.share is None:
        raise ValueError("stratify: got it without a fraction; expected validation=0.2, for example")
    if wanted.holds_out:
        rows, others = wanted.split(len(training), seed, labels)
        validation: Measured | None = training.part(others, "validation", stratified=labels is not None)
        training = training.part(rows)
    else:
        validation = _to_validate(trainer, wanted, training.columns, epochs)
    source = ArraySource(model, training, given.batch_size, shuffle=given.shuffle, drop_last=given.drop_last)
    return TrainingData(source, validation, training.columns)


def _from_batches(trainer: Trainer, given: Given, epochs: int, known: Columns) -> TrainingData:
    if given.sample_weight is not None:
        raise ValueError("sample_weight: got weights for an iterable; expected them in its batches: (x, y, weights)")
    if given.measure_training:
        raise ValueError("measure_training: got True for an iterable of batches; expected arrays x and y")
    if given.batch_size is not None and not isinstance(given.batch_size, DefaultSize):
        raise ValueError(
            f"batch_size: got {shown(given.batch_size)} for an iterable of batches, which has its own; "
            "expected no batch_size"
        )
    if given.stratify is not False and given.stratify is not None:
        raise ValueError("stratify: got it for an iterable of batches; expected arrays x and y")
    if flag(given.drop_last, "drop_last"):
        raise ValueError("drop_last: got True for an iterable of batches; expected False")
    wanted = _wanted(given.validation)
    if wanted.share is not None:
        raise ValueError("validation: got a fraction for an iterable of batches; expected (x, y)")
    steps = given.steps_per_epoch
    steps = None if steps is None else integer(steps, "steps_per_epoch", minimum=1)
    source = IterableSource(trainer.model, given.x, epochs, steps, trainer._known(known), known)
    return TrainingData(source, _to_validate(trainer, wanted, source.columns, epochs), source.columns)


def _from_windows(trainer: Trainer, given: Given, epochs: int, known: Columns) -> TrainingData:
    _refuse_beside(given.y, given.sample_weight)
    wanted = _wanted(given.validation)
    if given.stratify is not False and given.stratify is not None:
        raise ValueError("stratify: got it for Parquet; expected arrays x and y")
    if given.steps_per_epoch is not None:
        raise ValueError(f"steps_per_epoch: got {shown(given.steps_per_epoch)} for Parquet; expected none")
    if wanted.share is not None:
        raise ValueError("validation: got a fraction for Parquet; expected Parquet of other files, or (x, y)")
    data = _windows(trainer, given.x, "", trainer._known(known))
    validation = _to_validate(trainer, wanted, data.columns, epochs)
    source = WindowSource(trainer.model, data, given.batch_size, shuffle=given.shuffle, drop_last=given.drop_last)
    return TrainingData(source, validation, data.columns)


def _refuse_beside(y: Any, sample_weight: Any) -> None:
    """Raise ValueError for targets or weights beside Parquet, which has them in its columns."""
    for argument, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            expected = f"the name of a column: Parquet(..., {argument}=...)"
            raise ValueError(f"{argument}: got it beside Parquet; expected {expected}")


def _wanted(validation: Any) -> Validation:
    return Validation() if validation is None else validation_of(validation, batches=True)


def _to_validate(trainer: Trainer, wanted: Validation, known: Columns, epochs: int) -> Measured | None:
    """Return the data to measure at the end of an epoch, if it is given apart from the training data."""
    if isinstance(wanted.batches, Parquet):
        return _windows(trainer, wanted.batches, "validation", trainer._known(known))
    if wanted.batches is not None:
        return CheckedBatches(trainer.model, wanted.batches, "validation", epochs, trainer._known(known), known)
    if wanted.parts is None:
        return None
    finite = trainer.check_finite
    return CheckedData(
        trainer.model, trainer.loss, *wanted.parts, "validation", known=trainer._known(known), finite=finite
    )


def is_plain(x: Array) -> bool:
    """Return whether the inputs of a batch can be passed to the core unchanged.

    The core finds NaN and refuses targets that need converting. It does not find inputs that are too large, or all too
    small, for float32. Targets that are too large make the loss infinite and are searched for only then.
    """
    kind = x.dtype.char
    return kind in READ and not (kind == "d" and not TINY < vdot(x, x) < SAFE)


def batch(trainer: Trainer, x: Any, y: Any, weights: Any) -> Prepared:
    """Return inputs, targets and weights of one batch; values are checked if the trainer's ``check_finite`` is set."""
    check: Check | None = "batch" if trainer.check_finite else None
    return prepared(trainer.model, trainer.loss, x, y, weights, known=trainer._known(), check=check)


def _windows(trainer: Trainer, data: Parquet, name: str, known: Columns) -> CheckedWindows:
    return CheckedWindows(trainer.model, trainer.loss, data, name, known=known, finite=trainer.check_finite)


def to_measure(trainer: Trainer, x: Any, y: Any, sample_weight: Any) -> Measured:
    """Return the data of `Trainer.evaluate`: arrays or, without `y`, Parquet or an iterable of batches."""
    if isinstance(x, Parquet):
        _refuse_beside(y, sample_weight)
        return _windows(trainer, x, "", trainer._known())
    if y is not None:
        known, finite = trainer._known(), trainer.check_finite
        return CheckedData(trainer.model, trainer.loss, x, y, sample_weight, known=known, finite=finite)
    if sample_weight is not None:
        raise ValueError("sample_weight: got weights for an iterable; expected them in its batches: (x, y, weights)")
    return CheckedBatches(trainer.model, x, "x", known=trainer._known())
