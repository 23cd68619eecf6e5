"""Measures of quality: plain functions of (predictions, targets, weights) that return a float.

`predictions` are what ``model.predict`` returns: logits for a classifier, shape (N, C), or (N, 1) for two classes. Any
function of your own with the same arguments can stand in ``Trainer(metrics=[...])``; its ``__name__`` becomes the
column's name. All sums run in float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._arrays import Array, Data, same_rows, to_array
from ._checks import integer, shown

__all__ = ["accuracy", "binary_accuracy", "mean_absolute_error", "r2", "top_k"]

Metric: TypeAlias = Callable[..., float]
Float64: TypeAlias = npt.NDArray[np.float64]


def accuracy(predictions: Data, targets: Data, weights: Data | None = None) -> float:
    """Return the share of rows whose class is right.

    Parameters
    ----------
    predictions : array
        Logits or probabilities of shape (N, C), the largest counts; logits of shape (N, 1) or (N,) of two classes,
        positive counts as class 1; or the classes themselves, integers or text of shape (N,).
    targets : array
        Classes of shape (N,) or (N, 1), or soft targets of shape (N, C) whose rows sum to 1, the largest counts.
    weights : array, optional
        Weight of each row, shape (N,).

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the targets are several yes/no answers a row (see `binary_accuracy`).
    """
    guess, truth = _pair(predictions, targets, text=True)
    if guess.ndim == 2 and guess.shape[1] > 1:
        guess = guess.argmax(axis=1)
    elif guess.dtype.kind == "f":
        guess = (guess.reshape(len(guess)) > 0).astype(np.int64)
    if truth.ndim == 2 and truth.shape[1] > 1:
        if not np.allclose(truth.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError("targets: rows that do not sum to 1; for several yes/no answers a row use binary_accuracy")
        truth = truth.argmax(axis=1)
    return _mean(guess.reshape(len(guess)) == truth.reshape(len(truth)), weights)


def binary_accuracy(predictions: Data, targets: Data, weights: Data | None = None) -> float:
    """Return the share of yes/no answers that are right, over all rows and outputs.

    Parameters
    ----------
    predictions : array
        Logits of shape (N, K) or (N,): positive means yes.
    targets : array
        0 or 1 (or probabilities: above ½ means yes), of the same shape.
    weights : array, optional
        Weight of each row, shape (N,).

    Returns
    -------
    float
        Between 0 and 1.
    """
    guess, truth = _same_shape(predictions, targets)
    return _mean(((guess > 0) == (truth > 0.5)).mean(axis=1), weights)


def top_k(k: int) -> Metric:
    """Return the metric ``top_<k>``: the share of rows whose class is among the `k` largest outputs.

    Ties count against the model: an output as large as the true class's stands before it.
    """
    k = integer(k, "k", minimum=1)

    def metric(predictions: Data, targets: Data, weights: Data | None = None) -> float:
        scores, truth = _pair(predictions, targets)
        if scores.ndim != 2 or scores.shape[1] < k:
            raise ValueError(
                f"predictions: got shape {scores.shape}; expected (rows, classes) with at least {k} classes"
            )
        labels = (
            truth.argmax(axis=1)
            if truth.ndim == 2 and truth.shape[1] > 1
            else truth.reshape(len(truth)).astype(np.int64)
        )
        if len(labels) and not (labels.min() >= 0 and labels.max() < scores.shape[1]):
            raise ValueError(f"targets: got labels up to {labels.max()}; expected 0 to {scores.shape[1] - 1}")
        own = scores[np.arange(len(scores)), labels]
        return _mean((scores >= own[:, None]).sum(axis=1) <= k, weights)

    metric.__name__ = metric.__qualname__ = f"top_{k}"
    metric.__doc__ = f"Return the share of rows whose class is among the {k} largest outputs."
    return metric


def r2(predictions: Data, targets: Data, weights: Data | None = None) -> float:
    """Return the coefficient of determination R² = 1 - Σ(t-y)² / Σ(t-t̄)², averaged over the outputs.

    Parameters
    ----------
    predictions, targets : array
        Shape (N, K) or (N,).
    weights : array, optional
        Weight of each row, shape (N,).

    Returns
    -------
    float
        1 for perfect predictions, 0 for the targets' mean, negative for worse. An output with constant targets counts 1
        if it is met exactly and 0 otherwise, as in scikit-learn.
    """
    guess, truth = _same_shape(predictions, targets)
    w = _weights(weights, len(guess))[:, None]
    residual = (w * (truth - guess) ** 2).sum(axis=0)
    total = (w * (truth - (w * truth).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    exact = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), exact)))


def mean_absolute_error(predictions: Data, targets: Data, weights: Data | None = None) -> float:
    """Return the mean of |t - y| over rows and outputs, in the targets' unit.

    Parameters
    ----------
    predictions, targets : array
        Shape (N, K) or (N,).
    weights : array, optional
        Weight of each row, shape (N,).
    """
    guess, truth = _same_shape(predictions, targets)
    return _mean(np.abs(guess - truth).mean(axis=1), weights)


def _pair(predictions: Data, targets: Data, *, text: bool = False) -> tuple[Array, Array]:
    guess = to_array(predictions, "predictions", text=text)
    truth = to_array(targets, "targets", text=text)
    same_rows("targets", truth, "predictions", guess)
    if not len(guess):
        raise ValueError("predictions: got no rows; expected at least one")
    return guess, truth


def _same_shape(predictions: Data, targets: Data) -> tuple[Float64, Float64]:
    """Return both as float64 of shape (N, K)."""
    guess, truth = _pair(predictions, targets)
    guess, truth = guess.reshape(len(guess), -1), truth.reshape(len(truth), -1)
    if guess.shape != truth.shape:
        raise ValueError(f"targets: got shape {truth.shape}; expected {guess.shape}, as the predictions")
    return guess.astype(np.float64), truth.astype(np.float64)


def _weights(weights: Data | None, rows: int) -> Float64:
    if weights is None:
        return np.ones(rows)
    array = to_array(weights, "weights").astype(np.float64)
    if array.shape != (rows,):
        raise ValueError(f"weights: got shape {array.shape}; expected ({rows},)")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.sum() > 0):
        raise ValueError("weights: expected finite numbers of at least 0, not all of them 0")
    return array


def _mean(values: Array, weights: Data | None) -> float:
    if weights is None:
        return float(values.mean(dtype=np.float64))
    w = _weights(weights, len(values))
    return float((w * values).sum() / w.sum())


def named_metrics(metrics: Any) -> dict[str, Metric]:
    """Return the metrics by name, from a sequence of functions or a mapping of names to functions.

    Raises
    ------
    TypeError
        If one of them cannot be called or has no name.
    ValueError
        If two share a name, or one is called "loss".
    """
    if callable(metrics):
        metrics = [metrics]
    pairs = metrics.items() if hasattr(metrics, "items") else [(getattr(m, "__name__", None), m) for m in metrics]
    named: dict[str, Metric] = {}
    for i, (name, metric) in enumerate(pairs):
        if not callable(metric):
            raise TypeError(f"metrics[{i}]: got {shown(metric)}; expected a function such as gdcore.metrics.accuracy")
        if metric is top_k:
            raise TypeError(f"metrics[{i}]: got top_k itself; expected top_k(5) or another k")
        if not isinstance(name, str):
            raise TypeError(f"metrics[{i}]: {shown(metric)} has no __name__; give a dictionary of names to functions")
        if name in named or name == "loss":
            raise ValueError(f"metrics[{i}]: the name {name!r} is taken; give a dictionary with names of your own")
        named[name] = metric
    return named


def direction(monitor: str, mode: str | None) -> str:
    """Return "min" or "max": `mode` itself, or what is known to be better for the column `monitor` when it is None.

    Raises
    ------
    ValueError
        If `mode` is neither, or it is None and `monitor` is no measure of gdcore.
    """
    if mode in ("min", "max"):
        return str(mode)
    if mode is not None:
        raise ValueError(f"mode: got {shown(mode)}; expected 'min', 'max', or None for the measures of gdcore")
    name = monitor.removeprefix("val_")
    if name in ("loss", "mean_absolute_error"):
        return "min"
    if name in ("accuracy", "binary_accuracy", "r2") or re.fullmatch(r"top_\d+", name):
        return "max"
    raise ValueError(f"mode: needed for monitor={monitor!r}: 'min' if less of it is better, 'max' if more is")
