"""Metrics of labels: classes and yes/no answers.

All take labels as ``model.predict_classes`` returns them: (N,), or (N, K) for K yes/no answers.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.checks import choice, shown
from ._arguments import Classes, Float64, Labels, binned, labels, number_of, weighted_mean, weights_of

AVERAGES = ("binary", "macro", "micro", "weighted")


@explained
def accuracy(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the share of correct rows; of K yes/no answers, the share of rows whose answers all are correct.

    Parameters
    ----------
    y_true, y_pred : array
        Labels, shape (N,), or answers of 0 and 1, shape (N, K).
    sample_weight : array, optional
        Weight of each row, shape (N,).
    classes : sequence, optional
        All labels that there are.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If they are not labels, or do not fit together.
    """
    given = labels(y_true, y_pred, classes)
    right = given.true == given.pred
    return weighted_mean(right.all(axis=1) if given.several else right, weights_of(sample_weight, len(right)))


@explained
def binary_accuracy(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the share of correct yes/no answers, over all rows and outputs: 1 - Hamming loss.

    Arguments, result and errors are those of `accuracy`, which it equals for one answer a row.
    """
    given = labels(y_true, y_pred, classes)
    right = (given.true == given.pred).reshape(len(given.true), -1)
    return weighted_mean(right.mean(axis=1), weights_of(sample_weight, len(right)))


@explained
def balanced_accuracy(
    y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None
) -> float:
    """Return the mean recall of the classes; classes without rows do not count.

    Arguments, result and errors are those of `accuracy`. Of K yes/no answers it is the mean over the answers.
    """
    given = labels(y_true, y_pred, classes)
    w = weights_of(sample_weight, len(given.true))
    if given.several:
        pairs = zip(given.true.T.astype(int), given.pred.T.astype(int), strict=True)
        parts = [Labels(*pair, range(2)) for pair in pairs]
        return float(np.mean([_balanced(part, w) for part in parts]))
    return _balanced(given, w)


def _balanced(given: Labels, w: Float64) -> float:
    right, _, rows, _ = _counts(given, w)
    return float(np.mean(right[rows > 0] / rows[rows > 0]))


@explained
def precision(
    y_true: Data,
    y_pred: Data,
    *,
    sample_weight: Data | None = None,
    average: str | None = None,
    positive: Any = None,
    classes: Classes = None,
) -> float:
    """Return TP / (TP + FP), the share of positive predictions that are correct.

    Parameters
    ----------
    y_true, y_pred : array
        Labels, shape (N,), or answers of 0 and 1, shape (N, K).
    sample_weight : array, optional
        Weight of each row, shape (N,).
    average : {"binary", "macro", "micro", "weighted"}, optional
        "binary": of the class `positive`, the default where that is given or there are two classes. "macro": the mean
        over the classes that occur, or over the answers, the default elsewhere. "micro": of all counted together.
        "weighted": the mean with the classes' rows in `y_true` as weights.
    positive : label, optional
        The positive class. By default it is the second of two in the order of `classes`.
    classes : sequence, optional
        All labels that there are, in order; those that occur, sorted, when left out.

    Returns
    -------
    float
        Between 0 and 1. Without positive predictions it is undefined: 0, with a warning, as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If they are not labels, or do not fit together.
    """
    return _ratio("precision", y_true, y_pred, sample_weight, average, positive, classes)


@explained
def recall(
    y_true: Data,
    y_pred: Data,
    *,
    sample_weight: Data | None = None,
    average: str | None = None,
    positive: Any = None,
    classes: Classes = None,
) -> float:
    """Return TP / (TP + FN), the share of positive rows that are predicted as positive.

    Arguments, result and errors are those of `precision`; it is undefined without positive rows.
    """
    return _ratio("recall", y_true, y_pred, sample_weight, average, positive, classes)


@explained
def f1(
    y_true: Data,
    y_pred: Data,
    *,
    sample_weight: Data | None = None,
    average: str | None = None,
    positive: Any = None,
    classes: Classes = None,
) -> float:
    """Return F₁, the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

    Arguments, result and errors are those of `precision`; it is undefined without positive rows and predictions.
    """
    return _ratio("f1", y_true, y_pred, sample_weight, average, positive, classes)


def _ratio(
    name: str,
    y_true: Data,
    y_pred: Data,
    sample_weight: Data | None,
    average: str | None,
    positive: Any,
    classes: Classes,
) -> float:
    given = labels(y_true, y_pred, classes)
    one = 1 if positive is None else number_of(positive, given)
    by_default = "binary" if given.binary or positive is not None else "macro"
    kind = by_default if average is None else choice(average, "average", AVERAGES)
    if positive is not None and kind != "binary":
        raise ValueError(f"average: got {kind!r} with positive={shown(positive)}; expected one of the two")
    if kind == "binary" and not given.binary and positive is None:
        raise ValueError(
            f"average: got 'binary' for {given.n_classes} classes; expected one of {', '.join(AVERAGES[1:])}, or "
            "positive= with a class"
        )
    right, called, rows, occur = _counts(given, weights_of(sample_weight, len(given.true)))
    if kind == "binary":
        right, called, rows = (each[one : one + 1] for each in (right, called, rows))
    elif kind == "micro":
        right, called, rows = right.sum(keepdims=True), called.sum(keepdims=True), rows.sum(keepdims=True)
    else:
        right, called, rows = right[occur], called[occur], rows[occur]
    parts = {"precision": called, "recall": rows, "f1": (called + rows) / 2}[name]
    if not parts.all():
        warnings.warn(f"{name}: undefined for {(parts == 0).sum()} of the classes; counted as 0", stacklevel=4)
    ratios = np.divide(right, parts, out=np.zeros(len(parts)), where=parts > 0)
    if kind == "weighted" and rows.sum() > 0:
        return float((rows * ratios).sum() / rows.sum())
    return float(ratios.mean())


def _counts(given: Labels, w: Float64) -> tuple[Float64, Float64, Float64, Array]:
    """Return for each class the weight of true positives, of predictions and of rows; and whether the class occurs."""
    if given.several:
        right, called, rows = (w @ each for each in (given.true & given.pred, given.pred, given.true))
        return right, called, rows, np.ones(given.n_classes, bool)

    def weight(index: Array, some: Array | slice = slice(None)) -> Float64:
        return binned(index[some], w[some], given.n_classes)

    right = weight(given.true, given.true == given.pred)
    occur = np.zeros(given.n_classes, bool)
    occur[given.true] = occur[given.pred] = True
    return right, weight(given.pred), weight(given.true), occur
