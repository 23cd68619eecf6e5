"""Checks of the models of an ensemble: their inputs and outputs must agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..internal.checks import instance, is_iterable, real, shown
from ..model import Sequential

__all__ = ["agreed", "checked_models", "checked_weights", "known_names"]


def checked_models(models: object) -> tuple[Sequential, ...]:
    """Return models as a tuple.

    Raises
    ------
    TypeError
        If one of them is no model.
    ValueError
        If there are none, or they have other inputs or outputs than the first.
    """
    if not is_iterable(models):
        raise TypeError(f"models: got {type(models).__name__} {shown(models)}; expected a sequence of models")
    given: Iterable[Any] = models
    checked = tuple(instance(m, Sequential, f"models[{i}]", "gd.Sequential(...)") for i, m in enumerate(given))
    if not checked:
        raise ValueError("models: got none; expected at least one")
    for what, name in (("inputs", "in_features"), ("outputs", "out_features")):
        first = getattr(checked[0], name)
        for i, model in enumerate(checked):
            if getattr(model, name) != first:
                raise ValueError(f"models[{i}]: has {getattr(model, name)} {what}; expected {first}, as models[0]")
    for name in ("outputs", "classes"):
        agreed(checked, name)
    for name in ("feature_names", "target_names"):
        known_names(checked, name)
    return checked


def agreed(models: Sequence[Sequential], name: str) -> Any:
    """Return an attribute that all models must have in common; raise ValueError naming the first that differs."""
    first = getattr(models[0], name)
    for i, model in enumerate(models):
        own = getattr(model, name)
        if own is not first and own != first:
            raise ValueError(f"models[{i}]: {name}: got {shown(own)}; expected {shown(first)}, as models[0]")
    return first


def known_names(models: Sequence[Sequential], name: str) -> tuple[str, ...] | None:
    """Return names of columns, which hold for models that know none; raise ValueError if two models differ."""
    found: tuple[str, ...] | None = None
    whose = 0
    for i, model in enumerate(models):
        own = getattr(model, name)
        if found is None:
            found, whose = own, i
        elif own is not None and own != found:
            raise ValueError(
                f"models[{i}]: {name}: got {shown(own)}; expected {shown(found)}, in this order, as models[{whose}]"
            )
    return found


def checked_weights(weights: Any, models: int) -> tuple[float, ...]:
    """Return a weight for each model, 1 by default.

    Raises
    ------
    TypeError
        If one of them is no number.
    ValueError
        If their number is not that of the models, one of them is not above 0, or their sum is not finite.
    """
    if weights is None:
        return (1.0,) * models
    if not is_iterable(weights) or hasattr(weights, "items") or isinstance(weights, (str, bytes, set, frozenset)):
        raise TypeError(f"weights: got {type(weights).__name__} {shown(weights)}; expected a number for each model")
    checked = tuple(real(weight, f"weights[{i}]", low=0, open_low=True) for i, weight in enumerate(weights))
    if len(checked) != models:
        raise ValueError(f"weights: got {len(checked)}; expected {models}, one for each model")
    if not math.isfinite(sum(checked)):
        raise ValueError(f"weights: got {shown(checked)}, whose sum is infinite; expected smaller numbers")
    return checked
