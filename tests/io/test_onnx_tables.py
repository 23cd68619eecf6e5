"""Promise: an ONNX file of a model of tables takes columns by name and returns what the model predicts, to 1e-5, for
missing values, unseen categories and dates of all years too; what ONNX cannot say is refused before a file exists."""

from __future__ import annotations

import datetime
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from gdcore.io.onnx.graph import Graph
from gdcore.io.onnx.tables import encoded
from gdcore.tables import TabularModel, model
from gdcore.tables.columns import read
from gdcore.tables.encoding import Layout, fit, kinds_of

LARGE = 1_700_000_000_000_000_000  # nanoseconds, of 2023


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are small, and trained for a few epochs."""
    plain = model.recipe
    monkeypatch.setattr(model, "recipe", lambda facts: replace(plain(facts), widths=(40, 24), epochs=4, members=3))


def fitted(frame: Any, y: Any, task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, progress=False, device="cpu", **options).fit(frame, y)


def session(made: Any, **options: Any) -> Any:
    file = io.BytesIO()
    made.save_onnx(file, **options)
    return onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])


def inputs(given: Any, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the inputs of a file, as docs/onnx.md says."""
    made = {}
    for each in given.get_inputs():
        column = frame[each.name]
        if each.type == "tensor(string)":
            made[each.name] = column.astype(object).where(column.notna(), "").to_numpy()
        elif each.type == "tensor(int64)" and column.dtype.kind == "M":
            made[each.name] = column.to_numpy("datetime64[us]").astype(np.int64)
        elif column.dtype.kind == "m":
            made[each.name] = column.dt.total_seconds().to_numpy()
        elif each.type == "tensor(int64)":
            made[each.name] = np.array([-(2**63) if pd.isna(value) else int(value) for value in column], np.int64)
        else:
            made[each.name] = column.astype(object).where(column.notna(), np.nan).to_numpy(np.float64)
    return made


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert (np.abs(found - expected) < 1e-5 * max(1.0, np.abs(expected).max(initial=0.0))).all()


def compare(made: TabularModel, *frames: pd.DataFrame) -> None:
    """Compare the file's outputs with the model's, for all rows, one and none."""
    run, likely = session(made), None if made.classes is None else session(made, outputs="probabilities")
    for part in (part for frame in frames for part in (frame, frame[:1], frame[:0])):
        given, expected = inputs(run, part), made.predict(part)
        found = run.run(None, given)
        if likely is None:
            close(found[0], expected)
            continue
        close(found[0], made.ensemble.predict(made.encode(part)))
        chances, label = likely.run(None, given)
        close(chances, made.predict_proba(part))
        sure = np.abs(np.diff(np.sort(chances, axis=1)[:, -2:])).ravel() > 1e-4  # rounding may decide for others
        assert label.shape == expected.shape and (label == expected)[sure].all() and (label == found[1])[sure].all()


# ---------------------------------------------------------------------------------------------------- everything
def everything(rows: int = 160) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a frame with columns of all kinds, and rows with missing and unseen values."""
    rng = helpers.generator("tables")
    gaps = rng.random((rows, 6)) < 0.1
    frame = pd.DataFrame(
        {
            "customer": [f"C{i}" for i in range(rows)],
            "age": np.where(gaps[:, 0], np.nan, rng.uniform(18, 80, rows)),
            "children": rng.integers(0, 5, rows),
            "city": np.where(gaps[:, 1], None, rng.choice(["Rome", "Oslo", "größe", "a b", "東京"], rows)),
            "plan": pd.Categorical(np.where(gaps[:, 2], None, rng.choice(["basic", "family"], rows))),
            "level": pd.Categorical(rng.choice([1, 3, 4], rows)),
            "comment": rng.choice(["", "good", "bad"], rows),
            "member": rng.random(rows) < 0.4,
            "agreed": np.where(gaps[:, 3], None, rng.random(rows) < 0.4),
            "joined": pd.Timestamp("1960-01-01") + pd.to_timedelta(rng.integers(0, 60 * 365 * 1440, rows), unit="m"),
            "left": pd.Series(pd.date_range("2020-01-01", periods=rows, freq="31h")).where(~gaps[:, 4]),
            "clock": LARGE + rng.integers(0, 10**15, rows),
            "serial": pd.array(np.where(gaps[:, 5], None, LARGE + rng.integers(0, 10**15, rows)), dtype="Int64"),
            "waited": pd.to_timedelta(rng.exponential(100, rows), unit="s"),
            "constant": 1.0,
        }
    )
    odd = frame[:5].copy()
    odd.loc[1:, ["age", "children", "city", "plan", "level", "agreed"]] = None
    odd[["left", "joined"]] = pd.NaT
    odd[["city", "level", "age"]] = odd[["city", "level", "age"]].astype(object)
    odd.loc[2, ["city", "level", "age"]] = ["Rio", 2, 1e30]
    odd.loc[3, ["comment", "joined"]] = ["new", pd.Timestamp("1701-03-01 23:59:59.999999")]
    return frame, odd


def test_a_frame_with_everything_in_it() -> None:
    frame, odd = everything()
    signal = frame["age"].fillna(50) / 10 + 3 * (frame["city"] == "Oslo") + frame["joined"].dt.month
    kind = np.where(signal > signal.median(), "dear", "cheap")
    made = fitted(frame, kind)
    compare(made, frame, odd)
    assert [each.name for each in session(made).get_inputs()] == [*frame.columns[1:-1]]
    several = np.column_stack([1000 * signal, signal - 5.5])
    for y in (1e4 + 100 * signal, signal.astype(np.float32).to_numpy(), several):
        compare(fitted(frame, y), frame, odd)


def random_column(kind: str, rows: int, rng: helpers.Generator) -> Any:
    """Return a column of one of the kinds, half of them with missing values."""
    count = int(rng.integers(1, 40))
    scale = 10.0 ** rng.integers(-30, 30)
    values: Any = {
        "numbers": lambda: scale * (rng.standard_normal(rows) + rng.integers(-9, 9)),
        "whole": lambda: rng.integers(-(10**6), 10**6, rows),
        "few": lambda: rng.choice([0.0, 1.0, 7.5], rows, p=[0.9, 0.05, 0.05]),
        "booleans": lambda: rng.random(rows) < 0.3,
        "text": lambda: rng.choice([f"value {i}" for i in range(count)], rows),
        "codes": lambda: pd.Series(pd.Categorical(rng.integers(-count, count, rows))),
        "dates": lambda: np.datetime64("1700-01-01", "us") + rng.integers(0, 2**54, rows).astype("m8[us]"),
        "large": lambda: int(rng.integers(-(2**61), 2**61)) + rng.integers(0, 10**6, rows),
    }[kind]()
    gaps = rng.random(rows) < 0.2 * rng.integers(2)
    if kind == "dates":
        return np.where(gaps, np.datetime64("NaT"), values)
    return pd.Series(values, dtype=object).where(~gaps, None) if gaps.any() else values


KINDS = ("numbers", "whole", "few", "booleans", "text", "codes", "dates", "large")


@pytest.mark.parametrize("seed", range(25))
def test_random_frames(seed: int) -> None:
    rng = helpers.generator("tables", seed)
    rows, names = int(rng.integers(30, 120)), rng.choice(KINDS, int(rng.integers(1, 9)))
    frame = pd.DataFrame({f"{name} {i}": random_column(name, rows, rng) for i, name in enumerate(names)})
    codes = {column: "category" for column in frame if column.startswith("codes")}
    if seed % 3 == 0:
        made = fitted(frame, 1e3 * rng.standard_normal((rows, 2)) + 1e4, kinds=codes)
    else:
        made = fitted(frame, rng.choice(["a", "b", "c"][: 2 + seed % 2], rows), kinds=codes)
    new = pd.DataFrame({f"{name} {i}": random_column(name, 50, rng) for i, name in enumerate(names)})
    if made.encode(frame).any():
        compare(made, frame, new)


# ---------------------------------------------------------------------------------------------------- the encoding
def check_encoding(training: Any, new: pd.DataFrame, layout: Layout | None = None, **kinds: str) -> np.ndarray:
    """Compare what a graph of the encoding alone returns with `Encoding.encode`."""
    frame = read(training, "x")
    encoding = fit(frame, "x", kinds_of(frame, "x", kinds), layout or Layout())
    graph = Graph("float32")
    graph.output("encoded", encoded(graph, encoding), "float32", encoding.width)
    helper, ml = onnx.helper, ("ai.onnx.ml", 3)
    made = helper.make_model(
        helper.make_graph(graph.nodes, "g", list(graph.inputs.values()), graph.outputs, graph.constants),
        opset_imports=[helper.make_opsetid(*domain) for domain in (("", 17), ml)],
        ir_version=8,
    )
    run = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = run.run(None, inputs(run, new))
    expected = encoding.encode(encoding.arranged(read(new, "x"), "x"), "x")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    return found


def test_dates_of_all_years() -> None:
    """Every part, for the days around each month of each year, and for random points in time."""
    rng = helpers.generator("dates")
    months = np.arange("0001-01", "10000-01", dtype="M8[M]").astype("M8[us]")
    day = np.timedelta64(1, "D")
    all_times = [months, months + 27 * day, months[1:] - np.timedelta64(1, "us"), months + 14 * day]
    low, high = int(months[0].astype(np.int64)), int(months[-1].astype(np.int64))
    all_times += [
        rng.integers(low, high, 20_000).astype("M8[us]"),
        np.array(["1969-12-31T23:59:59.999999", "NaT"], "M8"),
    ]
    moments = np.concatenate(all_times)
    training = np.append(moments[:: len(moments) // 500], np.datetime64("NaT"))
    found = check_encoding({"a": training}, pd.DataFrame({"a": moments}), Layout(bins=2))
    assert found.shape[1] > 16 and len(np.unique(found[:, 0])) > 10_000


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1.0, 1e200, 1e306])
def test_numbers_of_all_sizes(unit: float) -> None:
    rng = helpers.generator("numbers")
    training = np.append(unit * rng.standard_normal(101), np.nan)
    new = np.array([-50, -1, 0, 0.3, 2, 9.0]) * unit
    check_encoding({"a": training}, pd.DataFrame({"a": [*training, *new, 1e308, -1e308, 1e-320, np.nan]}))


@pytest.mark.parametrize("base", [2**53 + 1, LARGE, -LARGE, 2**62 + 1, -(2**62) - 2**61, 2**63 - 10**6])
def test_whole_numbers_of_64_bits(base: int) -> None:
    rng = helpers.generator("whole")
    training = [base + int(i) for i in rng.integers(0, 10**6 - 1, 101)]
    far = [0, 2**63 - 1, -(2**63) + 1, -base]
    found = check_encoding({"a": [*training, None]}, pd.DataFrame({"a": [*training, *far, None]}, dtype=object))
    assert len(np.unique(found[:, 0])) > 90
    codes = [base, base + 1, base + 2, None] * 3
    new = pd.DataFrame({"a": [base, base + 2, base + 3, None]}, dtype=object)
    found = check_encoding({"a": codes}, new, a="category")
    assert found.sum(axis=1).tolist() == [1, 1, 0, 1] and (found[:2].sum(axis=0) < 2).all()


@pytest.mark.parametrize("kind", ["text", "numbers"])
@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("rare", [True, False])
def test_categories(kind: str, missing: bool, rare: bool) -> None:
    known: list[Any] = ["a", "b", "é"] if kind == "text" else [1, 2.5, True]
    once: list[Any] = ["once"] if kind == "text" else [7]
    training = known * 3 + once * rare + [None] * missing
    new = pd.DataFrame({"a": [*known, *once, "new" if kind == "text" else -1e9, None]}, dtype=object)
    check_encoding({"a": training}, new, a="category")
    if rare and missing:  # no category has an indicator of its own
        check_encoding({"a": [known[0], None]}, new, a="category")


def test_empty_text() -> None:
    """It stands for missing values where it is no category, and for itself where it is one."""
    new = pd.DataFrame({"a": ["x", "", "new"]})
    assert check_encoding({"a": ["x", "", "y"] * 2}, new).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    made = fitted({"a": ["x", None, "y"] * 9}, np.arange(27.0) + 0.5)
    run = session(made)
    close(run.run(None, {"a": np.array(["x", "", "new"])})[0], made.predict({"a": ["x", None, "new"]}))


# ---------------------------------------------------------------------------------------------------- what a file says
LABELS: dict[str, tuple[Any, str]] = {
    "text": (["no", "größe"], "tensor(string)"),
    "booleans": ([False, True], "tensor(bool)"),
    "whole": (np.array([-3, 100], np.int8), "tensor(int8)"),
    "unsigned": (np.array([3, 2**64 - 1], np.uint64), "tensor(uint64)"),
    "fractional type": (np.array([0.0, 1.0], np.float32), "tensor(float)"),
    "categories": (pd.Categorical([3, 5]), "tensor(int64)"),
    "objects": (np.array([False, True], object), "tensor(bool)"),
    "dates": (np.array(["2020-01-01", "2021-05-06"], "M8[D]"), "tensor(string)"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str) -> None:
    """The label has the type of the targets; a date is its text."""
    classes, wanted = LABELS[kind]
    codes = np.arange(60) % 2
    y = classes[codes] if hasattr(classes, "dtype") else np.array(classes)[codes]
    made = fitted({"a": codes * 1.5}, y, "classification")
    run = session(made)
    label = run.run(["label"], {"a": codes * 1.5})[0]
    expected = made.predict({"a": codes * 1.5})
    assert [each.type for each in run.get_outputs()] == ["tensor(float)", wanted]
    found = label.astype("M8[D]") if kind == "dates" else label
    assert found.tolist() == expected.tolist()
    assert len(set(label.tolist())) == 2


def test_names_inputs_and_metadata() -> None:
    """Any name of a column is possible, also one that an output or a node would have."""
    names = ["label", "outputs", "probabilities", "x", "models.0.layers.0.Gemm", "mean.Mul", "a b", "größe", "ArgMax"]
    rng = helpers.generator("names")
    frame = pd.DataFrame({name: rng.standard_normal(40) for name in names} | {"y": rng.choice(["u", "v"], 40)})
    made = fitted(frame, "y")
    run = session(made)
    assert [each.name for each in run.get_inputs()] == names
    assert [each.name for each in run.get_outputs()] == ["outputs_2", "label_2"]
    assert all(each.shape == ["rows"] for each in run.get_inputs())
    compare(made, frame)
    known = run.get_modelmeta().custom_metadata_map
    assert known["gdcore_version"] == gd.__version__ and known["outputs"] == "classes"
    texts = {key: json.loads(known[key]) for key in ("classes", "feature_names", "target_names", "kinds", "meanings")}
    assert texts == {
        "classes": ["u", "v"], "feature_names": names, "target_names": ["y"], "kinds": dict.fromkeys(names, "number"),
        "meanings": dict.fromkeys(names, "numbers"),
    }  # fmt: skip
    read_again = fitted(frame.assign(y=1.5 * frame["x"]), "y")
    assert [each.name for each in session(read_again).get_outputs()] == ["outputs_2"]


def test_arrays_have_numbers_for_names(tmp_path: Path) -> None:
    x = helpers.generator("array").standard_normal((40, 3))
    made = fitted(x, x[:, 0] * 2)
    compare(made, pd.DataFrame(x, columns=["0", "1", "2"]))
    made.save(tmp_path / "m")
    made.save_onnx(tmp_path / "a")
    gd.load(tmp_path / "m", device="cpu").save_onnx(str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read_file = onnx.load(tmp_path / "a")
    assert [(each.domain, each.version) for each in read_file.opset_import] == [("", 17)]


# ---------------------------------------------------------------------------------------------------- refused
def on(column: Any, **options: Any) -> Callable[[], TabularModel]:
    return lambda: fitted({"a": column}, np.arange(len(column)) + 0.5, **options)


REFUSED: dict[str, tuple[Callable[[], TabularModel], dict[str, Any], type[Exception], str]] = {
    "not fitted": (lambda: TabularModel(), {}, RuntimeError, "not fitted"),
    "no information": (on([1.0] * 9), {}, ValueError, "uses none of its columns"),
    "text and numbers": (on(["x", 1] * 9), {}, ValueError, r"column 'a': got text and numbers.*astype\(str\)"),
    "two meanings": (on(["x", "", None] * 9), {}, ValueError, "column 'a': got missing values and \"\""),
    "surrogate": (on(["x", "\ud800"] * 9), {}, ValueError, r"column 'a': got '\\ud800'"),
    "no name": (lambda: fitted({"": [1.0, 2.0] * 9}, np.arange(18) + 0.5), {}, ValueError, "got an empty name"),
    "name": (lambda: fitted({"\udc80": [1.0, 2.0] * 9}, np.arange(18) + 0.5), {}, ValueError, "rename the column"),
    "class": (
        lambda: fitted({"a": [1.0, 2.0] * 9}, ["x", "\ud800"] * 9), {}, ValueError, "classes: .* rename the class"
    ),
    "beyond int64": (on([2**63 + 5 + i for i in range(9)]), {}, ValueError, "column 'a': got whole numbers that int64"),
    "far beyond": (on([10**30 + i for i in range(9)]), {}, ValueError, "column 'a': got whole numbers that int64"),
    "codes": (on([2**70, 3] * 9, kinds={"a": "category"}), {}, ValueError, "column 'a': got categories that neither"),
    "fractions and large codes": (
        on(pd.Series([2**60 + 1, 3.5] * 9, dtype=object), kinds={"a": "category"}),
        {}, ValueError, "column 'a': got categories that neither",
    ),
    "other outputs": (on([1.0, 2.0] * 9), {"outputs": "label"}, ValueError, "outputs: got 'label'"),
    "no probabilities": (on([1.0, 2.0] * 9), {"outputs": "probabilities"}, ValueError, "numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_a_file_exists(name: str, tmp_path: Path) -> None:
    make, options, kind, word = REFUSED[name]
    made = make()
    helpers.refuses(lambda: made.save_onnx(tmp_path / "m", **options), kind, word)
    assert not list(tmp_path.iterdir())


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = on([datetime.date(2020, 1, day) for day in range(1, 29)])()
    monkeypatch.setitem(sys.modules, "onnx", None)
    helpers.refuses(lambda: made.save_onnx(tmp_path / "m"), ImportError, r"save_onnx needs onnx.*gdcore\[onnx\]")
    assert not list(tmp_path.iterdir())
