"""`Residual`: a block of layers with a skip."""

from __future__ import annotations

from collections.abc import Sequence

from . import _core
from .internal.arguments import explained
from .internal.checks import shown

__all__ = ["Residual"]


@explained
class Residual(_core.Residual):
    """A block with a skip: y = x + f(x), f the layers inside, in order (He et al. 2016).

    Arrays are named by the block and the number of the layer inside: "layers.2.0.weight", or "tower.0.weight" for a
    block named "tower". A layer inside with a name of its own uses that: "head.weight". Blocks may contain blocks.

    Parameters
    ----------
    *inside : Layer
        The layers of f, with as many outputs as inputs. A `Standardizer`, `PiecewiseLinear` or `Embedding` is refused:
        it reads the model's data, and belongs before the block.
        Columns inside are given by number, not by name: a block does not know the model's columns.
    layers : sequence of Layer, optional
        The layers as one sequence, instead; also the name of the attribute.
    name : str, optional
        Prefix of the names of its arrays, an identifier. By default its number.

    Raises
    ------
    TypeError
        If an argument is no layer.
    ValueError
        If there are no layers, widths do not match, or a layer is refused.
    """

    __slots__ = ()
    _fields = ("layers", "name")

    def __init__(
        self, *inside: _core.Layer, layers: Sequence[_core.Layer] | None = None, name: str | None = None
    ) -> None:
        if inside and layers is not None:
            raise TypeError("layers: got layers by position and by name; expected one of them")
        given = inside if layers is None else layers
        for i, layer in enumerate(given if isinstance(given, (tuple, list)) else ()):
            columns = layer.columns if isinstance(layer, _core.Periodic) else None
            if columns is not None and isinstance(columns[0], str):
                raise ValueError(
                    f"layers[{i}]: columns: got the name {shown(columns[0])} inside a block, which does not know the "
                    "model's columns; expected numbers of columns of the layer's input, from 0"
                )
        super().__init__(given, name=name)
