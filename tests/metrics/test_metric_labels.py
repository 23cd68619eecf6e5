"""Promise: metrics take labels of any type and find them equal as training does: numbers as Python compares them, text
as text, dates as points in time; the columns of a frame of predictions go by names that are also in the truth; a class
named as the positive one is meant, also in a trainer."""

from __future__ import annotations

import datetime
import math
from functools import partial
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import metrics

pd, pl, sk = (pytest.importorskip(name) for name in ("pandas", "polars", "sklearn.metrics"))


def equal(actual: float, expected: float) -> None:
    assert abs(actual - expected) < 1e-12


DAYS = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "M8[D]")
DATES = [day.item() for day in DAYS]
PLACES = [0, 2, 1, 2]
KINDS: dict[str, list[Any]] = {
    "dates": [
        *(DAYS[PLACES].astype(f"M8[{unit}]") for unit in ("D", "h", "s", "ms", "us", "ns")),
        np.array(DATES, object)[PLACES],
        [datetime.datetime(day.year, day.month, day.day) for day in np.array(DATES, object)[PLACES]],
        pd.Series(DAYS[PLACES].astype("M8[s]")),
        pd.Series(DAYS[PLACES].astype("M8[ns]")),
        [pd.Timestamp(day) for day in DAYS[PLACES]],
        pl.Series(DATES)[PLACES],
    ],
    "text": [
        np.array(["a", "b", "ü"])[PLACES],
        np.array(["a", "b", "ü"], object)[PLACES],
        np.array([text.encode() for text in "abü"])[PLACES],
        np.array(["a", "b", "ü"], np.dtypes.StringDType())[PLACES],
        pd.Series(["a", "b", "ü"])[PLACES],
        pl.Series(["a", "b", "ü"])[PLACES],
        pd.Categorical(np.array(["a", "b", "ü"])[PLACES]),
    ],
    "numbers": [np.array([3, 5, 4])[PLACES].astype(kind) for kind in ("i1", "u8", ">i4", "f2", "f8", "O")],
}
CLASSES: dict[str, list[Any]] = {
    "dates": [DATES, tuple(DAYS), DAYS, DAYS.astype("M8[ns]"), pd.DatetimeIndex(DAYS.astype("M8[s]"))],
    "text": [list("abü"), ("a", "b", "ü"), np.array(list("abü")), [text.encode() for text in "abü"]],
    "numbers": [[3, 5, 4], (3.0, 5.0, 4.0), np.array([3, 5, 4], np.int8)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_all_types_are_equal_as_in_training(kind: str) -> None:
    first = KINDS[kind][0]
    wrong = np.asarray(first)[[0, 0, 0, 1]]  # the last two are wrong, and one that was right
    for name in ("accuracy", "balanced_accuracy", "f1"):
        metric = getattr(metrics, name)
        expected = metric([0, 2, 1, 2], [0, 0, 0, 2], classes=range(3))
        plain = metric([0, 2, 1, 2], [0, 0, 0, 2])
        for labels in KINDS[kind]:
            if name == "accuracy":
                assert metric(labels, wrong) == metric(wrong, labels)
            equal(metric(labels, wrong), plain)
            for classes in CLASSES[kind]:
                equal(metric(labels, wrong, classes=classes), expected)
    probabilities = np.eye(3)[PLACES] * 0.7 + 0.1
    for labels in KINDS[kind]:
        for classes in CLASSES[kind]:
            equal(metrics.log_loss(labels, probabilities, classes=classes), -math.log(0.8))
            assert metrics.roc_auc(labels, probabilities, classes=classes) == 1.0
        for other in KINDS.keys() - {kind}:
            with pytest.raises(TypeError, match=r"^y_pred: got .*expected labels such as those of y_true"):
                metrics.accuracy(labels, KINDS[other][0])
            with pytest.raises(ValueError, match=r"^y_true: got the label .* in row 0; expected one of classes="):
                metrics.accuracy(labels, labels, classes=CLASSES[other][0])


def test_labels_that_are_nearly_equal_differ() -> None:
    moments = np.array(["2024-01-01T00:00:00.000000001", "2024-01-01T00:00:00"], "M8[ns]")
    assert metrics.accuracy(moments, moments[::-1]) == 0
    assert metrics.accuracy(moments, moments, classes=moments) == 1
    assert metrics.accuracy([0.5, 1.5], [0.5, 0.5], classes=[0.5, 1.5]) == 0.5
    for bad, match in ((["a", "a"], "differ"), ([1, True], "differ"), ([[1], [2]], "text, numbers or dates")):
        with pytest.raises((TypeError, ValueError), match=f"^classes: .*{match}"):
            metrics.accuracy(["a"], ["a"], classes=bad)
    for missing in ([None, "a"], np.array(["NaT", "2024-01-01"], "M8[D]")):
        with pytest.raises(ValueError, match=r"^y_true: got a missing value in row 0"):
            metrics.accuracy(missing, missing, classes=["a", DAYS[0]])


def test_columns_of_predictions_go_by_their_names() -> None:
    rng = np.random.default_rng(0)
    names, labels = ["low", "mid", "high"], rng.integers(0, 3, 20)
    p = rng.dirichlet(np.ones(3), 20)
    frame = pd.DataFrame(p, columns=names)
    text = np.array(names)[labels]
    for order in (names, names[::-1], ["mid", "low", "high"]):
        for made in (frame[order], pl.DataFrame(frame[order])):
            for metric in (metrics.log_loss, metrics.roc_auc, metrics.brier, metrics.top_k(2)):
                assert metric(text, made, classes=names) == metric(text, p, classes=names)
            truth = pd.DataFrame(np.round(p), columns=names)
            for metric in (metrics.r2, metrics.mean_squared_error, metrics.binary_accuracy, metrics.accuracy):
                pred = p if metric in (metrics.r2, metrics.mean_squared_error) else np.round(p[::-1])
                given = pd.DataFrame(pred, columns=names)[order]
                assert metric(truth, given) == metric(np.round(p), pred)
    truth = pd.DataFrame(p, columns=names)
    other = frame.add_suffix("_predicted")  # columns with other names are taken by position
    assert metrics.r2(truth, other) == 1.0 and metrics.log_loss(text, other, classes=names) > 0
    with pytest.raises(ValueError, match=r"^y_pred: lacks column 'mid' and has the unknown column 'x'"):
        metrics.r2(truth, frame.rename(columns={"mid": "x"}))


@pytest.mark.parametrize("labels", [["churned", "stays"], ["a", "churned", "stays"], [3, 7]])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_the_positive_class_may_be_named(name: str, labels: list[Any]) -> None:
    """In the truth's own words, also of more than two classes; as in scikit-learn."""
    model = gd.Sequential(gd.Dense(3, len(labels)), seed=0, classes=labels)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 3)), np.array(labels)[rng.integers(0, len(labels), 60)]
    own, theirs = getattr(metrics, name), getattr(sk, f"{name}_score")
    calls = {str(label): partial(own, positive=label) for label in labels}
    measured = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1), metrics=calls).evaluate(x, y)
    predicted = model.predict_classes(x)
    for label in labels:
        expected = theirs(y, predicted, labels=[label], average="macro")
        assert expected > 0 and measured[str(label)] == own(y, predicted, positive=label) == pytest.approx(expected)
        assert own(y, predicted, positive=label, classes=labels) == measured[str(label)]
    if len(labels) == 2:
        assert own(y, predicted) == measured[str(labels[1])] != measured[str(labels[0])]
    only = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1), metrics=[calls[str(labels[0])]])
    assert list(only.evaluate(x, y)) == ["loss", name]
    for given, words in (
        ({"positive": "gone"}, r"^positive: got 'gone'; expected one of the classes \["),
        ({"positive": labels[0], "average": "macro"}, "^average: got 'macro' with positive="),
    ):
        with pytest.raises(ValueError, match=words):
            own(y, predicted, **given)
    with pytest.raises(ValueError, match=r"^positive: got 1 for 2 yes/no answers a row"):
        own(np.eye(2), np.eye(2), positive=1)
