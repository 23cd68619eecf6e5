"""Promise: the metrics are scikit-learn's to 1e-12, weights included, and refuse what does not fit together."""

from __future__ import annotations

from typing import Any

import helpers
import numpy as np
import pytest
from gdcore import metrics

sk = pytest.importorskip("sklearn.metrics")
ROWS = pytest.mark.parametrize("rows", [2, 3, 31, 100, 1000])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True])


def weights_of(rng: Any, rows: int, weighted: bool) -> np.ndarray | None:
    return rng.uniform(0.1, 3, rows) if weighted else None


def equal(actual: float, expected: float) -> None:
    assert type(actual) is float
    assert abs(actual - expected) <= 1e-12 * max(1.0, abs(expected))


@WEIGHTED
@ROWS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accuracy(dtype: Any, rows: int, weighted: bool, rng: helpers.Generator) -> None:
    z, labels, w = (
        rng.standard_normal((rows, 7)).astype(dtype),
        rng.integers(0, 7, rows),
        weights_of(rng, rows, weighted),
    )
    expected = sk.accuracy_score(labels, z.argmax(1), sample_weight=w)
    equal(metrics.accuracy(z, labels, w), expected)
    equal(metrics.accuracy(z, labels[:, None], w), expected)
    equal(metrics.accuracy(z, np.eye(7)[labels], w), expected)
    equal(metrics.accuracy(z.argmax(1), labels, w), expected)
    binary = (labels > 3).astype(int)
    equal(metrics.accuracy(z[:, :1], binary, w), sk.accuracy_score(binary, z[:, 0] > 0, sample_weight=w))


@WEIGHTED
@ROWS
@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k(k: int, rows: int, weighted: bool, rng: helpers.Generator) -> None:
    z, labels, w = rng.standard_normal((rows, 7)), rng.integers(0, 7, rows), weights_of(rng, rows, weighted)
    metric = metrics.top_k(k)
    assert metric.__name__ == f"top_{k}"
    own = z[np.arange(rows), labels]
    hits = (z > own[:, None]).sum(1) < k
    equal(metric(z, labels, w), float(np.average(hits, weights=w)))
    if k == 1:
        equal(metric(z, labels, w), metrics.accuracy(z, labels, w))
    if k == 7:
        equal(metric(z, labels, w), 1.0)


@WEIGHTED
@ROWS
@pytest.mark.parametrize("outputs", [1, 3])
def test_regression(outputs: int, rows: int, weighted: bool, rng: helpers.Generator) -> None:
    p, t, w = (
        rng.standard_normal((rows, outputs)),
        rng.standard_normal((rows, outputs)),
        weights_of(rng, rows, weighted),
    )
    equal(metrics.r2(p, t, w), sk.r2_score(t, p, sample_weight=w))
    equal(metrics.mean_absolute_error(p, t, w), sk.mean_absolute_error(t, p, sample_weight=w))
    if outputs == 1:
        equal(metrics.r2(p, t[:, 0], w), sk.r2_score(t, p, sample_weight=w))


def test_r2_of_constant_targets() -> None:
    assert metrics.r2(np.ones(4), np.ones(4)) == 1.0
    assert metrics.r2(np.zeros(4), np.ones(4)) == 0.0
    assert metrics.r2(np.arange(4.0), np.arange(4.0)) == 1.0


def test_a_large_offset_does_not_spoil_r2(rng: helpers.Generator) -> None:
    t = (rng.standard_normal(10_000) + 1e4).astype(np.float32)
    p = t + np.float32(0.5) * rng.standard_normal(10_000).astype(np.float32)
    equal(metrics.r2(p, t), sk.r2_score(t.astype(float), p.astype(float)))


@pytest.mark.parametrize("name", ["accuracy", "r2", "mean_absolute_error", "binary_accuracy"])
def test_bad_input(name: str) -> None:
    metric = getattr(metrics, name)
    fine = np.zeros((4, 1))
    bad: list[tuple[tuple, str]] = [
        ((np.zeros((0, 1)), np.zeros((0, 1))), "predictions"),
        ((fine, np.zeros((5, 1))), "targets"),
        ((fine, fine, np.ones(3)), "weights"),
        ((fine, fine, np.ones((4, 1))), "weights"),
        ((fine, fine, -np.ones(4)), "weights"),
        ((fine, fine, np.zeros(4)), "weights"),
        ((fine, fine, np.array([1, np.nan, 1, 1])), "weights"),
    ]
    for arguments, word in bad:
        with pytest.raises(ValueError, match=word):
            metric(*arguments)
    for arguments, word in (((None, fine), "predictions"), ((fine, None), "targets"), ((fine, object()), "targets")):
        with pytest.raises(TypeError, match=word):
            metric(*arguments)


def test_bad_top_k() -> None:
    for k, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(kind, match="k:"):
            metrics.top_k(k)  # type: ignore[arg-type]
    z = np.zeros((4, 3))
    with pytest.raises(ValueError, match="predictions"):
        metrics.top_k(4)(z, np.zeros(4, int))
    for labels in ([0, 1, 2, 3], [0, -1, 0, 0]):
        with pytest.raises(ValueError, match="targets"):
            metrics.top_k(2)(z, np.array(labels))
