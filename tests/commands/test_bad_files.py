"""Promise: whatever is wrong with a file or an argument is said in one line, without a traceback, with status 1 for
data and models and 2 for usage; nothing is written then, and no input is ever overwritten."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import pytest
from gdcore import cli
from gdcore.commands import reading, shared
from gdcore.commands import train as train_module

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")

Make = Callable[[str], bytes]
TRAIN = ["train", "bad.csv", "--target", "buys", "--ignore", "id", "-q"]
PREDICT = ["predict", "model.safetensors", "bad.csv", "--out", "out.csv", "-q"]
EVALUATE = ["evaluate", "model.safetensors", "bad.csv", "-q"]


def edited(old: str, new: str, count: int = 1) -> Make:
    """The table with some text replaced."""

    def make(people: str) -> bytes:
        assert old in people
        return people.replace(old, new, count).encode()

    return make


def without(*columns: str) -> Make:
    def make(people: str) -> bytes:
        table = [line.replace('"Rome, IT"', "Rome").split(",") for line in people.splitlines()]
        kept = [i for i, name in enumerate(table[0]) if name not in columns]
        return "\n".join(",".join(row[i] for i in kept) for row in table).encode()

    return make


def rows(count: int) -> Make:
    return lambda people: "\n".join(people.splitlines()[: count + 1]).encode()


def cell(row: int, column: int, text: str) -> Make:
    """The table with one cell replaced; rows are counted from 1."""

    def make(people: str) -> bytes:
        lines = people.splitlines()
        cells = lines[row].replace('"Rome, IT"', "Rome").split(",")
        cells[column] = text
        lines[row] = ",".join(cells)
        return "\n".join(lines).encode()

    return make


def parquet_of(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


WIDE = ",".join(f"column_{i}" for i in range(1_000_000))
CELLS = "1," * 999_999 + "1"
FILE: dict[str, tuple[Make, list[str], str]] = {
    # what a file is: (its bytes, the command, a pattern of the message)
    "empty": (lambda p: b"", TRAIN, r"bad\.csv: is empty"),
    "only blank lines": (lambda p: b"\n\n\n", TRAIN, r"bad\.csv: is empty"),
    "only a header": (rows(0), TRAIN, r"a header, but no rows"),
    "only a header, predicted": (rows(0), PREDICT, r"a header, but no rows"),
    "one row": (rows(1), TRAIN, r"got 1 rows; expected at least three"),
    "a test of one row": (rows(5), TRAIN, r"--test: got 0\.2 of 5 rows, which is 1; expected at least two rows, or 0"),
    "no header": (lambda p: b"1,2.5,3\n4,5,6\n", TRAIN, r"first line has numbers.*expected a header"),
    "short row": (edited("\nc003,", "\nc003\nx,"), TRAIN, r"damaged.*Row #5: Expected 7 columns, got 1"),
    "long row": (edited("\nc003,", "\nc003,1,"), PREDICT, r"damaged.*Row #5: Expected 7 columns, got 8"),
    "two names equal": (edited("age", "city"), TRAIN, r"two columns are called 'city'"),
    "no name": (edited("id,", ","), TRAIN, r"column 1 has no name.*index=False"),
    "semicolons": (lambda p: p.replace(",", ";").encode(), TRAIN, r"got one column.*say --separator ';'"),
    "latin-1": (lambda p: p.replace("Bern", "Zürich").encode("latin-1"), TRAIN, r"not UTF-8 text; say --encoding"),
    "latin-1 at the end": (
        lambda p: (p * 20).encode() + "c,1,Zürich,true,2020-01-01,1,no\n".encode("latin-1"), PREDICT, r"not UTF-8 text",
    ),
    "latin-1 header": (lambda p: p.replace("age", "größe").encode("latin-1"), TRAIN, r"not UTF-8 text; say --enc"),
    "utf-16": (lambda p: p.encode("utf-16"), TRAIN, r"is UTF-16, not UTF-8; say --encoding utf-16"),
    "zeros": (lambda p: b"\x00\x01\x00\x02" * 100, TRAIN, r"bytes that are 0"),
    "parquet as csv": (lambda p: parquet_of(pa.table({"a": [1]})), TRAIN, r"is a Parquet file.*say --format parquet"),
    "target unknown": (without("buys"), TRAIN, r"--target: got 'buys'; expected a column of bad\.csv.*income"),
    "target missing in rows": (cell(7, 6, "NA"), TRAIN, r"column 'buys': has no value in 1 of 240 rows.*row 7"),
    "answer missing": (cell(9, 6, ""), EVALUATE, r"column 'buys': has no value in row 9; expected"),
    "answer unknown": (cell(9, 6, "maybe"), EVALUATE, r"column 'buys': .*maybe"),
    "no answers": (
        without("buys"), EVALUATE, r"bad\.csv: lacks the column 'buys', the target of model\.safetensors; say --target",
    ),
    "answers unknown": (without(), [*EVALUATE, "--target", "Buy"], r"--target: got 'Buy'; .*; did you mean buys\?"),
    "one class": (lambda p: re.sub(r",(yes|no)\n", ",yes\n", p).encode(), TRAIN, r"column 'buys': got one class"),
    "nothing but the target": (without("age", "city", "member", "joined", "income"), TRAIN, r"0 feature"),
    "infinite": (cell(5, 1, "inf"), TRAIN, r"column 'age': got inf in row 5; expected finite"),
    "infinite, predicted": (cell(6, 5, "-inf"), PREDICT, r"column 'income': got -inf in row 6; expected finite"),
    "columns missing": (without("age", "joined"), PREDICT, r"bad\.csv: lacks the columns \['age', 'joined'\]"),
    "text for a number": (cell(12, 1, "old"), PREDICT, r"column 'age': got 'old' in row 12; expected a number"),
    "text for a date": (cell(13, 4, "soon"), PREDICT, r"column 'joined': got 'soon' in row 13; expected a date"),
    "text for a boolean": (cell(14, 3, "2"), PREDICT, r"column 'member': got '2' in row 14; expected true or false"),
    "1,000,000 columns, another target": (lambda p: f"{WIDE}\n{CELLS}\n".encode(), TRAIN, r"got 'buys'.*column_0"),
    "1,000,000 columns": (
        lambda p: f"id,buys,{WIDE}\n1,2,{CELLS}\n".encode(), TRAIN, r"got 1,000,001 columns to read; expected at most",
    ),
    "1,000,000 columns, predicted": (lambda p: f"{WIDE}\n{CELLS}\n".encode(), PREDICT, r"lacks the columns"),
    "1,000,000 columns, too few cells": (
        lambda p: f"buys,id,{WIDE}\n1,2\n".encode(), TRAIN, r"row 1 has 2 cells; expected 1,000,002",
    ),
    "short first row": (edited("\nc000,", "\n"), TRAIN, r"bad\.csv: row 1 has 6 cells; expected 7"),
    "open quote": (edited("\nc003,", '\n"c003,'), TRAIN, r"bad\.csv: is damaged"),
    "zeros in a cell": (cell(8, 1, "4\0"), PREDICT, r"column 'age': got '4.x00' in row 8; expected a number"),
    "arrow as csv": (lambda p: b"ARROW1\0\0" + bytes(50), TRAIN, r"is an Arrow file, not text; say --format arrow"),
    "tabs": (lambda p: p.replace(",", "\t").encode(), TRAIN, r"got one column.*say --separator tab"),
    "decimal commas, predicted": (cell(4, 5, '"1,5"'), PREDICT, r"column 'income': got '1,5' in row 4; expected a num"),
    "another order of dates": (cell(4, 4, "31.12.2020"), PREDICT, r"got '31\.12\.2020' in row 4; expected a date"),
    "a date that is none": (cell(4, 4, "2020-13-41"), PREDICT, r"'joined': got '2020-13-41' in row 4; expected a date"),
    "dates with and without a zone": (
        lambda p: cell(4, 4, "2020-02-03 01:00:00Z")(p), PREDICT, r"'joined': got dates with and without a time zone",
    ),
    "weight that is no number": (cell(6, 1, "old"), [*EVALUATE, "--weights", "age"], r"'age': got 'old' in row 6;"),
    "kept column unknown": (lambda p: p.encode(), [*PREDICT, "--keep", "name"], r"--keep: got 'name'"),
    "several ignored columns": (
        lambda p: p.encode(), [*TRAIN, "--ignore", "id,age"],
        r"--ignore: got 'id,age'; .*; for several columns repeat --ignore",
    ),
    "several kinds": (
        lambda p: p.encode(), [*TRAIN, "--kind", "age=number,city=category"],
        r"--kind: got 'age=number,city'; .*; for several columns repeat --kind",
    ),
    "ignored column unknown": (lambda p: p.encode(), [*TRAIN, "--ignore", "name"], r"--ignore: got 'name'"),
    "kind of the target": (lambda p: p.encode(), [*TRAIN, "--kind", "buys=number"], r"--kind: got 'buys', the target"),
    "kind that does not fit": (lambda p: p.encode(), [*TRAIN, "--kind", "city=number"], r"'city': got '.*' in row 1;"),
    "regression of text": (lambda p: p.encode(), [*TRAIN, "--task", "regression"], r"'buys': got '\w+' in row 1;"),
    "metric unknown": (lambda p: p.encode(), [*EVALUATE, "--metric", "luck"], r"luck"),
    "kept name taken": (edited("id,", "prediction,"), [*PREDICT, "--keep", "prediction"], r"--keep: 'prediction' is"),
}  # fmt: skip


def fails(arguments: list[str], pattern: str, capsys: Any, status: int = 1) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    if status == 2:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        assert left.value.code == 2
    else:
        assert cli.main(arguments) == status
    out, error = capsys.readouterr()
    assert not out and error.count("\n") == 1 and error.startswith(f"gdcore {arguments[0]}: "), error
    assert re.search(pattern, error) and "Traceback" not in error, error
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", FILE)
def test_a_bad_table(name: str, here: Path, people: str, capsys: Any) -> None:
    make, arguments, pattern = FILE[name]
    Path("bad.csv").write_bytes(make(people))
    fails(arguments, pattern, capsys)


def test_damaged_files_of_other_formats(here: Path, people: str, capsys: Any) -> None:
    whole = gzip.compress(people.encode())
    table = pa.table({"age": list(range(1000)), "buys": ["yes", "no"] * 500})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    packed, arrow = parquet_of(table), sink.getvalue().to_pybytes()
    for name, content in {
        "cut.csv.gz": whole[: len(whole) // 2],
        "cut.parquet": packed[: len(packed) // 2],
        "text.parquet": people.encode(),
        "middle.parquet": packed[:20] + bytes(100) + packed[120:],
        "cut.arrow": arrow[: len(arrow) // 2],
        "text.feather": people.encode(),
        "empty.parquet": b"",
    }.items():
        Path(name).write_bytes(content)
        expected = "is empty" if name == "empty.parquet" else "is damaged, or has another format than its name"
        fails(["train", name, "--target", "buys", "-q"], f"{re.escape(name)}: {expected}", capsys)


def test_a_million_columns_take_seconds(here: Path) -> None:
    """And no gigabyte, in a program of their own."""
    Path("bad.csv").write_text(f"{WIDE}\n{CELLS}\n")
    # The peak in getrusage includes that of the process that started the program.
    program = "import re, sys, time; from gdcore import cli; cli.main(sys.argv[1:]); "
    program += "print(time.process_time(), *re.findall(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read()))"
    command = [sys.executable, "-c", program, "train", "bad.csv", "--target", "column_5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "got 1,000,000 columns" in done.stderr
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 15 and kilobytes < 800_000


def test_another_table_is_predicted(here: Path, capsys: Any) -> None:
    """Parquet whose columns have other types than those of training: numbers as text, text as numbers, lists."""
    table = csv.read_csv("people.csv", convert_options=csv.ConvertOptions(strings_can_be_null=True))
    for column, values, pattern in (
        ("age", pa.array(["old"] * 240), r"column 'age': .*'old'.* in row 1"),
        ("city", pa.array([[1, 2]] * 240), r"column 'city'"),
        ("joined", pa.array([1.5] * 240), r"column 'joined'"),
        ("income", pa.array([{"a": 1}] * 240), r"column 'income'"),
    ):
        position = table.column_names.index(column)
        parquet.write_table(table.set_column(position, column, values), "bad.parquet")
        fails(["predict", "model.safetensors", "bad.parquet", "-q"], rf"bad\.parquet: {pattern}", capsys)
    parquet.write_table(table.slice(0, 0), "bad.parquet")
    fails(["predict", "model.safetensors", "bad.parquet", "-q"], r"bad\.parquet: has a header, but no rows", capsys)


def test_a_file_that_may_not_be_read(here: Path, monkeypatch: Any, capsys: Any) -> None:
    def refuse(path: Any, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(reading, "open", refuse, raising=False)  # root may read all files
    fails(["train", "people.csv", "--target", "buys"], r"people\.csv: cannot be read: Permission denied\n", capsys)


def test_a_target_that_is_not_a_number(here: Path, capsys: Any) -> None:
    """NaN in a column of floats is a missing value as well."""
    parquet.write_table(pa.table({"a": [1.0, 2.0] * 9, "y": [1.5, float("nan"), None] * 6}), "nan.parquet")
    pattern = r"nan\.parquet: column 'y': has no value in 12 of 18 rows, the first in row 2"
    fails(["train", "nan.parquet", "--target", "y", "-q"], pattern, capsys)


def test_rows_of_windows_are_those_of_the_file(here: Path, monkeypatch: Any, capsys: Any) -> None:
    """Also where the model finds what is wrong: numbers among the text of a late window."""
    monkeypatch.setattr(shared, "MOST_ROWS", 64)
    table = csv.read_csv("people.csv")
    city = pa.array([None] * 200 + [7] * 40, pa.int64())
    parquet.write_table(table.set_column(2, "city", city), "bad.parquet")
    fails(["predict", "model.safetensors", "bad.parquet", "-q"], r"bad\.parquet: column 'city': .* in row 201;", capsys)


def test_paths_that_are_no_files(here: Path, capsys: Any) -> None:
    Path("folder.csv").mkdir()
    fails(["train", "folder.csv", "--target", "buys"], r"folder\.csv: is a folder", capsys)
    fails(["train", "none.csv", "--target", "buys"], r"none\.csv: there is no such file", capsys)
    fails(["predict", "none.st", "people.csv"], r"none\.st: there is no such file", capsys)
    fails(["predict", "folder.csv", "people.csv"], r"folder\.csv", capsys)
    fails(["train", "people.csv", "--target", "buys", "--out", "none/model"], r"--out: there is no folder", capsys)
    fails(["train", "people.csv", "--target", "buys", "--out", "folder.csv"], r"--out: got a folder", capsys)


def test_models_of_another_kind(here: Path, capsys: Any) -> None:
    gd.Sequential(gd.Dense(5, 2), seed=0).save("plain.st")
    fails(["predict", "plain.st", "people.csv"], r"plain\.st: holds a Sequential; expected a TabularModel", capsys)
    fails(["evaluate", "plain.st", "people.csv"], r"plain\.st: holds a Sequential", capsys)
    fails(["export", "plain.st", "--onnx", "out.onnx", "--networks"], r"--networks: plain\.st holds", capsys)
    fails(["predict", "people.csv", "model.safetensors"], r"MODEL: got people\.csv, a table by its name", capsys)
    content = Path("model.safetensors").read_bytes()
    Path("cut.st").write_bytes(content[: len(content) // 2])
    fails(["predict", "cut.st", "people.csv"], r"cut\.st: ", capsys)
    unnamed = gd.tables.TabularModel("regression", ensemble=1, progress=False)
    unnamed.fit([[1.0], [2.0], [3.0]] * 9, [1.0, 2.0, 3.0] * 9).save("unnamed.st")
    fails(["predict", "unnamed.st", "people.csv"], r"unnamed\.st: was trained on an array", capsys)


USAGE = {
    "no target": ("train people.csv", "--target"),
    "misspelt option": (
        "train people.csv --targte buys",
        r"got the unknown option --targte; did you mean --target\? \(see gdcore train --help\)",
    ),
    "unknown letter": ("train people.csv --target buys -x", r"got the unknown option -x \(see gdcore train --help\)"),
    "one dash": ("train people.csv --target buys -quiet", r"the unknown option -quiet; did you mean --quiet\? \(see"),
    "another command's option": ("train people.csv --target buys --netw", r"got the unknown option --netw \(see"),
    "several metrics": (
        "evaluate model.safetensors people.csv --metric accuracy,f1",
        r"--metric: got 'accuracy,f1'; expected one name; for several metrics repeat --metric",
    ),
    "misspelt, with a value": ("train people.csv --target buys --tets=0.1", "option --tets; did you mean --test"),
    "epochs": ("train people.csv --target buys --epochs 3", r"option --epochs; it is chosen for the table .*; --time "),
    "a rate": ("train people.csv --target buys --batch_size=3", r"option --batch_size; it is chosen for the table"),
    "a metric": ("train people.csv --target buys --metric f1", r"--metric; gdcore evaluate MODEL FILE --metric NAME"),
    "unknown option": ("train people.csv --target buys --zzz 3", r"got the unknown option --zzz \(see"),
    "too many": ("train people.csv other.csv --target buys", r"got 'other\.csv' beside all"),
    "unknown ending": (
        "train people.xlsx --target buys",
        r"DATA: got 'people\.xlsx'; expected a name that ends",
    ),
    "gz alone": ("train people.gz --target buys", r"people\.gz"),
    "unknown ending of predictions": ("predict model.safetensors people.csv --out out.txt", r"--out: got 'out\.txt'"),
    "task": ("train people.csv --target buys --task clustering", "clustering"),
    "time": ("train people.csv --target buys --time soon", r"--time: got 'soon'; expected a time above 0"),
    "no time": ("train people.csv --target buys --time 0s", "--time: got '0s'"),
    "share": ("train people.csv --target buys --test 1", "--test: got '1'; expected a share"),
    "no networks": ("train people.csv --target buys --ensemble 0", "--ensemble: got '0'"),
    "kind": ("train people.csv --target buys --kind age=colour", "--kind: got 'age=colour'"),
    "seed": ("train people.csv --target buys --seed -1", "--seed"),
    "picture": ("train people.csv --target buys --curve curve.txt", r"--curve: got 'curve\.txt'"),
    "encoding": ("train people.csv --target buys --encoding klingon", "--encoding: got 'klingon'"),
    "separator": ("train people.csv --target buys --separator ab", "--separator: got 'ab'"),
    "no file for onnx": ("export model.safetensors", "--onnx"),
    "out is the data": (
        "predict model.safetensors people.csv --out people.csv",
        "--out: got people.csv, which is read too;",
    ),
    "out is the data, as a link": (
        "predict model.safetensors people.csv --out link.csv",
        r"--out: got link\.csv",
    ),
    "model is the data": ("train people.csv --target buys --out people.csv", "--out: got people.csv, which is"),
    "onnx is the model": ("export model.safetensors --onnx model.safetensors", "--onnx: got model.safetensors, which"),
    "curve is the model": (
        "train people.csv --target buys --curve a.png --out a.png",
        r"--curve: got a\.png, which is also that of --out;",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage(name: str, here: Path, capsys: Any) -> None:
    Path("link.csv").symlink_to("people.csv")
    command, pattern = USAGE[name]
    fails(command.split(), pattern, capsys, status=2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian people.csv", r"got the unknown command 'trian'; expected one of train, .*; did you mean train\?"),
        ("-x train people.csv", r"^gdcore: got the unknown option -x \(see gdcore --help\)\n$"),
        ("--verison", r"got the unknown option --verison; did you mean --version\?"),
        ("reproduce minist1d out", r"NAME: got 'minist1d'; expected one of .*; did you mean mnist1d"),
    ],
)
def test_misspelt_commands(words: str, expected: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(words.split())
    assert re.search(expected, capsys.readouterr().err)


def test_beginnings_of_options_and_all_that_follows_two_signs(here: Path, capsys: Any) -> None:
    assert cli.main(["predict", "model.safetensors", "--qui", "--keep=id", "--", "people.csv"]) == 0
    assert capsys.readouterr().out.startswith("id,prediction\n")


def test_an_old_file_stays_when_a_later_window_is_bad(here: Path, people: str, capsys: Any) -> None:
    Path("out.csv").write_text("kept")
    Path("bad.csv").write_bytes(cell(200, 1, "old")(people))
    fails(PREDICT, r"column 'age': got 'old' in row 200", capsys)
    assert Path("out.csv").read_text() == "kept"


def test_a_missing_package_is_named(here: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for command in ("train people.csv --target buys -q", "predict model.safetensors people.csv -q"):
        fails(command.split(), r"pip install gdcore\[cli\]", capsys)


def test_warnings_are_one_line(here: Path, monkeypatch: Any, capsys: Any) -> None:
    """Without the path of the source file, and without its line."""

    def warned(*_: Any) -> None:
        warnings.warn("r2: undefined\nfor a single row", stacklevel=2)
        raise ValueError("later")

    monkeypatch.setattr(train_module, "_fitted", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["train", "people.csv", "--target", "buys", "-q"]) == 1
    error = capsys.readouterr().err
    assert error == "gdcore train: warning: r2: undefined for a single row\ngdcore train: people.csv: later\n"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (MemoryError(), 1)])
def test_interruptions(error: BaseException, status: int, here: Path, monkeypatch: Any, capsys: Any) -> None:
    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train_module, "_fitted", stop)
    before = sorted(here.iterdir())
    assert cli.main(["train", "people.csv", "--target", "buys", "-q", "--out", "new.st"]) == status
    out, message = capsys.readouterr()
    assert not out and message.count("\n") == 1 and sorted(here.iterdir()) == before
