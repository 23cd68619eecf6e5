"""Promise: labels of any type are looked up in the model's classes, for every loss and at every entry point; unknown
labels are refused, naming `classes` and the label. Without classes, labels are the whole numbers from 0."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import analysis

pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

DAYS = [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1), datetime.date(2022, 1, 1)]
INDEX = np.array([2, 0, 0, 1, 2, 1, 0, 2])
X = np.random.default_rng(0).normal(size=(8, 2))


def pick(values: Any, dtype: Any = None) -> np.ndarray:
    return np.array([values[i] for i in INDEX], dtype)


CLASSES: dict[str, tuple[Any, dict[str, Callable[[], Any]]]] = {
    "numbers": (
        [3, 1, 2],
        {
            kind: lambda kind=kind: pick([3, 1, 2], kind)
            for kind in ("i1", "u8", ">i4", "f2", "f4", "f8", ">f8", "g", "O")
        }
        | {
            "list": lambda: pick([3, 1, 2]).tolist(),
            "column": lambda: pick([3, 1, 2])[:, None],
            "pandas": lambda: pd.Series(pick([3, 1, 2]), index=range(8, 0, -1)),
            "nullable": lambda: pd.Series(pick([3, 1, 2]), dtype="Int16"),
            "arrow in pandas": lambda: pd.Series(pick([3, 1, 2]), dtype="int64[pyarrow]"),
            "categorical": lambda: pd.Categorical(pick([3, 1, 2])),
            "frame": lambda: pd.DataFrame({"label": pick([3, 1, 2])}),
            "polars": lambda: pl.Series(pick([3, 1, 2])),
            "polars frame": lambda: pl.DataFrame({"label": pick([3, 1, 2])}),
            "arrow": lambda: pa.array(pick([3, 1, 2])),
            "arrow dictionary": lambda: pa.array(pick([3, 1, 2])).dictionary_encode(),
        },
    ),
    "other order": ([2, 1, 0], {kind: lambda kind=kind: pick([2, 1, 0], kind) for kind in ("i8", "f8", "u1", "O")}),
    "from 0": ([0, 1, 2], {kind: lambda kind=kind: pick([0, 1, 2], kind) for kind in ("i8", "f8", "u1", "O", "g")}),
    "fractions": (
        [0.5, 1.5, -1.0],
        {kind: lambda kind=kind: pick([0.5, 1.5, -1.0], kind) for kind in ("f4", "f8", "O")},
    ),
    "large": (
        [2**60, 2**60 + 1, 7],
        {kind: lambda kind=kind: pick([2**60, 2**60 + 1, 7], kind) for kind in ("i8", "u8")},
    ),
    "text": (
        ["b", "a", "ü"],
        {
            "U": lambda: pick(["b", "a", "ü"]),
            "O": lambda: pick(["b", "a", "ü"], "O"),
            "bytes": lambda: pick([text.encode() for text in ["b", "a", "ü"]]),
            "StringDType": lambda: pick(["b", "a", "ü"], np.dtypes.StringDType()),
            "list": lambda: pick(["b", "a", "ü"]).tolist(),
            "pandas": lambda: pd.Series(pick(["b", "a", "ü"])),
            "categorical": lambda: pd.Series(pd.Categorical(pick(["b", "a", "ü"]))),
            "string": lambda: pd.Series(pick(["b", "a", "ü"]), dtype="string"),
            "polars": lambda: pl.Series(pick(["b", "a", "ü"])),
            "polars categorical": lambda: pl.Series(pick(["b", "a", "ü"]), dtype=pl.Categorical),
            "polars enum": lambda: pl.Series(pick(["b", "a", "ü"]), dtype=pl.Enum(["a", "b", "ü"])),
            "arrow": lambda: pa.array(pick(["b", "a", "ü"]).tolist()),
            "arrow dictionary": lambda: pa.array(pick(["b", "a", "ü"]).tolist()).dictionary_encode(),
        },
    ),
    "mixed": ([1, "one", 1.5], {"O": lambda: pick([1, "one", 1.5], "O")}),
    "dates": (
        DAYS,
        {
            "O": lambda: pick(DAYS, "O"),
            "days": lambda: pick(DAYS, "M8[D]"),
            "nanoseconds": lambda: pick(DAYS, "M8[ns]"),
            "pandas": lambda: pd.Series(pick(DAYS, "M8[s]")),
            "index": lambda: pd.DatetimeIndex(pick(DAYS, "M8[s]")),
            "timestamps": lambda: [pd.Timestamp(DAYS[i]) for i in INDEX],
            "polars": lambda: pl.Series([DAYS[i] for i in INDEX]),
            "arrow": lambda: pa.array([DAYS[i] for i in INDEX]),
        },
    ),
}


def network(classes: Any, outputs: int = 3, dtype: str = "float32") -> gd.Sequential:
    return gd.Sequential(gd.Dense(2, outputs), seed=0, dtype=dtype, device="cpu", classes=classes)


def trainer(classes: Any, outputs: int = 3, loss: Any = None) -> gd.Trainer:
    return gd.Trainer(network(classes, outputs), loss or gd.CrossEntropy(), optimizer=gd.SGD(0.1))


ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "fit": lambda classes, y: trainer(classes).fit(X, y, epochs=2)["loss"],
    "fit batches": lambda classes, y: trainer(classes).fit([(X, y)], epochs=2)["loss"],
    "MiniBatches": lambda classes, y: trainer(classes).fit(gd.MiniBatches(X, y, batch_size=3), epochs=2)["loss"],
    "validation": lambda classes, y: trainer(classes).fit(X, y, epochs=1, validation=(X, y))["val_loss"],
    "step": lambda classes, y: trainer(classes).step(X, y),
    "evaluate": lambda classes, y: trainer(classes).evaluate(X, y)["loss"],
    "evaluate batches": lambda classes, y: trainer(classes).evaluate([(X, y)])["loss"],
    "Objective": lambda classes, y: analysis.Objective(network(classes, 3, "float64"), gd.CrossEntropy(), X, y).value(),
    "gradient_noise": lambda classes, y: (
        analysis.gradient_noise(network(classes, 3, "float64"), gd.CrossEntropy(), X, y, batch_sizes=(2,)).measured
    ),
    "lr_range_test": lambda classes, y: gd.lr_range_test(network(classes), gd.CrossEntropy(), X, y, steps=3).loss,
    "restarts": lambda classes, y: (
        gd.restarts(
            lambda seed: gd.Sequential(gd.Dense(2, 3), seed=seed, device="cpu", classes=classes),
            1,
            X,
            y,
            validation=0.25,
            loss=gd.CrossEntropy(),
            optimizer=gd.SGD(0.1),
            epochs=1,
            progress=False,
        ).best_start.val_loss
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_labels_of_any_type_are_looked_up(entry: str) -> None:
    expected = np.asarray(ENTRIES[entry](None, INDEX)).tolist()
    for classes, (names, kinds) in CLASSES.items():
        for kind, labels in kinds.items():
            assert np.asarray(ENTRIES[entry](names, labels())).tolist() == expected, (classes, kind)


@pytest.mark.parametrize("entry", ENTRIES)
def test_labels_that_are_no_class_are_refused(entry: str) -> None:
    strangers: dict[str, list[Any]] = {
        "numbers": [4, 0, 2.5, np.nan, "1", None, True * 7],
        "other order": [3, -1, 0.5],
        "from 0": [3, -1, 0.5, np.nan],
        "text": ["c", "B", "", 0, None, np.nan],
        "dates": [datetime.date(2020, 1, 2), "2020-01-01", 0, np.datetime64("2020-01-01T00:00:00.000000001")],
    }
    for classes, values in strangers.items():
        names = CLASSES[classes][0]
        for value in values:
            labels = pick(names, "O")
            labels[5] = value
            with pytest.raises(ValueError) as refusal:
                ENTRIES[entry](names, labels)
            message = str(refusal.value)
            assert "classes" in message and "y" in message, (classes, value, message)
            assert "row 5" in message or entry == "MiniBatches", message  # its row numbers count within a batch


@pytest.mark.parametrize("loss", [gd.BinaryCrossEntropy()], ids=str)
def test_one_yes_or_no(loss: Any) -> None:
    """A single output has two classes: the second is yes."""
    yes = (INDEX > 0).astype(int)
    expected = trainer(None, 1, loss).fit(X, yes, epochs=2)["loss"]
    for names in ([1, 2], [1, 0], ["no", "yes"], [False, True], [True, False], [0, 1]):
        labels = np.array(names)[yes]
        for given in (labels, labels.astype(object), pd.Series(labels), labels[:, None]):
            assert trainer(names, 1, loss).fit(X, given, epochs=2)["loss"] == expected
    with pytest.raises(ValueError, match="classes"):
        trainer(["no", "yes"], 1, loss).fit(X, yes, epochs=1)


def test_predictions_come_back_as_labels() -> None:
    for names, kinds in CLASSES.values():
        labels = next(iter(kinds.values()))()
        made = gd.Trainer(network(names), gd.CrossEntropy(), optimizer=gd.Adam(0.1))
        made.fit(np.eye(3)[INDEX][:, :2] * 4, labels, epochs=300)
        predicted = made.model.predict_classes(np.eye(3)[INDEX][:, :2] * 4)
        assert (predicted == pick(names, "M8[D]" if names is DAYS else "O")).all()


@pytest.mark.parametrize("names", [names for names, _ in CLASSES.values()], ids=list(CLASSES))
def test_classes_are_saved(names: Any, tmp_path: Path) -> None:
    made = network(names)
    made.save(tmp_path / "model.safetensors")
    loaded = gd.load(tmp_path / "model.safetensors")
    assert loaded.classes == made.classes and list(map(type, loaded.classes)) == list(map(type, made.classes))


def test_without_classes_labels_are_numbers_from_0() -> None:
    expected = trainer(None).fit(X, INDEX, epochs=1)["loss"]
    for kind in ("i1", "u8", "f2", "f4", "f8", "g", "O"):
        with warnings.catch_warnings(action="error"):
            assert trainer(None).fit(X, INDEX.astype(kind), epochs=1)["loss"] == expected
            assert trainer(None).step(X, INDEX.astype(kind)) > 0
    refused: list[tuple[Any, Any]] = [
        (INDEX + 1, ValueError),
        (INDEX - 1, ValueError),
        (INDEX + 0.5, (TypeError, ValueError)),
        (np.where(INDEX, np.nan, 0.0), (TypeError, ValueError)),
        (INDEX.astype(str), TypeError),
        (pick(DAYS, "M8[D]"), TypeError),
    ]
    for bad, error in refused:
        with pytest.raises(error, match="y"):
            trainer(None).fit(X, bad, epochs=1)


def test_classes_can_be_set_and_take_effect() -> None:
    made = trainer(None)
    made.model.classes = [3, 1, 2]
    made.fit(X, pick([3, 1, 2]), epochs=1)
    with pytest.raises(ValueError, match="classes"):
        made.model.classes = [1, 1, 2]
    assert made.model.classes == (3, 1, 2)
    made.model.classes = None
    made.step(X, INDEX)


TOKYO = datetime.timezone(datetime.timedelta(hours=9))
AWARE = [datetime.datetime(2020 + i, 1, 1, 9, tzinfo=TOKYO) for i in range(3)]


def test_dates_with_a_time_zone_are_points_in_time() -> None:
    """In every kind of array: dates with a time zone are converted to UTC; dates without one are taken as UTC."""
    utc = [date.astimezone(datetime.UTC) for date in AWARE]
    stamps = [pd.Timestamp(date) for date in AWARE]
    forms = {
        "objects": pick(AWARE, object),
        "in UTC": pick(utc, object),
        "list": list(pick(AWARE, object)),
        "stamps": pick(stamps, object),
        "pandas": pd.Series(pick(AWARE, object)),
        "index": pd.DatetimeIndex(pick(AWARE, object)),
        "polars": pl.Series(list(pick(utc, object))),
        "pyarrow": pa.array(list(pick(utc, object))),
        "no zone": pick([date.replace(tzinfo=None) for date in utc], object),
        "days": pick(DAYS, "M8[D]"),
    }
    with warnings.catch_warnings(action="error"):
        expected = trainer(None).fit(X, INDEX, epochs=1)["loss"]
        for classes in (AWARE, utc, stamps, DAYS):
            for kind, labels in forms.items():
                assert trainer(classes).fit(X, labels, epochs=1)["loss"] == expected, kind
    assert gd.metrics.accuracy(forms["objects"], forms["polars"]) == 1
    wrong = pick([date.replace(tzinfo=None) for date in AWARE], object)  # nine hours later
    with pytest.raises(ValueError, match=r"y.*classes"):
        trainer(AWARE).fit(X, wrong, epochs=1)
