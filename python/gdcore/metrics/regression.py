"""Metrics of numbers: shape (N,) or (N, K), the mean over the outputs, in float64."""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..internal.arguments import explained
from ..internal.arrays import Data
from ._arguments import numbers, weighted_mean, weights_of


@explained
def r2(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None) -> float:
    """Return the coefficient of determination R² = 1 - Σ(t-y)² / Σ(t-t̄)², averaged over the outputs.

    Parameters
    ----------
    y_true, y_pred : array
        Shape (N, K) or (N,).
    sample_weight : array, optional
        Weight of each row, shape (N,).

    Returns
    -------
    float
        1 for perfect predictions, 0 for the targets' mean, negative for worse. An output with constant targets counts 1
        if it is met exactly and 0 otherwise; of a single row it is nan, with a warning: as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If they are no finite numbers, or do not fit together.
    """
    true, pred = numbers(y_true, y_pred)
    w = weights_of(sample_weight, len(true))[:, None]
    if len(true) < 2:
        warnings.warn("r2: undefined for a single row: nan", stacklevel=2)
        return math.nan
    residual = (w * (true - pred) ** 2).sum(axis=0)
    total = (w * (true - (w * true).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    exact = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), exact)))


@explained
def mean_absolute_error(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None) -> float:
    """Return the mean of |t - y| over rows and outputs, in the targets' unit; arguments and errors as of `r2`."""
    true, pred = numbers(y_true, y_pred)
    return weighted_mean(np.abs(true - pred).mean(axis=1), weights_of(sample_weight, len(true)))


@explained
def mean_squared_error(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None) -> float:
    """Return the mean of (t - y)² over rows and outputs; arguments and errors as of `r2`."""
    true, pred = numbers(y_true, y_pred)
    return weighted_mean(((true - pred) ** 2).mean(axis=1), weights_of(sample_weight, len(true)))


@explained
def root_mean_squared_error(y_true: Data, y_pred: Data, *, sample_weight: Data | None = None) -> float:
    """Return the root of the mean of (t - y)², the mean over the outputs; arguments and errors as of `r2`."""
    true, pred = numbers(y_true, y_pred)
    w = weights_of(sample_weight, len(true))
    return float(np.mean(np.sqrt(w @ (true - pred) ** 2 / w.sum())))
