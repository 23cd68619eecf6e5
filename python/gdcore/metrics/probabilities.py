"""Metrics of probabilities: ranking and calibration.

Probabilities are (N,) of the second of two classes, (N, C) of each class, or (N, K) of each of K yes/no answers.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.checks import integer
from ._arguments import Classes, Float64, binned, probabilities, scores, weighted_mean, weights_of


@explained
def roc_auc(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the area under the ROC curve: the chance that a positive row has a higher score than a negative one.

    Parameters
    ----------
    y_true : array
        Labels, shape (N,), or answers of 0 and 1, shape (N, K).
    y_pred : array
        Probabilities or other scores: (N,) of the second of two classes, (N, C), or (N, K). Equal ones count half.
    sample_weight : array, optional
        Weight of each row, shape (N,).
    classes : sequence, optional
        The labels in the order of the columns; 0, 1, ... when left out.

    Returns
    -------
    float
        Of several classes the mean of each one against the rest, of several answers the mean over them. nan, with a
        warning, where a class has no rows or all of them, as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If they do not fit together, or a score is not finite.
    """
    given = scores(y_true, y_pred, classes)
    w = weights_of(sample_weight, len(given.true))
    return float(np.mean([_area(*column, w) for column in given.columns]))


def _area(true: Array, score: Array, w: Float64) -> float:
    positive, negative = _by_score(true, score, w)
    total = positive.sum() * negative.sum()
    if total == 0:
        warnings.warn("roc_auc: undefined where all rows are of one class, or none of a class: nan", stacklevel=4)
        return math.nan
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / total)


@explained
def average_precision(
    y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None
) -> float:
    """Return the average precision Σ (R_i - R_{i-1}) P_i over the thresholds, precision P and recall R at each.

    Arguments and errors are those of `roc_auc`.

    Returns
    -------
    float
        Of several classes the mean of each one against the rest, of several answers the mean over them. Without
        positive rows 0, with a warning, as in scikit-learn.
    """
    given = scores(y_true, y_pred, classes)
    w = weights_of(sample_weight, len(given.true))
    return float(np.mean([_average_precision(*column, w) for column in given.columns]))


def _average_precision(true: Array, score: Array, w: Float64) -> float:
    positive, negative = (each[::-1] for each in _by_score(true, score, w))
    right, called = np.cumsum(positive), np.cumsum(positive + negative)
    if right[-1] == 0:
        warnings.warn("average_precision: undefined without positive rows; counted as 0", stacklevel=4)
        return 0.0
    some = called > 0  # leaves out thresholds of rows without weight
    return float((positive[some] * right[some] / called[some]).sum() / right[-1])


def _by_score(true: Array, score: Array, w: Float64) -> tuple[Float64, Float64]:
    """Return the weight of the positive and of the negative rows of each score, from the lowest."""
    values, inverse = np.unique(score, return_inverse=True)
    inverse = inverse.reshape(len(score))
    return binned(inverse, w * true, len(values)), binned(inverse, w * ~true, len(values))


@explained
def log_loss(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the mean of -log p of the truth; of K yes/no answers also the mean over the answers.

    Arguments are those of `roc_auc`, with probabilities as scores; these are clipped to [ε, 1 - ε], ε the rounding
    error of their dtype, as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If they do not fit together, or are no probabilities.
    """
    given = probabilities(y_true, y_pred, classes)
    eps = np.finfo(given.pred.dtype).eps
    p = np.clip(given.pred, eps, 1 - eps).astype(np.float64)
    losses = -np.log(p[given.true]) if given.exclusive else -np.log(np.where(given.true, p, 1 - p)).mean(axis=1)
    return weighted_mean(losses, weights_of(sample_weight, len(losses)))


@explained
def brier(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None) -> float:
    """Return the Brier score (Brier 1950): the mean of (p - t)², t = 1 for the truth and 0 otherwise.

    Arguments and errors are those of `log_loss`.

    Returns
    -------
    float
        Of two classes and of yes/no answers between 0 and 1, the mean over the answers. Of more classes the sum over
        the classes, between 0 and 2, as in scikit-learn.
    """
    given = probabilities(y_true, y_pred, classes)
    squares = (given.pred.astype(np.float64) - given.true) ** 2
    rows = squares.sum(axis=1) if given.exclusive and squares.shape[1] > 2 else squares.mean(axis=1)
    return weighted_mean(rows, weights_of(sample_weight, len(rows)))


class TopK:
    """The metric that `top_k` returns."""

    def __init__(self, k: int) -> None:
        self._k = integer(k, "k", minimum=1)

    @property
    def k(self) -> int:
        """The number of most probable classes."""
        return self._k

    @property
    def __name__(self) -> str:
        """The name of the metric."""
        return f"top_{self._k}"

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"top_k({self.k})"

    def __call__(
        self, y_true: Data, y_pred: Data, *, sample_weight: Data | None = None, classes: Classes = None
    ) -> float:
        """Return the share of rows whose class is among the k most probable; arguments as of `roc_auc`."""
        given = scores(y_true, y_pred, classes)
        if not given.exclusive or given.true.shape[1] < self.k:
            raise ValueError(f"y_pred: got shape {given.pred.shape}; expected scores of at least {self.k} classes")
        own = given.pred[given.true][:, None]
        after = np.cumsum(given.true, axis=1) - given.true > 0  # the columns after the true one
        ahead = ((given.pred > own) | ((given.pred == own) & after)).sum(axis=1)
        return weighted_mean(ahead < self.k, weights_of(sample_weight, len(own)))


@explained
def top_k(k: int) -> TopK:
    """Return the metric ``top_<k>``: the share of rows whose class is among the `k` most probable.

    Of equal scores those of later classes come first, as in scikit-learn.
    """
    return TopK(k)
