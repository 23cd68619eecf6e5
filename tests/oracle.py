"""The float64 oracle: every operation of gdcore in plain NumPy, written from the chapter and not from the C++ code.

Inputs of any float type are promoted to float64. Functions that are compared under an error bound return
`Sized(value, size)`: `size` has the shape of `value` and holds the sum of the absolute values of the terms that
were added up to reach it, so that a test can demand |error| <= 3e-7 * size despite cancellation. Specs (layers,
losses, optimisers) are read by the name of their class and by their attributes only; the oracle imports nothing
from gdcore.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from oracle_losses import LOSSES, f64, sigmoid, softplus

try:
    from scipy.special import erf
except ImportError:  # SciPy comes with scikit-learn; without it the standard library's scalar function is used
    erf = np.vectorize(math.erf, otypes=[np.float64])

SAVES_INPUT = (
    "GELU",
    "Mish",
    "SiLU",
    "Softplus",
)  # their slope needs the pre-activation; that of others follows from the output
_GELU_TANH = (math.sqrt(2.0 / math.pi), 0.044715)
_SELU = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)  # λ, α


class Sized(NamedTuple):
    """A value and the summed size of the terms it was added up from (same shape)."""

    value: np.ndarray
    size: np.ndarray


def kind(spec: Any) -> str | None:
    """The class name of a spec, None for None."""
    return None if spec is None else type(spec).__name__


# ---------------------------------------------------------------------------------------------------- activations
def activation(spec: Any, x: Any) -> Sized:
    """The activation's value at x (any shape)."""
    x, name = f64(x), kind(spec)
    if name is None:
        return Sized(x, np.abs(x))
    if name == "ReLU":
        out = np.where(x > 0, x, x * 0.0)
    elif name == "LeakyReLU":
        out = np.where(x > 0, x, spec.negative_slope * x)
    elif name == "Tanh":
        out = np.tanh(x)
    elif name == "Sigmoid":
        out = sigmoid(x)
    elif name == "Softplus":
        out = softplus(x)
    elif name in ("ELU", "SELU"):
        scale, alpha = _SELU if name == "SELU" else (1.0, spec.alpha)
        out = scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))
    elif name == "SiLU":
        out = _times(x, sigmoid(x))
    elif name == "Mish":
        out = _times(x, np.tanh(softplus(x)))
        return Sized(out, np.abs(out) * 4 / 3)  # a quotient of polynomials: 4e-7 without fused multiply-add
    elif name == "GELU" and spec.approximate == "tanh":
        t = np.tanh(_GELU_TANH[0] * (x + _GELU_TANH[1] * x**3))
        return Sized(0.5 * x * (1.0 + t), 0.5 * np.abs(x) * (1.0 + np.abs(t)))
    elif name == "GELU":
        t = erf(x / math.sqrt(2.0))
        return Sized(0.5 * x * (1.0 + t), 0.5 * np.abs(x) * (1.0 + np.abs(t)))
    else:
        raise NotImplementedError(name)
    return Sized(out, np.abs(out))


def slope(spec: Any, saved: Any) -> Sized:
    """The activation's derivative from what the core saves: its output, or its input for those of SAVES_INPUT."""
    s, name = f64(saved), kind(spec)
    if name is None:
        return Sized(np.ones_like(s), np.ones_like(s))
    if name == "ReLU":
        d = (s > 0).astype(np.float64)
    elif name == "LeakyReLU":
        d = np.where(s > 0, 1.0, spec.negative_slope)
    elif name == "Tanh":
        return Sized(1.0 - s * s, 1.0 + s * s)
    elif name == "Sigmoid":
        return Sized(s * (1.0 - s), np.abs(s) * (1.0 + np.abs(s)))
    elif name == "Softplus":
        d = sigmoid(s)
    elif name in ("ELU", "SELU"):
        scale, alpha = _SELU if name == "SELU" else (1.0, spec.alpha)
        d = np.where(s > 0, scale, s + scale * alpha)
        return Sized(d, np.where(s > 0, scale, np.abs(s) + scale * alpha))
    elif name == "SiLU":
        p, q = sigmoid(s), sigmoid(-s)
        return Sized(p + _times(s, p * q), p + np.abs(_times(s, p * q)))
    elif name == "Mish":
        w = np.tanh(softplus(s))
        rest = _times(s, sigmoid(s) / np.cosh(np.minimum(softplus(s), 700.0)) ** 2)
        return Sized(w + rest, w + np.abs(rest))
    elif name == "GELU" and spec.approximate == "tanh":
        c, a = _GELU_TANH
        t = np.tanh(c * (s + a * s**3))
        inner = 0.5 * s * (1.0 - t * t) * c * (1.0 + 3.0 * a * s * s)
        size = 0.5 * np.abs(s) * (1.0 + t * t) * c * (1.0 + 3.0 * a * s * s)
        return Sized(0.5 * (1.0 + t) + inner, 0.5 * (1.0 + np.abs(t)) + size)
    elif name == "GELU":
        t = erf(s / math.sqrt(2.0))
        inner = s * np.exp(-0.5 * s * s) / math.sqrt(2.0 * math.pi)
        # exp(-s²/2) is as accurate as its rounded argument: a relative error of s²/2 units
        return Sized(0.5 * (1.0 + t) + inner, 0.5 * (1.0 + np.abs(t)) + np.abs(inner) * (1.0 + 0.5 * s * s))
    else:
        raise NotImplementedError(name)
    return Sized(d, np.abs(d))


def _times(x: np.ndarray, share: np.ndarray) -> np.ndarray:
    """x times a share that goes to 0 faster than x to infinity."""
    return np.where(share == 0.0, 0.0, np.where(share == 0.0, 0.0, x) * share)


def saved_for(spec: Any, pre: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The array of the two that the core keeps for `slope`."""
    return pre if kind(spec) in SAVES_INPUT else out


def through(spec: Any, pre: Sized) -> Sized:
    """Activation of a sized pre-activation; the size carries the pre-activation's own error through the slope."""
    out = activation(spec, pre.value)
    if spec is None:
        return pre
    steep = slope(spec, saved_for(spec, pre.value, out.value)).value
    return Sized(out.value, out.size + np.abs(steep) * pre.size)


def gradient_before(spec: Any, saved: Any, dout: Any) -> Sized:
    """dout times the slope: the gradient with respect to the pre-activation."""
    g = f64(dout)
    if spec is None:
        return Sized(g, np.abs(g))
    d = slope(spec, saved)
    return Sized(g * d.value, np.abs(g) * d.size)


# ---------------------------------------------------------------------------------------------------- dense
def dense(x: Any, weight: Any, bias: Any = None) -> Sized:
    """x (N, in) times weight (out, in) transposed, plus bias (out,)."""
    x, w = f64(x), f64(weight)
    b = np.zeros(w.shape[0]) if bias is None else f64(bias)
    return Sized(x @ w.T + b, np.abs(x) @ np.abs(w).T + np.abs(b))


def dense_backward(x: Any, weight: Any, g: Sized) -> tuple[Sized, Sized, Sized]:
    """(dx, dweight, dbias) for the gradient g (N, out) with respect to the pre-activation."""
    x, w = f64(x), f64(weight)
    return (
        Sized(g.value @ w, g.size @ np.abs(w)),
        Sized(g.value.T @ x, g.size.T @ np.abs(x)),
        Sized(g.value.sum(0), g.size.sum(0)),
    )


# ---------------------------------------------------------------------------------------------------- normalisation
class Norm(NamedTuple):
    """A normalisation's results; `hat` is (x - mean) * rstd, statistics are kept with the reduced axis."""

    out: Sized
    mean: Sized
    variance: Sized
    rstd: np.ndarray


def _affine(hat: Sized, gamma: Any, beta: Any) -> Sized:
    g, b = 1.0 if gamma is None else f64(gamma), 0.0 if beta is None else f64(beta)
    return Sized(hat.value * g + b, hat.size * np.abs(g) + np.abs(b))


def column_affine(x: Any, mean: Any, rstd: Any, gamma: Any = None, beta: Any = None) -> Sized:
    """gamma * (x - mean) * rstd + beta with given statistics (broadcast against x)."""
    x, m, r = f64(x), f64(mean), f64(rstd)
    return _affine(Sized((x - m) * r, (np.abs(x) + np.abs(m)) * r), gamma, beta)


def normalize(x: Any, gamma: Any, beta: Any, eps: float, axis: int) -> Norm:
    """Batch norm (axis 0) or layer norm (axis 1): biased variance, (x - mean) / sqrt(variance + eps), affine."""
    x = f64(x)
    mean = x.mean(axis, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis, keepdims=True)
    rstd = 1.0 / np.sqrt(variance + eps)
    size = np.abs(x).mean(axis, keepdims=True)
    # the mean is a sum of terms of that size too; its rounding enters the variance only squared
    return Norm(
        _affine(Sized((x - mean) * rstd, (np.abs(x) + size) * rstd), gamma, beta),
        Sized(mean, size),
        Sized(variance, variance + 1e-7 * size**2),
        rstd,
    )


def normalize_backward(x: Any, gamma: Any, mean: Any, rstd: Any, g: Sized, axis: int) -> tuple[Sized, Sized, Sized]:
    """(dx, dgamma, dbeta) of batch norm (axis 0) or layer norm (axis 1); mean and rstd broadcast against x."""
    x, m, r = f64(x), f64(mean), f64(rstd)
    scale = np.ones(x.shape[1]) if gamma is None else f64(gamma)
    hat = (x - m) * r
    hat_size = (np.abs(x) + np.abs(m)) * r
    d, d_size = g.value * scale, g.size * np.abs(scale)
    value = r * (d - d.mean(axis, keepdims=True) - hat * (d * hat).mean(axis, keepdims=True))
    size = r * (d_size + d_size.mean(axis, keepdims=True) + hat_size * (d_size * hat_size).mean(axis, keepdims=True))
    dgamma = Sized((g.value * hat).sum(0), (g.size * hat_size).sum(0))
    return Sized(value, size), dgamma, Sized(g.value.sum(0), g.size.sum(0))


# ---------------------------------------------------------------------------------------------------- losses
class LossResult(NamedTuple):
    """Σ s l, Σ s W (both with their sizes) and the gradient of their ratio with respect to the predictions."""

    loss_sum: Sized
    weight_sum: float
    grad: Sized

    @property
    def mean(self) -> float:
        return float(self.loss_sum.value) / self.weight_sum if self.weight_sum else 0.0


def loss(spec: Any, z: Any, targets: Any, weights: Any = None) -> LossResult:
    """Any of the losses; z (N, K), targets (N,) integers or (N, K), weights (N,) or None."""
    z = f64(z)
    s = np.ones(len(z)) if weights is None else f64(weights)
    value, size, count, grad, grad_size = LOSSES[type(spec).__name__](spec, z, np.asarray(targets))
    total = float((s * count).sum())
    scale = (s / total if total else np.zeros_like(s))[:, None]
    sums = Sized((s * value).sum(), (np.abs(s) * size).sum())
    return LossResult(sums, total, Sized(scale * grad, np.abs(scale) * grad_size))


# ---------------------------------------------------------------------------------------------------- optimisers
STATES = {"SGD": 0, "Momentum": 1, "AdaGrad": 1, "RMSProp": 1, "Adam": 2}


def flush(states: list[np.ndarray], dtype: Any) -> None:
    """Set values that are subnormal in `dtype` to zero."""
    for state in states:
        state[np.abs(state) < np.finfo(dtype).tiny] = 0.0


def update(
    spec: Any,
    w: np.ndarray,
    g: np.ndarray,
    states: list[np.ndarray],
    lr: float,
    step: int,
    decay: Any,
    dtype: Any = np.float64,
) -> None:
    """One step of the chapter's rule in place; step counts from 1; decay is λ (a number or an array like w).

    States that are subnormal in `dtype` are written as zero.
    """
    name = kind(spec)
    if getattr(spec, "clip_value", None) is not None:
        g = np.clip(g, -spec.clip_value, spec.clip_value)
    decoupled = name == "Adam" and spec.decoupled
    if not decoupled:
        g = g + decay * w
    if name == "SGD":
        w -= lr * g
    elif name == "Momentum":
        v = states[0]
        v[...] = spec.momentum * v - lr * g
        w += spec.momentum * v - lr * g if spec.nesterov else v
    elif name == "AdaGrad":
        r = states[0]
        r += g * g
        w -= lr * g / (np.sqrt(r) + spec.eps)
    elif name == "RMSProp":
        r = states[0]
        r[...] = spec.beta * r + (1.0 - spec.beta) * g * g
        w -= lr * g / (np.sqrt(r) + spec.eps)
    elif name == "Adam":
        s, r = states
        b1, b2 = spec.betas
        s[...] = b1 * s + (1.0 - b1) * g
        r[...] = b2 * r + (1.0 - b2) * g * g
        shrink = lr * decay * w if decoupled else 0.0
        w -= lr * (s / (1.0 - b1**step)) / (np.sqrt(r / (1.0 - b2**step)) + spec.eps) + shrink
    else:
        raise NotImplementedError(name)
    flush(states, dtype)
