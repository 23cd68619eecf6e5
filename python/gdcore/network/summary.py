"""The table of a model: layers, widths, parameter counts, and fused operations."""

from __future__ import annotations

from .. import _core
from ..internal.arguments import explained
from ..internal.display import Aligned
from ..internal.layer_names import by_layer

__all__ = ["Summarised", "short"]


@explained
class Summarised(_core.Network):
    """A network that shows its layers; a base of `Sequential`."""

    def summary(self) -> str:
        """Return a table of the layers with output widths and parameter counts, and a list of fused operations."""
        return _table(self).text()

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return _table(self)._repr_html_()


def _table(model: _core.Network) -> Aligned:
    arrays = by_layer(model.parameters(), model.layers)
    counts = {number: sum(array.size for array in own.values()) for number, own in arrays.items()}
    frozen = by_layer(dict.fromkeys(model.frozen()), model.layers)
    rows = [("", "layer", "output", "parameters")]
    width = model.in_features
    for i, layer in enumerate(model.layers):
        width = layer._outputs(width)
        rows.append((str(i), short(layer) + (" (frozen)" if i in frozen else ""), str(width), f"{counts.get(i, 0):,}"))
    total = f"{sum(counts.values()):,} parameters, {model.dtype} on {model.device}{_products(model)}"
    fused = [f"in one pass: {operation}" for operation in model.operations() if "+" in operation]
    return Aligned(rows, (1,), (total, *fused))


def _products(model: _core.Network) -> str:
    """Return the precision of the products, if it is not the usual one."""
    if model.precision == "float32":
        return ""
    if model.device == "cpu" and model.precision not in _core.info()["cpu_precisions"]:
        return f", products in float32: this processor has none in {model.precision}"
    return f", products in {model.precision}"


def short(layer: _core.Layer) -> str:
    """Return a layer's class, main arguments and name, short enough for one line."""
    fields = ("in_features", "out_features", "features", "p", "negative_slope", "alpha")
    if isinstance(layer, _core.Residual):
        arguments = _counted(len(layer.layers), "layer")
    elif hasattr(layer, "columns"):
        arguments = "all columns" if layer.columns is None else _counted(len(layer.columns), "column")
    else:
        arguments = ", ".join(str(getattr(layer, name)) for name in fields if hasattr(layer, name))
    return f"{type(layer).__name__}({arguments})" + (f" {layer.name}" if layer.name else "")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
