"""Iterables of batches (x, y) or (x, y, weights): detection, length, column names and parts of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal.arrays import SupportsDLPack, to_any_array, to_array
from ..internal.checks import is_iterable, shown
from ..internal.features import UNNAMED, Columns, feature_names, order_of
from ..internal.frames import is_frame, is_series
from ..internal.inputs import Inputs
from ..internal.labels import Targets

if TYPE_CHECKING:
    from ..network.prediction import Predictor


def is_batches(value: object) -> bool:
    """Return whether `value` is an iterable of batches, not an array, a frame or (x, y).

    A tuple is (x, y) or (x, y, weights). So is a list, unless all its items are tuples of two or three.
    """
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable) or _is_array(value):
        return False
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, tuple) and len(item) in (2, 3) for item in value)
    return not isinstance(value, tuple)


def _is_array(value: object) -> bool:
    return (
        isinstance(value, (np.ndarray, SupportsDLPack))
        or hasattr(value, "__array__")
        or is_frame(value)
        or is_series(value)
    )


def checked_batches(value: object, name: str, other: str) -> Iterable[Any]:
    """Return `value` if it is an iterable of batches; raise TypeError otherwise, naming the targets `other`."""
    if _is_array(value):
        raise TypeError(
            f"{other}: missing; expected targets for the rows of {name} (or, as {name}, an iterable of batches (x, y))"
        )
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, dict)):
        raise TypeError(
            f"{name}: got {type(value).__name__} without {other}; expected arrays, or an iterable of batches (x, y)"
        )
    return value


def refuse_single_pass(batches: Iterable[Any], passes: int, name: str, hint: str) -> None:
    """Raise ValueError for an iterator that is needed more than once, and for an endless one."""
    if isinstance(batches, (itertools.cycle, itertools.count)):
        raise ValueError(f"{name}: got {type(batches).__name__}, which never ends; expected {hint}")
    if isinstance(batches, Iterator) and passes > 1:
        raise ValueError(
            f"{name}: got an iterator ({type(batches).__name__}), which gives one epoch, for {passes} epochs; expected "
            f"a list, or an object whose __iter__ starts again each time, or {hint}"
        )


def length_of(batches: Iterable[Any]) -> int | None:
    """Return the number of batches, or None if unknown: no ``__len__``, or one that raises."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # loaders over streams raise various exceptions
        return None


def names_of(batches: object, name: str, model: Predictor, known: Columns) -> Columns:
    """Return the column names that an iterable such as `MiniBatches` has, for `parts_of`.

    They are its attributes ``feature_names`` and ``target_names``. ``target_names`` may be names of classes, as in
    scikit-learn, so they are checked only when targets have several columns.

    Raises
    ------
    TypeError
        If ``feature_names`` is no sequence of names.
    ValueError
        If the number of ``feature_names`` is wrong, or they differ from those of the model or `known`.
    """
    x, y = getattr(batches, "feature_names", None), getattr(batches, "target_names", None)
    if x is not None:
        x, expected = feature_names(x, None, f"{name}: feature_names"), model.feature_names or known.x
        if expected is not None:
            order_of(x, expected, name)
        feature_names(x, model.in_features, f"{name}: feature_names")
    if not is_iterable(y) or isinstance(y, (str, bytes)):
        return Columns(x)
    return Columns(x, tuple(y))


def parts_of(batch: object, name: str, named: Columns = UNNAMED) -> tuple[Any, Any, Any]:
    """Return x, y and weights (or None) of a batch; its arrays get the column names `named`.

    Raises
    ------
    TypeError
        If the batch is not (x, y) or (x, y, weights).
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise TypeError(f"{name}: got {type(batch).__name__} {shown(batch)}; expected (x, y) or (x, y, weights)")
    x, y, weights = (*batch, None)[:3]
    if named.x is not None and not is_frame(x):
        x = Inputs(to_array(x, f"{name}: x"), named.x)
    if named.y is not None and not is_frame(y):
        array = to_any_array(y, f"{name}: y")
        y = Targets(array, named.y) if array.ndim == 2 and array.shape[1] == len(named.y) > 1 else array
    return x, y, weights


def exhausted(batches: Iterable[Any], name: str) -> ValueError:
    """Return the error for an iterable that gives no batch."""
    why = " (the iterator was exhausted before)" if isinstance(batches, Iterator) else ""
    return ValueError(f"{name}: the iterable gave no batch{why}; expected at least one")
