"""Iterables of batches (x, y) or (x, y, weights): told from arrays, counted, and walked through."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ._arrays import SupportsDLPack
from ._checks import shown
from ._frames import is_frame, is_series


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


def parts_of(batch: object, name: str) -> tuple[Any, Any, Any]:
    """Return x, y and weights (or None) of a batch; raise TypeError where it is no (x, y) or (x, y, weights)."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise TypeError(f"{name}: got {type(batch).__name__} {shown(batch)}; expected (x, y) or (x, y, weights)")
    return batch[0], batch[1], batch[2] if len(batch) == 3 else None


def exhausted(batches: Iterable[Any], name: str) -> ValueError:
    """Return what to raise where a walk gives no batch at all."""
    why = " (an iterator that was walked through before gives nothing more)" if isinstance(batches, Iterator) else ""
    return ValueError(f"{name}: the iterable gave no batch{why}; expected at least one")
