"""The scaling of a model: it computes with its buffers, and its Standardizers show the values of the buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .. import _core
from ..internal.arrays import Array
from ..internal.features import FeatureNames
from ..internal.immutable import remade
from ..internal.layer_names import path_of
from ..internal.numbers import refuse_scaling
from ..piecewise_linear import PiecewiseLinear
from ..standardizer import Standardizer

__all__ = ["Unrepresentable", "described", "refuse", "unrepresentable_column"]

Buffers = Mapping[str, Any]  # as returned by Network.buffers()


class Unrepresentable(NamedTuple):
    """A column of a Standardizer, or bin of a PiecewiseLinear, with values that the model's dtype cannot hold."""

    layer: int
    column: int


def described(layers: Sequence[_core.Layer], buffers: Buffers) -> tuple[_core.Layer, ...]:
    """Return layers, each Standardizer and PiecewiseLinear with the values of the buffers.

    A layer with the same values, rounded to the model's dtype, is returned unchanged, in full precision.
    """
    return tuple(_described(layer, i, buffers) for i, layer in enumerate(layers))


def _described(layer: _core.Layer, number: int, buffers: Buffers) -> _core.Layer:
    if isinstance(layer, PiecewiseLinear):
        return _with_bins(layer, number, buffers)
    if not isinstance(layer, _core.Standardizer) or _is_given(layer, number, buffers):
        return layer
    mean, std = _numbers(layer, number, buffers)
    try:
        made: Standardizer = remade(layer, mean=mean.tolist(), std=std.tolist())
    except ValueError:  # for example a deviation of 0, written into a view: inputs are refused then
        return layer
    made.seal()
    return made


def _with_bins(layer: PiecewiseLinear, number: int, buffers: Buffers) -> PiecewiseLinear:
    """Return a PiecewiseLinear with the edges of the buffers, unless these are its own in the model's dtype."""
    own = layer.edges or ()
    start, width = _bins(layer, number, buffers)
    edges, at = [], 0
    for column in own:
        bins = slice(at, at + len(column) - 1)
        edges.append([*start[bins].tolist(), float(start[bins][-1] + width[bins][-1])])
        at = bins.stop
    starts = np.concatenate([np.asarray(column[:-1]) for column in own]).astype(start.dtype)
    ends = np.concatenate([np.asarray(column[1:]) for column in own]).astype(start.dtype)
    if np.array_equal(starts, start) and np.array_equal(ends - starts, width):
        return layer
    try:
        made: PiecewiseLinear = remade(layer, edges=edges)
    except ValueError:  # edges that do not increase, written into a view
        return layer
    made.seal()
    return made


def _bins(layer: _core.Layer, number: int, buffers: Buffers) -> tuple[Array, Array]:
    path = path_of(layer, number)
    start, width = (np.asarray(buffers[f"{path}.{name}"]).reshape(-1) for name in ("start", "width"))
    return start, width


def _numbers(layer: _core.Layer, number: int, buffers: Buffers) -> tuple[Array, Array]:
    mean, std = (np.asarray(buffers[f"{path_of(layer, number)}.{name}"]).reshape(-1) for name in ("mean", "std"))
    return mean, std


def _is_given(layer: _core.Standardizer, number: int, buffers: Buffers) -> bool:
    with np.errstate(over="ignore", under="ignore"):
        pairs = zip((layer.mean, layer.std), _numbers(layer, number, buffers), strict=True)
        return all(np.array_equal(np.asarray(own).astype(used.dtype), used) for own, used in pairs)


def unrepresentable_column(layers: Sequence[_core.Layer], buffers: Buffers) -> Unrepresentable | None:
    """Return the first column whose mean or deviation in the buffers cannot scale, or None."""
    for i, layer in enumerate(layers):
        if isinstance(layer, _core.PiecewiseLinear):
            start, width = _bins(layer, i, buffers)
            sound = np.isfinite(start) & np.isfinite(width) & (width > 0)
            if not sound.all():
                return Unrepresentable(i, int(np.argmin(sound)))
        if not isinstance(layer, _core.Standardizer):
            continue
        mean, std = _numbers(layer, i, buffers)
        limits = np.finfo(mean.dtype)
        sound = (np.abs(mean) <= limits.max) & (std <= limits.max) & (std >= limits.tiny)
        if not sound.all():
            return Unrepresentable(i, int(np.argmin(sound)))
    return None


def refuse(
    layers: Sequence[_core.Layer], buffers: Buffers, found: Unrepresentable, dtype: str, names: FeatureNames | None
) -> NoReturn:
    """Raise ValueError for the column `found`, with the values that the layer was given if they are still in use."""
    layer: Any = layers[found.layer]
    if isinstance(layer, _core.PiecewiseLinear):
        start, width = (values[found.column] for values in _bins(layer, found.layer, buffers))
        raise ValueError(
            f"x: bin {found.column} of layers[{found.layer}], a PiecewiseLinear, begins at {start:g} and is {width:g} "
            "wide in buffers(); expected finite numbers and a positive width"
        )
    mean, std = _numbers(layer, found.layer, buffers)
    if _is_given(layer, found.layer, buffers):
        mean, std = np.asarray(layer.mean), np.asarray(layer.std)
    first = found.layer == 0
    refuse_scaling(float(mean[found.column]), float(std[found.column]), found.column, dtype, names if first else None)
