"""The formulas of the layers that encode columns, and of blocks, in operators of ONNX.

The output of a layer that encodes columns is [the other columns, in their order | the new columns of each chosen one].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..specs import for_layer
from .graph import Arrays, Exports, Graph

__all__ = ["embedding", "periodic", "piecewise_linear", "residual", "shares"]


def piecewise_linear(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add (x - b_(t-1)) / (b_t - b_(t-1)) of each bin t, limited to [0, 1] except where the layer does not."""
    counts = [len(edges) - 1 for edges in layer.edges]
    first, last = np.cumsum([0, *counts[:-1]]), np.cumsum(counts) - 1
    low, high = np.zeros(sum(counts)), np.ones(sum(counts))
    if not layer.clip:
        low[first], high[last] = -np.inf, np.inf
    columns = np.repeat(_chosen(graph, layer), counts)
    return _joined(graph, layer, x, [shares(graph, x, columns, arrays, (low, high))], sum(counts))


def shares(
    graph: Graph, x: str, columns: npt.ArrayLike, bins: Arrays, limits: tuple[npt.ArrayLike, npt.ArrayLike]
) -> str:
    """Add (x - start) / width of the given columns for each bin, limited."""
    chosen = graph.add("Gather", x, graph.constant("columns", columns, "int64"), axis=1)
    distance = graph.add("Sub", chosen, graph.constant("start", bins["start"]))
    share = graph.add("Div", distance, graph.constant("width", bins["width"]))
    low, high = (graph.constant(name, limit) for name, limit in zip(("low", "high"), limits, strict=True))
    return graph.add("Min", graph.add("Max", share, low), high)


def embedding(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add the rows of the tables; a value that is no code gets a row of NaN, as Gather would take -1 for the last."""
    found, width = [], 0
    for k, (column, size) in enumerate(zip(_chosen(graph, layer), layer.sizes, strict=True)):
        table = arrays.get(f"table{k}", np.eye(size))
        rows = graph.constant(f"table{k}", np.vstack([table, np.full((1, table.shape[1]), np.nan)]))
        value = graph.add("Gather", x, graph.constant("column", column, "int64"), axis=1)
        limits = graph.constant("first", 0), graph.constant("last", size - 1)
        is_code = graph.add("Equal", value, graph.add("Clip", graph.add("Floor", value), *limits))
        code = graph.add("Where", is_code, value, graph.constant("no_code", size))
        found.append(graph.add("Gather", rows, graph.cast(code, "int64"), axis=0))
        width += table.shape[1]
    return _joined(graph, layer, x, found, width)


def periodic(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add a linear map of cos(2π w x + b), beside x itself, or ReLU of one of cosines and sines.

    The phase is computed in float64, and reduced to a part of a turn: w x may be large. onnxruntime 1.16 has no cosine
    in float64, which is a sine a quarter of a turn later.
    """
    columns, frequency = _chosen(graph, layer), arrays["frequency"]
    chosen = graph.add("Gather", x, graph.constant("columns", columns, "int64"), axis=1)
    column = graph.add("Unsqueeze", chosen, graph.constant("axis", [2], "int64"))
    turns = graph.add("Mul", graph.cast(column, "float64"), graph.constant("frequency", frequency, "float64"))
    part = graph.add("Sub", turns, graph.add("Round", turns))
    angle = graph.add("Mul", part, graph.constant("turn", 2 * np.pi, "float64"))
    shift = np.asarray(arrays.get("phase", np.zeros_like(frequency)), np.float64) + np.pi / 2
    waves = graph.add("Sin", graph.add("Add", angle, graph.constant("phase", shift, "float64")))
    if layer.kind != "pbld":
        waves = graph.add("Concat", waves, graph.add("Sin", angle), axis=2)
    weight = arrays["weight"].reshape(len(columns), -1, arrays["weight"].shape[1])
    bias = arrays["bias"].reshape(len(columns), -1)
    names = graph.cast(waves, graph.dtype), graph.constant("weight", weight)
    out = graph.add("Einsum", *names, equation="ncf,cof->nco")
    out = graph.add("Add", out, graph.constant("bias", bias))
    out = graph.add("Concat", column, out, axis=2) if layer.kind == "pbld" else graph.add("Relu", out)
    flat = graph.add("Reshape", out, graph.constant("shape", [0, len(columns) * layer.dim], "int64"))
    return _joined(graph, layer, x, [flat], len(columns) * layer.dim)


def residual(exports: Exports) -> Any:
    """Return the export of a block x + f(x), whose layers have the given exports."""

    def export(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
        inside = x
        for i, each in enumerate(layer.layers):
            own = {name.removeprefix(f"{i}."): array for name, array in arrays.items() if name.startswith(f"{i}.")}
            with graph.at(each.name or str(i)):
                inside = for_layer(exports, each, i, "save_onnx")(graph, each, own, inside)
        return graph.add("Add", x, inside)

    return export


def _chosen(graph: Graph, layer: Any) -> list[int]:
    """Return the numbers of the columns that a layer encodes."""
    return list(range(graph.width)) if layer.columns is None else list(layer.columns)


def _joined(graph: Graph, layer: Any, x: str, new: list[str], width: int) -> str:
    """Add the new columns, of the given number, behind those that the layer passes on."""
    kept = [column for column in range(graph.width) if column not in _chosen(graph, layer)]
    graph.width = len(kept) + width
    parts = [graph.add("Gather", x, graph.constant("kept", kept, "int64"), axis=1)] if kept else []
    return graph.add("Concat", *parts, *new, axis=1)
