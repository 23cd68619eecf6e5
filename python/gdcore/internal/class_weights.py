"""Converts class weights given by class or as "balanced" to one number per class, which the core takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .checks import shown
from .labels import index_of, key_of

if TYPE_CHECKING:
    from ..model import Sequential
    from .arrays import Array


def balanced(loss: _core.Loss) -> bool:
    """Return whether a loss computes its class weights from the training labels."""
    return isinstance(loss, _core.CrossEntropy) and loss.class_weights == "balanced"


def complete(loss: _core.Loss, model: Sequential, targets: Array | None = None) -> _core.Loss:
    """Return `loss` with one weight for each class of `model`.

    Parameters
    ----------
    loss : Loss
        Returned unchanged unless its class weights are a dict or "balanced".
    model : Sequential
        Its ``classes`` are the keys of a dict, or the indices of its outputs where it has no class names.
    targets : ndarray, optional
        Labels of the training rows as indices, shape (N,), for "balanced": N / (K n_c) with K classes among them and
        n_c rows of class c, 1 for a class without rows (scikit-learn's formula, after King & Zeng 2001). Without them
        "balanced" means weights of 1, until `fit` is called.

    Raises
    ------
    ValueError
        If a key is not a class, or "balanced" is used with soft targets.
    """
    if not isinstance(loss, _core.CrossEntropy) or not isinstance(loss.class_weights, (dict, str)):
        return loss
    weights = np.ones(model.out_features)
    if isinstance(loss.class_weights, dict):
        for key, weight in loss.class_weights.items():
            weights[_index(key, model)] = weight
    elif targets is not None:
        if targets.ndim != 1:
            raise ValueError(
                f"class_weights: got 'balanced' for targets of shape {targets.shape}; expected labels (N,)"
            )
        counts = np.bincount(targets.astype(np.int64), minlength=len(weights))
        there = counts > 0
        weights[there] = len(targets) / (there.sum() * counts[there])
    return _core.CrossEntropy(weights.tolist(), loss.label_smoothing)


def trained(loss: _core.Loss, model: Sequential, source: object) -> _core.Loss:
    """Return the loss for a source of training data; raise ValueError for "balanced" with an iterable of batches."""
    data = getattr(source, "data", None)
    if data is None and balanced(loss):
        raise ValueError(
            "class_weights: got 'balanced' for an iterable of batches; expected numbers, or arrays x and y"
        )
    return complete(loss, model, None if data is None else data.labels())


def _index(key: Any, model: Sequential) -> int:
    classes = tuple(range(model.out_features)) if model.classes is None else model.classes
    found = index_of(classes).get(key_of(key))
    if found is None:
        raise ValueError(f"class_weights: got the class {shown(key)}; expected some of {shown(list(classes), 200)}")
    return found
