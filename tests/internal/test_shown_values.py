"""Promise: messages show the scalars of NumPy as the values that they are: inf, 'a' and 3, not np.float64(inf),
np.str_('a') and np.int64(3), inside of lists and as names too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore.internal.checks import choice, plain_repr, shown
from gdcore.tables import TabularModel
from gdcore.tuning.trials import Trial

X, Y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
A = np.str_("a")
OF_NUMPY = re.compile(r"\bnp\.\w+\(|numpy\.\w+\(")
SHOWN = {
    "infinite": (np.float64("inf"), "inf"),
    "single": (np.float32(0.1), "0.1"),
    "long": (np.longdouble(0.5), "0.5"),
    "whole": (np.int64(3), "3"),
    "text": (A, "'a'"),
    "bytes": (np.bytes_(b"a"), "b'a'"),
    "boolean": (np.bool_(True), "True"),
    "complex": (np.complex128(1 + 2j), "(1+2j)"),
    "date": (np.datetime64("2020-01-02"), "2020-01-02"),
    "duration": (np.timedelta64(3, "m"), "3 minutes"),
    "list": ([np.int64(1), [np.float64("nan")]], "[1, [nan]]"),
    "tuples": (((A,), (np.int8(1), 2)), "(('a',), (1, 2))"),
    "set": ({np.int64(1)}, "{1}"),
    "mapping": ({A: np.float64(0.5), "b": None}, "{'a': 0.5, 'b': None}"),
    "objects": (np.array([np.float64(1), A], object), "array([1.0, 'a'], dtype=object)"),
    "empty": ([[], (), {}, set()], "[[], (), {}, set()]"),
    "numbers": (np.arange(3), "array([0, 1, 2])"),
    "text of its own": ("np.int64(3)", "'np.int64(3)'"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_values(name: str) -> None:
    value, text = SHOWN[name]
    assert plain_repr(value) == text and shown(value) == text


def test_what_contains_itself_and_what_is_long() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert shown(endless).startswith("[[[")
    assert shown([np.int64(7)] * 100) == ("[" + "7, " * 19)[:57] + "..."


def net() -> gd.Sequential:
    return gd.Sequential(gd.Dense(2, 2), seed=0, device="cpu")


def trainer(**options: Any) -> gd.Trainer:
    return gd.Trainer(net(), gd.CrossEntropy(), optimizer=gd.SGD(0.1), **options)


def model(x: Any, y: Any = Y, task: str | None = "classification", **options: Any) -> Any:
    return TabularModel(task, ensemble=1, progress=False, device="cpu").fit(x, y, **options)


def sweep(settings: Any) -> Any:
    run = {"validation": 0.2, "epochs": 1, "progress": False, "loss": gd.CrossEntropy(), "optimizer": gd.SGD(0.1)}
    return gd.sweep(lambda seed: net(), settings, X, Y, **run)


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "an infinite number of a table": (
        lambda: model({"a": np.r_[np.inf, X[1:, 0]]}),
        "got inf in row 0; expected finite",
    ),
    "text as numbers": (lambda: model(X, np.array(["u", "v"])[Y], "regression"), "category values, such as 'u'; exp"),
    "a column of a dictionary": (lambda: model({A: 3}), "x: column 'a': got 3; expected a sequence"),
    "a column by name": (lambda: model({"b": X[:, 0]}, A), "y: got the name 'a'; expected a column of x"),
    "a validation share": (lambda: model(X, validation=np.float64(0.2)), "validation: got 0.2; expected .*=0.2\\)"),
    "metrics": (lambda: trainer(metrics={A: np.float64(1)}), r"metrics\['a'\]: got 1.0; expected a name"),
    "a monitor": (lambda: gd.EarlyStopping(A), "mode: needed for monitor='a': 'min'"),
    "a monitor that is not there": (
        lambda: trainer().fit(X, Y, epochs=1, callbacks=[gd.EarlyStopping(A, mode=np.str_("min"))]),
        "EarlyStopping monitors 'a', which is not measured",
    ),
    "a checkpoint": (lambda: trainer().fit(X, Y, epochs=1, resume=np.str_("no.st")), "there is no file 'no.st'"),
    "files": (lambda: gd.data.Parquet(np.str_("no.pq")), "paths: there is no file 'no.pq'"),
    "a column of a history": (lambda: gd.History({A: np.float64(1)}), "rows: got 1.0 as the column 'a'; expected a li"),
    "settings": (lambda: sweep({A: np.float64(1)}), r"settings\['a'\]: got 1.0; expected a list"),
    "unused settings": (lambda: sweep([{A: np.float64(1)}]), "settings: 'a' is an argument of neither"),
    "columns of a layer": (
        lambda: gd.Sequential(gd.Embedding([3], 2, columns=[A]), gd.Dense(3, 1), feature_names=["b"]),
        r"columns: got 'a'; expected some of \['b'\]",
    ),
    "an option": (lambda: choice(np.int64(3), "mode", ["min"]), "mode: got 3; expected one of 'min'"),
    "targets of a network": (lambda: trainer().fit(X, np.r_[np.int64(7), Y[1:]], epochs=1), "got 7 in row 0|label 7"),
}


@pytest.mark.parametrize("name", CALLS)
def test_messages(name: str) -> None:
    call, message = CALLS[name]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message) as raised:
        call()
    assert not OF_NUMPY.search(str(raised.value))


def test_columns_of_files(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": X[:, 0], "b": Y}), tmp_path / "a.parquet")
    path = np.str_(tmp_path / "a.parquet")
    for options, message in (
        ({"x": [A, A]}, "x: got column 'a' more than once"),
        ({"x": [A], "y": A}, "got column 'a' twice"),
        ({"y": np.str_("c")}, "y: got column 'c', which .*a.parquet lacks"),
        ({"sample_weight": np.str_("c")}, "sample_weight: got column 'c'"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            gd.data.Parquet(path, **options)
        assert not OF_NUMPY.search(str(raised.value))
    assert repr(gd.data.Parquet(path, np.array(["a"]), np.str_("b"))).count("'b'") == 1
    with pytest.raises(ValueError, match="sample_weight: got column 'c'"):
        model(gd.data.Parquet(path), np.str_("b"), sample_weight=np.str_("c"))


def test_what_is_printed() -> None:
    assert str(Trial(3, {"betas": (np.float64(0.9), 0.5), "lr": np.float64(0.1)})) == "seed 3, betas (0.9, 0.5), lr 0.1"
    assert "np." not in str(gd.Table({"a": [[np.float64(0.5)], np.int64(3)]}))
    assert "np." not in repr(gd.EarlyStopping(np.str_("val_loss"), mode=np.str_("min")))
    assert "name='a'" in repr(gd.CustomLoss(lambda outputs, targets: (outputs, targets), name=A))
    labels = np.array(["2020-01-01", "2021-01-01"], "M8[D]")
    with pytest.raises(ValueError, match=r"got the label 2022-01-01\S* in row 0; expected one of .*\[2020-01-01"):
        gd.Trainer(gd.Sequential(gd.Dense(2, 2), classes=labels, seed=0), gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(
            X, np.full(20, np.datetime64("2022-01-01")), epochs=1
        )
