"""Promise: what models of tables cannot use of Parquet files is refused with file, row group, row and column; arguments
that do not fit are refused with what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pandas as pd
import pytest
from gdcore.tables import TabularModel

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N = 300
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": RNG.uniform(0, 9, N),
        "city": RNG.choice(["Rome", "Oslo"], N),
        "day": pd.date_range("2024-01-01", periods=N),
        "level": RNG.integers(0, 3, N),
        "weight": RNG.random(N),
        "price": RNG.uniform(0, 9, N),
        "kind": RNG.choice(["a", "b"], N),
        "one": ["same"] * N,
    }
)


def written(path: Path, frame: Any = FRAME, **columns: Any) -> gd.data.Parquet:
    """Return a frame with other columns as files, in windows of 60 rows."""
    given = frame.assign(**columns) if isinstance(frame, pd.DataFrame) else frame
    pq.write_table(pa.Table.from_pandas(given), path, row_group_size=100)
    return gd.data.Parquet(path, window=60)


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 1, "progress": False, "device": "cpu"} | options)


def changed(name: str, row: int, value: Any) -> dict[str, Any]:
    values = FRAME[name].astype(object).tolist()
    values[row] = value
    return {name: values}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, r"y: got None for Parquet; expected the name of a column, here or as Parquet\("),
        ({"y": FRAME["kind"]}, TypeError, "y: got .* beside Parquet; expected the name of a column"),
        ({"y": ["kind", 3]}, TypeError, "y: got .* beside Parquet"),
        ({"y": "class"}, ValueError, "y: got column 'class', which .*rows.parquet lacks"),
        ({"y": "kind", "sample_weight": np.ones(N)}, TypeError, "sample_weight: got .* beside Parquet"),
        ({"y": "kind", "sample_weight": "kind"}, ValueError, "sample_weight: got 'kind', which another argument has"),
        ({"y": "kind", "groups": ["city"]}, TypeError, "groups: got .* beside Parquet"),
        ({"y": "kind", "groups": "city", "time": "day"}, ValueError, "time: got times beside groups"),
        ({"y": "kind", "groups": "one"}, ValueError, "groups: got one group, 'same'"),
        ({"y": "kind", "time": "level", "validation": (FRAME, "kind")}, ValueError, "validation: got rows beside"),
        ({"y": "kind", "time": "city"}, TypeError, r"time: .*row group 0: got .*; expected dates or numbers"),
        ({"y": "kind", "validation": 3}, TypeError, "validation: got 3"),
        ({"y": "one"}, ValueError, "y: got one class, 'same'"),
        ({"y": "level"}, ValueError, "task: got None for whole numbers"),
        ({"y": ["price", "price"]}, ValueError, "y: got column 'price' more than once"),
        ({"y": ["price", "city"]}, TypeError, "y: .*rows.parquet has .*string in column 'city'"),
    ],
    ids=str,
)
def test_arguments(arguments: Any, error: Any, message: str, tmp_path: Path) -> None:
    data = written(tmp_path / "rows.parquet")
    made = model()
    with pytest.raises(error, match=message):
        made.fit(data, **arguments)
    assert not made.fitted


def test_arguments_that_differ_from_those_of_the_files(tmp_path: Path) -> None:
    written(tmp_path / "rows.parquet")
    data = gd.data.Parquet(tmp_path / "rows.parquet", y="kind", sample_weight="weight", window=60)
    for arguments, message in (
        ({"y": "one"}, "y: got 'one', but Parquet has y='kind'"),
        ({"sample_weight": "price"}, "sample_weight: got 'price', but Parquet has sample_weight='weight'"),
    ):
        with pytest.raises(ValueError, match=message):
            model().fit(data, **arguments)
    with pytest.raises(ValueError, match="kinds: got the column 'kind'"):
        model(kinds={"kind": "category"}).fit(data)
    assert model(validation=0.2, kinds={"level": "category"}).fit(data, "kind", sample_weight="weight").fitted


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (changed("size", 170, np.inf), r"x: .*row group 1, from its row 50 on: column 'size': got .*inf.* in row 20"),
        (changed("kind", 205, None), r"y: .*row group 2: got missing values .* the first in row 5"),
        (changed("weight", 101, -1.0), r"sample_weight: .*row group 1: got -1.0 in row 1"),
        (changed("weight", 101, None), r"sample_weight: .*row group 1: got nan in row 1"),
        (changed("city", 250, None) | {"city": [["list"]] * N}, "x: .*rows.parquet has list<.*in column 'city'"),
        ({"weight": np.zeros(N)}, r"x: got 0 samples of positive weight; expected at least two rows"),
    ],
    ids=["infinite", "target", "weight", "no weight", "lists", "weights"],
)
def test_values(columns: Any, message: str, tmp_path: Path) -> None:
    data = written(tmp_path / "rows.parquet", **columns)
    with pytest.raises((ValueError, TypeError), match=message):
        model().fit(data, "kind", sample_weight="weight")


def test_files_that_differ(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    written(tmp_path / "b.parquet", city=np.arange(N))
    for window in (60, 1000):
        with pytest.raises(TypeError, match=r"'city'|different types in a column"):
            model().fit(gd.data.Parquet(tmp_path / "*.parquet", window=window), "kind")


DAY = FRAME["day"].dt.tz_localize("UTC")
MIXED = {
    "zones": (
        FRAME["day"],
        DAY,
        r"timestamp\[\w+\] \(times without a time zone\), .*/b.* tz=UTC\] \(times with a time",
    ),
    "dates": (
        DAY,
        FRAME["day"].dt.date,
        r"timestamp.* tz=UTC\] \(times with a time zone\), .*date32\[day\] \(times without",
    ),
    "durations": (DAY - DAY[0], FRAME["level"], r"duration\[\w+\] \(durations\), .*/b.*int64 \(numbers\)"),
}


@pytest.mark.parametrize("name", MIXED)
def test_times_of_two_meanings(name: str, tmp_path: Path) -> None:
    """Wherever they would meet: one of them would be hours off, or a number of nanoseconds."""
    first, second, types = MIXED[name]
    one, other = written(tmp_path / "a.parquet", day=first), written(tmp_path / "b.parquet", day=second)
    message = r"x: the files have different types in column 'day': .*/a\.parquet has " + types
    both = [gd.data.Parquet(tmp_path / "*.parquet", window=window) for window in (60, 1000)]
    made = model(validation=0.2).fit(one, "kind")
    for data in both:
        for options in ({}, {"time": "day"}):
            with pytest.raises(TypeError, match=message):
                model().fit(data, "kind", **options)
        for call in (made.predict, made.score, lambda data: list(data.windows(tables=True))):
            with pytest.raises(TypeError, match=message):
                call(data)
        with pytest.raises(TypeError, match=message):
            data.write_predictions(tmp_path / "out.pq", made.predict)
    with pytest.raises(TypeError, match="validation: " + message):
        model().fit(one, "kind", validation=other)


def test_predictions(tmp_path: Path) -> None:
    data = written(tmp_path / "rows.parquet")
    made = model(validation=0.2).fit(data, "kind")
    calls = (made.predict, made.predict_proba, lambda rows: made.evaluate(rows, "kind"), made.score)
    for call in calls:
        with pytest.raises(ValueError, match="lacks column 'size' and has the unknown column 'length'"):
            call(written(tmp_path / "other.parquet", FRAME.rename(columns={"size": "length"})))
        with pytest.raises(TypeError, match=r"row group 0: column 'city': got the number 0 in row 0; expected text"):
            call(written(tmp_path / "numbers.parquet", city=np.arange(N)))
        with pytest.raises(TypeError, match=r"row group 0: column 'day': got .*; expected dates"):
            call(written(tmp_path / "days.parquet", day=FRAME["day"].astype(str)))
    with pytest.raises(ValueError, match=r"y: .*row group 1.*: got the label 'c' in row 20; expected one of"):
        made.evaluate(written(tmp_path / "labels.parquet", **changed("kind", 120, "c")))
    with pytest.raises(ValueError, match=r"y: got None for Parquet"):
        model("regression").fit(FRAME[["size"]], FRAME["price"]).evaluate(gd.data.Parquet(data.paths, ["size"]))
    with pytest.raises(ValueError, match=r"y: got column 'class', which .*rows.parquet lacks"):
        made.importances(data, "class")
    with pytest.raises(TypeError, match=r"row group 0: column 'city': got the number 0 in row 0; expected text"):
        made.encode(written(tmp_path / "numbers.parquet", city=np.arange(N)))
    by_position = model("regression").fit(FRAME[["size", "level"]].to_numpy(), FRAME["price"])
    with pytest.raises(ValueError, match="x: got 1 columns; expected 2, as in training"):
        by_position.predict(gd.data.Parquet(data.paths, ["size"]))


def test_text_that_looks_like_dates_is_warned_of(tmp_path: Path, recwarn: Any) -> None:
    data = written(tmp_path / "rows.parquet", day=FRAME["day"].dt.strftime("%Y-%m-%d"))
    model().fit(data, "kind")
    (told,) = [each for each in recwarn if "looks like dates" in str(each.message)]
    assert str(told.message).startswith("column 'day' has text that looks like dates") and told.filename == __file__
    recwarn.clear()
    model(kinds={"day": "category"}).fit(data, "kind")
    assert not [each for each in recwarn if "looks like dates" in str(each.message)]
