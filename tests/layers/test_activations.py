"""Promise: every activation and its derivative is exact to 3e-7 (5e-7) at all sizes and alignments, behaves at the
extremes (zeros, 1e4, infinities, NaN), and its derivative is the derivative of its value."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

ops = gd._core.ops
KINDS = pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)


def both(activation: Any, x: np.ndarray, dout: np.ndarray, pool: helpers.Pool, aligned: bool, device: str) -> tuple:
    """(out, saved, dx) through guarded arrays."""
    out, dx = pool.empty(x.shape, x.dtype, aligned), pool.empty(x.shape, x.dtype, aligned)
    ops.activation_forward(activation, pool.copy(x, aligned=aligned), out, device=device)
    saved = oracle.saved_for(activation, x, out)
    guarded = pool.copy(saved, aligned=aligned), pool.copy(dout, aligned=aligned)
    ops.activation_backward(activation, *guarded, dx, device=device)
    pool.check()
    return out, saved, dx


@helpers.ALIGNED
@helpers.DTYPES
@KINDS
@helpers.LENGTH_SHAPES
def test_sizes(
    rows: int, width: int, activation: Any, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    x = (3.0 * rng.standard_normal((rows, width))).astype(dtype)
    dout = rng.standard_normal(x.shape).astype(dtype)
    out, saved, dx = both(activation, x, dout, pool, aligned, device)
    helpers.forward_close(out, oracle.activation(activation, x))
    helpers.gradient_close(dx, oracle.gradient_before(activation, saved, dout))


@helpers.DTYPES
@KINDS
def test_a_dense_sweep_of_the_axis(activation: Any, dtype: Any, pool: helpers.Pool, device: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 20001), np.linspace(-0.01, 0.01, 2001), [1e-30, -1e-30]]).astype(dtype)
    x = x.reshape(1, -1)
    out, saved, dx = both(activation, x, np.ones_like(x), pool, True, device)
    helpers.forward_close(out, oracle.activation(activation, x))
    helpers.gradient_close(dx, oracle.gradient_before(activation, saved, np.ones_like(x)))


@helpers.DTYPES
@KINDS
def test_extremes(activation: Any, dtype: Any, pool: helpers.Pool, device: str) -> None:
    x = np.array([[0.0, -0.0, 88.0, -88.0, 1e4, -1e4, 3e38, -3e38, 1e-40, -1e-40]], dtype)
    out, _, dx = both(activation, x, np.ones_like(x), pool, True, device)
    assert np.isfinite(out).all() and np.isfinite(dx).all()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = oracle.activation(activation, np.clip(x, -1e30, 1e30))
    helpers.forward_close(out[:, :6], oracle.Sized(expected.value[:, :6], expected.size[:, :6]))
    limits = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}.get(oracle.kind(activation) or "")
    if limits:
        assert (out[0, 5], out[0, 4]) == limits and (out[0, 7], out[0, 6]) == limits
        assert (dx[0, 4:8] == 0).all()
    else:
        steep = dtype(1.0507009873554805 if oracle.kind(activation) == "SELU" else 1.0)
        assert out[0, 6] == steep * x[0, 6] and dx[0, 6] == steep


@helpers.DTYPES
@KINDS
def test_nan_and_infinities(activation: Any, dtype: Any, pool: helpers.Pool, device: str) -> None:
    x = np.array([[np.nan, np.inf, 1.0, np.nan, -np.inf]], dtype)
    out = pool.empty(x.shape, dtype)
    ops.activation_forward(activation, pool.copy(x), out, device=device)
    assert np.isnan(out[0, 0]) and np.isnan(out[0, 3]) and np.isfinite(out[0, 2])
    top = 1.0 if oracle.kind(activation) in ("Tanh", "Sigmoid") else np.inf
    assert out[0, 1] == top
    below = {"ELU": -0.7, "SELU": -1.7580993408473766, "Tanh": -1.0, "LeakyReLU": -np.inf}
    if oracle.kind(activation) != "GELU":  # -inf · 0
        assert out[0, 4] == dtype(below.get(oracle.kind(activation) or "", 0.0))


@helpers.DTYPES
def test_tails(dtype: Any, pool: helpers.Pool, device: str) -> None:
    """Values far below 0 keep their relative precision down to the smallest normal number, and slopes too."""
    x = np.linspace(-103, -60, 2001).astype(dtype).reshape(1, -1)
    e = np.exp(x.astype(np.float64))
    for activation in (gd.SiLU(), gd.Mish()):
        out, _, dx = both(activation, x, np.ones_like(x), pool, True, device)
        for found, exact in ((out, x * e), (dx, e * (1.0 + x))):
            np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2 * np.finfo(dtype).tiny)
            assert (found[np.abs(exact) > 4 * np.finfo(dtype).tiny] != 0).all()
    ends = np.array([[np.inf, -np.inf, 3e38, -3e38]], dtype)
    for activation in (gd.SiLU(), gd.Mish()):
        np.testing.assert_array_equal(both(activation, ends, np.ones_like(ends), pool, True, device)[2], [[1, 0, 1, 0]])


@helpers.DTYPES
def test_near_zero(dtype: Any, pool: helpers.Pool, device: str) -> None:
    """ELU and SELU do not lose small inputs to the subtraction of 1."""
    x = -np.logspace(-30, 0, 3001).astype(dtype).reshape(1, -1)
    for activation, scale in ((gd.ELU(), 1.0), (gd.SELU(), 1.7580993408473766)):
        out = both(activation, x, np.ones_like(x), pool, True, device)[0]
        np.testing.assert_allclose(
            out, scale * np.expm1(x.astype(np.float64)), rtol=4e-7 if dtype is np.float32 else 1e-15
        )


@KINDS
def test_slope_is_the_derivative_of_the_value(activation: Any, pool: helpers.Pool, device: str) -> None:
    x = np.linspace(-6.05, 6.05, 122).reshape(1, -1)
    _, _, dx = both(activation, x, np.ones_like(x), pool, True, device)
    h = 1e-5
    up, down = pool.empty(x.shape, np.float64), pool.empty(x.shape, np.float64)
    ops.activation_forward(activation, x + h, up, device=device)
    ops.activation_forward(activation, x - h, down, device=device)
    np.testing.assert_allclose(dx, (up - down) / (2 * h), rtol=1e-6, atol=1e-9)


def test_slopes_at_zero_are_those_from_the_left(pool: helpers.Pool, device: str) -> None:
    zero = np.zeros((1, 1))
    for activation, expected in (
        (gd.ReLU(), 0.0),
        (gd.LeakyReLU(0.25), 0.25),
        (gd.Tanh(), 1.0),
        (gd.Sigmoid(), 0.25),
        (gd.ELU(0.5), 0.5),
    ):
        assert both(activation, zero, np.ones((1, 1)), pool, True, device)[2] == expected


def test_monotone_and_bounded_in_float32(pool: helpers.Pool, device: str) -> None:
    x = np.linspace(-20, 20, 40001, dtype=np.float32).reshape(1, -1)
    for activation, low, high in ((gd.Tanh(), -1.0, 1.0), (gd.Sigmoid(), 0.0, 1.0)):
        out, _, dx = both(activation, x, np.ones_like(x), pool, True, device)
        assert out.min() >= low and out.max() <= high and dx.min() >= 0
        assert np.diff(out.astype(np.float64)).min() >= -1.2e-7


def test_in_place(device: str, rng: helpers.Generator) -> None:
    """The same array may be input and output of an activation in a network: a standalone chain must agree."""
    x = rng.standard_normal((20, 12))
    for first in helpers.ACTIVATIONS:
        for second in helpers.ACTIVATIONS:
            model = gd.Sequential(gd.Dense(12, 12), first, second, seed=3, dtype="float64", device=device)
            expected = helpers.reference_of(model).forward(x)
            np.testing.assert_allclose(model.forward(x), expected, rtol=1e-12, atol=1e-14)
