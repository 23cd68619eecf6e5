"""Metrics of labels: how often classes and yes/no answers are right.

All take labels as ``model.predict_classes`` returns them: (N,), or (N, K) for K yes/no answers.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.checks import choice
from ._arguments import Classes, Float64, Labels, binned, labels, weighted_mean, weights_of

AVERAGES = ("binary", "macro", "micro", "weighted")


@explained
def accuracy(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the share of rows whose label is right; of K yes/no answers, the share whose answers all are.

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
    """Return the share of yes/no answers that are right, over all rows and outputs: 1 - Hamming loss.

    Arguments, result and errors are those of `accuracy`, which it equals for one answer a row.
    """
    given = labels(y_true, y_pred, classes)
    right = (given.true == given.pred).reshape(len(given.true), -1)
    return weighted_mean(right.mean(axis=1), weights_of(sample_weight, len(right)))


@explained
def balanced_accuracy(
    y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None
) -> float:
    """Return the mean over the classes of the share of their rows that is right; classes without rows do not count.

    Arguments, result and errors are those of `accuracy`. Of K yes/no answers it is the mean over the answers.
    """
    given = labels(y_true, y_pred, classes)
    w = weights_of(sample_weight, len(given.true))
    if given.several:
        parts = [Labels(*pair, 2) for pair in zip(given.true.T.astype(int), given.pred.T.astype(int), strict=True)]
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
    classes: Classes = None,
) -> float:
    """Return the share of what was called positive that is.

    Parameters
    ----------
    y_true, y_pred : array
        Labels, shape (N,), or answers of 0 and 1, shape (N, K).
    sample_weight : array, optional
        Weight of each row, shape (N,).
    average : {"binary", "macro", "micro", "weighted"}, optional
        "binary": of the second of two classes, the default where there are two. "macro": the mean over the classes that
        occur, or over the answers, the default elsewhere. "micro": of all counted together. "weighted": the mean with
        the classes' rows in `y_true` as weights.
    classes : sequence, optional
        All labels that there are, in order; those that occur, sorted, when left out.

    Returns
    -------
    float
        Between 0 and 1. What is undefined (nothing was called positive) counts 0, with a warning, as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If they are not labels, or do not fit together.
    """
    return _ratio("precision", y_true, y_pred, sample_weight, average, classes)


@explained
def recall(
    y_true: Data,
    y_pred: Data,
    *,
    sample_weight: Data | None = None,
    average: str | None = None,
    classes: Classes = None,
) -> float:
    """Return the share of what is positive that was called so.

    Arguments, result and errors are those of `precision`; undefined is it where nothing is positive.
    """
    return _ratio("recall", y_true, y_pred, sample_weight, average, classes)


@explained
def f1(
    y_true: Data,
    y_pred: Data,
    *,
    sample_weight: Data | None = None,
    average: str | None = None,
    classes: Classes = None,
) -> float:
    """Return F₁, the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

    Arguments, result and errors are those of `precision`; undefined is it where nothing is or was called positive.
    """
    return _ratio("f1", y_true, y_pred, sample_weight, average, classes)


def _ratio(
    name: str, y_true: Data, y_pred: Data, sample_weight: Data | None, average: str | None, classes: Classes
) -> float:
    given = labels(y_true, y_pred, classes)
    kind = ("binary" if given.binary else "macro") if average is None else choice(average, "average", AVERAGES)
    if kind == "binary" and not given.binary:
        raise ValueError(
            f"average: got 'binary' for {given.n_classes} classes; expected one of {', '.join(AVERAGES[1:])}"
        )
    right, called, rows, occur = _counts(given, weights_of(sample_weight, len(given.true)))
    if kind == "binary":
        right, called, rows = right[1:], called[1:], rows[1:]
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
    """Return, class by class, the weight of the rows that are right, called so, and so; and whether it occurs."""
    if given.several:
        right, called, rows = (w @ each for each in (given.true & given.pred, given.pred, given.true))
        return right, called, rows, np.ones(given.n_classes, bool)

    def weight(index: Array, some: Array | slice = slice(None)) -> Float64:
        return binned(index[some], w[some], given.n_classes)

    right = weight(given.true, given.true == given.pred)
    occur = np.zeros(given.n_classes, bool)
    occur[given.true] = occur[given.pred] = True
    return right, weight(given.pred), weight(given.true), occur
