"""Promise: a table has its columns in order, prints aligned, is read back from CSV exactly, and is valid Markdown."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.internal.checks import FormatError
from gdcore.table import Table

ROWS: list[dict[str, Any]] = [
    {"name": "first", "lr": 0.1, "steps": 7},
    {"name": "second", "lr": 1 / 3, "note": "diverged"},
    {"steps": -12, "name": 'ü, "quoted"\nand two lines', "lr": 1e-300},
]


def test_columns_are_in_the_order_of_their_first_appearance() -> None:
    table = Table(iter(ROWS))
    assert list(table) == ["name", "lr", "steps", "note"] and len(table) == 4 and "lr" in table
    assert table["steps"] == [7, None, -12] and table["note"] == [None, "diverged", None]
    assert dict(table)["lr"] == [0.1, 1 / 3, 1e-300]
    assert repr(table) == "Table(3 rows of name, lr, steps, note)"
    assert repr(Table()) == "Table(0 rows of no columns)" and len(Table()) == 0 and str(Table()) == ""


def test_rows_are_copied() -> None:
    row = {"a": 1}
    table = Table([row])
    row["a"] = 2
    assert table.rows == [{"a": 1}]


def test_printed_numbers_stand_to_the_right_with_six_digits() -> None:
    table = Table([{"lr": 1 / 3, "n": 5}, {"lr": 2.0, "n": 12345678, "note": "x"}])
    assert str(table).split("\n") == ["      lr         n  note", "0.333333         5", "       2  12345678     x"]


def test_markdown() -> None:
    table = Table([{"|Δ|": 1 / 3, "text": "a|b\nc"}, {"|Δ|": 2}])
    assert table.to_markdown().split("\n") == [
        r"| \|Δ\| | text |",
        "| --- | --- |",
        r"| 0.333333 | a\|b c |",
        "| 2 |  |",
    ]


def test_csv_comes_back_exactly(tmp_path: Path) -> None:
    table = Table([*ROWS, {"name": "numbers", "lr": math.pi, "steps": 2**70}, {"name": "flags", "note": True}])
    table.to_csv(tmp_path / "table.csv")
    back = Table.from_csv(tmp_path / "table.csv")
    assert list(back) == list(table) and back.rows == [{n: row[n] for n in table if n in row} for row in table.rows]
    assert [type(value) for value in back["lr"][:3]] == [float] * 3 and type(back["steps"][0]) is int
    assert back["note"][-1] is True


def test_csv_of_numpy_and_of_what_is_not_finite(tmp_path: Path) -> None:
    values = [np.float64(0.1), np.float32(0.1), np.int32(3), np.bool_(False), math.inf, -math.inf, math.nan]
    Table({"value": value, "i": i} for i, value in enumerate(values)).to_csv(tmp_path / "t.csv")
    back = Table.from_csv(str(tmp_path / "t.csv"))["value"]
    assert back[:6] == [0.1, float(np.float32(0.1)), 3, False, math.inf, -math.inf] and math.isnan(back[6])


def test_csv_of_one_column_keeps_empty_rows(tmp_path: Path) -> None:
    Table([{"a": 1}, {}, {"a": 3}]).to_csv(tmp_path / "t.csv")
    assert Table.from_csv(tmp_path / "t.csv").rows == [{"a": 1}, {}, {"a": 3}]
    (tmp_path / "empty.csv").write_bytes(b"")
    assert Table.from_csv(tmp_path / "empty.csv").rows == []


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "number": (lambda p: Table(3), TypeError, "^rows: got 3; expected dicts"),
    "None": (lambda p: Table(None), TypeError, "^rows: got None"),
    "text": (lambda p: Table("ab"), TypeError, r"^rows\[0\]: got 'a'"),
    "dict": (lambda p: Table({"a": 1}), TypeError, "^rows: got 1 as the column 'a'; expected a list of values"),
    "lengths": (lambda p: Table({"a": [1], "b": []}), ValueError, "^rows: got columns of different lengths: .*'b': 0"),
    "name of a column": (lambda p: Table({1: [2]}), TypeError, "^rows: got a column called 1; expected text"),
    "appended": (lambda p: Table().append([1]), TypeError, r"^row: got \[1\]; expected a dict"),
    "row": (lambda p: Table([{"a": 1}, 5]), TypeError, r"^rows\[1\]: got 5"),
    "pairs": (lambda p: Table([[("a", 1)]]), TypeError, r"^rows\[0\]"),
    "name": (lambda p: Table([{1: 2}]), TypeError, r"^rows\[0\]: got {1: 2}"),
    "column": (lambda p: Table(ROWS)["lrr"], KeyError, "'lrr': the columns are name, lr, steps, note"),
    "no column": (lambda p: Table()["lr"], KeyError, "none yet"),
    "no file": (lambda p: Table.from_csv(p / "none.csv"), FileNotFoundError, "none.csv"),
    "no path": (lambda p: Table.from_csv(3), TypeError, "path|os.PathLike"),
    "folder": (lambda p: Table(ROWS).to_csv(p / "none" / "t.csv"), FileNotFoundError, "none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, tmp_path: Path) -> None:
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(tmp_path), kind, words)
    assert not list(tmp_path.iterdir())


DAMAGED: dict[str, tuple[bytes, str]] = {
    "more cells": (b"a,b\n1,2\n1,2,3\n", "line 3: got 3 cells; expected 2"),
    "fewer cells": (b"a,b\n1\n", "line 2: got 1 cells; expected 2"),
    "blank line": (b"a,b\n\n1,2\n", "line 2: got 0 cells"),
    "two of one name": (b"a,a\n1,2\n", "different names"),
    "no text": (b"a,b\n\xff\xfe,2\n", "no CSV file"),
    "no end": (b'a,b\n1,"' + b"x" * 200_000, "no CSV file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    content, words = DAMAGED[name]
    (tmp_path / "t.csv").write_bytes(content)
    helpers.refuses(lambda: Table.from_csv(tmp_path / "t.csv"), FormatError, f"^path: .*{words}")


def test_notebooks_show_all_of_a_short_table_and_the_ends_of_a_long_one() -> None:
    html = Table(ROWS)._repr_html_()
    assert html.count("<tr>") == 4 and html.count("<th>") == html.count("<td>") / 3 == 4
    assert "<th>lr</th>" in html and "<td>0.333333</td>" in html and "<p>Table: 3 rows of 4 columns</p>" in html
    long = Table({"i": range(10_000)})._repr_html_()
    cells = [int(cell) if cell != "…" else cell for cell in re.findall("<td>(.*?)</td>", long)]
    assert cells == [*range(10), "…", *range(9990, 10_000)] and "10,000 rows of 1 columns" in long
    assert "…" not in Table({"i": range(20)})._repr_html_()
    assert "0 rows of 0 columns" in Table()._repr_html_() and "2 rows" in Table([{}, {}])._repr_html_()


def test_nothing_in_a_table_is_taken_for_html() -> None:
    html = Table({"<b>": ["<script>alert('&')</script>", None]})._repr_html_()
    assert "<th>&lt;b&gt;</th>" in html and "<td>&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;</td>" in html
    assert "<script" not in html and "<td></td>" in html


def test_a_history_is_shown_as_a_table() -> None:
    html = gd.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_loss": 1.0}])._repr_html_()
    assert "<td>0.25</td>" in html and "<td>nan</td>" in html and "History: 2 rows of 3 columns" in html


def test_control_characters_are_shown_and_not_obeyed() -> None:
    """Names of columns come from files of others, which ``gdcore inspect`` prints."""
    table = gd.Table({"\x1b[31mred": [1, 2], "line\nend": ["é\t", "\ud800"]})
    lines = [line.split() for line in str(table).split("\n")]
    assert lines == [["\\x1b[31mred", "line\\nend"], ["1", "é\\t"], ["2", "\\ud800"]]
