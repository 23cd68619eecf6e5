"""Promise: importances are how much worse a metric becomes when a column is permuted; for classes this is the log
loss, which sees a rare class too; the figure says which column matters most, or that none does."""

from __future__ import annotations

import dataclasses
from typing import Any

import helpers
import numpy as np
import pandas as pd
import pytest
from gdcore.tables import TabularModel

N = 150
RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "age": np.where(RNG.random(N) < 0.1, np.nan, RNG.uniform(20, 60, N)),
        "children": RNG.integers(0, 4, N),
        "city": RNG.choice(["Rome", "Oslo", "Lima", None], N),
        "level": pd.Categorical(RNG.choice(["low", "high"], N)),
    }
)
WORTH = FRAME["age"].fillna(50) / 10 + FRAME["children"] * (FRAME["city"] == "Rome") + 0.1 * RNG.standard_normal(N)
KIND = np.where(WORTH.median() < WORTH, "dear", "cheap")


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 2, "progress": False, "device": "cpu"} | options)


def test_importances(tmp_path: Any) -> None:
    fitted = model().fit(FRAME, KIND)
    found = fitted.importances(FRAME, KIND, repeats=4)
    assert found.values.shape == (4, 4) and found.metric == "log_loss"
    assert found.baseline == fitted.evaluate(FRAME, KIND, metrics=["log_loss"])["log_loss"]
    order = found.table()["column"]
    assert order[0] == "age" and found.mean[0] > 0.1 > abs(found.mean[3])
    shuffled = FRAME.copy()
    shuffled["age"] = FRAME["age"].to_numpy()[np.random.default_rng(0).permutation(N)]
    assert found.values[0, 0] == pytest.approx(fitted.evaluate(shuffled, KIND)["loss"] - found.baseline)
    right = fitted.importances(FRAME, KIND, metric="accuracy", repeats=1)
    assert right.baseline == fitted.score(FRAME, KIND) and "how much worse accuracy becomes" in str(right)
    assert right.values[0, 0] == pytest.approx(right.baseline - fitted.score(shuffled, KIND))
    assert np.array_equal(fitted.importances(FRAME, KIND, repeats=4).values, found.values)
    axes = found.plot(tmp_path / "importances.png", most=3)
    assert (tmp_path / "importances.png").stat().st_size > 5000
    assert [label.get_text() for label in axes.get_yticklabels()] == order[:3][::-1]
    assert axes.get_title(loc="left") == "'age' matters most"
    none = dataclasses.replace(found, values=np.zeros((4, 4)))
    assert none.plot(tmp_path / "none.png").get_title(loc="left").startswith("No column matters: ")
    for metric, kind, words in (
        ("aucc", ValueError, "^metric: got 'aucc'; did you mean 'auc'[?] Expected one of accuracy, .*k[)]$"),
        (sum, TypeError, "^metric: got .*; expected the name of a metric"),
    ):
        helpers.refuses(lambda m=metric: fitted.importances(FRAME, KIND, metric=m), kind, words)


def test_importances_of_a_rare_class() -> None:
    """No row is predicted as the rare class, so that the accuracy never changes."""
    rng = np.random.default_rng(1)
    frame = {"a": rng.standard_normal(400), "b": rng.standard_normal(400)}
    rare = rng.random(400) < 0.15 / (1 + np.exp(-2 * frame["a"]))
    made = model().fit(frame, rare)
    assert not made.predict(frame).any()
    found = made.importances(frame, rare)
    assert found.mean[0] > max(2 * found.std[0], abs(found.mean[1]))
    assert not made.importances(frame, rare, metric="accuracy").values.any()


def test_names_with_dollars_are_drawn_as_they_are(tmp_path: Any) -> None:
    """Between two dollars matplotlib expects a formula."""
    table = {"$x_{$": np.arange(20), "b": np.arange(20)[::-1]}
    axes = model("regression").fit(table, np.arange(20)).importances(table, np.arange(20)).plot(tmp_path / "a.svg")
    assert {label.get_text() for label in axes.get_yticklabels()} == {r"\$x_{\$", "b"}
