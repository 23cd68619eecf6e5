"""Names of the arrays of a layer: by its name or its number ("head.weight", "layers.3.weight").

The core makes these names (`Layer::path`), and resolves a dotted name from a user (`Network._matching`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from .. import _core

__all__ = ["by_layer", "path_of"]

T = TypeVar("T")


def path_of(layer: _core.Layer, number: int) -> str:
    """Return the prefix of the names of a layer's arrays, without the dot."""
    return layer.name or f"layers.{number}"


def by_layer(arrays: Mapping[str, T], layers: Sequence[_core.Layer]) -> dict[int, dict[str, T]]:
    """Return the arrays of each layer that has any: by layer number in order, then by the last part of the name."""
    numbers = {path_of(layer, i): i for i, layer in enumerate(layers)}
    found: dict[int, dict[str, T]] = {}
    for name, array in arrays.items():
        path, _, last = name.rpartition(".")
        found.setdefault(numbers[path], {})[last] = array
    return dict(sorted(found.items()))
