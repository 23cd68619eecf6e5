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
from ..internal.features import FeatureNames
from ..internal.features import feature_names as names_of
from ..internal.immutable import remade
from ..piecewise_linear import PiecewiseLinear
from ..standardizer import Standardizer

if TYPE_CHECKING:
    from ..model import Sequential

__all__ = ["checked_layers", "dtype_name", "rebuilt"]

S = TypeVar("S", bound="Sequential")


def checked_layers(
    layers: Sequence[object], names: Sequence[str] | None
) -> tuple[list[_core.Layer], Sequence[str] | None]:
    """Return layers and the names of the input columns, by default those that a fitted layer knows.

    The layers may come as one list. Fitted layers are copied, so that fitting one again does not change the model.
    Columns given by name become numbers.

    Raises
    ------
    TypeError
        If an argument is no layer.
    ValueError
        If a Standardizer would scale the outputs, so that they are no longer in the targets' unit, or a named column is
        unknown or not available.
    """
    if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
        layers = layers[0]
    checked = [instance(layer, _core.Layer, f"layers[{i}]", "Dense(784, 256)") for i, layer in enumerate(layers)]
    last = max((i for i, layer in enumerate(checked) if isinstance(layer, _core.Dense)), default=0)
    for i, layer in enumerate(checked):
        if isinstance(layer, _core.Standardizer) and i > last:
            raise ValueError(
                f"layers[{i}]: got a Standardizer after the last Dense layer, where it would standardise "
                "the outputs; expected it as the first layer. To standardise targets, train on "
                "s.transform(y); s.inverse_transform(model.predict(x)) has their unit"
            )
    if names is None:
        names = _known_names(checked)
    fitted = (_core.Standardizer, _core.PiecewiseLinear)
    return [_own(layer) if isinstance(layer, fitted) else layer for layer in numbered(checked, names)], names


def _known_names(layers: Sequence[_core.Layer]) -> FeatureNames | None:
    """Return the column names that the first layer, or a PiecewiseLinear anywhere, was fitted with."""
    for i, layer in enumerate(layers):
        names = None
        if isinstance(layer, PiecewiseLinear) or (i == 0 and isinstance(layer, Standardizer)):
            names = layer.feature_names
        if names is not None:
            return names
    return None


def _own(layer: _core.Layer) -> _core.Layer:
    """Return a copy of a fitted layer for a model; the copy cannot be fitted again."""
    copied = copy.copy(layer)
    if isinstance(copied, (Standardizer, PiecewiseLinear)):
        copied.seal()
    return copied


def numbered(layers: Sequence[_core.Layer], names: object) -> list[_core.Layer]:
    """Return layers in which columns named after the model's inputs are numbers of columns of each layer's input.

    After a Standardizer, which keeps the columns apart, the layers whose settings are not in the data's unit know them.

    Raises
    ------
    ValueError
        If a name is unknown, or the layers before do not pass on its column unchanged.
    """
    made = list(layers)
    named = [i for i, layer in enumerate(made) if isinstance((getattr(layer, "columns", None) or [0])[0], str)]
    if not named or names is None:  # without names the core refuses the layer
        return made
    known = names_of(names, None)
    origins = scaled = list(range(len(known)))
    for i, layer in enumerate(made[: named[-1] + 1]):
        if i in named:
            places = scaled if isinstance(layer, _core.Periodic) else origins
            columns = [_position(c, known, places, i) for c in _columns(layer)]
            made[i] = layer = remade(layer, columns=columns, features=_features(layer) or len(places))
        origins = layer._origins(origins)
        scaled = scaled if isinstance(layer, _core.Standardizer) else layer._origins(scaled)
    return made


def _columns(layer: Any) -> Sequence[str]:
    columns: Sequence[str] = layer.columns
    return columns


def _features(layer: Any) -> int:
    features: int = layer.features
    return features


def _position(column: str, known: FeatureNames, origins: Sequence[int], layer: int) -> int:
    if column not in known:
        raise ValueError(f"layers[{layer}]: columns: got {shown(column)}; expected some of {shown(list(known), 200)}")
    number = known.index(column)
    if number not in origins:
        raise ValueError(
            f"layers[{layer}]: columns: got {shown(column)}, which the layers before change; expected this layer "
            "before them"
        )
    return origins.index(number)


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
