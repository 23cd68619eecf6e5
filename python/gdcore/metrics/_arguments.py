"""Arguments of metrics, checked and converted: class numbers, answers, a column of scores for each class."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array, Data, in_order, one_column, same_rows, to_any_array, to_array, to_weights
from ..internal.checks import shown
from ..internal.features import order_of
from ..internal.frames import frame_names, is_frame
from ..internal.labels import index_of, key_of, label_keys, label_of, looked_up

Float64: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = Sequence[Any] | None
NAMES = "USTMO"  # kinds of labels other than numbers: text, dates, both as objects


class Labels(NamedTuple):
    """Labels as class numbers, int64 (N,), of the classes `names`; or as K yes/no answers, bool (N, K)."""

    true: Array
    pred: Array
    names: Sequence[Any]

    @property
    def n_classes(self) -> int:
        """How many classes or answers there are."""
        return len(self.names)

    @property
    def several(self) -> bool:
        """Whether there are several yes/no answers a row."""
        return self.true.ndim == 2

    @property
    def binary(self) -> bool:
        """Whether there are two classes, of which the second is the positive one."""
        return self.n_classes == 2 and not self.several


class Scores(NamedTuple):
    """The truth, bool (N, K), and its scores, (N, K): a column for each class, or for each yes/no answer."""

    true: Array
    pred: Array
    exclusive: bool  # one true class in each row

    @property
    def columns(self) -> list[tuple[Array, Array]]:
        """Truth and score, column by column; of two classes the second only."""
        first = 1 if self.exclusive and self.true.shape[1] == 2 else 0
        return [(self.true[:, i], self.pred[:, i]) for i in range(first, self.true.shape[1])]


def weights_of(sample_weight: Data | None, rows: int) -> Float64:
    """Return the weight of each row, ones by default, times a power of 2 that makes the largest less than 1.

    Sums and products then neither overflow nor vanish; metrics are ratios, so their bits do not change.

    Raises
    ------
    ValueError
        If they are not finite numbers of at least 0, one a row, with a sum above 0.
    """
    if sample_weight is None:
        return np.ones(rows)
    array = to_weights(sample_weight, "sample_weight").astype(np.float64)
    if array.shape != (rows,):
        raise ValueError(f"sample_weight: got shape {array.shape}; expected ({rows},)")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() > 0):
        raise ValueError("sample_weight: expected finite numbers of at least 0, not all of them 0")
    scaled: Float64 = np.ldexp(array, -np.frexp(array.max())[1])
    return scaled


def weighted_mean(values: Array, weights: Float64) -> float:
    """Return the weighted mean of one value for each row."""
    return float((weights * values).sum() / weights.sum())


def binned(index: Array, weights: Float64, count: int) -> Float64:
    """Return the sum of the weights of each index from 0 to `count` - 1."""
    return np.bincount(index, weights, count).astype(np.float64, copy=False)


def numbers(y_true: Data, y_pred: Data) -> tuple[Float64, Float64]:
    """Return numbers as float64 (N, K)."""
    true, pred = _pair(y_true, y_pred, text=False)
    true, pred = true.reshape(len(true), -1), pred.reshape(len(pred), -1)
    if true.shape != pred.shape:
        raise ValueError(f"y_pred: got shape {pred.shape}; expected {true.shape}, as y_true")
    for name, array in (("y_true", true), ("y_pred", pred)):
        _finite(array, name)
    return true.astype(np.float64), pred.astype(np.float64)


def labels(y_true: Data, y_pred: Data, classes: Classes) -> Labels:
    """Return labels as class numbers, or as answers.

    `classes` are all names, in order. By default they are the labels that occur; 0 and 1 are always two classes.
    """
    true, pred = _pair(y_true, y_pred, text=True, classes=classes)
    if true.shape != pred.shape:
        raise ValueError(
            f"y_pred: got shape {pred.shape}; expected {true.shape}, as y_true: labels, not probabilities "
            "(probabilities.argmax(axis=1))"
        )
    if true.ndim == 2:
        return Labels(_answers(true, "y_true"), _answers(pred, "y_pred"), range(true.shape[1]))
    for name, array in (("y_true", true), ("y_pred", pred)):
        if classes is None and array.dtype.kind == "f" and not (array == np.floor(array)).all():
            at = int(np.argmin(array == np.floor(array)))
            raise ValueError(f"{name}: got {array[at]} in row {at}; expected labels")
    if classes is None:
        return _occurring(true, pred)
    return Labels(_index(true, "y_true", classes), _index(pred, "y_pred", classes), classes)


def _occurring(true: Array, pred: Array) -> Labels:
    """Return labels as indices into the sorted labels that occur; 0 and 1 are always two classes."""
    if all(each.dtype.kind in "iub" and each.min() >= 0 and each.max() <= 1 for each in (true, pred)):
        return Labels(true.astype(np.int64), pred.astype(np.int64), range(2))
    keys = label_keys(true), label_keys(pred)
    try:
        names = sorted({*keys[0], *keys[1]})
    except TypeError:
        raise TypeError(
            f"y_pred: got {pred.dtype}; expected labels such as those of y_true, which are {true.dtype}"
        ) from None
    if set(names) <= {0, 1}:
        names = [0, 1]
    index = {name: i for i, name in enumerate(names)}
    found = [np.fromiter((index[key] for key in each), np.int64, len(each)) for each in keys]
    return Labels(found[0], found[1], names)


def number_of(positive: Any, given: Labels) -> int:
    """Return the number of the class `positive`; raise ValueError if it is none of them."""
    if given.several:
        raise ValueError(f"positive: got {shown(positive)} for {given.n_classes} yes/no answers a row; expected None")
    keys = [key_of(name) for name in given.names]
    if key_of(positive) not in keys:
        found = [label_of(key) for key in keys]
        raise ValueError(f"positive: got {shown(positive)}; expected one of the classes {shown(found, 200)}")
    return keys.index(key_of(positive))


def scores(y_true: Data, y_pred: Data, classes: Classes) -> Scores:
    """Return the truth and its scores, column by column.

    Scores of shape (N,) are those of the second of two classes; (N, C) with labels (N,) those of each class, named by
    `classes` (0, 1, ... by default); (N, K) with answers (N, K) those of each yes.
    """
    true, pred = _pair(y_true, y_pred, text=True, classes=classes)
    pred = to_array(pred, "y_pred")  # refuses text
    _finite(pred, "y_pred")
    if pred.dtype.kind != "f":
        pred = pred.astype(np.float64)
    if true.ndim == 2:
        if pred.shape != true.shape:
            raise ValueError(f"y_pred: got shape {pred.shape}; expected {true.shape}, as y_true")
        return Scores(_answers(true, "y_true"), pred, False)
    if pred.ndim == 1:
        pred = np.stack([1 - pred, pred], axis=1)
    names = range(pred.shape[1]) if classes is None else classes
    if len(names) != pred.shape[1]:
        raise ValueError(f"classes: got {len(names)} names; expected {pred.shape[1]}, as y_pred has columns")
    index = _index(true, "y_true", names)
    return Scores(index[:, None] == np.arange(len(names)), pred, True)


def probabilities(y_true: Data, y_pred: Data, classes: Classes) -> Scores:
    """Return the truth and its probabilities, column by column, like `scores`."""
    given = scores(y_true, y_pred, classes)
    low, high = given.pred.min(), given.pred.max()
    if low < 0 or high > 1:
        raise ValueError(f"y_pred: got numbers from {low:g} to {high:g}; expected probabilities, from 0 to 1")
    one = bool(np.allclose(given.pred.sum(axis=1, dtype=np.float64), 1, rtol=0, atol=1e-3))
    if given.exclusive and not one:
        raise ValueError("y_pred: got rows that do not sum to 1; expected the probabilities of all classes")
    if not given.exclusive and one and (given.true.sum(axis=1) == 1).all():
        raise ValueError(
            "y_true: got one-hot rows, and probabilities of classes, whose rows sum to 1; expected labels: "
            "y_true.argmax(axis=1)"
        )
    return given


def _pair(y_true: Data, y_pred: Data, *, text: bool, classes: Classes = None) -> tuple[Array, Array]:
    """Return both as arrays with equal numbers of rows, (N,) if they have one column."""
    read = _labels if text else to_array
    true, pred = read(y_true, "y_true"), read(y_pred, "y_pred")
    if is_frame(y_pred) and pred.shape[1] > 1:
        given = frame_names(y_pred, "y_pred")
        known = frame_names(y_true, "y_true") if is_frame(y_true) else ()
        if len(known) < 2 and classes is not None:
            known = tuple(str(name) for name in classes)
        if not set(known).isdisjoint(given):  # columns with other names are taken by position
            pred = in_order(pred, order_of(given, known, "y_pred", "the columns of y_true, or the classes"))
    same_rows("y_pred", pred, "y_true", true)
    if not len(true):
        raise ValueError("y_true: got no rows; expected at least one")
    for name, array in (("y_true", true), ("y_pred", pred)):
        if array.ndim > 2:
            raise ValueError(f"{name}: got shape {array.shape}; expected (rows,) or (rows, columns)")
    return one_column(true), one_column(pred)


def _labels(value: Data, name: str) -> Array:
    """Return numbers, text or dates as an array; mixed ones, and some Python types, as objects."""
    array = to_any_array(value, name)
    named = array.dtype.kind == "O" and any(isinstance(item, (str, bytes, date, np.datetime64)) for item in array.flat)
    return array if named or array.dtype.kind in "USTM" else to_array(array, name)


def _finite(array: Array, name: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        raise ValueError(f"{name}: got {array[at]} in row {at[0]}; expected finite numbers")


def _answers(array: Array, name: str) -> Array:
    if array.dtype.kind in NAMES or not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name}: got {array.shape[1]} columns; expected answers of 0 and 1, or labels (rows,)")
    return array.astype(bool)


def _index(array: Array, name: str, classes: Sequence[Any]) -> Array:
    """Return the index of each label in `classes`, int64 (N,)."""
    if isinstance(classes, range) and array.dtype.kind in "iub" and array.min() >= 0 and array.max() < len(classes):
        return array.astype(np.int64, copy=False)
    names = tuple(classes)
    try:
        alike = len(index_of(names)) < len(names)
    except TypeError as error:
        raise TypeError(f"classes: got {shown(list(classes), 200)}; expected text, numbers or dates: {error}") from None
    if alike:
        raise ValueError(f"classes: got {shown(list(classes), 200)}; expected names that differ from each other")
    return looked_up(array, name, names, "classes=").astype(np.int64)
