"""The table of `Sequential.summary`: layers, widths, parameter counts, and fused operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _core
from ..internal.layer_names import by_layer

if TYPE_CHECKING:
    from ..model import Sequential

__all__ = ["summary"]


def summary(model: Sequential) -> str:
    """Return the table of `Sequential.summary`."""
    arrays = by_layer(model.parameters(), model.layers)
    counts = {number: sum(array.size for array in own.values()) for number, own in arrays.items()}
    frozen = by_layer(dict.fromkeys(model.frozen()), model.layers)
    rows = [("", "layer", "output", "parameters")]
    width = model.in_features
    for i, layer in enumerate(model.layers):
        width = layer.out_features if isinstance(layer, _core.Dense) else width
        rows.append((str(i), _short(layer) + (" (frozen)" if i in frozen else ""), str(width), f"{counts.get(i, 0):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    lines.insert(1, "-" * len(lines[0]))
    lines += [lines[1], f"{sum(counts.values()):,} parameters, {model.dtype} on {model.device}{_products(model)}"]
    fused = [f"in one pass: {operation}" for operation in model.operations() if "+" in operation]
    return "\n".join([*lines, *fused])


def _products(model: Sequential) -> str:
    """Return the precision of the products, if it is not the usual one."""
    if model.precision == "float32":
        return ""
    if model.device == "cpu" and model.precision not in _core.info()["cpu_precisions"]:
        return f", products in float32: this processor has none in {model.precision}"
    return f", products in {model.precision}"


def _short(layer: _core.Layer) -> str:
    """Return a layer's class, main arguments and name, short enough for one line."""
    fields = ("in_features", "out_features", "features", "p", "negative_slope")
    arguments = ", ".join(str(getattr(layer, name)) for name in fields if hasattr(layer, name))
    return f"{type(layer).__name__}({arguments})" + (f" {layer.name}" if layer.name else "")
