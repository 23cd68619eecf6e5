"""Promise: targets may be columns of the table, one or several, by name; as values they are never inputs too."""

from __future__ import annotations

from typing import Any

import helpers
import numpy as np
import pandas as pd
import polars as pl
import pytest
from gdcore.tables import TabularModel

N = 40
SIZE = np.random.default_rng(0).standard_normal(N)


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 1, "progress": False, "device": "cpu"} | options)


BOTH = pd.DataFrame({"size": SIZE, "low": SIZE + 1, "high": SIZE * 2, "w": np.ones(N)})


@pytest.mark.parametrize("y", [BOTH["low"], BOTH[["low"]], BOTH[["w", "high"]], pl.DataFrame(BOTH[["low", "high"]])])
def test_targets_that_would_be_inputs_too(y: Any) -> None:
    with pytest.raises(ValueError, match=r"^y: got column .(low|w). of x, which would be an input too; .*y="):
        model("regression").fit(BOTH, y)


def test_missing_values_of_an_input_that_has_the_name_of_a_target() -> None:
    frame = pd.DataFrame({"size": SIZE, "low": pd.array([None, *range(N - 1)], "Int64")})
    assert model("regression").fit(frame, pd.Series(SIZE, name="low")).predict(frame).shape == (N,)
    with pytest.raises(ValueError, match="which would be an input too"):
        model("regression").fit(frame, frame[["low"]])


def test_several_targets_by_name() -> None:
    names = ["low", "high"]
    by_name = model("regression").fit(BOTH, names)
    given = model("regression").fit(BOTH.drop(columns=names), BOTH[names])
    assert [each.name for each in by_name._encoding.columns] == ["size", "w"]
    helpers.same_bits(by_name.predict(BOTH), given.predict(BOTH[["size", "w"]]))
    assert by_name.evaluate(BOTH, names) == given.evaluate(BOTH[["size", "w"]], BOTH[names])
    assert by_name.validation_metrics == given.validation_metrics
    assert given.evaluate(BOTH, names) == by_name.evaluate(BOTH, names)  # which ignores them as inputs
    assert model("regression").fit(BOTH, ["low"]).predict(BOTH).shape == (N,)
    for same in (np.array(names), pd.Index(names), tuple(names), pl.Series(names)):
        helpers.same_bits(model("regression").fit(BOTH, same).predict(BOTH), by_name.predict(BOTH))
    labelled = BOTH.assign(kind=np.where(SIZE > 0, "large", "small"))
    assert model().fit(labelled, ["kind"]).score(labelled, ["kind"]) > 0.5
    for argument in ("groups", "sample_weight", "time"):
        with pytest.raises(ValueError, match=f"^{argument}: got .*'w', 'high'.*; expected the name of one column"):
            model("regression").fit(BOTH, "low", **{argument: ["w", "high"]})
    with pytest.raises(ValueError, match=r"^y: got the name 'hgh'; expected columns of x; did you mean high"):
        model("regression").fit(BOTH, ["low", "hgh"])
    with pytest.raises(ValueError, match=r"^y: got column 'low' more than once"):
        model("regression").fit(BOTH, ["low", "low"])
