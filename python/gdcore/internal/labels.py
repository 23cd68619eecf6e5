"""Class names of a model, and the lookup of labels of any type among them.

A label belongs to the class that it equals: numbers are compared as in Python (1, 1.0, True and np.int8(1) are one
class), text as text, dates as points in time. Without class names the classes are the whole numbers from 0.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .arrays import Array, Converted, NamedArray, in_order, one_column, to_any_array, to_array
from .checks import is_iterable, shown
from .features import TARGETS, are_default, order_of, refuse_duplicates
from .frames import first_of, frame_labels, is_frame, is_missing, object_numbers

ClassName: TypeAlias = str | int | float | bool | np.datetime64
Classes: TypeAlias = tuple[ClassName, ...]

_BLOCK = 1 << 16  # labels converted to Python objects at once


def class_names(classes: Iterable[object], outputs: int) -> Classes:
    """Return names of classes or answers as a tuple of Python strings, Python numbers and NumPy dates.

    Raises
    ------
    TypeError
        If `classes` is not a sequence, or holds another type.
    ValueError
        If their number does not fit a network of `outputs` outputs, or two are equal.
    """
    if isinstance(classes, (str, bytes)) or not is_iterable(classes):
        raise TypeError(f"classes: got {shown(classes)}; expected a sequence of names")
    names = tuple(_class_name(item, i) for i, item in enumerate(classes))
    expected = 2 if outputs == 1 else outputs
    if len(names) != expected:
        raise ValueError(f"classes: got {len(names)} names; expected {expected}, for a network of {outputs} output(s)")
    if len({key_of(name) for name in names}) != len(names):
        raise ValueError(f"classes: got {shown(list(names), 200)}; expected names that differ from each other")
    return names


def _class_name(item: object, number: int) -> ClassName:
    if isinstance(item, (datetime.date, np.datetime64)):
        date = np.datetime64(_in_utc(item))
        if not np.isnat(date):
            return date
    elif isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, (str, int, float)) and item == item:
        return item
    raise TypeError(f"classes[{number}]: got {type(item).__name__} {shown(item)}; expected text, a number or a date")


def _in_utc(item: Any) -> Any:
    """Return a date converted to UTC, without a time zone; dates without a zone are taken as UTC."""
    if getattr(item, "tzinfo", None) is None:
        return item
    return item.astimezone(datetime.UTC).replace(tzinfo=None)


def class_array(classes: Classes) -> Array:
    """Return class names as an array, of objects if their types differ, to keep each type."""
    kinds = {"text" if isinstance(name, str) else type(name) for name in classes}
    if len(kinds) == 1 or kinds == {int, float}:
        return np.asarray(classes)
    array = np.empty(len(classes), dtype=object)
    array[:] = classes
    return array


def encode_classes(classes: Classes | None) -> list[Any] | None:
    """Return class names as a JSON value; a date becomes {"date": text}."""
    if classes is None:
        return None
    return [{"date": str(name)} if isinstance(name, np.datetime64) else name for name in classes]


def decode_classes(value: Sequence[Any] | None) -> list[ClassName] | None:
    """Return the class names that `encode_classes` wrote."""
    if value is None:
        return None
    return [np.datetime64(name["date"]) if isinstance(name, dict) else name for name in value]


def are_numbers_from_0(classes: Sequence[object]) -> bool:
    """Return whether class names are 0, 1, 2, ... in this order; numeric labels then need no lookup."""
    return all(not isinstance(name, (str, np.datetime64)) and name == i for i, name in enumerate(classes))


@dataclass(frozen=True)
class Targets(Converted):
    """Targets as a numeric array, and the names of several columns, where known.

    Labels are already class indices and must not be looked up again.
    """

    array: Array
    names: tuple[Any, ...] | None = None

    def part(self, rows: npt.NDArray[np.int64]) -> Targets:
        """Return a copy of some of the rows."""
        return Targets(self.array[rows], self.names)


def to_targets(
    value: object, name: str, classes: Classes | None, *, labels: bool = False, known: tuple[Any, ...] | None = None
) -> Targets:
    """Return targets as a numeric array: labels become class indices, one column (N, 1) becomes (N,).

    Several columns of a frame are put in the order of the classes, or else of the `known` names.

    Parameters
    ----------
    value
        Targets, shape (N,) or (N, K), also as `Targets`; or one label of any type for each row, shape (N,) or (N, 1).
    name : str
        The argument's name, for messages.
    classes : tuple or None
        Class names of the model, if any. One column of targets is then read as labels.
    labels : bool
        Whether one column of whole floats is labels if there are no class names: for cross-entropy.
    known : tuple of str, optional
        Column names of the training targets, used if there are no classes. Arrays, and columns with default names, are
        matched by position.

    Returns
    -------
    Targets
        An array as `to_array` returns it; labels that were looked up are int32.

    Raises
    ------
    TypeError
        If there are non-numeric labels and the model has no class names.
    ValueError
        If a label is missing or not a class; or if a frame lacks a column, or has an unknown one.
    """
    columns: Sequence[Any] | None = value.names if isinstance(value, (Targets, NamedArray)) else None
    columns = frame_labels(value, name) if is_frame(value) else columns
    if columns is not None and len(columns) > 1:
        return _ordered(value, columns, name, classes, known)
    if isinstance(value, Targets):
        value, classes = value.array, None
    array = one_column(to_any_array(value, name))
    kind, column = array.dtype.kind, array.ndim == 1
    if kind == "O" and (classes is None or not column) and not any(isinstance(item, str) for item in array.flat):
        array, kind = object_numbers(array, name), "f"
    if kind in "biuf" and (classes is None or not column or are_numbers_from_0(classes)):
        array = _whole(array) if labels and column and kind == "f" else to_array(array, name)
        return Targets(array, None if column else known)
    if kind in "cV" or kind == "m":
        raise TypeError(f"{name}: got an array of {array.dtype}; expected numbers or labels")
    if classes is None:
        raise TypeError(
            f"{name}: got {_kind_of(array)} labels, such as {shown(first_of(array))}; expected numbers (or give the "
            "model its names: Sequential(classes=...))"
            if array.size
            else f"{name}: got no labels; expected at least one"
        )
    if not column:
        raise TypeError(
            f"{name}: got {_kind_of(array)} labels of shape {array.shape}; expected one for each row, (rows,)"
        )
    return Targets(looked_up(array, name, classes))


def _ordered(
    value: object, columns: Sequence[Any], name: str, classes: Classes | None, known: tuple[Any, ...] | None
) -> Targets:
    """Return the values of several named columns in the order of their classes, or else of `known`."""
    array = value.array if isinstance(value, Targets) else to_array(value, name)
    names = tuple(str(column) for column in columns)
    refuse_duplicates(names, name)
    if classes is not None and len(classes) == len(columns):
        return Targets(in_order(array, _order_by_class(columns, classes, name)))
    if known is None:
        return Targets(array, None if are_default(names) else names)
    known = tuple(str(column) for column in known)
    return Targets(in_order(array, order_of(names, known, name, TARGETS)), known)


def _order_by_class(columns: Sequence[Any], classes: Classes, name: str) -> list[int] | None:
    """Return the position of each class's column, matched as labels are, or else by name."""
    found = {key_of(column): i for i, column in enumerate(columns)}
    if found.keys() == index_of(classes).keys():
        return [found[key] for key in index_of(classes)]
    return order_of([str(column) for column in columns], [str(each) for each in classes], name, "the model's classes")


def _whole(labels: Array) -> Array:
    """Return floats as int64 if all are whole numbers; else unchanged, and cross-entropy refuses them."""
    whole = np.abs(labels) < np.float64(2**53)  # False for nan
    return labels.astype(np.int64) if (whole & (labels == np.floor(labels))).all() else labels


def _kind_of(array: Array) -> str:
    return {"U": "text", "S": "text", "O": "text", "T": "text", "M": "date"}.get(array.dtype.kind, str(array.dtype))


def looked_up(labels: Array, name: str, classes: Classes, whose: str = "the model's classes") -> npt.NDArray[np.int32]:
    """Return the class index of each label, (N,); raise ValueError for a label that is not a class.

    All lookups of labels use this function, so that equality is defined once, by `label_keys`.
    """
    index = index_of(classes)
    found = np.empty(len(labels), dtype=np.int32)
    for first in range(0, len(labels), _BLOCK):
        items = label_keys(labels[first : first + _BLOCK])
        try:
            found[first : first + len(items)] = [index[item] for item in items]
        except (KeyError, TypeError):  # TypeError: an unhashable object, which is not a class
            row = next(i for i, item in enumerate(items) if not _is_class(item, index))
            item = label_of(items[row])
            missing = is_missing(item) or item != item
            got = "a missing value" if missing else f"the label {shown(item)}"
            names = all(isinstance(each, str) for each in classes) and isinstance(item, (int, float))
            hint = " (np.asarray(model.classes)[y] turns numbers from 0 into names)" if names and not missing else ""
            raise ValueError(
                f"{name}: got {got} in row {first + row}; expected one of {whose}, {shown(list(classes), 200)}{hint}"
            ) from None
    return found


def _is_class(item: Any, index: Mapping[Any, int]) -> bool:
    try:
        return item in index
    except TypeError:
        return False


@lru_cache(maxsize=64)
def index_of(classes: Classes) -> dict[Any, int]:
    """Return the index of each class, by its key."""
    return {key_of(name): i for i, name in enumerate(classes)}


def label_keys(labels: Array) -> list[Any]:
    """Return the keys by which labels are compared, (N,): Python numbers, text, and `Moment` for dates."""
    kind = labels.dtype.kind
    if kind == "M":
        fine = np.datetime_data(labels.dtype)[0] in ("ns", "ps", "fs", "as")
        ticks = labels.astype("M8[ns]" if fine else "M8[us]")
        scale = 1 if fine else 1000
        moments = zip(ticks.view(np.int64).tolist(), np.isnat(labels).tolist(), strict=True)
        return [None if missing else Moment(tick * scale) for tick, missing in moments]
    if kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    elif kind == "f" and labels.dtype.itemsize > 8:
        labels = labels.astype(np.float64)
    items: list[Any] = labels.tolist()
    return [key_of(item) for item in items] if kind == "O" else items


class Moment(NamedTuple):
    """A point in time, the key by which dates of all types are compared."""

    nanoseconds: int  # since 1970


def key_of(item: Any) -> Any:
    """Return the key by which a label or a class is compared."""
    if isinstance(item, np.datetime64):
        return label_keys(np.array([item]))[0]
    if isinstance(item, np.generic):
        return item.item()
    if isinstance(item, datetime.date) and not is_missing(item):
        if not isinstance(item, datetime.datetime):
            item = datetime.datetime(item.year, item.month, item.day)
        item = _in_utc(item)
        since = item - datetime.datetime(1970, 1, 1)
        microseconds = (since.days * 86400 + since.seconds) * 10**6 + since.microseconds
        return Moment(microseconds * 1000 + getattr(item, "nanosecond", 0))  # only pandas timestamps have nanoseconds
    return item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item


def label_of(key: Any) -> Any:
    """Return the label of a key, for messages."""
    return np.datetime64(key.nanoseconds, "ns") if isinstance(key, Moment) else key
