"""Promise: tables come from the standard input and from pipes too; a file larger than the memory is predicted and
measured in windows of rows, and some of its rows, drawn at random, can be trained on."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import cli
from gdcore.commands import reading, shared

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")

TRAIN = ["--target", "buys", "--ignore", "id", "--ensemble", "1", "-q"]


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def lines(text: str) -> dict[str, str]:
    return {line.split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines() if "  " in line}


def given(monkeypatch: Any, content: bytes) -> None:
    """Make bytes the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def contents(people: str) -> dict[str, bytes]:
    """The table in every format that the standard input may have."""
    table = csv.read_csv(io.BytesIO(people.encode()))
    packed, arrow = pa.BufferOutputStream(), pa.BufferOutputStream()
    parquet.write_table(table, packed)
    with pa.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    text = people.replace(",", "\t").replace("Rome\t IT", "Rome, IT")
    return {
        "csv": people.encode(), "tsv": text.encode(), "parquet": packed.getvalue().to_pybytes(),
        "arrow": arrow.getvalue().to_pybytes(), "packed csv": gzip.compress(people.encode()),
    }  # fmt: skip


def test_the_standard_input(here: Path, people: str, monkeypatch: Any, capsys: Any) -> None:
    run("predict", "model.safetensors", "people.csv", "-q")
    expected = capsys.readouterr().out
    for name, content in contents(people).items():
        given(monkeypatch, content)
        form = [] if name.endswith("csv") else ["--format", name]
        run("predict", "model.safetensors", "-", "--out", "-", "-q", *form)
        assert capsys.readouterr().out == expected, name
    given(monkeypatch, people.encode())
    run("evaluate", "model.safetensors", "-")
    assert "240 rows read" in capsys.readouterr().err
    given(monkeypatch, people.encode())
    run("train", "-", *TRAIN, "--out", "other.st")
    assert lines(capsys.readouterr().out)["rows"] == "192 trained on, 48 for the test"
    given(monkeypatch, people.replace("c003,", "c003,1,").encode())
    assert cli.main(["predict", "model.safetensors", "-", "-q"]) == 1
    assert capsys.readouterr().err.startswith("gdcore predict: standard input: ")
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["predict", "model.safetensors", "-", "-q"]) == 1
    assert capsys.readouterr().err == "gdcore predict: standard input: is closed; expected a table\n"
    given(monkeypatch, b"")
    assert cli.main(["predict", "model.safetensors", "-", "-q"]) == 1
    assert capsys.readouterr().err == "gdcore predict: standard input: is empty; expected a table\n"


def test_a_pipe_and_names_without_an_ending(here: Path, people: str, capsys: Any) -> None:
    run("predict", "model.safetensors", "people.csv", "-q")
    expected = capsys.readouterr().out
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(people,))
    writer.start()
    run("predict", "model.safetensors", "pipe", "--format", "csv", "-q")
    writer.join()
    assert capsys.readouterr().out == expected
    Path("data.txt").write_text(people)
    run("predict", "model.safetensors", "data.txt", "--format", "csv", "-q")
    assert capsys.readouterr().out == expected


def test_measures_do_not_depend_on_windows(here: Path, monkeypatch: Any, capsys: Any) -> None:
    """Also of a table whose first windows lack a class, and with weights."""
    table = csv.read_csv("people.csv", convert_options=csv.ConvertOptions(strings_can_be_null=True))
    table = table.append_column("weight", pa.array(np.arange(240) % 3 + 0.5)).sort_by("buys")
    feather.write_feather(table, "sorted.arrow")
    found = []
    for most in (1 << 16, 32):
        monkeypatch.setattr(shared, "MOST_ROWS", most)
        run("evaluate", "model.safetensors", "sorted.arrow", "--weights", "weight", "-q")
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    model = gd.load("model.safetensors")
    expected = model.evaluate(
        table.drop_columns(["id", "weight"]), "buys", metrics=["accuracy", "roc_auc"],
        sample_weight=table.column("weight").to_numpy(),
    )  # fmt: skip
    for name, key in {"accuracy": "accuracy", "roc_auc": "roc_auc", "log_loss": "loss"}.items():
        assert float(lines(found[0])[name]) == pytest.approx(expected[key], rel=1e-5)


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_memory_is_bounded(ending: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A tenth of the table is in memory at most, whatever its format."""
    monkeypatch.setattr(reading, "BLOCK", 1 << 13)
    path, rows = tmp_path / f"long.{ending}", 1 << 19
    table = pa.table({"a": np.arange(rows) % 1000 + 1000, "b": np.random.default_rng(0).random(rows)})
    if ending == "csv":
        csv.write_csv(table, path)
    elif ending == "parquet":
        parquet.write_table(table, path, row_group_size=1 << 14)
    else:
        feather.write_feather(table, path, compression="lz4", chunksize=1 << 12)
    size = table.nbytes
    del table
    before, most, total = pa.total_allocated_bytes(), 0, 0
    for first, window in reading.opened(path).windows(["a", "b"], 1 << 12):
        assert first == total
        total += window.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert total == rows and 0 < most < size / 10


def drawn(rows: int, seed: int, capsys: Any) -> list[int]:
    """The rows that --rows draws, as the model that is trained on them shows."""
    options = cli._build().parse_args(
        ["train", "long.csv", "--target", "y", "--rows", str(rows), "--seed", str(seed), "-q"]
    )
    from gdcore.commands import train

    table, total = train._read(reading.opened(Path("long.csv")), ["x", "y"], options)
    assert total == 5000
    return [int(value) for value in table.column("x").to_pylist()]


def test_rows_drawn_at_random(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Each row at most once, in the order of the file, evenly from all of it, the same for a seed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "BLOCK", 1000)
    Path("long.csv").write_text("x,y\n" + "".join(f"{i},{i * 0.5}\n" for i in range(5000)))
    one, again, other = drawn(300, 0, capsys), drawn(300, 0, capsys), drawn(300, 1, capsys)
    assert len(one) == 300 and one == again != other and one == sorted(set(one))
    counts = np.bincount(np.concatenate([np.array(drawn(300, seed, capsys)) // 500 for seed in range(40)]))
    assert len(counts) == 10 and abs(counts - 1200).max() < 5 * 33  # standard deviation of a tenth of 12,000 rows
    assert drawn(5000, 0, capsys) == drawn(9000, 0, capsys) == list(range(5000))
    run("train", "long.csv", "--target", "y", "--rows", "300", "--ensemble", "1", "--time", "1s")
    out, error = capsys.readouterr()
    assert "long.csv: 300 rows, drawn from 5,000, 2 columns" in error
    assert lines(out)["rows"] == "240 trained on, 60 for the test"


def test_errors_about_drawn_rows_have_no_numbers(here: Path, people: str, capsys: Any) -> None:
    Path("bad.csv").write_text(people.replace(",yes\n", ",\n"))
    assert cli.main(["train", "bad.csv", *TRAIN, "--rows", "100"]) == 1
    error = capsys.readouterr().err
    assert "column 'buys': has no value" in error and " row " not in error


def test_groups_weights_and_times(here: Path, people: str, capsys: Any) -> None:
    """Test rows are whole groups, or the last ones; columns of groups and weights are no inputs."""
    header, *rows = people.splitlines()
    more = [f"{row},{i % 12},{i % 3 + 1},2026-01-{i % 28 + 1:02d}" for i, row in enumerate(rows)]
    Path("more.csv").write_text("\n".join([f"{header},team,weight,day", *more]) + "\n")
    run("train", "more.csv", *TRAIN, "--groups", "team", "--weights", "weight", "--ignore", "day", "--out", "a.st")
    found = lines(capsys.readouterr().out)
    assert found["rows"] in ("180 trained on, 60 for the test", "200 trained on, 40 for the test")  # teams of 20
    assert gd.load("a.st").feature_names == ("age", "city", "member", "joined", "income")
    run("evaluate", "a.st", "more.csv", "--weights", "weight", "-q")
    assert float(lines(capsys.readouterr().out)["accuracy"]) > 0.7
    run("train", "more.csv", *TRAIN, "--time-column", "day", "--ignore", "day", "--ignore", "team", "--out", "b.st")
    found = lines(capsys.readouterr().out)
    assert found["rows"].endswith("for the test") and "day" not in gd.load("b.st").feature_names
    late = sum(i % 28 + 1 >= 23 for i in range(240))
    assert abs(int(found["rows"].split(", ")[1].split()[0]) - late) <= 9
    run("train", "more.csv", *TRAIN, "--time-column", "day", "--out", "b.st")
    assert "day" in gd.load("b.st").feature_names


WRONG = {
    "both": (["--groups", "city", "--time-column", "joined"], 2, "--time-column: got a column beside --groups"),
    "unknown": (["--groups", "team"], 1, "--groups: got 'team'; expected a column of people.csv"),
    "target": (["--weights", "buys"], 1, "--weights: got 'buys', the target"),
    "text": (["--weights", "city"], 1, "column 'city': got .* in row 1; expected a number"),
    "missing": (["--weights", "income"], 1, "column 'income': has no value in 27 of 240 rows, the first in row 1;"),
    "one group": (["--groups", "same"], 1, "column 'same': got one group"),
    "below 0": (["--weights", "minus"], 1, "column 'minus': got -1.0; expected finite weights"),
    "no time": (["--time-column", "city"], 1, "column 'city': got .*; expected dates or numbers"),
    "few": (["--rows", "2"], 2, "--rows: got '2'; expected a whole number from 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_columns(name: str, here: Path, people: str, capsys: Any) -> None:
    header, *rows = people.splitlines()
    Path("people.csv").write_text("\n".join([f"{header},same,minus", *(f"{row},1,-1" for row in rows)]))
    arguments, status, pattern = WRONG[name]
    with pytest.raises(SystemExit) if status == 2 else contextlib.nullcontext():
        assert cli.main(["train", "people.csv", *TRAIN, *arguments]) == status
    out, error = capsys.readouterr()
    assert not out and error.count("\n") == 1
    assert re.search(pattern, error), error
