"""Converts class weights given by class or as "balanced" to numbers, which the core takes.

They are one number for each class, or two for each yes/no answer, of no and of yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from .checks import shown
from .labels import index_of, key_of

if TYPE_CHECKING:
    from ..model import Sequential
    from .arrays import Array


_Weighing: TypeAlias = _core.CrossEntropy | _core.BinaryCrossEntropy


def numeric(loss: _core.Loss) -> tuple[float, ...] | None:
    """Return the class weights of a loss as numbers; None if it has none, or their numbers are not known yet."""
    given = loss.class_weights if isinstance(loss, _Weighing) else None
    return tuple(given) if isinstance(given, tuple) else None


def balanced(loss: _core.Loss) -> bool:
    """Return whether a loss computes its class weights from the training labels."""
    return isinstance(loss, _Weighing) and isinstance(loss.class_weights, str)


def count_of(loss: _core.Loss, model: Sequential) -> int:
    """Return the number of class weights that a loss has for a model."""
    return model.out_features * (2 if isinstance(loss, _core.BinaryCrossEntropy) else 1)


def weighted(loss: _core.Loss, weights: Sequence[float]) -> _core.Loss:
    """Return a loss with classes, with other class weights."""
    if isinstance(loss, _core.CrossEntropy):
        return _core.CrossEntropy(weights, loss.label_smoothing, gamma=loss.gamma)
    assert isinstance(loss, _core.BinaryCrossEntropy)
    return _core.BinaryCrossEntropy(class_weights=weights, gamma=loss.gamma)


def complete(loss: _core.Loss, model: Sequential, targets: Array | None = None) -> _core.Loss:
    """Return `loss` with one weight for each class of `model`, or two for each yes/no answer, of no and of yes.

    Parameters
    ----------
    loss : Loss
        Returned unchanged unless its class weights are a dict or "balanced".
    model : Sequential
        Its ``classes`` are the keys of a dict, or the indices of its classes where it has no names.
    targets : ndarray, optional
        Labels of the training rows as indices, shape (N,), for "balanced": N / (K n_c) with K classes among them and
        n_c rows of class c, 1 for a class without rows (scikit-learn's formula, after King & Zeng 2001). Answers of 0
        and 1, (N,) or (N, K), are two classes each. Without targets "balanced" means weights of 1, until `fit` is
        called.

    Raises
    ------
    ValueError
        If a key is not a class, a dict is given for several answers, or "balanced" is used with soft targets.
    """
    if not isinstance(loss, _Weighing) or not isinstance(loss.class_weights, (dict, str)):
        return loss
    answers = isinstance(loss, _core.BinaryCrossEntropy)
    weights = np.ones(count_of(loss, model))
    if isinstance(loss.class_weights, dict):
        if answers and model.out_features > 1:
            raise ValueError(
                f"class_weights: got a dict for a model of {model.out_features} yes/no answers; expected 'balanced', "
                "two numbers, of no and of yes, for one answer after the other, or pos_weight, a factor for each answer"
            )
        for key, weight in loss.class_weights.items():
            weights[_index(key, model, len(weights))] = weight
    elif targets is not None and answers:
        if not ((targets == 0) | (targets == 1)).all():
            raise ValueError("class_weights: got 'balanced' for targets between 0 and 1; expected answers, 0 or 1")
        of_answers = targets.reshape(len(targets), -1).T.astype(np.int64)
        weights = np.concatenate([_balancing(each, 2) for each in of_answers])
    elif targets is not None:
        if targets.ndim != 1:
            raise ValueError(
                f"class_weights: got 'balanced' for targets of shape {targets.shape}; expected labels (N,)"
            )
        weights = _balancing(targets.astype(np.int64), len(weights))
    return weighted(loss, weights.tolist())


def _balancing(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Return N / (K n_c) for each class, 1 where it has no rows."""
    counts = np.bincount(labels, minlength=classes)
    there = counts > 0
    weights = np.ones(len(counts))
    weights[there] = len(labels) / (there.sum() * counts[there])
    return weights


def trained(loss: _core.Loss, model: Sequential, source: object) -> _core.Loss:
    """Return the loss for a source of training data; raise ValueError for "balanced" with an iterable of batches."""
    data = getattr(source, "data", None)
    if not balanced(loss):
        return complete(loss, model)
    if data is None:
        raise ValueError(
            "class_weights: got 'balanced' for an iterable of batches; expected numbers, or arrays x and y"
        )
    return complete(loss, model, data.labels())


def _index(key: Any, model: Sequential, count: int) -> int:
    classes = tuple(range(count)) if model.classes is None else model.classes
    found = index_of(classes).get(key_of(key))
    if found is None:
        raise ValueError(f"class_weights: got the class {shown(key)}; expected some of {shown(list(classes), 200)}")
    return found
