"""Promise: layer norm normalises each row over its units (biased variance, sqrt(variance + eps)), the same in training
and prediction, with exact statistics where possible and gradients within 5e-7 of the summed terms."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

ops = gd._core.ops
EPS = 1e-5


def forward(pool: helpers.Pool, x: Any, gamma: Any, beta: Any, activation: Any, aligned: bool, device: str) -> tuple:
    """(out, mean, rstd, pre) through guarded arrays."""
    out, pre = pool.empty(x.shape, x.dtype, aligned), pool.empty(x.shape, x.dtype, aligned)
    statistics = [pool.empty(len(x), x.dtype, aligned) for _ in range(2)]
    guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, gamma, beta)]
    keep = pre if oracle.kind(activation) in oracle.SAVES_INPUT else None
    ops.layer_norm_forward(*guarded, activation, EPS, out, *statistics, keep, device=device)
    pool.check()
    return (out, *statistics, pre)


def data(rng: helpers.Generator, rows: int, width: int, dtype: Any) -> tuple[np.ndarray, ...]:
    x = (rng.standard_normal((rows, width)) * 2 + rng.standard_normal((rows, 1))).astype(dtype)
    return x, rng.uniform(0.5, 2, width).astype(dtype), rng.standard_normal(width).astype(dtype)


def normalized(x: Any, gamma: Any, beta: Any) -> tuple[oracle.Norm, np.ndarray, oracle.Sized]:
    """The oracle's result, the relative size of rstd, and the output with that size included."""
    exact = oracle.normalize(x, gamma, beta, EPS, 1)
    relative = exact.variance.size / (exact.variance.value + EPS) + 1.0
    return exact, relative, oracle.Sized(exact.out.value, exact.out.size * relative)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_forward(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    for g, b in ((gamma, beta), (None, None)):
        out, mean, rstd, _ = forward(pool, x, g, b, None, aligned, device)
        exact, relative, expected = normalized(x, g, b)
        helpers.forward_close(mean, oracle.Sized(exact.mean.value[:, 0], exact.mean.size[:, 0]))
        helpers.forward_close(rstd, oracle.Sized(exact.rstd[:, 0], (exact.rstd * relative)[:, 0]))
        helpers.forward_close(out, expected)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_backward(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    _, mean, rstd, _ = forward(pool, x, gamma, beta, None, aligned, device)
    dout = rng.standard_normal(x.shape).astype(dtype)
    for scale in (gamma, None):
        outs = [pool.empty(shape, dtype, aligned) for shape in (x.shape, width, width)]
        if scale is None:
            outs[1:] = [None, None]
        guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, scale, mean, rstd)]
        ops.layer_norm_backward(*guarded, None, None, pool.mutable(dout, aligned=aligned), *outs, device=device)
        pool.check()
        g = oracle.gradient_before(None, None, dout)
        exact = oracle.normalize_backward(x, scale, mean[:, None], rstd[:, None], g, 1)
        for actual, expected in zip(outs, exact, strict=True):
            if actual is not None:
                helpers.gradient_close(actual, expected)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
@pytest.mark.parametrize(("rows", "width"), [(1, 2), (32, 17), (33, 64), (100, 129), (5, 257)])
def test_absorbed_activation(
    rows: int, width: int, activation: Any, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    out, mean, rstd, pre = forward(pool, x, gamma, beta, activation, aligned, device)
    helpers.forward_close(out, oracle.through(activation, normalized(x, gamma, beta)[2]))
    saved = oracle.saved_for(activation, pre, out)
    dout = rng.standard_normal(x.shape).astype(dtype)
    outs = [pool.empty(shape, dtype, aligned) for shape in (x.shape, width, width)]
    guarded = [pool.copy(a, aligned=aligned) for a in (x, gamma, mean, rstd)]
    ops.layer_norm_backward(
        *guarded,
        activation,
        pool.copy(saved, aligned=aligned),
        pool.mutable(dout, aligned=aligned),
        *outs,
        device=device,
    )
    pool.check()
    before = oracle.gradient_before(activation, saved, dout)
    exact = oracle.normalize_backward(x, gamma, mean[:, None], rstd[:, None], before, 1)
    for actual, expected in zip(outs, exact, strict=True):
        helpers.gradient_close(actual, expected)


@helpers.DTYPES
@pytest.mark.parametrize("offset", [0.0, 1024.0, -65536.0])
@pytest.mark.parametrize("width", [2, 4, 32, 64, 512, 1024])
def test_statistics_of_exactly_representable_inputs_are_exact(
    width: int, offset: float, dtype: Any, pool: helpers.Pool, device: str
) -> None:
    """Half the units at offset - d, half at offset + d: the mean is the offset to the bit, rstd 1/sqrt(d² + eps)."""
    d = np.array([[1], [2], [3], [0.5], [7], [0], [16], [0.25], [100]], dtype)
    sign = np.where(np.arange(width) % 2 == 0, 1, -1).astype(dtype)
    x = (offset + sign * d).astype(dtype)
    _, mean, rstd, _ = forward(pool, x, None, None, None, True, device)
    helpers.same_bits(mean, np.full(9, offset, dtype))
    np.testing.assert_allclose(rstd, 1 / np.sqrt(d[:, 0].astype(np.float64) ** 2 + EPS), rtol=1.3e-7)


def test_a_constant_row_gives_beta(pool: helpers.Pool, device: str, rng: helpers.Generator) -> None:
    x = np.tile(np.float32([[3.3], [-1e6], [0.1]]), (1, 37))
    beta = rng.standard_normal(37).astype(np.float32)
    out, mean, _, _ = forward(pool, x, np.ones(37, "f"), beta, None, True, device)
    helpers.same_bits(mean, x[:, 0].copy())
    assert (out == beta).all()


def test_one_unit_gives_beta(pool: helpers.Pool, device: str) -> None:
    out, *_ = forward(pool, np.float32([[5], [-7]]), np.float32([3]), np.float32([0.25]), None, True, device)
    assert (out == 0.25).all()


def test_training_and_prediction_are_the_same_function(device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(gd.Dense(6, 9), gd.LayerNorm(9), gd.GELU(), gd.Dense(9, 2), seed=0, device=device)
    x = rng.standard_normal((25, 6)).astype(np.float32)
    assert model.buffers() == {}
    helpers.same_bits(model.forward(x), model.forward(x, training=False))
    helpers.same_bits(model.predict(x), model.forward(x))
    helpers.same_at_any_batch_size(model.predict(x[:1]), model.predict(x)[:1], device)
    # In training, sums of few rows may have another order.
    np.testing.assert_allclose(model.forward(x[:1]), model.forward(x)[:1], rtol=0, atol=1e-6)
