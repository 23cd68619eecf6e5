"""Promise: targets may be columns of the table, one or several, by name; as values they are never inputs too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import polars as pl
import pytest
from gdcore.tables import TabularModel

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

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


def test_several_targets_are_matched_by_name(tmp_path: Path) -> None:
    """Wherever they have names: lists, frames, Parquet; in evaluation, validation and files."""
    names, turned, inputs = ["low", "high"], ["high", "low"], BOTH[["size", "w"]]
    made = model("regression").fit(BOTH, names)
    frames = model("regression").fit(BOTH[["size", "w"]], BOTH[names])
    expected = made.evaluate(BOTH, names)
    made.save(tmp_path / "model.safetensors")
    pq.write_table(pa.Table.from_pandas(BOTH), tmp_path / "rows.parquet", row_group_size=10)
    rows = gd.data.Parquet(tmp_path / "rows.parquet", window=10)
    files = model("regression").fit(rows, names)
    assert made._target.names == frames._target.names == files._target.names == tuple(names)
    for each in (made, frames, gd.load(tmp_path / "model.safetensors")):
        assert each.evaluate(BOTH, turned) == each.evaluate(inputs, BOTH[turned]) == expected
        assert each.evaluate(inputs, pl.DataFrame(BOTH[turned])) == expected
        assert each.evaluate(rows, turned)["loss"] == pytest.approx(expected["loss"])
        with pytest.raises(ValueError, match=r"y: lacks column 'low' and has the unknown column 'w'"):
            each.evaluate(BOTH.drop(columns="low"), ["w", "high"])
    assert files.evaluate(rows, turned) == files.evaluate(rows, names)
    some = {"sample_weight": np.where(np.arange(N) < 5, 0.0, 1.0)}
    for validation in (names, turned):
        by_name = model("regression").fit(BOTH, names, **some, validation=(BOTH[:9], validation))
        held = model("regression").fit(BOTH, names, **some, validation=(inputs[:9], BOTH[:9][turned]))
        assert held.validation_metrics == by_name.validation_metrics
    assert made.evaluate(BOTH[:2], turned) == made.evaluate(BOTH[:2], BOTH[:2][names])
    with pytest.raises((TypeError, ValueError), match=r"^y: "):
        model("regression").fit(BOTH, set(names))
