"""The oracle of the layers that encode columns: their formulas in float64 NumPy, row by row and column by column.

Each layer is written for one column at a time: `encode(layer, arrays, k, x)` returns the new columns of the k-th chosen
column x (N,), `decode` the gradients of x and of the layer's arrays. `arrays` maps the last parts of names to values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ENCODINGS = ("PiecewiseLinear", "Embedding", "Periodic")


def f64(x: Any) -> np.ndarray:
    return np.asarray(x, dtype=np.float64)


def chosen(layer: Any, width: int) -> list[int]:
    return list(range(width)) if layer.columns is None else list(layer.columns)


# ---------------------------------------------------------------------------------------------------- one column
def bins(layer: Any, x: np.ndarray, edges: Any) -> tuple[np.ndarray, np.ndarray]:
    """The encoding of x (N, T), and its derivative; at an edge that of the bin above."""
    edges = f64(edges)
    start, width = edges[:-1], np.diff(edges)
    t = (x[:, None] - start) / width
    low, high = np.full(len(width), True), np.full(len(width), True)
    if not layer.clip:
        low[0] = high[-1] = False
    value = np.where(low & (t < 0), 0.0, np.where(high & (t > 1), 1.0, t))
    inside = ~(low & (t < 0)) & ~(high & (t >= 1))
    return value, inside / width


def waves(layer: Any, arrays: dict[str, Any], k: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The waves of x (N, F or 2F), and their derivatives with respect to the phase."""
    turns = f64(arrays["frequency"])[k] * x[:, None]
    phase = f64(arrays["phase"])[k] if "phase" in arrays else 0.0
    angle = 2 * np.pi * (turns - np.rint(turns)) + phase
    if layer.kind == "pbld":
        return np.cos(angle), -np.sin(angle)
    return np.concatenate([np.cos(angle), np.sin(angle)], 1), np.concatenate([-np.sin(angle), np.cos(angle)], 1)


def linear_part(layer: Any, arrays: dict[str, Any], k: int) -> tuple[np.ndarray, np.ndarray, slice]:
    """The weight (outputs, waves) and bias of the k-th column, and their rows in the layer's arrays."""
    outputs = layer.dim - 1 if layer.kind == "pbld" else layer.dim
    own = slice(k * outputs, (k + 1) * outputs)
    return f64(arrays["weight"])[own], f64(arrays["bias"]).reshape(-1)[own], own


def encode(layer: Any, arrays: dict[str, Any], k: int, x: np.ndarray) -> np.ndarray:
    """The new columns of the k-th chosen column."""
    name = type(layer).__name__
    if name == "PiecewiseLinear":
        return bins(layer, x, layer.edges[k])[0]
    if name == "Embedding":
        codes = x.astype(int)
        return np.eye(layer.sizes[k])[codes] if layer.dim[k] is None else f64(arrays[f"table{k}"])[codes]
    weight, bias, _ = linear_part(layer, arrays, k)
    out = waves(layer, arrays, k, x)[0] @ weight.T + bias
    return np.concatenate([x[:, None], out], 1) if layer.kind == "pbld" else np.maximum(out, 0.0)


def decode(layer: Any, arrays: dict[str, Any], k: int, x: np.ndarray, g: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """The gradient of x (N,), and by name those of the layer's arrays, zero outside of the column's part."""
    name = type(layer).__name__
    if name == "PiecewiseLinear":
        return (g * bins(layer, x, layer.edges[k])[1]).sum(1), {}
    if name == "Embedding":
        if layer.dim[k] is None:
            return np.zeros(len(x)), {}
        table = np.zeros((layer.sizes[k], layer.dim[k]))
        np.add.at(table, x.astype(int), g)
        return np.zeros(len(x)), {f"table{k}": table}
    weight, bias, own = linear_part(layer, arrays, k)
    h, slope = waves(layer, arrays, k, x)
    dx = np.zeros(len(x))
    if layer.kind == "pbld":
        dx, g = g[:, 0].copy(), g[:, 1:]
    else:
        g = g * (h @ weight.T + bias > 0)
    angle = (g @ weight) * slope
    angle = angle.reshape(len(x), -1, layer.frequencies).sum(1)  # of sines and cosines of the same frequency
    grads = {key: np.zeros_like(f64(arrays[key])) for key in arrays}
    grads["weight"][own], grads["bias"].reshape(-1)[own] = g.T @ h, g.sum(0)
    grads["frequency"][k] = 2 * np.pi * (angle * x[:, None]).sum(0)
    if "phase" in grads:
        grads["phase"][k] = angle.sum(0)
    return dx + 2 * np.pi * angle @ f64(arrays["frequency"])[k], grads


# ---------------------------------------------------------------------------------------------------- whole layers
def forward(layer: Any, arrays: dict[str, Any], x: Any) -> np.ndarray:
    """[the other columns | the new columns of each chosen column]."""
    x = f64(x)
    columns = chosen(layer, x.shape[1])
    kept = [c for c in range(x.shape[1]) if c not in columns]
    return np.concatenate([x[:, kept], *(encode(layer, arrays, k, x[:, c]) for k, c in enumerate(columns))], 1)


def backward(layer: Any, arrays: dict[str, Any], x: Any, g: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The gradient of x, and of the arrays by name."""
    x, g = f64(x), f64(g)
    columns = chosen(layer, x.shape[1])
    kept = [c for c in range(x.shape[1]) if c not in columns]
    dx, grads, at = np.zeros_like(x), {}, len(kept)
    dx[:, kept] = g[:, :at]
    for k, c in enumerate(columns):
        wide = encode(layer, arrays, k, x[:, c]).shape[1]
        dx[:, c], own = decode(layer, arrays, k, x[:, c], g[:, at : at + wide])
        at += wide
        grads = {**grads, **{key: grads.get(key, 0.0) + value for key, value in own.items()}}
    return dx, grads
