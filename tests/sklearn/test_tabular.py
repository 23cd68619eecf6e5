"""Promise: the estimators of tables take frames as they are, and pass all parameters and rows to `TabularModel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from gdcore.sklearn import TabularClassifier, TabularRegressor
from gdcore.tables import TabularModel
from sklearn.exceptions import NotFittedError

N = 120
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": np.where(RNG.random(N) < 0.1, np.nan, RNG.standard_normal(N)),
        "kind": RNG.choice(["a", "b", None], N),
        "day": pd.date_range("2020-01-01", periods=N),
        "flag": RNG.random(N) < 0.5,
    }
)
VALUE = FRAME["size"].fillna(0) + (FRAME["kind"] == "a")
LABELS = np.where(VALUE.median() < VALUE, "more", "less")
QUICK: dict[str, Any] = {"ensemble": 1, "random_state": 3, "device": "cpu"}


def test_frames_are_taken_as_they_are() -> None:
    fitted = TabularClassifier(**QUICK).fit(FRAME, LABELS)
    reference = TabularModel(ensemble=1, seed=3, device="cpu").fit(FRAME, LABELS)
    assert list(fitted.classes_) == ["less", "more"] and list(fitted.feature_names_in_) == list(FRAME.columns)
    assert fitted.n_features_in_ == 4 and fitted.score(FRAME, LABELS) > 0.8
    helpers.same_bits(fitted.predict_proba(FRAME), reference.predict_proba(FRAME))
    for frame in (pl.from_pandas(FRAME), pa.Table.from_pandas(FRAME)):
        again = TabularClassifier(**QUICK).fit(frame, LABELS)
        helpers.same_bits(again.predict_proba(frame), reference.predict_proba(FRAME))
    np.testing.assert_allclose(fitted.predict_log_proba(FRAME), np.log(reference.predict_proba(FRAME)))


def test_parameters_reach_the_model() -> None:
    rows, others = np.arange(80), np.arange(80, N)
    weights, groups = RNG.uniform(0.5, 2, N), np.repeat(np.arange(12), 10)
    reference: dict[str, Any] = {"ensemble": 2, "seed": 3, "device": "cpu"}
    for name, own, same in (
        ("validation_fraction", {"validation_fraction": 0.4}, {"validation": 0.4}),
        ("class_weight", {"class_weight": {"more": 3}}, {"class_weight": {"more": 3}}),
        ("loss", {"loss": gd.CrossEntropy(label_smoothing=0.3)}, {"loss": gd.CrossEntropy(label_smoothing=0.3)}),
        ("kinds", {"kinds": {"flag": "category"}}, {"kinds": {"flag": "category"}}),
    ):
        made = TabularClassifier(**QUICK | {"ensemble": 2} | own).fit(FRAME, LABELS)
        expected = TabularModel(**reference | same).fit(FRAME, LABELS).predict_proba(FRAME)
        assert np.array_equal(made.predict_proba(FRAME), expected), name
    model = TabularModel("regression", **reference)
    for own, same in (
        ({"sample_weight": weights}, {"sample_weight": weights}),
        ({"groups": groups}, {"groups": groups}),
        ({"time": FRAME["day"]}, {"time": FRAME["day"]}),
    ):
        made = TabularRegressor(**QUICK | {"ensemble": 2}).fit(FRAME, VALUE, **own)
        assert np.array_equal(made.predict(FRAME), model.fit(FRAME, VALUE, **same).predict(FRAME)), own
    held = (FRAME.iloc[others], VALUE[others])
    made = TabularRegressor(**QUICK | {"ensemble": 2}).fit(FRAME.iloc[rows], VALUE[rows], validation_data=held)
    model.fit(FRAME.iloc[rows], VALUE[rows], validation=held)
    assert np.array_equal(made.predict(FRAME), model.predict(FRAME))
    with pytest.raises(ValueError, match="ensemble: got 0"):
        TabularRegressor(ensemble=0).fit(FRAME, VALUE)


def test_random_states() -> None:
    for state in (None, np.random.RandomState(0)):
        made = TabularRegressor(**QUICK | {"random_state": state})
        first, second = (made.fit(FRAME, VALUE).predict(FRAME) for _ in range(2))
        assert not np.array_equal(first, second)


def test_several_numbers() -> None:
    y = np.column_stack([VALUE, -VALUE])
    made = TabularRegressor(**QUICK).fit(FRAME, y)
    assert made.predict(FRAME).shape == (N, 2) and made.score(FRAME, y) > 0.5


def test_importances(tmp_path: Path) -> None:
    made = TabularClassifier(**QUICK).fit(FRAME, LABELS)
    found = made.importances(FRAME, LABELS, metric="roc_auc", n_repeats=3, random_state=0)
    assert found.names == tuple(FRAME.columns) and found.values.shape == (4, 3)
    assert set(found.table()["column"][:2]) == {"size", "kind"}
    found.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(NotFittedError):
        TabularClassifier().importances(FRAME, LABELS)


def test_rows_as_lists_keep_the_types_of_their_values() -> None:
    rows = [[i / 7, "u" if i % 2 else None] for i in range(40)]
    y = [i % 2 for i in range(40)]
    made = TabularClassifier(ensemble=1, random_state=0, device="cpu").fit(rows, y)
    assert made.model_.columns()["kind"] == ["number", "category"] and made.model_.encode(rows)[0, -1] == 1
    assert np.array_equal(made.predict(rows), made.predict(pd.DataFrame(rows).to_numpy()))


def test_a_failed_fit_is_no_fit() -> None:
    made = TabularClassifier(ensemble=1)
    with pytest.raises(ValueError, match="one class"):
        made.fit([[1.0], [2.0]], ["a", "a"])
    with pytest.raises(NotFittedError):
        made.predict([[1.0]])


@pytest.mark.parametrize("gone", [None, np.nan])
@pytest.mark.parametrize("kind", [list, pd.Series])
def test_missing_classes_are_refused_by_row(kind: Any, gone: Any) -> None:
    with pytest.raises(ValueError, match=r"y: got missing values .* in 1 rows, the first in row 2"):
        TabularClassifier().fit(FRAME[:4], kind(["a", "b", gone, "a"]))
