"""Promise: columns of text that look like numbers or dates but are read as categories are named, with what to do; odd
columns that mean something are used as meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import pytest
from gdcore import cli
from gdcore.commands.typed import advice, guessed

pa = pytest.importorskip("pyarrow")

ADVICE = {
    "a word among numbers": (
        ["1", "2.5", "-3e2", "old"],
        "3 of 4 values look like '1', but not 'old'; for numbers",
    ),
    "decimal commas": (
        ["1,5", "12,25", None],
        "all 2 values look like '1,5'; for numbers with a decimal comma, say",
    ),
    "thousands": (
        ["1,234.50", "12,000.00"],
        "all 2 values look like '1,234.50'; for numbers, write no signs",
    ),
    "thousands with points": (["1.234,50", "12.000,00"], "write no signs between thousands"),
    "money": (["$5", "$7.20"], "for numbers, write them without a unit"),
    "percent": (["5 %", "7.2 %"], "for numbers, write them without a unit"),
    "German dates": (
        ["31.12.2020", "1.2.2021"],
        "all 2 values look like '31.12.2020'; for dates, write them as",
    ),
    "American dates": (["12/31/2020", "02/01/2021 10:30"], "for dates, write them as 2026-03-01"),
    "dates, and a word": (
        ["2020-12-31", "2021-01-02", "2021-1-3 10:30", "soon"],
        "3 of 4 values look like '2020-12-31', but not 'soon'; for dates, write all as 2026-03-01",
    ),
    "few": (["1", "a", "b", "c"], ""),
    "one": (["1", None, "a"], ""),
    "text": (["red", "blue"], ""),
    "nothing": ([None, None], ""),
    "codes": (["A1", "B2"], ""),
    "zeros in front": (["730", "00731", "9"], "as values have zeros in front, such as '00731'; --kind sets another"),
    "zeros in front, and a word": (["00731", "old"], ""),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice(name: str) -> None:
    values, expected = ADVICE[name]
    column = guessed(pa.chunked_array([values], pa.string()))
    found = advice(column.cast(pa.string()))
    assert expected in found if expected else not found


def test_digits_with_zeros_in_front_are_codes() -> None:
    def types(*values: str, decimal: str = ".") -> str:
        return str(guessed(pa.chunked_array([values], pa.string()), decimal).type)

    assert types("00730", "1", "") == types(" 007 ", "8") == types("1,5", "007", decimal=",") == "string"
    assert types("0", "10", "-5") == "int64" and types("0.5", "0", "00.5") == "double"
    assert types("01.02.2024", "007") == "string"


def test_hours_with_zeros_in_front(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """As a target they may be classes or amounts; as times they are in order."""
    monkeypatch.chdir(tmp_path)
    Path("hours.csv").write_text("hour,y\n" + "".join(f"{i % 24:02d},{i % 24 / 2}\n" for i in range(96)))
    told = ["train", "hours.csv", "--ensemble", "1", "-q", "--target"]
    assert cli.main([*told, "hour"]) != 0
    assert "say --task classification or --task regression" in capsys.readouterr().err
    assert cli.main([*told, "hour", "--task", "regression"]) == 0
    assert gd.load("model.safetensors").task == "regression"
    assert cli.main([*told, "hour", "--task", "classification"]) == 0
    assert [*gd.load("model.safetensors").classes[:2]] == ["00", "01"]
    capsys.readouterr()
    assert cli.main([*told, "y", "--time-column", "hour"]) == 0
    assert "zeros in front" not in capsys.readouterr().err
    assert [*gd.load("model.safetensors").columns()["kind"]] == ["number"]


def test_columns_that_tell_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("same.csv").write_text("a,y\n" + "".join(f"1,{i}.5\n" for i in range(40)))
    assert cli.main(["train", "same.csv", "--target", "y", "--ensemble", "1", "-q"]) == 0
    assert "\nNo column is used, so that all predictions are the same\n" in capsys.readouterr().out


def test_advice_is_a_line(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Beside a column with line breaks, one of huge numbers and one without values, all of which are used as meant."""
    monkeypatch.chdir(tmp_path)
    rows = [f'{10**24 * (i % 9)},"two\nlines {i % 3}",,"{i % 9},5",{i % 3 + i % 9 / 10}' for i in range(90)]
    Path("odd.csv").write_text("huge,note,empty,comma,y\n" + "\n".join(rows) + "\n")
    common = ["train", "odd.csv", "--target", "y", "--ensemble", "1", "--test", "0.2", "-q"]
    assert cli.main(common) == 0
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and error.startswith("gdcore train: warning: odd.csv: column 'comma': taken as categ")
    assert "empty  " not in out.split("shuffled")[1] and "not used" in out
    columns = gd.load("model.safetensors").columns()
    assert dict(zip(columns["column"], columns["kind"], strict=True)) == {
        "huge": "number", "note": "category", "empty": "number", "comma": "category",
    }  # fmt: skip
    assert cli.main([*common, "--decimal", ",", "--task", "regression"]) == 1  # the target has points
    assert "column 'y': got '0.0' in row 1; expected a number" in capsys.readouterr().err
    assert cli.main(["predict", "model.safetensors", "odd.csv", "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 91


def test_dates_beside_a_word_are_warned_of_once(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{'soon' if i == 7 else f'2020-01-{i % 9 + 1:02d}'},{i % 9 + 0.5}" for i in range(90)]
    Path("days.csv").write_text("day,y\n" + "\n".join(rows) + "\n")
    assert cli.main(["train", "days.csv", "--target", "y", "--ensemble", "1", "-q"]) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "column 'day': taken as categories, as 89 of 90 values look like" in error
