"""Names of the arrays of a layer: by its name or its number ("head.weight", "layers.3.weight").

The core makes these names (`Layer::path`), and resolves a dotted name from a user (`Network._matching`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from .. import _core

__all__ = ["all_layers", "by_layer", "leaves", "path_of"]

T = TypeVar("T")


def path_of(layer: _core.Layer, number: int) -> str:
    """Return the prefix of the names of a layer's arrays, without the dot."""
    return layer.name or f"layers.{number}"


def leaves(layers: Sequence[_core.Layer], path: str = "layers", place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield every layer outside and inside of blocks, but no block: the prefix of its arrays' names, place, layer.

    The place has the numbers of the layer and its blocks: "2", or "3.0" for the first layer of the block "layers.3".
    """
    for i, layer in enumerate(layers):
        own, here = layer.name or f"{path}.{i}", f"{place}{i}"
        if isinstance(layer, _core.Residual):
            yield from leaves(layer.layers, own, f"{here}.")
        else:
            yield own, here, layer


def all_layers(layers: Sequence[_core.Layer]) -> list[Any]:
    """Return every layer outside and inside of blocks, but no block."""
    return [layer for _, _, layer in leaves(layers)]


def by_layer(arrays: Mapping[str, T], layers: Sequence[_core.Layer]) -> dict[int, dict[str, T]]:
    """Return the arrays of each layer that has any: by layer number in order, then by the last part of the name.

    For an array inside of a block this part begins with the layer's place in the block: "0.weight".
    """
    places = {path: place.partition(".") for path, place, _ in leaves(layers)}
    found: dict[int, dict[str, T]] = {}
    for name, array in arrays.items():
        path, _, last = name.rpartition(".")
        number, _, inside = places[path]
        found.setdefault(int(number), {})[f"{inside}.{last}" if inside else last] = array
    return dict(sorted(found.items()))
