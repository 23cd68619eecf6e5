"""Targets of a table: classes of any type as indices, or numbers scaled to mean 0 and deviation 1, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..internal import json_values
from ..internal.arrays import Array, to_array, with_names
from ..internal.checks import FormatError, choice, shown
from ..internal.features import FeatureNames, order_of
from ..internal.frames import TIMES, first_of, frame_names, is_frame, row_count
from ..internal.labels import (
    Classes,
    class_array,
    class_names,
    decode_classes,
    encode_classes,
    key_of,
    label_of,
    looked_up,
)
from ..internal.moments import Moments
from .columns import Column, Float64, kind_of, missing, read_column
from .values import check_meaning, keys_of, meaning_of, numbers_of

__all__ = ["LEAST", "TASKS", "Judged", "Target", "meaning_in", "read_target", "refuse_missing"]

TASKS = ("classification", "regression")
LEAST = 1e-12  # deviation of a target in units of its mean: of a smaller one the numbers tell nothing
FEW = "expected task='classification' or task='regression'"


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes
    ----------
    task : {"classification", "regression"}
        Whether classes or numbers are predicted.
    name : str or None
        The column of the table that is predicted, if it is one.
    classes : tuple or None
        The classes in ascending order: text, numbers or dates.
    dtype : str
        NumPy's type of the predictions.
    columns : int
        Number of columns of numbers; 0 if y has one dimension.
    centre, scale : tuple of float
        Mean and standard deviation of each column of numbers.
    meaning : str
        What numbers or dates of one column are; see `meaning_of`.
    names : tuple of str
        Names of several columns of numbers, if they have some; later ones are put in their order.
    """

    task: str
    name: str | None = None
    classes: Classes | None = None
    dtype: str = "float64"
    columns: int = 0
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    meaning: str = ""
    names: FeatureNames = ()

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        return len(self.classes) if self.classes is not None else max(self.columns, 1)

    # ---- Fitting ----------------------------------------------------------------------------------------------------
    @classmethod
    def fit(cls, y: Column | Array, task: str | None) -> Self:
        """Return the target of the training rows, which `read_target` has returned.

        Raises
        ------
        TypeError
            If the targets are of no known type.
        ValueError
            If one is missing or infinite, there is one class alone, or `task` is needed: for whole numbers.
        """
        if not isinstance(y, Column):
            if task == "classification":
                raise ValueError(f"y: got shape {y.shape}; expected one class for each row, (rows,)")
            return replace(cls._fit_numbers(np.asarray(y, np.float64)), names=getattr(y, "names", None) or ())
        column = y
        refuse_missing(column)
        kind = kind_of(column, "y")
        if task is None:
            if kind == "number" and (either := _may_be_either(column)):
                raise ValueError(f"task: got None for {either}, such as {shown(first_of(column.values))}; {FEW}")
            task = "regression" if kind == "number" else "classification"
        meaning = meaning_of(column, "y") if kind in ("number", "date") else ""
        if task == "classification":
            return replace(cls._fit_classes(column), meaning=meaning)
        if kind not in ("number", "boolean"):
            raise TypeError(f"y: got {kind} values, such as {shown(column.values[0])}; expected numbers for regression")
        dtype = "float32" if column.values.dtype == np.float32 else "float64"
        return replace(cls._fit_numbers(numbers_of(column, "y")[:, None], dtype=dtype, columns=0), meaning=meaning)

    @classmethod
    def _fit_classes(cls, column: Column) -> Self:
        labels, dtype = _labels(column)
        kind = labels.dtype.kind
        if kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
            found = shown(labels[labels != np.floor(labels)][:1].tolist())
            raise ValueError(f"y: Unknown label type: got fractions, such as {found}; expected classes")
        keys = {key_of(item) for item in labels.tolist()} if kind == "O" else set(np.unique(labels).tolist())
        if kind == "M":
            keys = {np.datetime64(item, "us") for item in np.unique(labels).astype("M8[us]")}
        try:
            ordered = sorted(keys)
        except TypeError:
            types = ", ".join(sorted({type(key).__name__ for key in keys}))
            raise TypeError(f"y: got classes of the types {types}; expected one type, such as text") from None
        classes = tuple(label_of(key) for key in ordered)
        if len(classes) < 2:
            raise ValueError(f"y: got one class, {shown(classes[0])}; expected at least two classes")
        if len(classes) == len(labels) and len(classes) > 20:
            raise ValueError(f"y: got {len(labels)} rows of as many classes; expected classes that repeat")
        return cls("classification", None, classes, dtype)

    @classmethod
    def _fit_numbers(cls, y: Float64, dtype: str = "float64", columns: int | None = None) -> Self:
        if not np.isfinite(y).all():
            row = int(np.argmax(~np.isfinite(y).all(axis=1)))
            raise ValueError(f"y: got {shown(y[row].tolist())} in row {row}; expected finite numbers, none missing")
        found = Moments.of(y).scaling(LEAST)
        return cls("regression", None, None, dtype, y.shape[1] if columns is None else columns, *found)

    # ---- There and back ---------------------------------------------------------------------------------------------
    def encode(self, y: Column | Array, name: str = "y") -> Array:
        """Return targets as the networks are trained on them: class indices (rows,), or scaled numbers (rows, K)."""
        if self.classes is None:
            scaled: Array = (self.numbers(y, name) - np.array(self.centre)) / np.array(self.scale)
            return scaled.astype(np.float32)
        if not isinstance(y, Column):
            raise ValueError(f"{name}: got shape {y.shape}; expected one class for each row, (rows,)")
        refuse_missing(y, name)
        check_meaning(y, self.meaning, name)
        return looked_up(_labels(y)[0], name, self.classes, "the classes of training")

    def numbers(self, y: Column | Array, name: str = "y") -> Float64:
        """Return targets of a regression as they are, float64 (rows, K)."""
        if isinstance(y, Column):
            refuse_missing(y, name)
            found = numbers_of(y, name)[:, None]
            check_meaning(y, self.meaning, name)
        else:
            found = np.asarray(y, np.float64)
            given = getattr(y, "names", None)
            order = order_of(given, self.names, name, "the targets of training") if given and self.names else None
            found = found if order is None else found[:, order]
        if found.shape[1] != self.outputs:
            raise ValueError(f"{name}: got {found.shape[1]} columns; expected {self.outputs}, as in training")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: got a value that is missing or infinite; expected finite numbers")
        return found

    def decode(self, outputs: Array) -> Float64:
        """Return numbers (rows, K) in the unit of the targets, from outputs of the networks."""
        return np.asarray(outputs * np.array(self.scale) + np.array(self.centre))

    def shaped(self, numbers: Float64) -> Array:
        """Return numbers in the shape and type of the targets."""
        found = numbers if self.columns else numbers[:, 0]
        typed: Array = found.astype(self.dtype)
        return typed

    def class_array(self) -> Array:
        """Return the classes as an array of the type of the targets."""
        assert self.classes is not None
        if not self.dtype:
            return class_array(self.classes)
        made = np.empty(len(self.classes), dtype=self.dtype)
        made[:] = self.classes
        return made

    # ---- Files ------------------------------------------------------------------------------------------------------
    def to_json(self) -> dict[str, Any]:
        """Return the target as a JSON value."""
        return {**vars(self), "classes": encode_classes(self.classes)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        """Return the target that `to_json` wrote; raise FormatError if it is another value."""
        checks: dict[str, Callable[[Any, str], Any]] = {
            "task": json_values.text,
            "name": lambda v, w: None if v is None else json_values.text(v, w),
            "classes": lambda v, w: v if v is None else json_values.listing(v, w, lambda name, _: name),
            "dtype": json_values.text,
            "columns": json_values.whole,
            "centre": _numbers,
            "scale": _numbers,
            "meaning": meaning_in,
            "names": lambda v, w: tuple(json_values.listing(v, w, json_values.text)),
        }
        given = json_values.entries({"meaning": "", "names": []} | json_values.mapping(value, where), where, checks)
        with json_values.entry(where):
            choice(given["task"], "task", TASKS)
            np.dtype(given["dtype"] or "O")
            found = decode_classes(given["classes"])
            made = cls(**{**given, "classes": None if found is None else tuple(found)})
            if made.classes is not None:
                class_names(made.classes, len(made.classes))
                made.class_array()
        classes = made.task == "classification"
        if classes != (made.classes is not None) or (
            not classes and not (len(made.centre) == len(made.scale) == made.outputs)
        ):
            raise FormatError(f"{where}: does not fit its task, {made.task}")
        return made


def meaning_in(value: Any, where: str) -> str:
    """Return what values mean, as a file says it; "" in files that do not."""
    meaning = json_values.text(value, where)
    if meaning not in ("", "numbers", *TIMES):
        raise json_values.wrong(where, meaning, f"one of numbers, {', '.join(TIMES)}")
    return meaning


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    return tuple(json_values.listing(value, where, json_values.number))


def read_target(y: Any, name: str = "y") -> Column | Array:
    """Return targets as a column, or several columns of numbers as an array (rows, K).

    Raises
    ------
    TypeError, ValueError
        If they are neither.
    """
    if isinstance(y, Column):
        return y
    if y is None:
        raise ValueError(f"{name}: got None; expected a value for each row (fit requires y to be passed, not None)")
    if not _has_columns(y):
        return read_column(y, name)
    found = to_array(y, name)
    if found.ndim != 2:
        raise ValueError(f"{name}: got shape {found.shape}; expected (rows,) or (rows, outputs)")
    return with_names(found, frame_names(y, name) if is_frame(y) else getattr(y, "names", None))


def _has_columns(y: Any) -> bool:
    """Return whether targets have several columns."""
    if is_frame(y):
        row_count(y, "y")  # which refuses a lazy one
        return len(y.columns) > 1
    shape = getattr(y, "shape", None)
    if shape is None and isinstance(y, list) and y and isinstance(y[0], (list, tuple, np.ndarray)):
        shape = np.shape(y)
    return shape is not None and len(shape) == 2 and shape[1] > 1


def refuse_missing(column: Column, name: str = "y") -> None:
    """Raise ValueError if a target is missing."""
    gone = missing(column.values)
    if gone.any():
        row = int(np.argmax(gone))
        raise ValueError(
            f"{name}: got missing values (NaN or None) in {int(gone.sum())} rows, the first in row {row}; expected a "
            "target in each row: leave out the others"
        )


def _may_be_either(column: Column) -> str:
    """Return what numbers are that may be classes too: text, or whole numbers of any type; "" for others."""
    items = column.values.tolist()
    if any(isinstance(item, (str, bytes)) for item in items):
        return "text of numbers"
    whole = column.values.dtype.kind != "m" and all(isinstance(item, (Real, Decimal)) for item in items)
    return "whole numbers" if whole and np.all([item % 1 == 0 for item in items]) else ""


def _labels(column: Column) -> tuple[Array, str]:
    """Return labels as an array of numbers, dates or objects, and the type of predictions."""
    values = column.values
    kind = values.dtype.kind
    if kind in "biufUM" and not column.declared:
        return values, values.dtype.str if kind in "biufM" else ""
    if kind in "cmV":
        raise TypeError(f"y: got {values.dtype}; expected classes: text, numbers, booleans or dates")
    if kind == "O" and kind_of(column._replace(declared=False), "y") == "date":
        return values, ""
    made: npt.NDArray[Any] = np.empty(len(values), dtype=object)
    made[:] = keys_of(column, "y")
    return made, "object"


class Judged:
    """What `Judge` must know of the outputs that it measures."""

    def __init__(self, target: Target) -> None:
        self.out_features, self.classes, self.target_names = target.outputs, target.classes, None
        self.outputs = "numbers" if target.classes is None else "classes"
