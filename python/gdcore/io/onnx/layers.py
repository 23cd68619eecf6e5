"""The formula of each layer in prediction, in operators of ONNX that onnxruntime computes in the model's dtype.

onnxruntime has some operators (Erf, Softplus) in float32 only; for float64 they are composed of others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .columns import embedding, periodic, piecewise_linear, residual
from .graph import Arrays, Export, Graph

__all__ = ["EXPORTS", "logistic"]


def dense(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x Wᵀ + b; in float64 with a sum of its own, because onnxruntime 1.17 fails where Gemm meets an activation."""
    graph.width = layer.out_features
    given = [graph.constant(name, arrays[name]) for name in ("weight", "bias") if name in arrays]
    if graph.dtype == "float32":
        return graph.add("Gemm", x, *given, transB=1)
    bias = given[1:] or [graph.constant("bias", np.zeros(layer.out_features))]
    return graph.add("Add", graph.add("Gemm", x, given[0], transB=1), *bias)


def standardizer(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add (x - mean) / std."""
    centred = graph.add("Sub", x, graph.constant("mean", arrays["mean"]))
    return graph.add("Mul", centred, graph.constant("scale", 1 / arrays["std"].astype(np.float64)))


def batch_norm(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add γ (x - μ) / √(σ² + δ) + β with the running averages.

    onnxruntime's operator of this name subtracts γ μ / σ last, which loses digits where |μ| is much larger than σ.
    """
    spread = arrays["running_std" if layer.running == "std" else "running_variance"].astype(np.float64)
    variance = spread**2 if layer.running == "std" else spread
    scale = (1 / np.sqrt(variance + layer.eps)).astype(graph.dtype)
    centred = graph.add("Sub", x, graph.constant("running_mean", arrays["running_mean"]))
    if not layer.affine:
        return graph.add("Mul", centred, graph.constant("scale", scale))
    scaled = graph.add("Mul", centred, graph.constant("scale", arrays["gamma"] * scale))
    return graph.add("Add", scaled, graph.constant("beta", arrays["beta"]))


def layer_norm(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add γ (x - μ) / √(σ² + δ) + β over each row.

    The mean is subtracted first, as onnxruntime's operator computes σ² as the mean of squares minus the square of the
    mean. It also rounds δ to float32, and refuses rows of one number in some versions: then the formula is written out.
    """
    gamma, beta = arrays.get("gamma", np.ones(layer.features)), arrays.get("beta", np.zeros(layer.features))
    names = graph.constant("gamma", gamma), graph.constant("beta", beta)
    centred = graph.add("Sub", x, _row_mean(graph, x))
    if graph.dtype == "float32" and layer.features > 1:
        return graph.add("LayerNormalization", centred, *names, axis=-1, epsilon=layer.eps)
    centred = graph.add("Sub", centred, _row_mean(graph, centred))  # the rounding error of the mean
    variance = _row_mean(graph, graph.add("Mul", centred, centred))
    root = graph.add("Sqrt", graph.add("Add", variance, graph.constant("eps", layer.eps)))
    return graph.add("Add", graph.add("Mul", graph.add("Div", centred, root), names[0]), names[1])


def _row_mean(graph: Graph, x: str) -> str:
    return graph.add("ReduceMean", x, axes=[-1], keepdims=1)


def leaky_relu(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x where x >= 0, else slope · x."""
    if graph.dtype == "float32":
        return graph.add("LeakyRelu", x, alpha=layer.negative_slope)
    zero = graph.constant("zero", 0.0)  # the operator rounds the slope to float32
    scaled = graph.add("Mul", graph.add("Min", x, zero), graph.constant("negative_slope", layer.negative_slope))
    return graph.add("Add", graph.add("Max", x, zero), scaled)


def sigmoid(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add 1 / (1 + e⁻ˣ)."""
    return graph.add("Sigmoid", x) if graph.dtype == "float32" else logistic(graph, x)


def logistic(graph: Graph, x: str) -> str:
    """Add 1 / (1 + e⁻ˣ) with small results to full accuracy; onnxruntime's Sigmoid is 0 for x = -20 in float32."""
    power = graph.add("Exp", graph.add("Neg", x))
    return graph.add("Reciprocal", graph.add("Add", graph.constant("one", 1.0), power))


def softplus(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add log(1 + eˣ), in float64 as max(x, 0) + log(1 + e^-|x|)."""
    if graph.dtype == "float32":
        return graph.add("Softplus", x)
    power = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    rest = graph.add("Log", graph.add("Add", graph.constant("one", 1.0), power))
    return graph.add("Add", graph.add("Max", x, graph.constant("zero", 0.0)), rest)


def gelu(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x Φ(x), or its approximation with tanh."""
    if layer.approximate == "tanh":
        square = graph.add("Mul", graph.add("Mul", x, x), graph.constant("cubic", 0.044715))
        inner = graph.add("Mul", x, graph.add("Add", square, graph.constant("one", 1.0)))
        share = graph.add("Tanh", graph.add("Mul", inner, graph.constant("factor", np.sqrt(2 / np.pi))))
    else:
        share = _erf(graph, graph.add("Mul", x, graph.constant("factor", np.sqrt(0.5))))
        if graph.dtype == "float64":  # below -9 it is 0, but not x times the error of erf
            x = graph.add("Max", x, graph.constant("tail", -9.0))
    half = graph.add("Mul", x, graph.constant("half", 0.5))
    return graph.add("Mul", half, graph.add("Add", share, graph.constant("one", 1.0)))


def _erf(graph: Graph, x: str) -> str:
    """Add erf(x), in float64 as 2/√π ∫ x exp(-x²t²) dt over [0, 1], which Gauss's 24 points give to 2e-15."""
    if graph.dtype == "float32":
        return graph.add("Erf", x)
    points, weights = np.polynomial.legendre.leggauss(24)
    limited = graph.add("Clip", x, graph.constant("lowest", -6.0), graph.constant("highest", 6.0))  # erf(6) = 1 - 2e-17
    column = graph.add("Unsqueeze", limited, graph.constant("last", [-1], "int64"))
    product = graph.add("Mul", column, graph.constant("points", (points + 1) / 2))
    power = graph.add("Exp", graph.add("Neg", graph.add("Mul", product, product)))
    integral = graph.add("MatMul", power, graph.constant("weights", weights / np.sqrt(np.pi)))
    return graph.add("Mul", limited, integral)


def silu(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x / (1 + e⁻ˣ); the error of the operator Sigmoid would grow with x."""
    return graph.add("Mul", x, logistic(graph, x))


def mish(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x tanh(log(1 + eˣ))."""
    return graph.add("Mul", x, graph.add("Tanh", softplus(graph, layer, arrays, x)))


def elu(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x where x > 0, else α (eˣ - 1)."""
    if graph.dtype == "float32":
        return graph.add("Elu", x, alpha=layer.alpha)
    return _exponential(graph, x, 1.0, layer.alpha)


SELU = 1.0507009873554805, 1.6732632423543772  # λ and α (Klambauer et al. 2017)


def selu(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add λ x where x > 0, else λ α (eˣ - 1)."""
    if graph.dtype == "float32":
        return graph.add("Selu", x, gamma=SELU[0], alpha=SELU[1])
    return _exponential(graph, x, SELU[0], SELU[0] * SELU[1])


def _exponential(graph: Graph, x: str, slope: float, depth: float) -> str:
    zero = graph.constant("zero", 0.0)
    above = graph.add("Mul", graph.add("Max", x, zero), graph.constant("slope", slope))
    power = graph.add("Sub", graph.add("Exp", graph.add("Min", x, zero)), graph.constant("one", 1.0))
    return graph.add("Add", above, graph.add("Mul", power, graph.constant("depth", depth)))


def scale(graph: Graph, layer: Any, arrays: Arrays, x: str) -> str:
    """Add x ⊙ s."""
    return graph.add("Mul", x, graph.constant("factor", arrays["factor"]))


def operator(name: str) -> Export:
    """Return the export of a layer that one operator without settings computes."""
    return lambda graph, layer, arrays, x: graph.add(name, x)


EXPORTS: dict[str, Export] = {
    "BatchNorm": batch_norm,
    "Dense": dense,
    "Dropout": lambda graph, layer, arrays, x: x,
    "ELU": elu,
    "Embedding": embedding,
    "GELU": gelu,
    "LayerNorm": layer_norm,
    "LeakyReLU": leaky_relu,
    "Mish": mish,
    "Periodic": periodic,
    "PiecewiseLinear": piecewise_linear,
    "ReLU": operator("Relu"),
    "SELU": selu,
    "Scale": scale,
    "SiLU": silu,
    "Sigmoid": sigmoid,
    "Softplus": softplus,
    "Standardizer": standardizer,
    "Tanh": operator("Tanh"),
}
EXPORTS["Residual"] = residual(EXPORTS)
