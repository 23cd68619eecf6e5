"""The losses of the oracle (oracle.py): each returns, for the rows of z (N, K), l, its size, W, dl/dz and its size."""

from __future__ import annotations

from typing import Any

import numpy as np


def f64(x: Any) -> np.ndarray:
    return np.asarray(x, dtype=np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _cross_entropy(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    c = z.shape[1]
    omega = np.ones(c) if spec.class_weights is None else f64(spec.class_weights)
    t = f64(targets) if targets.ndim == 2 else np.eye(c)[targets]
    soft = (1.0 - spec.label_smoothing) * t + spec.label_smoothing / c
    shifted = z - z.max(1, keepdims=True)
    wide = np.exp(shifted.astype(np.longdouble)).sum(1, keepdims=True)  # rounded relative to 1 in float64
    log_sum = f64(np.log(wide))
    log_p = shifted - log_sum
    p = np.exp(log_p)
    mass = (omega * soft).sum(1, keepdims=True)
    value = -(omega * soft * log_p).sum(1)
    size = (omega * soft * (np.abs(shifted) + log_sum)).sum(1)
    grad = p * mass - omega * soft
    # p is exp of a rounded argument: its relative error grows with the argument
    grad_size = p * (1.0 + np.abs(log_p)) * mass + omega * soft
    if spec.gamma > 0.0:  # labels: l (1 - p)^gamma, p of the label
        others = np.exp(shifted.astype(np.longdouble)) * (1.0 - t)
        rest = f64(others.sum(1, keepdims=True) / wide)
        own = (t * log_p).sum(1, keepdims=True)
        own = np.where(rest < 0.5, np.log1p(-rest), own)
        power = rest**spec.gamma
        slope = power * (1.0 - spec.gamma * np.exp(own) * own / np.where(rest > 0, rest, 1.0))
        uncertain = 1.0 + spec.gamma  # a relative error of 1 - p grows with the exponent
        return (
            -(power * own * mass)[:, 0],
            size * power[:, 0] * uncertain,
            (omega * t).sum(1),
            slope * grad,
            slope * grad_size * uncertain,
        )
    return value, size, (omega * t).sum(1), grad, grad_size


def _bce(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    t = f64(targets).reshape(z.shape)
    yes, no, count = 1.0, 1.0, np.ones(len(z))
    if spec.pos_weight is not None:
        yes = f64(spec.pos_weight)
    if spec.class_weights is not None:  # of no and of yes, of one output after the other
        no, yes = f64(spec.class_weights).reshape(-1, 2).T
        count = (yes * t + no * (1.0 - t)).mean(1)
    a, b, p, q, g = softplus(-z), softplus(z), sigmoid(z), sigmoid(-z), spec.gamma
    up, down = yes * t * np.exp(-g * b), no * (1.0 - t) * np.exp(-g * a)
    value, size = up * a + down * b, up * (1.0 + g * b) * a + down * (1.0 + g * a) * b
    grad = down * (g * q * b + p) - up * (g * p * a + q)
    if g > 0.0:
        grad_size = down * (1.0 + g * a) * (g * q * b + p) + up * (1.0 + g * b) * (g * p * a + q)
    else:  # its terms as they are added up: (1 - t + w t) sigmoid(z) - w t
        grad_size = (down + up) * p + up
    return value.sum(1), size.sum(1), count, grad, grad_size


def _of_errors(z: np.ndarray, targets: np.ndarray, value: Any, slope: Any, size: Any = None) -> tuple:
    """The mean over the elements of value(y - t), with its derivative."""
    d = z - f64(targets).reshape(z.shape)
    loss, grad = value(d), slope(d) / z.shape[1]
    return loss.mean(1), (loss if size is None else size(d)).mean(1), np.ones(len(z)), grad, np.abs(grad)


def _mse(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    return _of_errors(z, targets, lambda d: d * d, lambda d: 2.0 * d)


def _mae(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    return _of_errors(z, targets, np.abs, np.sign)


def _huber(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    delta = spec.delta

    def value(d: np.ndarray) -> np.ndarray:
        return np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))

    def size(d: np.ndarray) -> np.ndarray:
        return np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) + 0.5 * delta))

    return _of_errors(z, targets, value, lambda d: np.clip(d, -delta, delta), size)


def _quantile(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    levels, n = f64(spec.levels), len(z)
    shape = (n, z.shape[1] // len(levels), len(levels))
    d = f64(targets).reshape(n, -1)[:, :, None] - z.reshape(shape)
    loss = np.maximum(levels * d, (levels - 1.0) * d)
    grad = np.where(d > 0, -levels, np.where(d < 0, 1.0 - levels, 0.0)).reshape(z.shape) / z.shape[1]
    value = loss.reshape(z.shape).mean(1)
    return value, value, np.ones(n), grad, np.abs(grad)


def _poisson(spec: Any, z: np.ndarray, targets: np.ndarray) -> tuple:
    t = f64(targets).reshape(z.shape)
    mean, k = np.exp(z), z.shape[1]
    sized = mean * (1.0 + np.abs(z))  # exp of a rounded argument
    return (
        (mean - t * z).mean(1),
        (sized + np.abs(t * z)).mean(1),
        np.ones(len(z)),
        (mean - t) / k,
        (sized + t) / k,
    )


LOSSES = {
    "BinaryCrossEntropy": _bce,
    "CrossEntropy": _cross_entropy,
    "Huber": _huber,
    "MeanAbsoluteError": _mae,
    "MeanSquaredError": _mse,
    "Poisson": _poisson,
    "Quantile": _quantile,
}
