"""Promise: a bad table gives a clear error, which names the argument and the column, or the right answer."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from gdcore import Quantile
from gdcore.tables import TabularModel

N = 40
RNG = np.random.default_rng(0)
SIZE = RNG.standard_normal(N)
Y = np.where(SIZE + 0.3 * RNG.standard_normal(N) > 0, "large", "small")
HALF = np.arange(N) % 2


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 1, "progress": False, "device": "cpu"} | options)


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"size": SIZE, **columns})


def objects(items: list[Any]) -> pd.Series:
    series = pd.Series([None] * len(items), dtype=object)
    for i, item in enumerate(items):
        series[i] = item
    return series


# ---- Tables that cannot be fitted: (x, y, arguments of the model, arguments of fit, the error) ----------------------
class Thing:
    pass


def of_dates(unit: str, number: int) -> pd.Series:
    return objects([np.datetime64(number, unit)] * N)


REFUSED: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any], str]] = {
    "no rows": (table()[:0], Y[:0], {}, {}, "y: got no rows|x: got 0 sample"),
    "no columns": (table()[[]], Y, {}, {}, "x: got 0 feature"),
    "one row": (table()[:1], Y[:1], {}, {}, "at least two"),
    "one class": (table(), ["large"] * N, {}, {}, "y: got one class, 'large'"),
    "as many classes as rows": (table(), [f"row {i}" for i in range(N)], {}, {}, "40 rows of as many classes"),
    "one dimension": (SIZE, Y, {}, {}, r"x: got shape \(40,\)"),
    "three dimensions": (np.zeros((N, 2, 2)), Y, {}, {}, r"x: got shape \(40, 2, 2\)"),
    "a number": (3.0, Y, {}, {}, "x: "),
    "text": ("size", Y, {}, {}, "x: got text, 'size'.*pandas.read_csv"),
    "a file": ("size.parquet", Y, {}, {}, r"x: got text, .*expected a table: gdcore.data.Parquet\(path\)"),
    "periods": (table(m=pd.period_range("2020-01", periods=N, freq="M")), Y, {}, {}, r"column 'm': .*to_timestamp\(\)"),
    "a lazy frame": (pl.LazyFrame({"size": SIZE}), Y, {}, {}, "x: got a lazy LazyFrame"),
    "lists": (table(bad=objects([[1, 2]] * N)), Y, {}, {}, r"x: column 'bad': got list \[1, 2\]"),
    "lists in a dictionary": ({"size": SIZE, "bad": [[1, 2]] * N}, Y, {}, {}, r"column 'bad': got list \[1, 2\]"),
    "lists of polars": (pl.DataFrame({"size": SIZE, "bad": [[1, 2]] * N}), Y, {}, {}, "x: column 'bad': got"),
    "structs of polars": (pl.DataFrame({"size": SIZE, "bad": [{"a": 1}] * N}), Y, {}, {}, "column 'bad': got several"),
    "structs of pyarrow": (pa.table({"size": SIZE, "bad": [{"a": 1}] * N}), Y, {}, {}, "column 'bad': got dict"),
    "unhashable objects": (table(bad=objects([{1}] * N)), Y, {}, {}, "column 'bad': got set"),
    "objects": (table(bad=objects([Thing()] * N)), Y, {}, {}, "column 'bad': got Thing"),
    "complex numbers": (table(bad=SIZE * 1j), Y, {}, {}, "column 'bad': got complex"),
    "a complex array": (np.zeros((N, 2), complex), Y, {}, {}, "x: column '0': got complex128"),
    "two types of time": (
        table(bad=objects([datetime.timedelta(1), datetime.time(3)] * (N // 2))),
        *(Y, {}, {}, "column 'bad': got values of the types time, timedelta"),
    ),
    "dates and numbers": (
        table(bad=objects([datetime.date(2020, 1, 1), 3] * (N // 2))),
        *(Y, {}, {}, "column 'bad': got values of the types date, int"),
    ),
    "dates out of range": (table(bad=of_dates("Y", 30000)), Y, {}, {}, "column 'bad': got 31970 in row 0"),
    "duplicate names": (pd.DataFrame([[1, 2]] * N, columns=["a", "a"]), Y, {}, {}, "'a' more than once"),
    "names that are equal as text": (pd.DataFrame([[1, 2]] * N, columns=[1, "1"]), Y, {}, {}, "'1' more than once"),
    "infinite numbers": (table(bad=[np.inf, *range(N - 1)]), Y, {}, {}, "column 'bad': got .*inf.* in row 0"),
    "infinite text": (table(bad=["-inf", *map(str, range(N - 1))]), Y, {}, {}, "column 'bad': got '-inf' in row 0"),
    "a masked array": (np.ma.masked_equal(np.eye(N), 1), Y, {}, {}, "x: got a masked array"),
    "columns of other lengths": ({"a": [1, 2], "b": [1]}, Y, {}, {}, "x: got columns of different lengths"),
    "a column that is no sequence": ({"a": 3}, Y, {}, {}, "x: column 'a': got 3"),
    "too few targets": (table(), Y[:-1], {}, {}, "y: got 39 rows; expected 40"),
    "no targets": (table(), None, {}, {}, "y: got None"),
    "missing targets": (table(), [None, *Y[1:]], {}, {}, "y: got missing values .* row 0"),
    "nan among numbers": (table(), [np.nan, *SIZE[1:]], {}, {}, "y: got missing values .* row 0"),
    "nan among labels": (table(), [*Y[:-1], np.nan], {}, {}, "y: got missing values .* row 39"),
    "infinite targets": (table(), [np.inf, *SIZE[1:]], {}, {}, "y: got .*inf.* row 0"),
    "classes of two types": (table(), objects(["a", 1] * (N // 2)), {}, {}, "y: got classes of the types int, str"),
    "lists as targets": (table(), objects([[1]] * N), {}, {}, r"y: got list \[1\]"),
    "complex targets": (table(), SIZE * 1j, {}, {}, "y: got complex128"),
    "text for regression": (table(), Y, {"task": "regression"}, {}, "y: got category values, such as"),
    "fractions for classes": (table(), SIZE, {"task": "classification"}, {}, "y: Unknown label type: got fractions"),
    "whole numbers without a task": (table(), HALF, {}, {}, "task: got None for whole numbers, such as 0;"),
    "whole floats without a task": (table(), HALF.astype(float), {}, {}, "task: got None for whole numbers"),
    "an unknown task": (table(), Y, {"task": "ranking"}, {}, "task: got 'ranking'"),
    "an unknown target": (table(), "price", {}, {}, "y: got the name 'price'; expected a column of x"),
    "the target alone": (pd.DataFrame({"y": Y}), "y", {}, {}, "x: got 0 feature"),
    "a name for an array": (np.eye(N), "y", {}, {}, "y: got the name 'y'"),
    "weights of 0": (table(), Y, {}, {"sample_weight": np.zeros(N)}, "x: got 0 sample"),
    "negative weights": (table(), Y, {}, {"sample_weight": SIZE}, "sample_weight: got -.* in row"),
    "infinite weights": (table(), Y, {}, {"sample_weight": np.full(N, np.inf)}, "sample_weight: got inf in row 0"),
    "too few weights": (table(), Y, {}, {"sample_weight": np.ones(3)}, "sample_weight: got 3 rows; expected 40"),
    "one group": (table(), Y, {}, {"groups": np.zeros(N)}, "groups: got one group"),
    "missing groups": (table(), Y, {}, {"groups": [None, *range(N - 1)]}, "groups: got a missing value in row 0"),
    "one time": (table(), Y, {}, {"time": np.zeros(N)}, "time: got one time"),
    "missing times": (table(), Y, {}, {"time": [np.nan, *range(N - 1)]}, "time: got a missing value in row 0"),
    "text as time": (table(), Y, {}, {"time": Y}, "time: got .*; expected dates or numbers"),
    "groups and time": (table(), Y, {}, {"groups": HALF, "time": HALF}, "time: got times beside groups"),
    "no time": (table(), Y, {"time_limit": 0}, {}, "time_limit: got 0"),
    "all rows held out": (table(), Y, {"validation": 1}, {}, "validation: got 1"),
    "no networks": (table(), Y, {"ensemble": 0}, {}, "ensemble: got 0"),
    "validation without targets": (table(), Y, {}, {"validation": (table(),)}, "validation: got"),
    "a new class in validation": (
        table(),
        *(Y, {}, {"validation": (table(), ["huge"] * N)}, "validation: y: got the label 'huge' in row 0"),
    ),
    "other columns in validation": (
        table(),
        *(Y, {}, {"validation": (table(more=SIZE), Y)}, "validation: x: has the unknown column 'more'"),
    ),
    "validation and groups": (table(), Y, {}, {"validation": (table(), Y), "groups": HALF}, "validation: got rows"),
    "a kind of an unknown column": (table(), Y, {"kinds": {"age": "number"}}, {}, "kinds: got the column 'age'"),
    "an unknown kind": (table(), Y, {"kinds": {"size": "text"}}, {}, r"kinds\['size'\]: got 'text'"),
    "text as numbers": (table(text=Y), Y, {"kinds": {"text": "number"}}, {}, "'text': got str .*expected numbers"),
    "weights of an unknown class": (table(), Y, {"class_weight": {"huge": 2}}, {}, "weight: got the class 'huge'"),
    "a row of weight": (table(), Y, {}, {"sample_weight": np.arange(N) == 1}, "^x: got 1 sample of positive weight;"),
    "duplicates": (pd.DataFrame([[1] * 4] * N, columns=[*"abab"]), Y, {}, {}, "columns 'a', 'b', each more than once"),
    "several levels": (table(), SIZE, {"loss": Quantile([0.1, 0.9])}, {}, "loss: got 2 levels; expected Quantile"),
    "class weights for numbers": (table(), SIZE, {"class_weight": "balanced"}, {}, "class_weight: got 'balanced' for"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    x, y, options, arguments, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        model(**options).fit(x, y, **arguments)


def test_a_failed_fit_changes_nothing() -> None:
    fitted = model().fit(table(), Y)
    before = fitted.predict_proba(table())
    with pytest.raises(ValueError, match="missing values"):
        fitted.fit(table(), [None] * N)
    assert np.array_equal(fitted.predict_proba(table()), before)


# ---- Tables that are strange, and right -----------------------------------------------------------------------------
DICTIONARY = pa.dictionary(pa.int32(), pa.string())
ODD: dict[str, Any] = {
    "all missing": [None] * N,
    "nan": np.full(N, np.nan),
    "constant": ["same"] * N,
    "text that never repeats": [f"row {i}" for i in range(N)],
    "a billion as a code": pd.Categorical([10**9, 5] * (N // 2)),
    "numbers above 2**53": 2**60 + np.arange(N),
    "unsigned numbers above 2**63": np.uint64(2**63) + np.arange(N).astype(np.uint64),
    "integers of Python": objects([10**30 + i for i in range(N)]),
    "huge numbers": np.linspace(-1, 1, N) * 1.7e308,
    "subnormal numbers": np.arange(N) * 5e-324,
    "mixed types": objects(["a", 1, 2.5, None] * (N // 4)),
    "bytes": objects([b"a", b"b"] * (N // 2)),
    "bytes of NumPy": np.array([b"a", b"b"] * (N // 2)),
    "decimals": objects([decimal.Decimal(i) / 4 for i in range(N)]),
    "booleans with missing ones": objects([True, None] * (N // 2)),
    "nullable integers": pd.array([1, None] * (N // 2), dtype="Int64"),
    "nullable booleans": pd.array([True, None] * (N // 2), dtype="boolean"),
    "strings of pandas": pd.array(["a", None] * (N // 2), dtype="string"),
    "categories without rows": pd.Categorical(["a", "b"] * (N // 2), categories=["c", "b", "a"]),
    "intervals": pd.cut(SIZE, 3),
    "dates with a time zone": pd.date_range("2020-01-01", periods=N, freq="11h", tz="Asia/Tokyo"),
    "dates of the year 1": objects([datetime.date(1, 1, 1 + i % 28) for i in range(N)]),
    "a missing date": objects([None, *(datetime.datetime(2020, 1, 1, i % 24) for i in range(N - 1))]),
    "times of day": objects([datetime.time(i % 24) for i in range(N)]),
    "durations": pd.to_timedelta([*range(N - 1), None], unit="h"),
    "numbers as text": list(map(str, range(N))),
    "long double": SIZE.astype(np.longdouble),
    "half precision": SIZE.astype(np.float16),
    "big-endian numbers": SIZE.astype(">f8"),
    "sparse numbers": pd.arrays.SparseArray(SIZE),
    "dictionaries of pyarrow": pd.array(["a", None] * (N // 2), dtype=pd.ArrowDtype(DICTIONARY)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_columns_are_encoded(name: str) -> None:
    """Alone, with all else constant, a column separates its values; together with a good one it does no harm."""
    frame = table(odd=ODD[name])
    fitted = model().fit(frame, Y)
    inputs = fitted.encode(frame)
    assert np.isfinite(inputs).all() and np.abs(inputs).max() <= 3 and fitted.score(frame, Y) > 0.75
    first = fitted.encode(table()[["size"]].assign(odd=frame["odd"])[:1])
    assert np.array_equal(first, inputs[:1]), "a row is encoded alone as among others"
    width = dict(zip(*(fitted.columns()[c] for c in ("column", "inputs")), strict=True))["odd"]
    values = pd.Series(frame["odd"]).map(str)
    known = [str(value) for value in values if value not in ("nan", "None", "<NA>", "NaT")]
    told = {row.tobytes() for row in inputs[:, len(inputs[0]) - width :]} if width else set()
    if name in ("all missing", "nan", "constant", "text that never repeats"):
        assert width == 0
    elif len(set(known)) <= 3:
        assert len(told) == len(set(values))
    else:
        assert len(told) > 10


def test_one_value_in_all_columns_predicts_the_share() -> None:
    fitted = model().fit(pd.DataFrame({"a": [1.0] * N}), Y)
    np.testing.assert_allclose(
        fitted.predict_proba({"a": [1.0]})[0], [(c == Y).mean() for c in fitted.classes], atol=0.1
    )


def test_a_constant_target_is_predicted() -> None:
    fitted = model("regression").fit(table(), np.full(N, 7.0))
    np.testing.assert_allclose(fitted.predict(table()), 7.0)


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1e30, 1e300])
def test_targets_of_any_size(unit: float) -> None:
    fitted = model("regression").fit(table(), SIZE * unit)
    reference = model("regression").fit(table(), SIZE)
    np.testing.assert_allclose(fitted.predict(table()), reference.predict(table()) * unit, rtol=1e-2, atol=0.02 * unit)


def test_two_rows() -> None:
    assert model().fit(table()[:2], ["a", "b"]).predict(table()[:2]).shape == (2,)


def test_ten_thousand_columns() -> None:
    x = np.random.default_rng(0).standard_normal((N, 10_000))
    fitted = model(ensemble=1, validation=0).fit(x, np.where(x[:, 0] > 0, "a", "b"))
    assert fitted.score(x, np.where(x[:, 0] > 0, "a", "b")) > 0.9


def test_column_names_of_any_type() -> None:
    frame = pd.DataFrame({0: SIZE, ("a", 1): HALF, datetime.date(2020, 1, 1): SIZE})
    fitted = model().fit(frame, Y)
    assert fitted.feature_names == ("0", "('a', 1)", "2020-01-01")
    assert np.array_equal(fitted.predict(frame[frame.columns[::-1]]), fitted.predict(frame))


# ---- At prediction --------------------------------------------------------------------------------------------------
COLUMNS = {
    "size": SIZE,
    "kind": ["a", "b"] * (N // 2),
    "flag": HALF == 1,
    "day": pd.date_range("2020-01-01", periods=N),
    "code": pd.Categorical([7, 9] * (N // 2)),
}
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "text for numbers": ({"size": ["large"]}, "column 'size': got str 'large' in row 0"),
    "infinite": ({"size": [-np.inf]}, "column 'size': got .*-inf.* in row 0"),
    "a number for text": ({"kind": [3]}, "column 'kind': got the number 3 in row 0; expected text"),
    "text for a number": ({"code": ["7"]}, "column 'code': got the text '7' in row 0; expected numbers"),
    "a number for a boolean": ({"flag": [2]}, "column 'flag': got .*2.* in row 0; expected True or False"),
    "text for a boolean": ({"flag": ["yes"]}, "column 'flag': got str 'yes' in row 0"),
    "a number for a date": ({"day": [3.5]}, "column 'day': got float64.*; expected dates"),
    "text for a date": ({"day": ["2020-01-01"]}, "column 'day': got str .*expected dates"),
    "a list": ({"kind": objects([[1]])}, "column 'kind': got list"),
    "a date for a number": ({"size": [pd.Timestamp("2020-01-01")]}, "column 'size': got .*expected numbers"),
}


@pytest.fixture(scope="module")
def fitted() -> TabularModel:
    return model().fit(pd.DataFrame(COLUMNS), Y)


@pytest.mark.parametrize("name", UNFIT)
def test_values_that_do_not_fit_are_refused(name: str, fitted: TabularModel) -> None:
    changes, message = UNFIT[name]
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.predict(pd.DataFrame(COLUMNS)[:1].assign(**changes))


def test_missing_and_unknown_columns_are_refused(fitted: TabularModel) -> None:
    frame = pd.DataFrame(COLUMNS)
    with pytest.raises(ValueError, match="x: lacks columns 'size', 'flag'; expected the columns of training"):
        fitted.predict(frame.drop(columns=["size", "flag"]))
    with pytest.raises(ValueError, match="x: has the unknown column 'more'"):
        fitted.predict(frame.assign(more=1))
    with pytest.raises(ValueError, match="x: got 4 columns; expected 5"):
        fitted.predict(np.zeros((3, 4)))


def test_values_that_training_lacks(fitted: TabularModel) -> None:
    """Unseen categories, and values missing at prediction only, are encoded as none of the known ones."""
    frame = pd.DataFrame(COLUMNS)[:2]
    new = frame.assign(kind=["c", None], code=pd.Categorical([1_000_000_000, None]), size=[np.nan, None])
    new["flag"], new["day"] = objects([None, None]), pd.to_datetime([None, None])
    inputs = fitted.encode(new)
    assert np.array_equal(inputs[0], inputs[1]) and np.isfinite(fitted.predict_proba(new)).all()
    assert (fitted.encode(frame.assign(kind="c")) != fitted.encode(frame)).sum() == 2
    for empty in (frame.assign(kind=[None, None]), frame.assign(kind=[np.nan, np.nan])):
        assert np.array_equal(fitted.encode(empty), fitted.encode(frame.assign(kind="c")))
    assert fitted.predict(frame[:0]).shape == (0,)


def test_numbers_as_text(fitted: TabularModel) -> None:
    frame = pd.DataFrame(COLUMNS)
    assert np.array_equal(fitted.encode(frame.assign(size=[repr(v) for v in SIZE.tolist()])), fitted.encode(frame))


def test_one_row_and_names_of_files_are_explained() -> None:
    frame = pd.DataFrame({"a": np.arange(60.0), "b": list("uv" * 30)})
    model = TabularModel("regression", ensemble=1, device="cpu", progress=False).fit(frame, np.arange(60))
    with pytest.raises(TypeError, match=r"x: got Series; .* frame.iloc\[\[0\]\]"):
        model.predict(frame.iloc[0])
    with pytest.raises(TypeError, match=r"column 'a': got 0.0; .*that of one row is \[0.0\]"):
        model.predict(frame.iloc[0].to_dict())
    with pytest.raises(TypeError, match=r"x: got text, 'prices.csv'; .*pandas.read_csv"):
        model.fit("prices.csv", "price")


@pytest.mark.parametrize("y", [np.arange(80.0), np.array([0.0, 1.0] * 40), pd.array([0.0, 1.0] * 40, dtype="Float64")])
def test_whole_numbers_of_any_type_need_the_task(y: Any) -> None:
    with pytest.raises(ValueError, match="task: got None for whole numbers, such as"):
        TabularModel().fit({"a": np.arange(80)}, y)


@pytest.mark.parametrize("kind", [object, str])
def test_text_of_numbers_as_targets_needs_the_task(kind: Any) -> None:
    y = np.array([str(i / 4) for i in range(80)], kind)
    with pytest.raises(ValueError, match="got None for text of numbers, such as"):
        TabularModel().fit({"a": np.arange(80)}, y)
    model = TabularModel("regression", ensemble=1, device="cpu", progress=False).fit({"a": np.arange(80)}, y)
    assert model.evaluate({"a": np.arange(80)}, y) == model.evaluate({"a": np.arange(80)}, y.astype(float))


def test_text_where_training_had_numbers_as_categories_is_refused() -> None:
    """It would be an unseen category in each row."""
    frame = pd.DataFrame({"a": pd.Categorical([1, 2, 3, 4] * 10)})
    model = TabularModel(ensemble=1, device="cpu", progress=False).fit(frame, ["u", "v"] * 20)
    assert model.predict({"a": [1.0, 9.0, None]}).shape == (3,)
    with pytest.raises(TypeError, match="column 'a': got the text '1' in row 0; expected numbers, as in training"):
        model.predict(frame.astype(str))


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_the_target_is_refused_as_an_input(kind: Any) -> None:
    frame = kind({"a": SIZE, "y": Y})
    with pytest.raises(ValueError, match="y: got column 'y' of x, which would be an input too"):
        model().fit(frame, frame["y"])
    assert model().fit(frame, frame["y"].to_list()[::-1]).feature_names == ("a", "y")  # another column of that name
    assert model().fit(frame[["a"]], frame["y"]).feature_names == ("a",)


def test_dates_as_text_are_explained() -> None:
    frame = table(day=["2020-01-01", "2020-01-02"] * (N // 2))
    statement = "convert text first, such as by pandas.to_datetime, str.to_datetime of polars or pyarrow.compute.cast"
    with pytest.raises(TypeError, match=rf"column 'day': got str '2020-01-01' in row 0; expected dates: {statement}"):
        model(kinds={"day": "date"}).fit(frame, Y)
    with pytest.raises(TypeError, match=r"time: got '2020-01-01'; expected dates or numbers: .*pandas.to_datetime"):
        model().fit(frame, Y, time="day")
    with pytest.raises(ValueError, match=r"y: got the name 'kind'; expected a column of x, one of .'size'"):
        model().fit(table(), Y).evaluate(table(), "kind")


def test_rows_as_lists_keep_the_types_of_their_values() -> None:
    rows = [
        (number, text, None if i % 3 else 1.0) for i, (number, text) in enumerate(zip(SIZE.tolist(), Y, strict=True))
    ]
    made, same = model().fit(rows, Y), model().fit(pd.DataFrame(rows), Y)
    assert made.columns()["kind"] == same.columns()["kind"] == ["number", "category", "number"]
    assert np.array_equal(made.predict_proba(rows), same.predict_proba(pd.DataFrame(rows)))
    with pytest.raises(ValueError, match="x: got rows of 2 to 3 values"):
        model().fit([*rows[:-1], rows[-1][:2]], Y)
    with pytest.raises(TypeError, match=r"x: got a list of dictionaries; expected a table: pandas.DataFrame\(rows\)"):
        made.predict([{"0": 1.0}])
