"""Promise: the row of an epoch is the history's; callbacks read a copy of it and add numbers of any library, what is no
number is refused with the callback's name; a line of the CSV log costs the same after any number of epochs."""

from __future__ import annotations

import csv
import fractions
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(4).standard_normal((40, 3)).astype(np.float32)
Y = X.sum(1)


class Adds:
    """A callback that does something to its logs."""

    def __init__(self, change: Callable[[dict[str, Any]], Any]) -> None:
        self.change = change

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, Any]) -> None:
        self.change(logs)


def build() -> gd.Trainer:
    return gd.Trainer(gd.Sequential(gd.Dense(3, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.01))


def run(change: Callable[[dict[str, Any]], Any], *callbacks: object, epochs: int = 2) -> gd.History:
    return build().fit(X, Y, epochs=epochs, callbacks=[Adds(change), *callbacks])


NUMBERS: dict[str, tuple[Any, float]] = {
    "int": (3, 3.0),
    "bool": (True, 1.0),
    "Decimal": (Decimal("1.5"), 1.5),
    "Fraction": (fractions.Fraction(1, 4), 0.25),
    "too large": (10**400, math.inf),
    "inf": (-math.inf, -math.inf),
    "array of one": (np.array([0.5], np.float32), 0.5),
    "0-d array": (np.array(0.25), 0.25),
    "np.bool": (np.bool_(True), 1.0),
    **{f"np.{np.dtype(k).name}": (np.dtype(k).type(2), 2.0) for k in "efdgbhilBHIL"},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_any_kind_enter_as_floats(name: str, tmp_path: Path) -> None:
    value, number = NUMBERS[name]
    saves = [gd.CSVLog(tmp_path / "l.csv"), gd.Checkpoint(tmp_path / "c.safetensors")]
    history = run(lambda logs: logs.update(f1=value), *saves)
    assert history["f1"] == [number, number] and all(type(each) is float for each in history["f1"])
    with open(tmp_path / "l.csv", newline="", encoding="utf-8") as file:
        assert [float(row["f1"]) for row in csv.DictReader(file)] == [number, number]
    again = build()
    again.fit(X, Y, until_epoch=2, resume=tmp_path / "c.safetensors", callbacks=[Adds(len)])
    assert again.history["f1"] == [number, number]


def test_numbers_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for value in (torch.tensor(0.5), torch.tensor([0.5]), torch.tensor(0.5, dtype=torch.bfloat16)):
        assert run(lambda logs, value=value: logs.update(f1=value))["f1"] == [0.5, 0.5]


NO_NUMBERS = [
    "0.5",
    None,
    1j,
    np.complex64(1),
    [0.5],
    np.zeros(2),
    np.array("a"),
    {},
    np.datetime64("2020-01-01"),
    b"1",
    np.ma.masked,
    np.ma.masked_array(0.5, mask=True),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_refused_with_the_callback(value: Any) -> None:
    trainer = build()
    callbacks = [gd.Progress(), Adds(lambda logs: logs.update(f1=value))]
    words = r"^callbacks\[1\]: Adds\.on_epoch_end: logs: f1: got .*; expected a number"
    helpers.refuses(lambda: trainer.fit(X, Y, epochs=2, callbacks=callbacks), TypeError, words)
    assert trainer.epoch == 1 and "f1" not in trainer.history


@pytest.mark.parametrize(
    "change",
    [dict.clear, dict.popitem, lambda logs: logs.pop("epoch"), lambda logs: logs.__delitem__("loss")],
    ids=["clear", "popitem", "pop", "del"],
)
def test_what_is_taken_out_stays_in_the_history(change: Callable[[dict[str, Any]], Any]) -> None:
    seen: list[dict[str, Any]] = []
    history = run(change, Adds(lambda logs: seen.append(dict(logs))))
    assert history["epoch"] == [1, 2] and history.last_epoch == 2
    assert [row.keys() for row in seen] == [history.row(0).keys()] * 2 and list(history) == list(run(len))


@pytest.mark.parametrize(("name", "value"), [("epoch", 7), ("loss", 0.0), ("lr", np.float64(1)), ("val_loss", 1.0)])
def test_what_was_measured_cannot_be_replaced(name: str, value: float) -> None:
    trainer = build()
    fit: Any = {"epochs": 2, "callbacks": [Adds(lambda logs: logs.update({name: value}))], "validation": (X, Y)}
    helpers.refuses(
        lambda: trainer.fit(X, Y, **fit), ValueError, rf"callbacks\[0\]: Adds.*{name!r}, which was measured"
    )
    assert trainer.history["epoch"] == [1]


def test_what_one_adds_the_next_one_sees() -> None:
    seen: list[float] = []
    history = run(lambda logs: logs.update(f1=np.float32(0.5)), Adds(lambda logs: seen.append(logs["f1"])))
    assert seen == [0.5, 0.5] == history["f1"]


def test_a_column_that_begins_late_holds_nan_before(tmp_path: Path) -> None:
    log = gd.CSVLog(tmp_path / "l.csv")
    history = run(lambda logs: logs.update(late=1.0) if logs["epoch"] == 3 else None, log, epochs=4)
    assert [math.isnan(value) for value in history["late"]] == [True, True, False, True]
    with open(tmp_path / "l.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4] and list(rows[0]) == list(history)


@pytest.mark.parametrize("calls", [1, 60], ids=["one fit", "a fit for each epoch"])
def test_the_csv_log_writes_each_line_once(calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[Any] = []
    write = gd.History.to_csv
    monkeypatch.setattr(gd.History, "to_csv", lambda self, path: [whole.append(path), write(self, path)])
    trainer, log = build(), gd.CSVLog(tmp_path / "l.csv")
    for _ in range(calls):
        trainer.fit(X, Y, epochs=60 // calls, callbacks=[log])
    assert len(whole) == 1
    back = gd.Table.from_csv(tmp_path / "l.csv")
    assert dict(back) == dict(trainer.history) and back["epoch"] == list(range(1, 61))


def test_the_csv_log_of_another_trainer_begins_anew(tmp_path: Path) -> None:
    log, first, second = gd.CSVLog(tmp_path / "l.csv"), build(), build()
    first.fit(X, Y, epochs=2, callbacks=[log])
    second.fit(X, Y, epochs=1)
    second.fit(X, Y, epochs=2, callbacks=[log])
    back = gd.Table.from_csv(tmp_path / "l.csv")
    assert back["epoch"] == [1, 2, 3] and back["loss"] == second.history["loss"]
    (tmp_path / "l.csv").write_text("damaged", encoding="utf-8")
    second.fit(X, Y, epochs=1, callbacks=[log])
    assert gd.Table.from_csv(tmp_path / "l.csv")["epoch"] == [1, 2, 3, 4]
