"""Conversion of the data of every call to checked arrays: inputs, targets, and a weight for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from .arrays import Array, same_rows, to_weights
from .features import UNNAMED, Columns
from .inputs import Inputs, to_inputs
from .labels import Targets, to_targets
from .numbers import check_batch_scale, check_numbers, check_scale
from .outputs import check_target_names, of_loss

if TYPE_CHECKING:
    from ..network.prediction import Predictor

__all__ = ["Check", "Prepared", "prepared"]

# What is refused: values outside the model's dtype; also a batch, or a column, that the dtype rounds to zeros.
Check: TypeAlias = Literal["numbers", "batch", "columns"]


class Prepared(NamedTuple):
    """Inputs and targets with the same number of rows, and weights of shape (rows,), if any."""

    x: Inputs
    y: Targets
    weights: Array | None

    @property
    def columns(self) -> Columns:
        """Column names of inputs and targets, where known."""
        return Columns(self.x.names, self.y.names)

    def part(self, rows: npt.NDArray[np.int64]) -> Prepared:
        """Return a copy of some of the rows."""
        return Prepared(self.x.part(rows), self.y.part(rows), None if self.weights is None else self.weights[rows])


def prepared(
    model: Predictor,
    loss: _core.Loss,
    x: object,
    y: object,
    sample_weight: object = None,
    label: str = "",
    *,
    known: Columns = UNNAMED,
    check: Check | None = "numbers",
) -> Prepared:
    """Return the data arguments of a call in the form that the core takes.

    Parameters
    ----------
    model : Predictor
        The data must fit its columns, classes and dtype.
    loss : Loss
        If its outputs are classes, one column of whole numbers is read as labels.
    x, y, sample_weight
        Inputs (rows, in_features), targets, and a weight for each row or None.
    label : str
        Prefix of the arguments' names in messages, such as "validation: ".
    known : Columns
        Column names of inputs and targets, used where the model has none yet.
    check : {"numbers", "batch", "columns"} or None
        What is refused: values outside the model's dtype; for training also values that the dtype rounds to zeros: a
        whole batch, or a whole column if all rows are given. The core checks the rest.

    Raises
    ------
    TypeError, ValueError
        If columns, labels, row counts or values do not fit, or rows of 0 and 1 have several classes; names the
        argument.
    """
    check_target_names(loss, model)
    inputs = to_inputs(x, f"{label}x", model.feature_names or known.x)
    labels = of_loss(loss) == "classes"
    targets = to_targets(y, f"{label}y", model.classes, labels=labels, known=model.target_names or known.y)
    same_rows(f"{label}y", targets.array, "x", inputs.array)
    weights = None if sample_weight is None else to_weights(sample_weight, f"{label}sample_weight")
    if weights is not None:
        same_rows(f"{label}sample_weight", weights, "x", inputs.array)
    model.check_codes(inputs, f"{label}x")
    if check is not None:
        model.check_inputs(inputs, f"{label}x")
        any_width = targets.array.ndim == 1 or isinstance(loss, (_core.CustomLoss, _core.Quantile))
        if any_width or targets.array.shape[-1] == model.out_features:
            check_numbers(targets.array, model.dtype, f"{label}y", targets.names)
            if labels and targets.array.ndim == 2 and isinstance(loss, _core.CrossEntropy):
                _refuse_several_classes(targets.array, f"{label}y")
    if check == "batch":
        check_batch_scale(inputs.array, model.dtype, f"{label}x")
        check_batch_scale(targets.array, model.dtype, f"{label}y")
    elif check == "columns":
        check_scale(inputs.array, model.dtype, f"{label}x", inputs.names)
        check_scale(targets.array, model.dtype, f"{label}y", targets.names)
    return Prepared(inputs, targets, weights)


def _refuse_several_classes(y: Array, name: str) -> None:
    """Raise ValueError for soft targets of only 0 and 1 with rows of several classes or of none."""
    wrong = y.sum(axis=1) != 1
    if wrong.any() and ((y == 0) | (y == 1)).all():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}: got {np.count_nonzero(y[row])} classes in row {row}; expected one, for CrossEntropy: with "
            "gd.BinaryCrossEntropy() each column is an answer of its own, and y / y.sum(axis=1, keepdims=True) are "
            "probabilities"
        )
