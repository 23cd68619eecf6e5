"""Promise: batch norm follows the chapter (biased variance over the mini-batch, sqrt(variance + eps)), its statistics
are exact where possible, its running averages keep `decay` of the old value and average sigma or sigma squared."""

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
    """(out, mean, rstd, variance, pre) through guarded arrays."""
    out, pre = pool.empty(x.shape, x.dtype, aligned), pool.empty(x.shape, x.dtype, aligned)
    statistics = [pool.empty(x.shape[1], x.dtype, aligned) for _ in range(3)]
    guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, gamma, beta)]
    keep = pre if oracle.kind(activation) in oracle.SAVES_INPUT else None
    ops.batch_norm_forward(*guarded, activation, EPS, out, *statistics, keep, device=device)
    pool.check()
    return (out, *statistics, pre)


def data(rng: helpers.Generator, rows: int, width: int, dtype: Any) -> tuple[np.ndarray, ...]:
    x = (rng.standard_normal((rows, width)) * rng.uniform(0.5, 2, width) + rng.standard_normal(width)).astype(dtype)
    return x, rng.uniform(0.5, 2, width).astype(dtype), rng.standard_normal(width).astype(dtype)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.BATCH_SHAPES
def test_forward(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    for g, b in ((gamma, beta), (None, None)):
        out, mean, rstd, variance, _ = forward(pool, x, g, b, None, aligned, device)
        exact = oracle.normalize(x, g, b, EPS, 0)
        helpers.forward_close(mean, oracle.Sized(exact.mean.value[0], exact.mean.size[0]))
        helpers.forward_close(variance, oracle.Sized(exact.variance.value[0], exact.variance.size[0]))
        relative = (exact.variance.size / (exact.variance.value + EPS) + 1.0) * exact.rstd
        helpers.forward_close(rstd, oracle.Sized(exact.rstd[0], relative[0]))
        helpers.forward_close(out, oracle.Sized(exact.out.value, exact.out.size * (relative / exact.rstd)))


@helpers.ALIGNED
@helpers.DTYPES
@helpers.BATCH_SHAPES
def test_backward(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    _, mean, rstd, _, _ = forward(pool, x, gamma, beta, None, aligned, device)
    dout = rng.standard_normal(x.shape).astype(dtype)
    for scale in (gamma, None):
        outs = [pool.empty(shape, dtype, aligned) for shape in (x.shape, width, width)]
        if scale is None:
            outs[1:] = [None, None]
        guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, scale, mean, rstd)]
        ops.batch_norm_backward(*guarded, None, None, pool.mutable(dout, aligned=aligned), *outs, device=device)
        pool.check()
        g = oracle.gradient_before(None, None, dout)
        for actual, expected in zip(outs, oracle.normalize_backward(x, scale, mean, rstd, g, 0), strict=True):
            if actual is not None:
                helpers.gradient_close(actual, expected)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
@pytest.mark.parametrize(("rows", "width"), [(2, 1), (32, 17), (33, 64), (100, 129), (5, 257)])
def test_absorbed_activation(
    rows: int, width: int, activation: Any, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    x, gamma, beta = data(rng, rows, width, dtype)
    out, mean, rstd, _, pre = forward(pool, x, gamma, beta, activation, aligned, device)
    helpers.forward_close(out, oracle.through(activation, _doubled(x, gamma, beta)))
    saved = oracle.saved_for(activation, pre, out)
    dout = rng.standard_normal(x.shape).astype(dtype)
    outs = [pool.empty(shape, dtype, aligned) for shape in (x.shape, width, width)]
    guarded = [pool.copy(a, aligned=aligned) for a in (x, gamma, mean, rstd)]
    ops.batch_norm_backward(
        *guarded,
        activation,
        pool.copy(saved, aligned=aligned),
        pool.mutable(dout, aligned=aligned),
        *outs,
        device=device,
    )
    pool.check()
    before = oracle.gradient_before(activation, saved, dout)
    for actual, expected in zip(outs, oracle.normalize_backward(x, gamma, mean, rstd, before, 0), strict=True):
        helpers.gradient_close(actual, expected)


def _doubled(x: Any, gamma: Any, beta: Any) -> oracle.Sized:
    """The normalised values; their size includes the rounding of rstd."""
    exact = oracle.normalize(x, gamma, beta, EPS, 0).out
    return oracle.Sized(exact.value, 2 * exact.size)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("activation", helpers.ABSORBED, ids=repr)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 1025), (33, 31), (100, 256), (2, 1600)])
def test_column_affine(
    rows: int, width: int, activation: Any, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    """The prediction form of batch norm: given statistics (sigma or sigma squared), an affine map of each column."""
    x, gamma, beta = data(rng, rows, width, dtype)
    mean, spread = rng.standard_normal(width).astype(dtype), rng.uniform(0.1, 3, width).astype(dtype)
    for kind in ("std", "variance"):
        variance = spread.astype(np.float64) ** (2 if kind == "std" else 1)
        for eps, m, g, b in ((EPS, mean, gamma, beta), (0.5, mean, None, None), (0.0, None, None, None)):
            out = pool.empty(x.shape, dtype, aligned)
            guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, m, spread, g, b)]
            ops.column_affine(*guarded, activation, out, kind=kind, eps=eps, device=device)
            pool.check()
            exact = oracle.column_affine(x, np.zeros(width) if m is None else m, 1 / np.sqrt(variance + eps), g, b)
            helpers.forward_close(out, oracle.through(activation, oracle.Sized(exact.value, 2 * exact.size)))


@helpers.DTYPES
@pytest.mark.parametrize("offset", [0.0, 1024.0, -65536.0])
@pytest.mark.parametrize("rows", [2, 4, 32, 64, 512])
def test_statistics_of_exactly_representable_inputs_are_exact(
    rows: int, offset: float, dtype: Any, pool: helpers.Pool, device: str
) -> None:
    """Half the rows at offset - d, half at offset + d: the mean is the offset, the variance d squared, to the bit."""
    d = np.array([1, 2, 3, 0.5, 7, 0, 16, 0.25, 100], dtype)
    sign = np.where(np.arange(rows) % 2 == 0, 1, -1).astype(dtype)[:, None]
    x = (offset + sign * d).astype(dtype)
    _, mean, rstd, variance, _ = forward(pool, x, None, None, None, True, device)
    helpers.same_bits(mean, np.full(9, offset, dtype))
    helpers.same_bits(variance, d * d)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(d.astype(np.float64) ** 2 + EPS), rtol=2e-7)


def test_a_constant_column_gives_beta(pool: helpers.Pool, device: str) -> None:
    x = np.tile(np.float32([3.3, -1e6, 0.1]), (37, 1))
    out, mean, _, variance, _ = forward(pool, x, np.ones(3, "f"), np.float32([1, 2, 3]), None, True, device)
    helpers.same_bits(mean, x[0])
    assert (variance == 0).all() and (out == [1, 2, 3]).all()


def network(running: str, dtype: str, device: str, decay: float = 0.9, affine: bool = True) -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(5, 7), gd.BatchNorm(7, decay, running=running, affine=affine), gd.Tanh(), gd.Dense(7, 2), seed=0,
        dtype=dtype, device=device,
    )  # fmt: skip


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("running", ["std", "variance"])
def test_running_averages(running: str, decay: float, affine: bool, device: str, rng: helpers.Generator) -> None:
    model = network(running, "float64", device, decay, affine)
    assert set(model.buffers()) == {"layers.1.running_mean", f"layers.1.running_{running}"}
    assert (np.array(model.buffers()["layers.1.running_mean"]) == 0).all()
    assert (np.array(model.buffers()[f"layers.1.running_{running}"]) == 1).all()
    reference = helpers.reference_of(model)
    for _ in range(20):
        x = rng.standard_normal((12, 5)) * 3 + 1
        np.testing.assert_allclose(model.forward(x), reference.forward(x), rtol=1e-12, atol=1e-13)
    for name, expected in reference.buffers.items():
        np.testing.assert_allclose(model.buffers()[name], expected, rtol=1e-12)
    x = rng.standard_normal((4, 5))
    np.testing.assert_allclose(model.predict(x), reference.forward(x, training=False), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(model.predict(x[:1]), reference.forward(x[:1], training=False), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("running", ["std", "variance"])
def test_prediction_and_evaluation_leave_the_averages_alone(running: str, device: str, rng: helpers.Generator) -> None:
    model = network(running, "float32", device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    x, y = rng.standard_normal((30, 5)).astype(np.float32), rng.standard_normal((30, 2)).astype(np.float32)
    before = helpers.snapshot(model)
    model.predict(x)
    model.forward(x, training=False)
    trainer.evaluate(x, y)
    helpers.same_bits(helpers.snapshot(model), before)
    trainer.step(x, y)
    assert (helpers.snapshot(model)["buffers"] != before["buffers"]).any()


def test_a_step_moves_the_averages_once(device: str, rng: helpers.Generator) -> None:
    model = network("std", "float64", device)
    reference = helpers.reference_of(model)
    x, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.0)).step(x, y)
    reference.forward(x)
    for name, expected in reference.buffers.items():
        np.testing.assert_allclose(model.buffers()[name], expected, rtol=1e-12)


@pytest.mark.parametrize("call", ["forward", "step"])
def test_one_training_row_is_a_clear_error(call: str, device: str) -> None:
    model = network("std", "float32", device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    before = helpers.snapshot(model)
    x = np.ones((1, 5), np.float32)
    with pytest.raises(ValueError, match=r"(?i)batch.?norm"):
        model.forward(x) if call == "forward" else trainer.step(x, np.ones((1, 2), np.float32))
    helpers.same_bits(helpers.snapshot(model), before)
    assert model.forward(x, training=False).shape == (1, 2)
