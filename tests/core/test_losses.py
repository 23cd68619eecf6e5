"""Promise: every loss and its gradient, with every option and with sample weights, is the weighted mean it says, stable
for logits of 1e4, within 3e-7 (5e-7) of its summed terms at every size."""

from __future__ import annotations

from itertools import product
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest

ops = gd._core.ops
CLASSES = (2, 3, 7, 10, 16, 17, 33, 100, 1000)


def compute(spec: Any, z: Any, targets: Any, weights: Any, pool: helpers.Pool, aligned: bool, device: str) -> tuple:
    grad = pool.empty(z.shape, z.dtype, aligned)
    guarded = [None if a is None else pool.copy(a, aligned=aligned) for a in (z, targets, weights)]
    loss_sum, weight_sum = ops.loss(spec, *guarded, grad, device=device)
    again = ops.loss(spec, *guarded, None, device=device)
    pool.check()
    assert again == (loss_sum, weight_sum)
    return loss_sum, weight_sum, grad


def agree(spec: Any, z: Any, targets: Any, weights: Any, pool: helpers.Pool, aligned: bool, device: str) -> None:
    loss_sum, weight_sum, grad = compute(spec, z, targets, weights, pool, aligned, device)
    exact = oracle.loss(spec, z, targets, weights)
    helpers.within(z.dtype.type(loss_sum), exact.loss_sum, helpers.FORWARD[z.dtype])
    assert abs(weight_sum - exact.weight_sum) <= helpers.FORWARD[z.dtype] * exact.weight_sum
    helpers.gradient_close(grad, exact.grad)


def options(rng: helpers.Generator, classes: int) -> list[tuple[Any, bool]]:
    """(loss, soft targets?) with and without class weights and smoothing."""
    omega = list(rng.uniform(0.1, 5, classes))
    return [
        (gd.CrossEntropy(class_weights=w, label_smoothing=e), soft)
        for w in (None, omega)
        for e in (0.0, 0.1)
        for soft in (False, True)
    ]


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_mean_squared_error(
    rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z, t = rng.standard_normal((2, rows, width)).astype(dtype)
    for weights in (None, rng.uniform(0, 3, rows).astype(dtype)):
        agree(gd.MeanSquaredError(), z, t, weights, pool, aligned, device)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_binary_cross_entropy(
    rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z = (4 * rng.standard_normal((rows, width))).astype(dtype)
    targets, positives = (rng.random(z.shape), rng.integers(0, 2, z.shape)), (None, list(rng.uniform(0.2, 3, width)))
    every = [*product(targets, (None, rng.uniform(0, 3, rows).astype(dtype)), positives)]
    for t, weights, positive in helpers.a_quarter(every, rows, width):
        agree(gd.BinaryCrossEntropy(pos_weight=positive), z, t.astype(dtype), weights, pool, aligned, device)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize("classes", helpers.WIDTHS[1:])
def test_cross_entropy(
    classes: int, rows: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z = (4 * rng.standard_normal((rows, classes))).astype(dtype)
    hard = rng.integers(0, classes, rows).astype(np.int32)
    soft = rng.dirichlet(np.ones(classes), rows).astype(dtype)
    specs, each = options(rng, classes), (None, rng.uniform(0.1, 3, rows).astype(dtype))
    for (spec, is_soft), weights in helpers.a_quarter([*product(specs, each)], rows, classes):
        agree(spec, z, soft if is_soft else hard, weights, pool, aligned, device)


def elementwise(rng: helpers.Generator, width: int, t: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """Losses of single elements, with targets like t."""
    cases: list[tuple[Any, np.ndarray]] = [
        (gd.Huber(), t),
        (gd.Huber(0.3), t),
        (gd.MeanAbsoluteError(), t),
        (gd.Poisson(), rng.poisson(3.0, t.shape).astype(t.dtype)),
    ]
    for count in (1, 2, 3, 5, width):
        if width % count == 0:
            levels = rng.permutation(np.linspace(0.01, 0.99, count)).tolist()
            cases.append((gd.Quantile(levels), np.ascontiguousarray(t[:, : width // count])))
    return cases


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_losses_of_numbers(
    rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z, t = rng.standard_normal((2, rows, width)).astype(dtype)
    t[::3, 0] = z[::3, 0]  # errors of 0
    each = (None, rng.uniform(0, 3, rows).astype(dtype))
    for (spec, targets), weights in helpers.a_quarter([*product(elementwise(rng, width, t), each)], rows, width):
        agree(spec, z, targets, weights, pool, aligned, device)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_answers_with_class_weights_and_focus(
    rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z = (4 * rng.standard_normal((rows, width))).astype(dtype)
    each = list(rng.uniform(0.2, 3, 2 * width))
    specs = [gd.BinaryCrossEntropy(class_weights=w, gamma=g) for w in ([0.5, 3.0], each) for g in (0.0, 2.0)]
    specs += [gd.BinaryCrossEntropy(gamma=0.5), gd.BinaryCrossEntropy(list(each[:width]), gamma=2.0)]
    targets = rng.random((rows, width)), rng.integers(0, 2, (rows, width))
    every = [*product(targets, (None, rng.uniform(0.1, 3, rows).astype(dtype)), specs)]
    for t, weights, spec in helpers.a_quarter(every, rows, width):
        agree(spec, z, t.astype(dtype), weights, pool, aligned, device)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize("classes", helpers.WIDTHS[1:])
def test_focal_loss(
    classes: int, rows: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any
) -> None:
    z = (4 * rng.standard_normal((rows, classes))).astype(dtype)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    omegas, each = (None, list(rng.uniform(0.1, 5, classes))), (None, rng.uniform(0.1, 3, rows).astype(dtype))
    for gamma, omega, weights in helpers.a_quarter([*product((0.5, 1.0, 2.0, 5.0), omegas, each)], rows, classes):
        agree(gd.CrossEntropy(omega, gamma=gamma), z, labels, weights, pool, aligned, device)


@helpers.DTYPES
def test_focal_loss_of_sure_predictions(dtype: Any, pool: helpers.Pool, device: str) -> None:
    """Right ones lose nothing, wrong ones as in cross-entropy; nothing is NaN, whatever gamma."""
    z = np.array([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0], [60.0, 0.0]], dtype)
    labels = np.zeros(4, np.int32)
    answers = np.array([[1, 0], [1, 0], [1, 0], [1, 0]], dtype)
    for gamma in (0.1, 1.0, 2.0, 50.0, 1e6):
        for spec, targets in ((gd.CrossEntropy(gamma=gamma), labels), (gd.BinaryCrossEntropy(gamma=gamma), answers)):
            loss_sum, _, grad = compute(spec, z, targets, None, pool, True, device)
            assert np.isfinite(grad).all()
            assert (grad[0] == 0).all() and (np.abs(grad[1]) == 0.25).all()
            wrong = 2e4 + np.log(2) * 0.5**gamma * (1 if targets is labels else 3)
            assert loss_sum == pytest.approx(wrong, abs=1e-3)


@helpers.DTYPES
def test_losses_of_numbers_at_the_extremes(dtype: Any, pool: helpers.Pool, device: str) -> None:
    z = np.array([[1e15, -1e15, 0.0, 1e-30]], dtype)
    t = np.zeros_like(z)
    for spec, sums in ((gd.Huber(2.0), 4e15 / 4), (gd.MeanAbsoluteError(), 2e15 / 4), (gd.Quantile(0.75), 1e15 / 4)):
        loss_sum, _, grad = compute(spec, z, t, None, pool, True, device)
        assert loss_sum == pytest.approx(sums) and np.isfinite(grad).all() and grad[0, 2] == 0
    z = np.array([[-1e4, -88.0, 80.0]], dtype)
    agree(gd.Poisson(), z, np.array([[0.0, 1e5, 3e34]], dtype), None, pool, True, device)
    z, t = np.array([[1e4], [0.0]], dtype), np.ones((2, 1), dtype)
    loss_sum, _, grad = compute(gd.Poisson(), z, t, None, pool, True, device)
    assert loss_sum == np.inf and grad[0, 0] >= np.finfo(dtype).max / 2
    # A row of weight 0 counts as absent.
    loss_sum, _, grad = compute(gd.Poisson(), z, t, np.array([0.0, 1.0], dtype), pool, True, device)
    assert loss_sum == 1.0 and (grad == 0).all()


@helpers.DTYPES
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 30.0, 1e2, 1e3, 1e4])
def test_large_and_small_logits(scale: float, dtype: Any, pool: helpers.Pool, device: str, rng: Any) -> None:
    z = (scale * rng.choice([-1.0, 1.0, -0.5, 0.25, 0.0], (64, 10))).astype(dtype)
    hard = rng.integers(0, 10, 64).astype(np.int32)
    for spec, soft in options(rng, 10):
        targets = np.eye(10, dtype=dtype)[hard] if soft else hard
        agree(spec, z, targets, None, pool, True, device)
    for positive in (None, [3.0] * 10):
        agree(gd.BinaryCrossEntropy(positive), z, rng.random((64, 10)).astype(dtype), None, pool, True, device)
    agree(gd.MeanSquaredError(), z, rng.random((64, 10)).astype(dtype), None, pool, True, device)


@helpers.DTYPES
def test_sure_and_right_or_sure_and_wrong_at_1e4(dtype: Any, pool: helpers.Pool, device: str) -> None:
    z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    labels = np.array([0, 0], np.int32)
    loss_sum, weight_sum, grad = compute(gd.CrossEntropy(), z, labels, None, pool, True, device)
    assert (loss_sum, weight_sum) == (2e4, 2.0)
    helpers.same_bits(np.abs(grad), np.array([[0, 0], [0.5, 0.5]], dtype))
    loss_sum, _, grad = compute(gd.BinaryCrossEntropy(), z, np.array([[1, 0], [1, 0]], dtype), None, pool, True, device)
    assert loss_sum == 2e4
    helpers.same_bits(np.abs(grad), np.array([[0, 0], [0.5, 0.5]], dtype))


@helpers.DTYPES
def test_weights_of_zero(dtype: Any, pool: helpers.Pool, device: str, rng: Any) -> None:
    """Weights that are all 0 give loss 0 and gradient 0; a row of weight 0 counts as absent."""
    z, t = rng.standard_normal((2, 9, 4)).astype(dtype)
    cases = [(gd.MeanSquaredError(), t), (gd.BinaryCrossEntropy(), (t > 0).astype(dtype))]
    cases += [(gd.CrossEntropy(), rng.integers(0, 4, 9).astype(np.int32))]
    cases += [(gd.CrossEntropy(gamma=2.0), rng.integers(0, 4, 9).astype(np.int32))]
    cases += [(gd.BinaryCrossEntropy(class_weights=[1.0, 2.0], gamma=2.0), (t > 0).astype(dtype))]
    cases += elementwise(rng, 4, t)
    for spec, targets in cases:
        loss_sum, weight_sum, grad = compute(spec, z, targets, np.zeros(9, dtype), pool, True, device)
        assert (loss_sum, weight_sum) == (0, 0) and (grad == 0).all()
        weights = np.ones(9, dtype)
        weights[4:] = 0
        some = compute(spec, z, targets, weights, pool, True, device)
        few = compute(spec, z[:4].copy(), targets[:4].copy(), None, pool, True, device)
        np.testing.assert_allclose(some[0], few[0], rtol=1e-6)
        assert some[1] == few[1] and (some[2][4:] == 0).all()
        np.testing.assert_allclose(some[2][:4], few[2], rtol=1e-6)


def test_zero_class_weights_give_no_loss(pool: helpers.Pool, device: str) -> None:
    spec = gd.CrossEntropy(class_weights=[0.0, 1.0])
    z = np.ones((3, 2), np.float32)
    loss_sum, weight_sum, grad = compute(spec, z, np.zeros(3, np.int32), None, pool, True, device)
    assert (loss_sum, weight_sum) == (0, 0) and (grad == 0).all()


def test_integer_weights_are_repeated_rows(pool: helpers.Pool, device: str, rng: Any) -> None:
    z = rng.standard_normal((5, 3))
    counts = np.array([1, 3, 2, 0, 4])
    repeated = np.repeat(np.arange(5), counts)
    labels = rng.integers(0, 3, 5).astype(np.int32)
    omega = [0.5, 1.0, 4.0]
    for spec, targets in (
        (gd.MeanSquaredError(), rng.standard_normal((5, 3))),
        (gd.BinaryCrossEntropy([2.0, 1.0, 0.5]), rng.random((5, 3))),
        (gd.CrossEntropy(omega, 0.2), labels),
        (gd.CrossEntropy(omega), rng.dirichlet(np.ones(3), 5)),
    ):
        weighted = compute(spec, z, targets, counts.astype(np.float64), pool, True, device)
        plain = compute(spec, z[repeated], targets[repeated], None, pool, True, device)
        np.testing.assert_allclose(weighted[:2], plain[:2], rtol=1e-13)
        np.testing.assert_allclose(np.repeat(weighted[2], counts, 0), plain[2] * counts[repeated, None], rtol=1e-12)


def test_one_positive_weight_is_for_every_output(pool: helpers.Pool, device: str, rng: Any) -> None:
    z, t = rng.standard_normal((9, 4)), rng.random((9, 4))
    one = compute(gd.BinaryCrossEntropy(3.0), z, t, None, pool, True, device)
    each = compute(gd.BinaryCrossEntropy([3.0] * 4), z, t, None, pool, True, device)
    assert one[:2] == each[:2]
    helpers.same_bits(one[2], each[2])


def test_hard_labels_are_one_hot_soft_targets(pool: helpers.Pool, device: str, rng: Any) -> None:
    z, labels = rng.standard_normal((20, 6)), rng.integers(0, 6, 20).astype(np.int32)
    for spec, _ in options(rng, 6):
        hard = compute(spec, z, labels, None, pool, True, device)
        soft = compute(spec, z, np.eye(6)[labels], None, pool, True, device)
        np.testing.assert_allclose(hard[:2], soft[:2], rtol=1e-13)
        np.testing.assert_allclose(hard[2], soft[2], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_by_finite_differences(weighted: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    """The full gradient of loss_sum / weight_sum, to 1e-6, for every loss and option."""
    rows, k = 5, 4
    z = rng.standard_normal((rows, k))
    weights = rng.uniform(0.5, 2, rows) if weighted else None
    labels, soft = rng.integers(0, k, rows).astype(np.int32), rng.dirichlet(np.ones(k), rows)
    cases: list = [(spec, soft if is_soft else labels) for spec, is_soft in options(rng, k)]
    cases += [
        (gd.MeanSquaredError(), soft),
        (gd.BinaryCrossEntropy(), soft),
        (gd.BinaryCrossEntropy([3.0, 1.0, 0.0, 2.0]), soft),
        (gd.BinaryCrossEntropy(class_weights=[3.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.5, 0.0], gamma=2.0), soft),
        (gd.CrossEntropy([3.0, 1.0, 0.5, 2.0], gamma=1.5), labels),
        *elementwise(rng, k, soft),
    ]
    for spec, targets in cases:
        _, weight_sum, grad = compute(spec, z, targets, weights, pool, True, device)
        h = 1e-5
        for i in np.ndindex(rows, k):
            ends = []
            for sign in (h, -h):
                moved = z.copy()
                moved[i] += sign
                ends.append(ops.loss(spec, moved, targets, weights, None, device=device)[0])
            slope = (ends[0] - ends[1]) / (2 * h) / weight_sum
            assert abs(slope - grad[i]) <= 1e-6 * np.abs(grad).max(), (spec, i)


@helpers.DTYPES
def test_the_largest_arguments(dtype: Any, pool: helpers.Pool, device: str, rng: Any) -> None:
    """Focal loss with γ = 10⁶ counts labels of a probability near 10⁻⁶; a factor of 10¹² still has squares."""
    z = rng.uniform(-16, 0, (64, 5)).astype(dtype)
    z[:, 0] = 2
    answers = rng.integers(0, 2, z.shape).astype(dtype)
    for spec, targets in (
        (gd.CrossEntropy(gamma=1e6), rng.integers(0, 5, 64).astype(np.int32)),
        (gd.BinaryCrossEntropy(gamma=1e6), answers),
        (gd.BinaryCrossEntropy(1e12), answers),
    ):
        loss_sum, _, grad = compute(spec, z, targets, None, pool, True, device)
        exact = oracle.loss(spec, z, targets, None)
        near = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-9}[z.dtype]
        assert loss_sum == pytest.approx(exact.loss_sum.value, rel=near) and loss_sum > 0
        np.testing.assert_allclose(grad, exact.grad.value, rtol=near, atol=near * np.abs(exact.grad.value).max())
