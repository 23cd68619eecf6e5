"""Promise: work that is split over threads, in tiles and in blocks gives results within the same bounds as small work,
at every thread count, and the same bits each time at the same thread count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

ops = gd._core.ops
ROWS, WIDTH, OUT = 1501, 701, 333  # not divisible by a tile or a vector
FLOAT = np.float32


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = gd.get_num_threads()
    gd.set_num_threads(request.param)
    yield request.param
    gd.set_num_threads(before)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(FLOAT)


@pytest.fixture(scope="module")
def weight() -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((OUT, WIDTH)) / 30).astype(FLOAT)


def twice(call: Any) -> list[np.ndarray]:
    """Run an operation with new guarded outputs twice; the bits must agree."""
    first, second = call(), call()
    for a, b in zip(first, second, strict=True):
        helpers.same_bits(a, b)
    return first


def test_dense(threads: int, x: Any, weight: Any, pool: helpers.Pool, device: str) -> None:
    bias = weight[:, 0].copy()

    def forward() -> list[np.ndarray]:
        out = pool.empty((ROWS, OUT), aligned=False)
        ops.dense_forward(pool.copy(x), pool.copy(weight), pool.copy(bias), gd.Tanh(), out, None, device=device)
        return [out]

    (out,) = twice(forward)
    helpers.forward_close(out, oracle.through(gd.Tanh(), oracle.dense(x, weight, bias)))
    dout = np.random.default_rng(2).standard_normal((ROWS, OUT)).astype(FLOAT)

    def backward() -> list[np.ndarray]:
        outs = [pool.empty(shape, aligned=False) for shape in (x.shape, weight.shape, (OUT,))]
        g = pool.mutable(dout, aligned=False)
        ops.dense_backward(pool.copy(x), pool.copy(weight), gd.Tanh(), pool.copy(out), g, *outs, device=device)
        return outs

    exact = oracle.dense_backward(x, weight, oracle.gradient_before(gd.Tanh(), out, dout))
    for actual, expected in zip(twice(backward), exact, strict=True):
        helpers.gradient_close(actual, expected)
    pool.check()


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_norms(kind: str, threads: int, x: Any, pool: helpers.Pool, device: str) -> None:
    rng = np.random.default_rng(3)
    gamma, beta = rng.uniform(0.5, 2, WIDTH).astype(FLOAT), rng.standard_normal(WIDTH).astype(FLOAT)
    dout = rng.standard_normal(x.shape).astype(FLOAT)
    axis, length = (0, WIDTH) if kind == "batch" else (1, ROWS)
    forward, backward = getattr(ops, f"{kind}_norm_forward"), getattr(ops, f"{kind}_norm_backward")

    def both() -> list[np.ndarray]:
        outs = [pool.empty(x.shape), *(pool.empty(length) for _ in range(3 if kind == "batch" else 2))]
        forward(pool.copy(x), pool.copy(gamma), pool.copy(beta), None, 1e-5, *outs, None, device=device)
        grads = [pool.empty(x.shape), pool.empty(WIDTH), pool.empty(WIDTH)]
        statistics = pool.copy(outs[1]), pool.copy(outs[2])
        g = pool.mutable(dout)
        backward(pool.copy(x), pool.copy(gamma), *statistics, None, None, g, *grads, device=device)
        return [outs[0], outs[1], outs[2], *grads]

    out, mean, rstd, *grads = twice(both)
    exact = oracle.normalize(x, gamma, beta, 1e-5, axis)
    helpers.forward_close(out, oracle.Sized(exact.out.value, 2 * exact.out.size))
    helpers.forward_close(mean, oracle.Sized(exact.mean.value.ravel(), exact.mean.size.ravel()))
    expand = (lambda a: a) if kind == "batch" else (lambda a: a[:, None])
    g = oracle.gradient_before(None, None, dout)
    for actual, expected in zip(
        grads, oracle.normalize_backward(x, gamma, expand(mean), expand(rstd), g, axis), strict=True
    ):
        helpers.gradient_close(actual, expected)
    pool.check()


@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
def test_activations(activation: Any, threads: int, x: Any, pool: helpers.Pool, device: str) -> None:
    def both() -> list[np.ndarray]:
        out, dx = pool.empty(x.shape, aligned=False), pool.empty(x.shape, aligned=False)
        ops.activation_forward(activation, x, out, device=device)
        ops.activation_backward(activation, oracle.saved_for(activation, x, out), x, dx, device=device)
        return [out, dx]

    out, dx = twice(both)
    helpers.forward_close(out, oracle.activation(activation, x))
    helpers.gradient_close(dx, oracle.gradient_before(activation, oracle.saved_for(activation, x, out), x))
    pool.check()


def test_losses(threads: int, x: Any, pool: helpers.Pool, device: str) -> None:
    labels = (np.arange(ROWS) % WIDTH).astype(np.int32)
    weights = np.random.default_rng(4).uniform(0, 2, ROWS).astype(FLOAT)
    share = np.abs(x) / np.abs(x).max()
    cases = [(gd.CrossEntropy(), labels), (gd.MeanSquaredError(), share), (gd.BinaryCrossEntropy(), share)]
    for spec, targets in cases:

        def loss(spec: Any = spec, targets: Any = targets) -> list[np.ndarray]:
            grad = pool.empty(x.shape, aligned=False)
            sums = ops.loss(spec, x, targets, weights, grad, device=device)
            return [grad, np.array(sums)]

        grad, sums = twice(loss)
        exact = oracle.loss(spec, x, targets, weights)
        helpers.within(FLOAT(sums[0]), exact.loss_sum, 3e-7)
        assert abs(sums[1] / exact.weight_sum - 1) < 3e-7
        helpers.gradient_close(grad, exact.grad)
    pool.check()


def test_optimizer_and_sums(threads: int, pool: helpers.Pool, device: str) -> None:
    n = 3_000_017
    rng = np.random.default_rng(5)
    w, g = rng.standard_normal(n).astype(FLOAT), rng.standard_normal(n).astype(FLOAT)

    def step() -> list[np.ndarray]:
        moved, states = pool.mutable(w, aligned=False), [pool.mutable(np.zeros(n), FLOAT) for _ in range(2)]
        ops.optimizer_step(gd.Adam(0.1), moved, g, states, lr=0.1, step=1, weight_decay=0.0, device=device)
        return [moved, *states, np.array(ops.sum_of_squares(g, device=device))]

    moved, *_, squares = twice(step)
    expected, states = w.astype(np.float64), [np.zeros(n), np.zeros(n)]
    oracle.update(gd.Adam(0.1), expected, g.astype(np.float64), states, 0.1, 1, 0.0)
    helpers.within(moved, oracle.Sized(expected, np.abs(expected) + 0.4), 3e-7)
    assert abs(squares / (g.astype(np.float64) ** 2).sum() - 1) < 1e-12
    pool.check()


def test_gather_and_dropout(threads: int, x: Any, pool: helpers.Pool, device: str) -> None:
    order = gd._core.permutation(ROWS, 1, 2)

    def both() -> list[np.ndarray]:
        out, dropped = pool.empty(x.shape, np.float64), pool.empty(x.shape)
        gd._core.gather(x, order, out)
        ops.dropout(x, dropped, p=0.5, seed=1, stream=2, device=device)
        return [out, dropped]

    out, dropped = twice(both)
    helpers.same_bits(out, x[order].astype(np.float64))
    assert abs((dropped != 0).mean() - 0.5) < 5 / np.sqrt(x.size)
    pool.check()


def test_prediction_at_every_thread_count(threads: int, x: Any, device: str) -> None:
    model = gd.Sequential(gd.Dense(WIDTH, 260), gd.LayerNorm(260), gd.GELU(), gd.Dense(260, 5), seed=0, device=device)
    reference = helpers.reference_of(model)
    np.testing.assert_allclose(model.predict(x), reference.forward(x, training=False), rtol=1e-3, atol=1e-5)
    helpers.same_bits(model.predict(x, batch_size=97), model.predict(x))
