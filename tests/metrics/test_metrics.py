"""Promise: the metrics are scikit-learn's to 1e-12 (1e-6 where it adds in float32), with weights, ties and missing
classes, and refuse what does not fit together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import helpers
import numpy as np
import pytest
from gdcore import metrics

sk = pytest.importorskip("sklearn.metrics")
ROWS = pytest.mark.parametrize("rows", [2, 31, 300])
WEIGHTED = pytest.mark.parametrize("weights", ["none", "some", "zeros"])


def weights_of(rng: Any, rows: int, weights: str) -> np.ndarray | None:
    if weights == "none":
        return None
    given = rng.uniform(0.1, 3, rows)
    return given if weights == "some" else np.where(np.arange(rows) % 3 == 1, 0.0, given)


def equal(actual: float, expected: float, tolerance: float = 1e-12) -> None:
    assert type(actual) is float
    assert math.isnan(actual) == math.isnan(expected)
    assert math.isnan(actual) or abs(actual - expected) <= tolerance * max(1.0, abs(expected))


def same(ours: Callable[[], float], theirs: Callable[[], Any], tolerance: float = 1e-12) -> None:
    """Compare the values and the warnings of undefined values."""
    warned = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = ours()
        warned.append([w for w in caught if "undefined" in str(w.message)] != [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = float(theirs())
        undefined = sk._classification.UndefinedMetricWarning
        warned.append(any(issubclass(w.category, undefined) or "No positive class" in str(w.message) for w in caught))
    equal(value, expected, tolerance)
    assert warned[0] == warned[1]


LABELS: dict[str, tuple[Any, Any]] = {
    "accuracy": (metrics.accuracy, sk.accuracy_score),
    "balanced_accuracy": (metrics.balanced_accuracy, sk.balanced_accuracy_score),
}
for _average in ("macro", "micro", "weighted"):
    for _name in ("precision", "recall", "f1"):
        LABELS[f"{_name}_{_average}"] = (
            partial(getattr(metrics, _name), average=_average),
            partial(getattr(sk, f"{_name}_score"), average=_average),
        )


@WEIGHTED
@ROWS
@pytest.mark.parametrize("names", [range(5), "abcde", [1.0, 2.0, 3.0, 10.0, 20.0]])
@pytest.mark.parametrize("name", LABELS)
def test_labels(name: str, names: Any, rows: int, weights: str, rng: helpers.Generator) -> None:
    ours, theirs = LABELS[name]
    w = weights_of(rng, rows, weights)
    true = np.array(list(names))[rng.integers(0, 4, rows)]  # the last class is missing
    pred = np.where(rng.random(rows) < 0.6, true, np.array(list(names))[rng.integers(0, 5, rows)])
    same(lambda: ours(true, pred, sample_weight=w), lambda: theirs(true, pred, sample_weight=w))
    same(
        lambda: ours(true[:, None], pred.tolist(), sample_weight=w, classes=list(names)),
        lambda: theirs(true, pred, sample_weight=w),
    )


@WEIGHTED
@ROWS
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["precision", "recall", "f1", "accuracy", "balanced_accuracy"])
def test_two_classes(name: str, share: float, rows: int, weights: str, rng: helpers.Generator) -> None:
    """The second class is the positive one, and may be missing."""
    w, theirs = weights_of(rng, rows, weights), getattr(sk, f"{name}_score")
    true, pred = (rng.random(rows) < share).astype(int), (rng.random(rows) < share).astype(int)
    same(lambda: getattr(metrics, name)(true, pred, sample_weight=w), lambda: theirs(true, pred, sample_weight=w))
    text = np.array(["no", "yes"])
    equal(
        quiet(getattr(metrics, name))(text[true], text[pred], sample_weight=w, classes=["no", "yes"]),
        quiet(getattr(metrics, name))(true, pred, sample_weight=w),
    )


def quiet(function: Callable[..., float]) -> Callable[..., float]:
    def call(*arguments: Any, **options: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments, **options)

    return call


@WEIGHTED
@ROWS
@pytest.mark.parametrize("name", ["precision", "recall", "f1", "accuracy"])
def test_several_answers(name: str, rows: int, weights: str, rng: helpers.Generator) -> None:
    w, theirs = weights_of(rng, rows, weights), getattr(sk, f"{name}_score")
    true, pred = rng.random((rows, 4)) < 0.3, rng.random((rows, 4)) < 0.3
    options = {} if name == "accuracy" else {"average": "macro"}
    same(
        lambda: getattr(metrics, name)(true, pred.astype(int), sample_weight=w),
        lambda: theirs(true, pred, sample_weight=w, **options),
    )
    equal(metrics.binary_accuracy(true, pred, sample_weight=w), 1 - sk.hamming_loss(true, pred, sample_weight=w))


def probabilities_of(rng: Any, rows: int, columns: int, ties: bool, dtype: Any) -> np.ndarray:
    z = rng.standard_normal((rows, columns))
    if ties:
        z = np.round(z * 2) / 2
    return (np.exp(z) / np.exp(z).sum(1)[:, None]).astype(dtype)


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def rounding(dtype: Any) -> float:
    return 1e-6 if dtype is np.float32 else 1e-12


TIES = pytest.mark.parametrize("ties", [False, True])


@DTYPES
@TIES
@WEIGHTED
@ROWS
def test_scores_of_two_classes(ties: bool, rows: int, weights: str, dtype: Any, rng: helpers.Generator) -> None:
    p, w = probabilities_of(rng, rows, 2, ties, dtype), weights_of(rng, rows, weights)
    true = rng.integers(0, 2, rows)
    for name, theirs in (
        ("roc_auc", sk.roc_auc_score),
        ("average_precision", sk.average_precision_score),
        ("log_loss", partial(sk.log_loss, labels=[0, 1])),
        ("brier", partial(sk.brier_score_loss, pos_label=1)),
    ):
        ours = partial(getattr(metrics, name), sample_weight=w)
        same(partial(ours, true, p[:, 1]), partial(theirs, true, p[:, 1], sample_weight=w), rounding(dtype))
        both = partial(ours, true, p) if name != "brier" else partial(ours, true, p.astype(np.float64))
        assert quiet(both)() == pytest.approx(quiet(ours)(true, p[:, 1]), rel=1e-5, nan_ok=True)


@DTYPES
@TIES
@WEIGHTED
@ROWS
@pytest.mark.parametrize("missing", [False, True])
def test_scores_of_classes(
    missing: bool, ties: bool, rows: int, weights: str, dtype: Any, rng: helpers.Generator
) -> None:
    p, w = probabilities_of(rng, rows, 4, ties, dtype), weights_of(rng, rows, weights)
    true = rng.integers(0, 3 if missing else 4, rows)
    hot = np.eye(4, dtype=int)[true]
    same(
        lambda: metrics.roc_auc(true, p, sample_weight=w),
        lambda: sk.roc_auc_score(hot, p, sample_weight=w, average="macro"),
    )
    same(
        lambda: metrics.average_precision(true, p, sample_weight=w),
        lambda: sk.average_precision_score(hot, p, sample_weight=w),
    )
    every = list(range(4))
    for ours, theirs in ((metrics.log_loss, sk.log_loss), (metrics.brier, sk.brier_score_loss)):
        same(
            partial(ours, true, p, sample_weight=w),
            partial(theirs, true, p, labels=every, sample_weight=w),
            rounding(dtype),
        )
    for k in (1, 2, 3):
        same(
            partial(metrics.top_k(k), true, p, sample_weight=w),
            partial(sk.top_k_accuracy_score, true, p, k=k, labels=every, sample_weight=w),
        )
    equal(metrics.top_k(4)(true, p, sample_weight=w), 1.0)
    names = np.array(["d", "a", "c", "b"])  # in the order of the columns
    for ours in (metrics.log_loss, metrics.brier, metrics.top_k(2), quiet(metrics.roc_auc)):
        equal(ours(names[true], p, sample_weight=w, classes=names), ours(true, p, sample_weight=w))


def test_roc_auc_is_one_against_the_rest(rng: helpers.Generator) -> None:
    p, true = probabilities_of(rng, 200, 4, True, np.float64), rng.integers(0, 4, 200)
    equal(metrics.roc_auc(true, p), sk.roc_auc_score(true, p, multi_class="ovr"))


@TIES
@WEIGHTED
@ROWS
def test_scores_of_several_answers(ties: bool, rows: int, weights: str, rng: helpers.Generator) -> None:
    w, true = weights_of(rng, rows, weights), rng.random((rows, 3)) < 0.4
    p = rng.random((rows, 3))
    p = np.round(p, 1) if ties else p
    for name, theirs in (("roc_auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)):
        same(
            partial(getattr(metrics, name), true, p, sample_weight=w),
            partial(theirs, true, p, sample_weight=w, average="macro"),
        )
    for name, theirs in (("log_loss", sk.log_loss), ("brier", sk.brier_score_loss)):
        each = [theirs(true[:, i], p[:, i], labels=[0, 1], sample_weight=w) for i in range(3)]
        equal(getattr(metrics, name)(true, p, sample_weight=w), float(np.mean(each)))


@WEIGHTED
@ROWS
@DTYPES
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["r2", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"])
def test_numbers(name: str, outputs: int, dtype: Any, rows: int, weights: str, rng: helpers.Generator) -> None:
    p, t = rng.standard_normal((rows, outputs)), rng.standard_normal((rows, outputs)).astype(dtype)
    w = weights_of(rng, rows, weights)
    theirs = getattr(sk, "r2_score" if name == "r2" else name)
    expected = theirs(t.astype(float), p, sample_weight=w)
    equal(getattr(metrics, name)(t, p, sample_weight=w), expected)
    if outputs == 1:
        equal(getattr(metrics, name)(t[:, 0], p, sample_weight=w), expected)


def test_r2_of_constant_targets() -> None:
    assert metrics.r2(np.ones(4), np.ones(4)) == 1.0
    assert metrics.r2(np.ones(4), np.zeros(4)) == 0.0
    assert metrics.r2(np.arange(4.0), np.arange(4.0)) == 1.0
    with pytest.warns(UserWarning, match="r2: undefined"):
        assert math.isnan(metrics.r2([1.0], [2.0]))


def test_a_large_offset_does_not_spoil_r2(rng: helpers.Generator) -> None:
    t = (rng.standard_normal(10_000) + 1e4).astype(np.float32)
    p = t + np.float32(0.5) * rng.standard_normal(10_000).astype(np.float32)
    equal(metrics.r2(t, p), sk.r2_score(t.astype(float), p.astype(float)))


EVERY = [name for name in metrics.__all__ if name not in {"Call", "Metrics", "Predictions", "called_metrics"}]
PLAIN = [name for name in EVERY if name not in {"direction", "on_labels", "on_logits", "top_k"}]


@pytest.mark.parametrize("name", PLAIN)
def test_bad_input(name: str) -> None:
    metric = getattr(metrics, name)
    fine, some = np.array([0, 1, 0, 1]), np.array([0.0, 1, 1, 0])
    metric(fine, some)
    bad: list[tuple[tuple, dict, str]] = [
        ((np.zeros(0), np.zeros(0)), {}, "y_true"),
        ((fine[:3], some), {}, "y_pred"),
        ((np.zeros((4, 2)), np.zeros((4, 3))), {}, "y_pred"),
        ((np.zeros((4, 2, 2)), some), {}, "y_true"),
        ((fine, np.array([0.5, np.nan, 1, 1])), {}, "y_pred"),
        ((fine, some), {"sample_weight": np.ones(3)}, "sample_weight"),
        ((fine, some), {"sample_weight": np.ones((4, 2))}, "sample_weight"),
        ((fine, some), {"sample_weight": -np.ones(4)}, "sample_weight"),
        ((fine, some), {"sample_weight": np.zeros(4)}, "sample_weight"),
        ((fine, some), {"sample_weight": np.array([1, np.nan, 1, 1])}, "sample_weight"),
    ]
    for arguments, options, word in bad:
        with pytest.raises(ValueError, match=f"^{word}"):
            metric(*arguments, **options)
    for arguments, word in (((None, some), "y_true"), ((fine, None), "y_pred"), ((fine, object()), "y_pred")):
        with pytest.raises(TypeError, match=f"^{word}"):
            metric(*arguments)


def test_labels_are_no_probabilities() -> None:
    with pytest.raises(ValueError, match=r"^y_pred: .*labels"):
        metrics.accuracy([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(ValueError, match=r"^y_pred: got 0.9.*labels"):
        metrics.accuracy([0, 1], [0.9, 0.1])
    with pytest.raises(ValueError, match=r"^y_pred: .*probabilities"):
        metrics.log_loss([0, 1], [3.0, -2.0])
    with pytest.raises(ValueError, match=r"^y_pred: .*sum to 1"):
        metrics.log_loss([0, 1], [[0.5, 0.7], [0.1, 0.1]])
    with pytest.raises(ValueError, match=r"^y_true: got one-hot"):
        metrics.log_loss(np.eye(3), np.full((3, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"^y_true: got the label 3"):
        metrics.roc_auc([1, 2, 3], np.full((3, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"^y_true: got the label 'x'"):
        metrics.roc_auc(["a", "x"], [0.1, 0.9], classes=["a", "b"])
    with pytest.raises(TypeError, match=r"^y_pred"):
        metrics.accuracy(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match=r"^average"):
        metrics.f1([0, 1, 2], [0, 1, 2], average="binary")


def test_bad_top_k() -> None:
    for k, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(kind, match="k:"):
            metrics.top_k(k)  # type: ignore[arg-type]
    z = np.zeros((4, 3))
    with pytest.raises(ValueError, match="y_pred"):
        metrics.top_k(4)(np.zeros(4, int), z)
    for labels in ([0, 1, 2, 3], [0, -1, 0, 0]):
        with pytest.raises(ValueError, match="y_true"):
            metrics.top_k(2)(np.array(labels), z)


METRICS_OF_SCORES = {"roc_auc", "average_precision", "log_loss", "brier"}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-200, 2.0**-600, 2.0**1000, 1e200, 1e308])
def test_weights_of_any_scale(name: str, scale: float) -> None:
    true, weights = np.array([0, 1, 0, 1, 1, 0]), np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    answers = np.stack([true, [1, 1, 0, 0, 1, 0]], axis=1)
    for y, p in (
        (true, np.array([0, 1, 1, 0, 1, 0])),
        (np.arange(6) % 3, np.arange(6) % 3 if name not in METRICS_OF_SCORES else np.full((6, 3), 1 / 3)),
        (answers, answers[::-1].copy()),
    ):
        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            assert getattr(metrics, name)(y, p, sample_weight=weights * scale) == pytest.approx(
                getattr(metrics, name)(y, p, sample_weight=weights), nan_ok=True
            )


def test_labels_of_any_type() -> None:
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-01"], "datetime64[D]")
    for true, pred in (
        (["a", "b", "a"], np.array(["a", "b", "b"], object)),
        (days, days[[0, 1, 1]]),
        (np.array([1, 2, 1], object), [1.0, 2.0, 2.0]),
        (np.array([1, 2, 1], ">i4"), np.array([1, 2, 2], np.float16)),
    ):
        equal(metrics.accuracy(true, pred), 2 / 3)
        equal(metrics.balanced_accuracy(true, pred), 0.75)
