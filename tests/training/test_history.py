"""Promise: the history is a dictionary of columns that converts to pandas, to CSV and to a plot with the best epoch
marked."""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest


@pytest.fixture
def history() -> gd.History:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((60, 3))
    model = gd.Sequential(gd.Dense(3, 8), gd.Tanh(), gd.Dense(8, 1), seed=0)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.05), metrics=[gd.metrics.r2])
    trainer.fit(x, x.sum(1), epochs=3)
    return trainer.fit(x, x.sum(1), epochs=4, validation=0.2)


def test_columns(history: gd.History) -> None:
    assert {"epoch", "loss", "lr", "seconds", "val_loss", "val_r2"} <= set(history)
    assert "val_loss" in history and "nothing" not in history and len(history) == len(list(history))
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6, 7] and history.epochs == 7
    assert all(math.isnan(v) for v in history["val_loss"][:3]) and all(
        math.isfinite(v) for v in history["val_loss"][3:]
    )
    assert dict(history).keys() == set(history.keys()) and history.last["epoch"] == 7
    assert all(second > 0 for second in history["seconds"])
    with pytest.raises(KeyError, match="val_loss"):
        history["accuracy"]
    assert "7" in repr(history)


def test_copies_do_not_reach_back(history: gd.History) -> None:
    history["loss"][0] = -1
    history.rows[0]["loss"] = -1
    history.last["loss"] = -1
    assert min(history["loss"]) >= 0


def test_best_epoch() -> None:
    h = gd.History([{"epoch": i + 1, "val_loss": v, "val_accuracy": v} for i, v in enumerate([3, 1, math.nan, 1, 2])])
    assert h.best_epoch() == 2 and h.best_epoch("val_accuracy") == 1 and h.best_epoch("val_loss", "max") == 1
    with pytest.raises(KeyError):
        h.best_epoch("loss")
    with pytest.raises(ValueError, match="val_loss"):
        gd.History([{"epoch": 1, "val_loss": math.nan}]).best_epoch()
    with pytest.raises(KeyError, match=r"monitor: is needed, as there was no validation .* of epoch, loss, or fit"):
        gd.History([{"epoch": 1, "loss": 1.0}]).best_epoch()
    with pytest.raises(ValueError, match="monitor: is missing beside mode='min'"):
        h.best_epoch(mode="min")


def test_csv_reads_back_exactly(history: gd.History, tmp_path: Path) -> None:
    history.to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in history:
        read = [math.nan if row[name] == "" else float(row[name]) for row in rows]
        np.testing.assert_array_equal(read, history[name])


def test_pandas(history: gd.History) -> None:
    pytest.importorskip("pandas")
    frame = history.to_pandas()
    assert list(frame.columns) == list(history) and len(frame) == 7
    np.testing.assert_array_equal(frame["val_loss"].to_numpy(), history["val_loss"])


def tables() -> dict[str, gd.Table]:
    rows: list[dict[str, Any]] = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "f1": 0.75}]
    return {"History": gd.History(rows), "Table": gd.Table([{"f1": 0.0} | row for row in rows])}


@pytest.mark.parametrize("name", ["History", "Table"])
def test_what_reads_a_dictionary_reads_the_columns(name: str) -> None:
    table = tables()[name]
    columns = {column: table[column] for column in table}
    assert isinstance(table, dict) and len(table) == 3 and table.height == 2
    for read in (dict(table), {**table}, dict(table.items()), table | {}, {} | table, json.loads(json.dumps(table))):
        assert repr(read) == repr(columns).replace("NaN", "nan") and type(read) is dict
        read["loss"].append(9.0)
    assert table["loss"] == [0.5, 0.25] == table.get("loss") and table.get("none", 3) == 3
    assert [list(column) for column in table.values()][list(table).index("loss")] == [0.5, 0.25]


@pytest.mark.parametrize("name", ["History", "Table"])
def test_frames_of_every_library(name: str) -> None:
    table = tables()[name]
    for module, frame in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        made = getattr(pytest.importorskip(module), frame)(table)
        names = made.column_names if module == "pyarrow" else list(made.columns)
        assert names == list(table) and made.shape == (2, 3)
        values = made["loss"].to_pylist() if module == "pyarrow" else made["loss"].to_list()
        assert values == table["loss"]
    assert table.to_pandas()["epoch"].tolist() == [1, 2] and str(table.to_pandas()["epoch"].dtype) == "int64"


@pytest.mark.parametrize("name", ["History", "Table"])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.__setitem__("loss", [1.0, 2.0]),
        lambda t: t.__delitem__("loss"),
        lambda t: t.clear(),
        lambda t: t.pop("loss"),
        lambda t: t.popitem(),
        lambda t: t.update(loss=[1.0]),
        lambda t: t.setdefault("x", []),
        lambda t: t.__ior__({}),
    ],
)
def test_columns_are_not_changed_from_outside(change: Callable[[gd.Table], Any], name: str) -> None:
    table = tables()[name]
    before = repr(dict(table))
    with pytest.raises(TypeError, match=f"{name} cannot be changed"):
        change(table)
    assert repr(dict(table)) == before


def test_histories_are_made_of_rows_or_columns() -> None:
    made = gd.History({"epoch": np.array([1.0, 2.0]), "loss": np.array([0.5, math.nan], np.float32)})
    rows = gd.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2}])
    assert made == rows and made.last_epoch == 2 and type(made["epoch"][0]) is int and gd.History(made) == made
    assert gd.History() == {} and gd.History().last == {} and gd.History().last_epoch == 0
    for wrong, kind, words in (
        ([{"loss": 1.0}], ValueError, "number of the epoch"),
        ({"loss": [1.0]}, ValueError, "the column 'epoch'"),
        ([{"epoch": 1, "loss": "a"}], TypeError, "^loss: got str 'a'; expected a number"),
        ({"epoch": [1], "loss": [None]}, TypeError, "^loss: got NoneType None"),
        ({"epoch": [1], "loss": []}, ValueError, "different lengths"),
    ):
        helpers.refuses(lambda wrong=wrong: gd.History(wrong), kind, words)


@pytest.mark.parametrize("log", [False, True])
def test_plot(log: bool, history: gd.History, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name in ("curve.png", "curve.svg"):
        axes = history.plot(tmp_path / name, log=log)
        assert (tmp_path / name).stat().st_size > 1000
    lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.get_lines()}
    drawn = [y for y in lines.values() if y.shape == (7,)]
    assert any(np.array_equal(y, history["loss"]) for y in drawn)
    assert any(
        np.array_equal(y, history["val_loss"], equal_nan=True) or np.array_equal(y[3:], history["val_loss"][3:])
        for y in drawn
    )
    best = history.best_epoch()
    marks = [float(x) for line in axes.get_lines() for x in np.atleast_1d(np.asarray(line.get_xdata(), float))]
    offsets: list[Any] = [float(o[0]) for c in axes.collections for o in np.atleast_2d(c.get_offsets())]
    assert best in marks + offsets
    assert (
        (axes.get_yscale() == "log") == log
        and axes.get_xlabel()
        and axes.get_ylabel()
        and axes.get_legend() is not None
    )
    history.plot(measure="r2")
    with pytest.raises(KeyError):
        history.plot(measure="nothing", mode="min")
    pyplot.close("all")


def test_plot_to_a_file_leaves_pyplot_alone(history: gd.History, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    pyplot.close("all")
    for _ in range(3):
        history.plot(tmp_path / "a.png")
    assert pyplot.get_fignums() == []


def chosen_by_another_measure(*stoppings: gd.EarlyStopping) -> tuple[gd.Trainer, gd.History]:
    """Train for 5 epochs in which the loss falls, while a measure is greatest in the second."""
    x = np.linspace(-1, 1, 40)[:, None]
    values = iter([0.1, 0.9, 0.2, 0.9, 0.3])
    model = gd.Sequential(gd.Dense(1, 1), seed=0)
    metrics = {"own_score": lambda y_true, y_pred: next(values)}
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01), metrics=metrics)
    history = trainer.fit(x, 3 * x, epochs=5, validation=(x, 3 * x), callbacks=stoppings)
    assert history.best_epoch("val_loss") == 5
    return trainer, history


def score(**settings: Any) -> gd.EarlyStopping:
    return gd.EarlyStopping("val_own_score", mode="max", **settings)


def test_the_best_epoch_is_the_one_that_early_stopping_chose(tmp_path: Path) -> None:
    trainer, history = chosen_by_another_measure(score())
    assert (history.best_epoch(), history.monitor) == (2, "val_own_score")
    assert copy.deepcopy(history).best_epoch() == pickle.loads(pickle.dumps(history)).best_epoch() == 2
    assert history.best_epoch("val_own_score", "max") == 2 and gd.History(history).best_epoch() == 5
    again = trainer.fit(np.ones((4, 1)), np.ones(4), epochs=1)  # nothing was chosen in this one
    assert again is history and history.monitor == "val_loss" and history.best_epoch() == 5

    last = score(ties="last")
    assert chosen_by_another_measure(last)[1].best_epoch() == 4 == last.best_epoch
    # Of several, the one whose weights are there in the end; what only stops counts where none restores weights.
    for stoppings, epoch, monitor in (
        ([gd.EarlyStopping(), score()], 2, "val_own_score"),
        ([score(), gd.EarlyStopping()], 5, "val_loss"),
        ([score(), gd.EarlyStopping(restore_best=False)], 2, "val_own_score"),
        ([score(restore_best=False)], 2, "val_own_score"),
        ([score(min_delta=5.0)], 1, "val_own_score"),
        ([], 5, "val_loss"),
    ):
        found = chosen_by_another_measure(*stoppings)[1]
        assert (found.best_epoch(), found.monitor) == (epoch, monitor)


def test_the_plot_marks_the_epoch_that_was_chosen_and_says_by_what(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    history = chosen_by_another_measure(score())[1]
    axes = history.plot(tmp_path / "loss.png")
    title = axes.get_title(loc="left").replace("\n", " ")
    assert title == "Epoch 2 was chosen by validation own score; the loss was lowest in epoch 5"
    marked = [tuple(line.get_xydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    assert marked == [(2.0, history["val_loss"][1])]
    assert [text.get_text() for text in axes.texts] == [
        f"chosen by validation own score: epoch 2\n{history['val_loss'][1]:.4g}"
    ]
    own = history.plot(tmp_path / "own.png", measure="own_score", mode="max")
    assert own.get_title(loc="left") == "Validation own score was highest in epoch 2, and no better in the 3 after it"
    tied = chosen_by_another_measure(score(ties="last"))[1].plot(tmp_path / "tied.png", measure="own_score", mode="max")
    assert tied.get_title(loc="left").endswith("chosen by validation own score; the own score was highest in epoch 2")
    both = chosen_by_another_measure(gd.EarlyStopping())[1].plot(tmp_path / "both.png")
    assert "still falling after 5 epochs" in both.get_title(loc="left")


def test_an_early_stopping_without_a_finite_value_chooses_no_epoch() -> None:
    """The weights are those of the other one, whose epoch is the best one."""
    x, y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
    trainer = gd.Trainer(
        gd.Sequential(gd.Dense(2, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(1e-2),
        metrics={"undefined": lambda y_true, y_pred: math.nan},
    )  # fmt: skip
    worst = gd.EarlyStopping("val_loss", mode="max")
    stopping = [worst, gd.EarlyStopping("val_undefined", mode="max")]
    with pytest.warns(UserWarning, match="val_undefined"):
        history = trainer.fit(x, y, epochs=3, validation=(x, y), callbacks=stopping)
    assert (history.monitor, history.best_epoch()) == ("val_loss", worst.best_epoch) == ("val_loss", 1)


def test_a_fit_begins_without_the_choice_of_the_one_before() -> None:
    """Callbacks that ask during a fit are not told an epoch of the fit before it."""
    seen: list[str] = []

    class Asking(gd.Callback):
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            seen.append(trainer.history.monitor)

    x, y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
    trainer = gd.Trainer(gd.Sequential(gd.Dense(2, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(1e-2))
    trainer.fit(x, y, epochs=1, callbacks=[gd.EarlyStopping("loss")])
    assert trainer.history.monitor == "loss"
    trainer.fit(x, y, epochs=1, callbacks=[Asking()])
    assert seen == ["val_loss"]
