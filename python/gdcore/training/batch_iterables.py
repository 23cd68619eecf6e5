"""Iterables of batches (x, y) or (x, y, weights): told from arrays, counted, and walked through."""

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
    """Return whether `value` gives batches: any iterable that is no array, frame or pair of arrays.

    A tuple or list of two or three is (x, y) or (x, y, weights), unless it is a list of tuples.
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
    """Return `value` if it can be walked through; raise TypeError otherwise, naming the targets `other`."""
    if _is_array(value):
        raise TypeError(
            f"{other}: missing; expected targets for the rows of {name} (or, as {name}, an iterable of batches (x, y))"
        )
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, dict)):
        raise TypeError(
            f"{name}: got {type(value).__name__} without {other}; expected arrays, or an iterable of batches (x, y)"
        )
    return value


def refuse_one_walk(batches: Iterable[Any], walks: int, name: str, hint: str) -> None:
    """Raise ValueError for an iterator that has to be walked through more than once, and for an endless one."""
    if isinstance(batches, (itertools.cycle, itertools.count)):
        raise ValueError(f"{name}: got {type(batches).__name__}, which never ends; expected {hint}")
    if isinstance(batches, Iterator) and walks > 1:
        raise ValueError(
            f"{name}: got an iterator ({type(batches).__name__}), which gives one epoch, for {walks} epochs; expected "
            f"a list, or an object whose __iter__ starts anew each time, or {hint}"
        )


def length_of(batches: Iterable[Any]) -> int | None:
    """Return how many batches there are, None where that is not known: no ``__len__``, or one that raises."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # loaders over streams raise what they like
        return None


def names_of(batches: object, name: str, model: Predictor, known: Columns) -> Columns:
    """Return the names that an iterable gives the columns of its arrays, as `MiniBatches` does; `parts_of` takes them.

    They are its attributes ``feature_names`` and ``target_names``. The latter may be names of classes, as in
    scikit-learn, so they are looked at where targets of several columns come.

    Raises
    ------
    TypeError
        If the former is no sequence of names.
    ValueError
        If they are not as many as columns, or others than those of the model or `known`.
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
    """Return x, y and weights (or None) of a batch, its arrays with the names that their columns have.

    Raises
    ------
    TypeError
        If it is no (x, y) or (x, y, weights).
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
    """Return what to raise where a walk gives no batch at all."""
    why = " (an iterator that was walked through before gives nothing more)" if isinstance(batches, Iterator) else ""
    return ValueError(f"{name}: the iterable gave no batch{why}; expected at least one")
