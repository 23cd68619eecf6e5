"""Checks of a model's layers, and copies of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal import flat
from ..internal.arrays import Array
from ..internal.checks import instance, shown
from ..standardizer import Standardizer

if TYPE_CHECKING:
    from ..model import Sequential

__all__ = ["checked_layers", "dtype_name", "rebuilt"]

S = TypeVar("S", bound="Sequential")


def checked_layers(layers: Sequence[object]) -> list[_core.Layer]:
    """Return layers, with Standardizers copied, so that fitting one again does not change the model.

    Raises
    ------
    TypeError
        If an argument is no layer.
    ValueError
        If a Standardizer would scale the outputs, so that they are no longer in the targets' unit.
    """
    for layer in layers:
        if isinstance(layer, (list, tuple)):
            raise TypeError(
                f"layers: got a {type(layer).__name__}; expected one argument for each layer: Sequential(*layers)"
            )
    checked = [instance(layer, _core.Layer, f"layers[{i}]", "Dense(784, 256)") for i, layer in enumerate(layers)]
    last = max((i for i, layer in enumerate(checked) if isinstance(layer, _core.Dense)), default=0)
    for i, layer in enumerate(checked):
        if isinstance(layer, _core.Standardizer) and i > last:
            raise ValueError(
                f"layers[{i}]: got a Standardizer after the last Dense layer, where it would standardise "
                "the outputs; expected it as the first layer. To standardise targets, train on "
                "s.transform(y); s.inverse_transform(model.predict(x)) has their unit"
            )
    return [_own(layer) if isinstance(layer, _core.Standardizer) else layer for layer in checked]


def _own(layer: _core.Standardizer) -> _core.Standardizer:
    """Return a copy of a Standardizer for a model; the copy cannot be fitted again."""
    copied = copy.copy(layer)
    if isinstance(copied, Standardizer):
        copied.seal()
    return copied


def dtype_name(dtype: npt.DTypeLike) -> str:
    """Return "float32" or "float64"; raise ValueError for all other types."""
    try:
        name = np.dtype(dtype).name
    except (TypeError, ValueError):
        name = ""
    if name not in ("float32", "float64") or dtype is None:
        raise ValueError(f"dtype: got {shown(dtype)}; expected 'float32' or 'float64'")
    return name


def rebuilt(
    kind: type[S],
    layers: Sequence[_core.Layer],
    settings: dict[str, Any],
    frozen: list[str],
    state: dict[str, Array],
) -> S:
    """Return a copy of a model; __init__ of a subclass is not called, because its arguments are unknown."""
    from ..model import Sequential

    model = kind.__new__(kind)
    Sequential.__init__(model, *layers, **settings)
    model.set_all_frozen(frozen, True)
    flat.restore_state(model.parameters(), model.buffers(), state)  # without range checks: the original's values
    return model
