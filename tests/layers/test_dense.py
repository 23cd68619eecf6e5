"""Promise: the dense product, with or without bias and an absorbed activation, forward and backward, stays within 3e-7
(gradients 5e-7) of the summed terms at every width, row count and alignment, and writes nothing but its outputs."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

ops = gd._core.ops


def data(rng: helpers.Generator, rows: int, width_in: int, width_out: int, dtype: Any) -> tuple[np.ndarray, ...]:
    x = rng.standard_normal((rows, width_in)).astype(dtype)
    weight = (rng.standard_normal((width_out, width_in)) / np.sqrt(width_in)).astype(dtype)
    return x, weight, rng.standard_normal(width_out).astype(dtype)


def forward(pool: helpers.Pool, x: Any, weight: Any, bias: Any, activation: Any, aligned: bool, device: str) -> tuple:
    shape = (len(x), len(weight))
    out, pre = pool.empty(shape, x.dtype, aligned), pool.empty(shape, x.dtype, aligned)
    keep = pre if oracle.kind(activation) in oracle.SAVES_INPUT else None
    guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (x, weight, bias)]
    ops.dense_forward(*guarded, activation, out, keep, device=device)
    pool.check()
    return out, pre


def gradients_close(actual: Any, expected: Any, device: str) -> None:
    """Gradients of inputs and weights, which are products, and of the bias, which gdcore sums itself."""
    dx, dweight, dbias = actual
    helpers.product_close(dx, expected[0], len(dweight), device, helpers.GRADIENT)
    helpers.product_close(dweight, expected[1], len(dx), device, helpers.GRADIENT)
    helpers.gradient_close(dbias, expected[2])


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("wide", ["in", "out"])
@helpers.SHAPES
def test_forward(
    rows: int, width: int, wide: str, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    width_in, width_out = (width, 33) if wide == "in" else (17, width)
    x, weight, bias = data(rng, rows, width_in, width_out, dtype)
    out, _ = forward(pool, x, weight, bias, None, aligned, device)
    helpers.product_close(out, oracle.dense(x, weight, bias), width_in, device)
    out, _ = forward(pool, x, weight, None, None, aligned, device)
    helpers.product_close(out, oracle.dense(x, weight), width_in, device)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("wide", ["in", "out"])
@helpers.SHAPES
def test_backward(
    rows: int, width: int, wide: str, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    width_in, width_out = (width, 33) if wide == "in" else (17, width)
    x, weight, bias = data(rng, rows, width_in, width_out, dtype)
    dout = rng.standard_normal((rows, width_out)).astype(dtype)
    outs = [pool.empty(a.shape, dtype, aligned) for a in (x, weight, bias)]
    g = pool.mutable(dout, aligned=aligned)
    ops.dense_backward(
        pool.copy(x, aligned=aligned), pool.copy(weight, aligned=aligned), None, None, g, *outs, device=device
    )
    pool.check()
    helpers.same_bits(g, dout)
    gradients_close(outs, oracle.dense_backward(x, weight, oracle.gradient_before(None, None, dout)), device)


@helpers.DTYPES
@pytest.mark.parametrize(("width_in", "width_out"), [(2, 1), (3, 17), (33, 5), (64, 30), (100, 65), (256, 130)])
def test_gradients_of_few_rows_are_those_with_rows_that_change_nothing(
    width_in: int, width_out: int, dtype: Any, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    """A batch of up to eight rows has a kernel of its own on the CPU; its sums have the same order."""
    if device != "cpu":
        pytest.skip("a GPU chooses the order of its sums by the shape")
    x, weight, _ = data(rng, 9, width_in, width_out, dtype)
    dout = rng.standard_normal((9, width_out)).astype(dtype)
    for rows in range(1, 9):
        g = np.where(np.arange(9)[:, None] < rows, dout, dtype(0))
        found = []
        for count in (rows, 9):
            dweight = pool.empty(weight.shape, dtype)
            ops.dense_backward(
                x[:count], weight, None, None, pool.mutable(g[:count]), None, dweight, None, device=device
            )
            pool.check()
            found.append(dweight.copy())
        expected = oracle.dense_backward(x, weight, oracle.gradient_before(None, None, g))
        helpers.gradient_close(found[0], expected[1])
        helpers.same_bits(*found)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (32, 17), (33, 64), (100, 129), (5, 257)])
def test_absorbed_activation(
    rows: int, width: int, activation: Any, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    x, weight, bias = data(rng, rows, 31, width, dtype)
    out, pre = forward(pool, x, weight, bias, activation, aligned, device)
    exact = oracle.dense(x, weight, bias)
    helpers.product_close(out, oracle.through(activation, exact), 31, device)
    saved = oracle.saved_for(activation, pre, out)
    if saved is pre:
        helpers.product_close(pre, exact, 31, device)
    dout = rng.standard_normal(out.shape).astype(dtype)
    g = pool.mutable(dout, aligned=aligned)
    outs = [pool.empty(a.shape, dtype, aligned) for a in (x, weight, bias)]
    guarded = [pool.copy(a, aligned=aligned) for a in (x, weight)]
    ops.dense_backward(*guarded, activation, pool.copy(saved, aligned=aligned), g, *outs, device=device)
    pool.check()
    before = oracle.gradient_before(activation, saved, dout)
    helpers.gradient_close(g, before)
    gradients_close(outs, oracle.dense_backward(x, weight, before), device)


@helpers.DTYPES
def test_absorbing_gives_the_bits_of_the_separate_operations(
    dtype: Any, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    x, weight, bias = data(rng, 37, 29, 43, dtype)
    plain, _ = forward(pool, x, weight, bias, None, True, device)
    for activation in helpers.ACTIVATIONS:
        out, _ = forward(pool, x, weight, bias, activation, True, device)
        separate = pool.empty(plain.shape, dtype)
        ops.activation_forward(activation, plain, separate, device=device)
        helpers.same_bits(out, separate)


@pytest.mark.parametrize("missing", range(3), ids=["no dx", "no dweight", "no dbias"])
def test_backward_computes_only_what_is_asked(
    missing: int, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    x, weight, bias = data(rng, 19, 23, 35, np.float64)
    dout = rng.standard_normal((19, 35))
    exact = oracle.dense_backward(x, weight, oracle.gradient_before(None, None, dout))
    outs: list = [pool.empty(a.shape, np.float64) for a in (x, weight, bias)]
    outs[missing] = None
    ops.dense_backward(pool.copy(x), pool.copy(weight), None, None, pool.mutable(dout), *outs, device=device)
    pool.check()
    for i in {0, 1, 2} - {missing}:
        helpers.gradient_close(outs[i], exact[i])


@given(
    rows=st.integers(1, 70),
    width_in=st.integers(1, 300),
    width_out=st.integers(1, 300),
    double=st.booleans(),
    aligned=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(rows: int, width_in: int, width_out: int, double: bool, aligned: bool, seed: int) -> None:
    pool, rng = helpers.Pool(), np.random.default_rng(seed)
    x, weight, bias = data(rng, rows, width_in, width_out, np.float64 if double else np.float32)
    out, _ = forward(pool, x, weight, bias, None, aligned, "cpu")
    helpers.forward_close(out, oracle.dense(x, weight, bias))


@pytest.mark.parametrize("width", [*helpers.WIDTHS, 1600])
def test_sums_of_positive_terms(width: int, pool: helpers.Pool, device: str, rng: helpers.Generator) -> None:
    """Nothing cancels, so rounding errors grow with the running sum: the hardest case for the bound."""
    x, weight, _ = (np.abs(a) for a in data(rng, 33, width, 40, np.float32))
    out, _ = forward(pool, x, weight, None, None, True, device)
    helpers.product_close(out, oracle.dense(x, weight), width, device)
    dout = np.abs(rng.standard_normal((33, 40))).astype(np.float32)
    outs = [pool.empty(shape) for shape in (x.shape, weight.shape, (40,))]
    ops.dense_backward(pool.copy(x), pool.copy(weight), None, None, pool.mutable(dout), *outs, device=device)
    gradients_close(outs, oracle.dense_backward(x, weight, oracle.gradient_before(None, None, dout)), device)


def test_small_integers_are_exact(pool: helpers.Pool, device: str, rng: helpers.Generator) -> None:
    x = rng.integers(-8, 9, (65, 130)).astype(np.float32)
    weight = rng.integers(-8, 9, (67, 130)).astype(np.float32)
    out, _ = forward(pool, x, weight, None, None, True, device)
    helpers.same_bits(out, (x.astype(np.int64) @ weight.astype(np.int64).T).astype(np.float32))


def test_nan_and_infinity_travel(pool: helpers.Pool, device: str) -> None:
    x = np.ones((33, 40), np.float32)
    x[7, 11], x[20, 0] = np.nan, np.inf
    out, _ = forward(pool, x, np.ones((5, 40), np.float32), None, None, True, device)
    assert np.isnan(out[7]).all() and np.isposinf(out[20]).all()
    assert (np.delete(out, [7, 20], 0) == 40).all()


def test_the_result_of_a_row_does_not_depend_on_the_other_rows(device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(gd.Dense(50, 40), gd.GELU(), gd.Dense(40, 3), seed=0, device=device)
    x = rng.standard_normal((70, 50)).astype(np.float32)
    whole = model.predict(x)
    alone = np.concatenate([model.predict(x[i : i + 1]) for i in range(70)])
    helpers.same_at_any_batch_size(alone, whole, device)


@helpers.DTYPES
@pytest.mark.parametrize("terms", ["equal", "random"])
@pytest.mark.parametrize("rows", [10_000, 100_000, 1_000_000])
def test_gradients_of_long_batches(
    rows: int, terms: str, dtype: Any, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    """For any number of rows: equal terms are the hardest case, because each addition rounds the same way."""
    if helpers.EMULATED and rows > 10_000:
        pytest.skip("takes minutes where each thread is emulated")
    for _ in range(max(1, 200_000 // rows)):
        x, dout = rng.uniform(0.5, 1.0, (2, rows, 2)).astype(dtype)
        if terms == "equal":
            x[:], dout[:] = x[0], dout[0]
        weight = np.ones((2, 2), dtype)
        outs = [pool.empty(shape, dtype) for shape in (weight.shape, (2,))]
        ops.dense_backward(pool.copy(x), pool.copy(weight), None, None, pool.mutable(dout), None, *outs, device=device)
        pool.check()
        terms_of_bias = dout.astype(np.longdouble)
        # cuBLASLt, and its replacement without a GPU, adds doubles one after the other.
        most = {np.dtype(np.float32): 5e-7, np.dtype(np.float64): 1e-13 if device == "cpu" else 1e-12}
        for actual, exact in zip(outs, (terms_of_bias.T @ x, terms_of_bias.sum(0)), strict=True):
            helpers.product_close(actual, oracle.Sized(exact, exact), rows, device, most)


@pytest.mark.parametrize("out", [1, 9, 40])
def test_long_rows(out: int, pool: helpers.Pool, device: str, rng: helpers.Generator) -> None:
    """Products over many inputs keep the forward bound, too; overflow stays infinite."""
    x, weight = rng.uniform(0.5, 1.0, (3, 70_001)), rng.uniform(0.5, 1.0, (out, 70_001))
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    got, _ = forward(pool, x, weight, None, None, True, device)
    helpers.product_close(got, oracle.dense(x, weight), 70_001, device)
    x[1] = 3e38
    got, _ = forward(pool, x, weight, None, None, True, device)
    assert np.isposinf(got[1]).all() and np.isfinite(got[[0, 2]]).all()
