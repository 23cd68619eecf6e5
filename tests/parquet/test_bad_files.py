"""Promise: what Parquet files cannot be used for is refused with file, row group, row and column, before training where
the files' statistics tell; arguments that do not fit are refused with what to do instead."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import parquet_cases as cases
import pytest
from parquet_cases import NAMES, ROWS, WEIGHTS, X, Y

pyarrow = pytest.importorskip("pyarrow")
Parquet = gd.data.Parquet
PLAIN = {"write_statistics": False}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if "parquet" in thread.name] == []


def with_value(value: Any, row: int, column: str = "c2", kind: Any = np.float64) -> dict[str, Any]:
    columns = {name: values.astype(kind) for name, values in cases.columns_of().items()}
    columns |= {"label": Y, "weight": WEIGHTS.copy()}
    changed = columns[column].tolist()
    changed[row] = value
    return columns | {column: pyarrow.array(changed, pyarrow.from_numpy_dtype(columns[column].dtype))}


def refused(data: Any, match: str, error: type[Exception] = ValueError, **options: Any) -> gd.Trainer:
    made = cases.trainer()
    with pytest.raises(error, match=match):
        made.fit(data, epochs=1, **options)
    return made


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("value", [None, np.nan, np.inf, 1e300])
def test_values_that_are_no_numbers(value: Any, statistics: bool, tmp_path: Path) -> None:
    """Statistics do not show NaN."""
    path = cases.write(tmp_path / "a.parquet", with_value(value, 777), 100, write_statistics=statistics)
    data = Parquet(path, NAMES, "label", window=100)
    told = statistics and value is not np.nan
    where = r"x: .*a\.parquet, row group 7: " + (r"has .* in column 'c2'" if told else r"got .* in row 77, column 'c2'")
    made = refused(data, where, shuffle=False)
    assert made.steps == (0 if told else 21), "of 7 windows of 100 rows, in batches of 32"
    with pytest.raises(ValueError, match=where):
        made.evaluate(data)
    with pytest.raises(ValueError, match=where):
        made.model.predict(data)
    if value is not None:
        assert not np.isfinite(made.model.predict(data, check_finite=False)).all()


@pytest.mark.parametrize("column", ["label", "weight"])
@pytest.mark.parametrize("value", [None, np.nan, -1])
def test_values_of_targets_and_weights(value: Any, column: str, tmp_path: Path) -> None:
    given = with_value(value, 333, "weight")
    columns = given if column == "weight" else given | {"label": given["weight"], "weight": pyarrow.array(WEIGHTS)}
    path = cases.write(tmp_path / "a.parquet", columns, 100, **PLAIN)
    name = "sample_weight" if column == "weight" else "y"
    loss = gd.MeanSquaredError()
    made = gd.Trainer(gd.Sequential(gd.Dense(5, 1), seed=0, device="cpu"), loss, optimizer=gd.SGD(0.1))
    data = Parquet(path, NAMES, "label", sample_weight="weight", window=200)
    if value == -1 and column == "label":
        made.fit(data, epochs=1)
        return
    with pytest.raises(ValueError, match=r"a.parquet, row group 3.*row 33") as error:
        made.fit(data, epochs=1)
    assert name in str(error.value)


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    for kind, value in {"text": "lowest", "missing": None, "large": 3, "negative": -1}.items():
        column: Any = np.array(["low", "middle", "high"])[Y].tolist() if kind in ("text", "missing") else Y.tolist()
        column[801] = value
        path = cases.write(tmp_path / f"{kind}.parquet", cases.columns_of() | {"label": pyarrow.array(column)}, 100)
        made = cases.trainer()
        if kind in ("text", "missing"):
            made.model.classes = ("low", "middle", "high")
        with pytest.raises(ValueError, match=rf"{kind}\.parquet, row group 8.* in row 1\b"):
            made.fit(Parquet(path, NAMES, "label", window=300), epochs=1)


def test_dates_as_labels_with_and_without_a_time_zone(tmp_path: Path) -> None:
    days = np.datetime64("2024-01-01", "us") + np.timedelta64(1, "D") * Y
    for name, zone in (("a", None), ("b", "Asia/Tokyo")):
        label = pyarrow.array(days).cast(pyarrow.timestamp("us", zone))
        cases.write(tmp_path / f"{name}.parquet", cases.columns_of() | {"label": label}, 100)
    made = cases.trainer()
    made.model.classes = np.unique(days)
    made.fit(Parquet(tmp_path / "a.parquet", NAMES, "label"), epochs=1)
    with pytest.raises(TypeError, match=r"y: the files have different types in column 'label': .*tz=Asia/Tokyo\]"):
        made.fit(Parquet(tmp_path / "*.parquet", NAMES, "label"), epochs=1)
    assert made.epoch == 1


def test_text_without_classes(tmp_path: Path) -> None:
    path = cases.write(tmp_path / "a.parquet", cases.columns_of() | {"label": ["yes"] * ROWS})
    refused(Parquet(path, y="label"), r"row group 0: got text labels, such as 'yes'; .*classes", TypeError)


def test_columns_that_are_too_small_for_the_dtype(tmp_path: Path) -> None:
    columns = cases.columns_of() | {"c1": np.full(ROWS, 1e-60), "label": Y}
    data = Parquet(cases.write(tmp_path / "a.parquet", columns, 100), y="label")
    assert refused(data, r"x: got numbers of at most 1e-60 in column 'c1', which float32 rounds").steps == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a"] * ROWS, "string in column 'c2'; expected numbers or booleans"),
        ([[1.0]] * ROWS, "list<"),
        ([None] * ROWS, "null in column"),
        (np.zeros(ROWS, "M8[s]"), "timestamp"),
        (pyarrow.array(["a"] * ROWS).dictionary_encode(), "dictionary<"),
        ([{"a": 1.0}] * ROWS, "struct<"),
    ],
    ids=["text", "list", "null", "date", "categories", "struct"],
)
def test_types_of_columns(column: Any, message: str, tmp_path: Path) -> None:
    """Of one file among several, before a row is read; models of tables may take them."""
    cases.write_rows(tmp_path)
    cases.write(tmp_path / "z.parquet", cases.columns_of() | {"label": Y, "weight": WEIGHTS, "c2": column})
    made, data = cases.trainer(), Parquet(tmp_path / "*.parquet", NAMES, "label")
    for call in (
        lambda: made.fit(data, epochs=1),
        lambda: made.evaluate(data),
        lambda: made.model.predict(data),
        lambda: next(data.windows()),
        lambda: data.write_predictions(tmp_path / "out.pq", made.model.predict),
    ):
        with pytest.raises(TypeError, match=rf"x: .*z\.parquet has .*{message}"):
            call()
    assert made.steps == 0 and not (tmp_path / "out.pq").exists()
    (table,) = Parquet(tmp_path / "z.parquet", NAMES, "label").windows(tables=True)
    assert table.column_names == [*NAMES, "label"] and table.num_rows == ROWS
    if message != "null in column":
        with pytest.raises(TypeError, match=r"x: the files have different types in (a )?column"):
            list(Parquet(tmp_path / "*.parquet", NAMES, "label", window=5000).windows(tables=True))
    made = gd.Trainer(gd.Sequential(gd.Dense(2, 3), seed=0, device="cpu"), gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    made.fit(Parquet(tmp_path / "*.parquet", ["c0", "c1"], "label"), epochs=1)  # the column is not used


def test_columns_that_a_file_lacks(tmp_path: Path) -> None:
    pattern = cases.write_rows(tmp_path)
    cases.write(tmp_path / "z.parquet", {"c0": X[:, 0], "label": Y})
    with pytest.raises(
        ValueError, match=r"x: got columns 'c1', .*, which .*z\.parquet lacks; it has \['c0', 'label'\]"
    ):
        Parquet(pattern, NAMES, "label")
    with pytest.raises(ValueError, match=r"y: got column 'class', which .*part0\.parquet lacks"):
        Parquet(pattern, ["c0"], "class")
    with pytest.raises(ValueError, match=r"sample_weight: got column 'w'"):
        Parquet(pattern, ["c0"], "label", sample_weight="w")
    assert Parquet(pattern, ["c0"], "label").rows == 2 * ROWS


def test_files_without_rows(tmp_path: Path) -> None:
    empty = {name: values[:0] for name, values in cases.columns_of().items()} | {"label": Y[:0]}
    cases.write(tmp_path / "a.parquet", empty)
    with pytest.raises(ValueError, match=r"a\.parquet'\], which have no rows"):
        Parquet(tmp_path / "*.parquet", y="label")
    cases.write(tmp_path / "b.parquet", cases.columns_of() | {"label": Y})
    data = Parquet(tmp_path / "*.parquet", y="label")
    assert data.rows == ROWS and data.paths == (str(tmp_path / "b.parquet"),)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n" * 30)
    whole = cases.write(tmp_path / "whole.parquet", cases.columns_of() | {"label": Y}).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for name in ("empty", "text", "cut"):
        with pytest.raises(ValueError, match=rf"{name}\.parquet: is no Parquet file, or is damaged"):
            Parquet(tmp_path / f"{name}.parquet")
    flipped = bytearray(whole)
    flipped[10:3000] = bytes(2990)
    (tmp_path / "flipped.parquet").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"flipped\.parquet"):
        cases.trainer().fit(Parquet(tmp_path / "flipped.parquet", y="label"), epochs=1)


def test_files_that_change(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=100)
    cases.write(tmp_path / "part1.parquet", cases.columns_of() | {"label": Y, "weight": WEIGHTS}, 100)
    refused(data, r"part1\.parquet: has changed since")
    os.remove(tmp_path / "part1.parquet")
    refused(data, r"part1\.parquet", FileNotFoundError)


def test_paths(tmp_path: Path) -> None:
    pattern = cases.write_rows(tmp_path)
    files = sorted(tmp_path.glob("*.parquet"))
    for paths in (pattern, files, [str(path) for path in files], [files[0], str(tmp_path / "part1*")]):
        assert Parquet(paths, NAMES).paths == tuple(map(str, files))
    odd = tmp_path / "[1].parquet"  # a name that is a pattern too
    files[0].rename(odd)
    assert Parquet(odd).paths == (str(odd),)
    for paths, error, message in (
        (tmp_path, ValueError, r"got the folder .*; expected files: .*\*\.parquet"),
        (tmp_path / "none.parquet", FileNotFoundError, "there is no file"),
        (str(tmp_path / "no*.parquet"), FileNotFoundError, "there is no file"),
        ([], ValueError, "got no path"),
        (3, TypeError, "got 3; expected a path, a pattern"),
        ([3], TypeError, "got 3"),
        (b"a.parquet", TypeError, "expected a path"),
        ([odd, odd], ValueError, "more than once"),
    ):
        with pytest.raises(error, match=message):
            Parquet(paths)


def test_arguments(tmp_path: Path) -> None:
    pattern = cases.write_rows(tmp_path)
    for given, error, message in (
        ({"x": "c0"}, TypeError, "x: got 'c0'; expected a list"),
        ({"x": []}, ValueError, "x: got no column"),
        ({"x": [0]}, TypeError, "x: got 0"),
        ({"x": ["c0", "c0"]}, ValueError, "more than once"),
        ({"x": ["c0"], "y": "c0"}, ValueError, "'c0' twice"),
        ({"y": 3}, TypeError, "y: got 3"),
        ({"y": "label", "sample_weight": "label"}, ValueError, "'label' twice"),
        ({"sample_weight": ["weight"]}, TypeError, "sample_weight: got"),
        ({"window": 0}, ValueError, "window"),
        ({"window": "1 GB"}, TypeError, "window: got '1 GB'; expected a number of rows"),
    ):
        with pytest.raises(error, match=message):
            Parquet(pattern, **given)
    data = Parquet(pattern, NAMES, "label")
    with pytest.raises(AttributeError, match=r"Parquet\.window cannot be set: make another one"):
        data.window = 5
    with pytest.raises(AttributeError, match="paths"):
        data.paths = ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": Y}, "y: got it beside Parquet"),
        ({"sample_weight": WEIGHTS}, "sample_weight: got it beside Parquet"),
        ({"batch_size": None}, "batch_size: got None"),
        ({"batch_size": 0}, "batch_size"),
        ({"validation": 0.2}, "validation: got a fraction for Parquet"),
        ({"stratify": True}, "stratify"),
        ({"steps_per_epoch": 3}, "steps_per_epoch"),
    ],
    ids=str,
)
def test_arguments_of_fit(options: Any, message: str, tmp_path: Path) -> None:
    assert refused(cases.opened(tmp_path), message, **options).steps == 0


def test_what_does_not_fit_the_model(tmp_path: Path) -> None:
    pattern = cases.write_rows(tmp_path)
    refused(Parquet(pattern, NAMES), "got Parquet without y")
    refused(Parquet(pattern, NAMES[:3], "label"), "x: got 3 columns of inputs; expected 5")
    made = cases.trainer()
    made.model.feature_names = [*NAMES[:4], "other"]
    for call in (lambda data: made.fit(data, epochs=1), made.evaluate, made.predict):
        with pytest.raises(ValueError, match="lacks column 'other' and has the unknown column 'c4'"):
            call(Parquet(pattern, NAMES, "label"))
    with pytest.raises(ValueError, match="5 columns"):
        gd.Sequential(gd.Dense(4, 2), seed=0, device="cpu").predict(Parquet(pattern, NAMES))
    with pytest.raises(ValueError, match="batch_size: got 1"):
        cases.trainer("cpu", gd.Dense(5, 3), gd.BatchNorm(3)).fit(
            Parquet(pattern, NAMES, "label"), epochs=1, batch_size=1
        )


def test_weights_of_a_window_are_not_all_zero(tmp_path: Path) -> None:
    weights = WEIGHTS.copy()
    weights[100:200] = 0.0
    columns = cases.columns_of() | {"label": Y, "weight": weights}
    path = cases.write(tmp_path / "a.parquet", columns, 100)
    data = Parquet(path, NAMES, "label", sample_weight="weight", window=100)
    refused(data, r"row group 1.*sample_weight: got the sum 0", batch_size=50)


def test_other_functions_say_what_to_do(tmp_path: Path) -> None:
    data = cases.opened(tmp_path)
    network = cases.trainer().model
    run = {"loss": gd.CrossEntropy(), "optimizer": gd.SGD(1.0), "epochs": 1}
    message = r"x: got Parquet\(.*windows; expected an array"
    with pytest.raises(TypeError, match=message):
        gd.MiniBatches(data, batch_size=3)
    with pytest.raises(TypeError, match=message):
        network.forward(data)
    alone = r"validation: got Parquet in a tuple; expected Parquet alone, which names its columns: gd\.data\.Parquet\("
    with pytest.raises(TypeError, match=alone):
        gd.tables.TabularModel("classification").fit({"c0": X[:, 0]}, Y, validation=(data, Y))
    with pytest.raises(TypeError, match=alone):
        cases.trainer().fit(X, Y, epochs=1, validation=(data, Y))
    for parts in ((data, Y), data):
        with pytest.raises(
            TypeError, match=r"validation: got Parquet.* expected \(x, y\), \(x, y, weights\) or a frac"
        ):
            gd.Ensemble.train(cases.seeded, 2, X, Y, validation=parts, **run)
    with pytest.raises(TypeError, match=message):
        gd.restarts(cases.seeded, 2, data, Y, validation=0.2, **run)
    with pytest.raises(TypeError, match="validation"):
        gd.restarts(cases.seeded, 2, X, Y, validation=data, **run)
    with pytest.raises(TypeError, match=r"^got Parquet\(.*windows; expected an array"):
        np.asarray(data)  # as scikit-learn does


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pattern = cases.write_rows(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Parquet needs pyarrow: pip install 'gdcore\[parquet\]'"):
        Parquet(pattern)


def test_windows_and_written_predictions(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=130, weighted=True)
    parts = list(data.windows())
    assert len(parts) > 7
    for i, expected in enumerate((X, Y, WEIGHTS)):
        helpers.same_bits(np.concatenate([part[i] for part in parts]), expected)
    (only,) = Parquet(tmp_path / "*.parquet", NAMES).windows()
    helpers.same_bits(np.asarray(only), X)
    made = cases.trainer()
    read = pytest.importorskip("pyarrow.parquet").read_table
    data.write_predictions(tmp_path / "out.pq", made.model.predict)
    written = read(tmp_path / "out.pq")
    assert written.column_names == ["prediction_0", "prediction_1", "prediction_2"]
    helpers.same_bits(np.stack([column.to_numpy() for column in written.columns], axis=1), made.predict(X))
    made.model.classes = ("low", "middle", "high")
    data.write_predictions(tmp_path / "out.pq", made.model.predict_classes, column="class")
    assert read(tmp_path / "out.pq").column("class").to_pylist() == made.model.predict_classes(X).tolist()
    with pytest.raises(ValueError, match=r"predict: returned shape \(3,\) for 100 rows"):
        data.write_predictions(tmp_path / "out.pq", lambda x: np.zeros(3))
    with pytest.raises(ValueError, match=r"path: got .*which is read"):
        data.write_predictions(tmp_path / "part0.parquet", made.model.predict)
    assert len(read(tmp_path / "out.pq")) == ROWS, "the old file is still there"
