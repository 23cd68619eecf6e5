"""Promise: numbers, dates and categories are encoded as the formulas say, computed here in float64 by plain NumPy."""

from __future__ import annotations

import datetime
import itertools
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from gdcore.internal.checks import FormatError
from gdcore.tables.columns import read
from gdcore.tables.encoding import Encoding, Layout, fit, kinds_of
from gdcore.tables.stored import read_encoding

RNG = np.random.default_rng(2)


def encoding(frame: Any, layout: Layout | None = None, **kinds: str) -> Encoding:
    given = read(frame, "x")
    return fit(given, "x", kinds_of(given, "x", kinds), layout or Layout(bins=4, values=3, least=2))


def inputs(made: Encoding, frame: Any) -> np.ndarray:
    given = read(frame, "x")
    return made.encode(made.arranged(given, "x"), "x")


def expected(values: np.ndarray, training: np.ndarray, bins: int) -> np.ndarray:
    """The scaled number and its piecewise-linear encoding."""
    low, middle, high = np.quantile(training, (0.25, 0.5, 0.75))

    def scaled(x: np.ndarray) -> np.ndarray:
        z = (x - middle) / (high - low)
        return z / np.sqrt(1 + (z / 3) ** 2)

    edges = np.quantile(scaled(training), np.linspace(0, 1, bins + 1))
    columns = [scaled(values)]
    for left, right in itertools.pairwise(edges):
        columns.append(np.clip((scaled(values) - left) / (right - left), 0, 1))
    return np.column_stack(columns)


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("bins", [2, 4, 16])
def test_numbers(unit: float, bins: int) -> None:
    training, new = RNG.standard_normal(101), np.array([-50.0, -1, 0, 0.3, 2, 1e9])
    made = encoding({"a": training * unit}, Layout(bins=bins))
    for values in (training, new):
        found = inputs(made, {"a": values * unit})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(values, training, bins), atol=2e-6)


def test_missing_numbers_are_the_median_with_an_indicator() -> None:
    training = np.array([1.0, 2, 3, 4, np.nan])
    found = inputs(encoding({"a": training}), {"a": [np.nan, 2.5, None]})
    assert found[:, -1].tolist() == [1, 0, 1]
    assert np.array_equal(found[0, :-1], found[1, :-1]) and found[1, 0] == 0
    without = inputs(encoding({"a": training[:4]}), {"a": [np.nan, 2.5]})
    assert without.shape[1] == found.shape[1] - 1 and np.array_equal(without[0], without[1])


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-310, -1e300])
def test_a_number_that_is_the_same_or_missing(value: float) -> None:
    """Of a column of one value and missing ones, only the indicator tells rows apart, whatever comes later."""
    found = inputs(encoding({"a": [value, np.nan, value]}), {"a": [value, np.nan, 0.0, 1.0, -1.0, 1.7e308, -1.7e308]})
    assert found.tolist() == [[0, 0], [0, 1], *[[0, 0]] * 5]


def test_booleans_and_few_values() -> None:
    made = encoding({"b": RNG.random(50) < 0.5, "c": [1, 1, 1, 1, 9] * 10})
    found = inputs(made, {"b": [True, False], "c": [1, 9]})
    assert made.columns[0].width == 1 and found[0, 0] != found[1, 0]
    assert made.columns[1].width == 1, "most values are the same, so that there is no bin between two quantiles"


def test_categories() -> None:
    """The three most frequent values of two rows or more have an indicator, the others share one."""
    values = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"] + [None] * 2
    made = encoding({"k": values})
    found = inputs(made, {"k": ["a", "b", "c", "d", "e", "new", None]})
    assert np.array_equal(found, np.eye(5)[[0, 1, 2, 3, 3, 3, 4]])
    shuffled = encoding({"k": RNG.permutation(np.array(values, object))})
    assert shuffled == made, "the order of the rows does not matter"
    complete = inputs(encoding({"k": ["a", "b"] * 3}), {"k": ["b", "a", "new", None]})
    assert np.array_equal(complete, [[0, 1], [1, 0], [0, 0], [0, 0]])


def test_rare_numbers_among_text_are_known() -> None:
    mixed = pd.Series(["a", "a", "b", "b", 3], dtype=object)
    found = inputs(encoding({"k": mixed}), {"k": pd.Series([3, "b", 4.5], dtype=object)})
    assert np.array_equal(found, np.eye(3)[[2, 1, 2]])
    with pytest.raises(TypeError, match="got the number 3 in row 0; expected text"):
        inputs(encoding({"k": mixed[:4]}), {"k": [3]})


def test_equal_keys_are_one_category() -> None:
    made = encoding({"k": pd.Categorical([1, 2] * 5)})
    for same in (pd.Categorical([1, 2]), np.array([1, 2]), [1.0, 2.0], np.array([1, 2], object), [True, 2]):
        assert np.array_equal(inputs(made, {"k": same}), np.eye(2))


def test_dates() -> None:
    days = pd.date_range("2019-11-03 05:30", periods=900, freq="29h")
    made = encoding({"d": days}, Layout(bins=0))
    assert [feature.part for feature in made.columns[0].features] == [
        *("time", "year", "month", "day", "day_of_year", "weekday", "hour")
    ]
    found = inputs(made, {"d": days})
    parts = [days.astype("int64"), days.year, days.month, days.day, days.day_of_year, days.day_of_week, days.hour]
    for column, part in zip(found.T, parts, strict=True):
        values = np.asarray(part, float)
        if part is parts[5]:
            values = (values - 3) % 7  # from Thursday
        np.testing.assert_allclose(column, expected(values, values, 1)[:, 0], atol=1e-6)
    utc = days.tz_localize("UTC")
    zoned = utc.tz_convert("Asia/Kolkata")
    of_points = encoding({"d": utc}, Layout(bins=0))
    assert np.array_equal(inputs(of_points, {"d": zoned}), found)
    assert np.array_equal(inputs(of_points, {"d": [day.to_pydatetime() for day in zoned]}), found)
    old = inputs(made, {"d": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None]})
    assert np.isfinite(old).all() and old[0, 0] < -2.9 and old[1, 0] > 2.9


MOMENTS = pd.date_range("2024-03-01", periods=40, freq="7h")
MEANINGS: dict[str, list[Any]] = {  # values of each meaning in all forms
    "times without a time zone": [MOMENTS, pl.Series(MOMENTS.to_numpy()), [*MOMENTS.to_pydatetime()], [*MOMENTS.date]],
    "times with a time zone": [
        MOMENTS.tz_localize("Asia/Tokyo"),
        pl.Series(MOMENTS.to_numpy()).dt.replace_time_zone("UTC"),
        pa.chunked_array([pa.array(MOMENTS.to_numpy(), pa.timestamp("us", "UTC"))]),
        [*MOMENTS.tz_localize("UTC").to_pydatetime()],
    ],
    "durations": [MOMENTS - MOMENTS[0], [*(MOMENTS - MOMENTS[0]).to_pytimedelta()]],
    "times of day": [[*MOMENTS.time], pl.Series([*MOMENTS.time])],
    "numbers": [np.arange(40), np.arange(40) / 7, [*range(40)], [str(i) for i in range(40)]],
}


@pytest.mark.parametrize("trained", MEANINGS)
def test_values_mean_what_they_meant_in_training(trained: str) -> None:
    """Times without a zone may be local, and numbers minutes: neither stands for times of another meaning."""
    for column in MEANINGS[trained]:
        made = encoding({"c": column})
        assert made.columns[0].meaning == trained
        for meaning, others in MEANINGS.items():
            for other in others:
                if meaning == trained:
                    inputs(made, {"c": other})
                else:
                    with pytest.raises(TypeError, match=f"^x: column 'c': got .*expected .*({trained}|dates|numbers)"):
                        inputs(made, {"c": other})
    assert np.isfinite(inputs(made, {"c": [None, None]})).all()


def test_values_of_two_meanings_in_a_column() -> None:
    points = [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)]
    minute, time = datetime.timedelta(minutes=1), datetime.time(10)
    with pytest.raises(TypeError, match=r"x: column 'd': got .*\(times without a time zone\) beside .* of the two"):
        encoding({"d": points * 5})
    with pytest.raises(TypeError, match=r"x: column 'd': got .*\(numbers\) beside .*\(durations\); expected one"):
        encoding({"d": [5.0, minute] * 5}, d="number")
    cases = (([minute] * 3 + [minute * 2], [minute, 5.0]), (range(9), [5.0, minute]), (range(9), [5, time]))
    for column, mixed in cases:
        made = encoding({"d": list(column)})
        with pytest.raises(TypeError, match=r"x: column 'd': got .* beside .*; expected one of the two"):
            inputs(made, {"d": mixed})


def test_a_file_without_meanings_takes_any() -> None:
    made = encoding({"d": MOMENTS})
    value = json.loads(json.dumps(made.to_json()))
    del value["columns"][0]["meaning"]
    older = read_encoding(value, "file")
    assert older.columns[0].meaning == ""
    assert np.array_equal(inputs(older, {"d": MOMENTS.tz_localize("UTC")}), inputs(made, {"d": MOMENTS}))
    value["columns"][0]["meaning"] = "hours"
    with pytest.raises(FormatError, match=r"columns\[0\].meaning.*hours"):
        read_encoding(value, "file")


LARGE_WHOLE = 2**60 + np.arange(0, 40_000, 1000)


@pytest.mark.parametrize(
    "same",
    [
        LARGE_WHOLE.astype(str),
        [f" {number}.0 " for number in LARGE_WHOLE.tolist()],
        LARGE_WHOLE.astype(np.longdouble),
        [Decimal(number) for number in LARGE_WHOLE.tolist()],
        pd.array(LARGE_WHOLE, "Int64"),
    ],
    ids=["text", "text with a point", "long doubles", "decimals", "nullable"],
)
def test_large_whole_numbers_in_other_types(same: Any) -> None:
    made = encoding({"c": LARGE_WHOLE})
    assert made.columns[0].offset
    found = inputs(made, {"c": same})
    assert np.array_equal(found, inputs(made, {"c": LARGE_WHOLE})) and len(np.unique(found[:, 0])) == 40


def test_categories_that_are_all_missing_dates() -> None:
    made = encoding({"c": ["u", "v", None] * 3})
    for missing in ([pd.NaT] * 2, np.array(["NaT"] * 2, "M8[us]"), pd.Series([pd.NaT] * 2), [None, None]):
        assert np.array_equal(inputs(made, {"c": missing}), [[0, 0, 1]] * 2)


def test_categories_that_floats_cannot_tell_apart() -> None:
    whole = [2**60, 2**60 + 1] * 5
    for items in (whole, [Decimal(item) for item in whole], [Fraction(item) for item in whole]):
        made = fit(read({"c": items}, "x"), "x", {"c": "category"}, Layout())
        assert made.columns[0].keys == (2**60, 2**60 + 1)
        for same in (whole, [Decimal(item) for item in whole], np.array(whole).astype(np.longdouble)):
            assert np.array_equal(inputs(made, {"c": same}), [[1, 0], [0, 1]] * 5)


def test_codes_are_no_numbers() -> None:
    """Zeros in front, and signs that only Python takes between digits, are parts of a code."""
    for codes in ([f"{i:05d}" for i in range(80)], [f"{i}_{i % 3}" for i in range(80)]):
        made = encoding({"c": codes * 2}, Layout())
        assert made.columns[0].kind == "category" and made.width == 80
    for numbers in ([f"{i / 8}" for i in range(80)], [f"{i - 40}" for i in range(80)], [f"0.{i}" for i in range(80)]):
        assert encoding({"c": numbers * 2}).columns[0].kind == "number"


def test_a_date_that_is_missing_or_the_same() -> None:
    made = encoding({"d": [datetime.date(2020, 1, 1)] * 3 + [None]})
    assert np.array_equal(inputs(made, {"d": [None, datetime.date(2020, 1, 1)]}), [[0, 1], [0, 0]])


def test_other_times() -> None:
    hours = encoding({"t": [datetime.time(i) for i in range(24)]})
    seconds = encoding({"t": np.arange(24) * 3600.0})
    assert np.array_equal(inputs(hours, {"t": [datetime.time(5)]}), inputs(seconds, {"t": [18000]}))
    spans = encoding({"t": pd.to_timedelta(np.arange(24), unit="h")})
    for same in (pd.to_timedelta([5], unit="h"), [datetime.timedelta(hours=5)], np.array([5], "m8[h]")):
        assert np.array_equal(inputs(spans, {"t": same}), inputs(hours, {"t": [datetime.time(5)]}))


def test_text_of_many_numbers_is_numbers() -> None:
    few, many = [str(i % 9) for i in range(50)], [str(i / 4) for i in range(50)]
    made = encoding({"few": few, "many": many})
    assert [column.kind for column in made.columns] == ["category", "number"]
    assert encoding({"few": few}, few="number").columns[0].kind == "number"
    assert encoding({"many": many}, many="category").columns[0].kind == "category"


def test_kinds_that_are_given() -> None:
    codes = np.repeat([2, 0, 1], [30, 20, 10])
    made = encoding({"code": codes, "flag": codes % 2}, code="category", flag="boolean")
    assert np.array_equal(inputs(made, {"code": [2, 0, 1], "flag": [0, 0, 1]})[:, :3], np.eye(3))
    assert made.columns[1].width == 1


def test_large_whole_numbers_beside_missing_ones_are_not_rounded() -> None:
    """Otherwise identifiers of 64 bits become one category, and are unknown where none is missing."""
    identifiers = pd.Series([2**60, 2**60 + 1, 2**60 + 2] * 4, dtype="Int64")
    nullable = pd.DataFrame({"i": pd.concat([identifiers, pd.Series([None], dtype="Int64")])})
    made = encoding(nullable, i="category")
    found = inputs(made, nullable)
    assert len(np.unique(found, axis=0)) == 4
    assert np.array_equal(inputs(made, pd.DataFrame({"i": identifiers.astype(np.int64)})), found[:-1])


def test_json() -> None:
    frame = {"a": [1.0, None, 3], "b": ["x", "y", "x"], "c": np.array([2**62, 2**62 + 1, 2**62 + 5]), "d": np.arange(3)}
    made = encoding(frame)
    assert read_encoding(json.loads(json.dumps(made.to_json())), "x") == made


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_dates_are_no_categories(unit: str) -> None:
    """Those in nanoseconds became whole numbers, which no other unit has."""
    days = (np.datetime64("2020-01-01") + np.arange(6) % 2).astype(f"M8[{unit}]")
    with pytest.raises(
        TypeError, match=rf"column 'a': got datetime64\[{unit}\], such as '2020-01-01.*as categories; ex"
    ):
        encoding({"a": days}, a="category")
    durations = days - days[0]
    with pytest.raises(TypeError, match=r"column 'a': got timedelta64\[.*make text of it first"):
        encoding({"a": durations}, a="category")
    assert len(encoding({"a": days.astype(str)}, a="category").columns[0].keys) == 2
